"""The store process and its clients: started once, shared, replaced when it is killed, gone when nobody needs it."""

import asyncio
import os
import shutil
import signal
import socket
import tempfile
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from child import NOBODY, needs_root
from making import Make
from store_processes import opened, outcome
from store_servers import CONNECT, NO_DELAYS, Heard, ended, killed_client, served
from waiting import until

from piano_jupyter import own_folders
from piano_jupyter.batch_records import Batch
from piano_jupyter.errors import NotFoundError, StoreError, StoreLockedError
from piano_jupyter.records import JobStatus, Notebook
from piano_jupyter.store.base import Turn
from piano_jupyter.store.duckdb.duckdb_store import DuckDBStore
from piano_jupyter.store.server import (
    client_connection,
    election,
    leases,
    remote_store,
    socket_folder,
    store_server,
    wire,
)
from piano_jupyter.store.server.client_connection import MAX_UNREAD_EVENT_BYTES
from piano_jupyter.store.server.election import Election
from piano_jupyter.store.server.leases import Leases
from piano_jupyter.store.server.remote_store import MAX_UNSENT_EVENT_BYTES, RemoteStore
from piano_jupyter.store.server.shared_store import OPERATIONS
from piano_jupyter.store.server.socket_folder import CannotShareError, server_files

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SCRIPT = Notebook()
make = Make()


async def claimed(store, owner, notebook=SCRIPT):
    """Return a job that the owner runs."""
    message = make.message("hi")
    _, [job] = await store.enqueue(message, [make.job(message, make.agent(), notebook=notebook)])
    return await store.claim_next(job.id, owner, [job.id], NOW)


async def test_two_clients_share_what_is_kept_and_the_process_leaves_with_the_last(file, client):
    first, second = await client(owner="a", label="one.ipynb"), await client(owner="b", label="two.ipynb")
    kept = await first.add_message(make.message("hi"))
    pid = first.server_pid

    assert await second.message(kept.id) == kept
    assert first.server_pid == second.server_pid
    assert {each.label for each in await second.clients()} == {"one.ipynb", "two.ipynb"}
    await first.close()
    assert [each.owner for each in await second.clients()] == ["b"]
    await second.close()
    await ended(pid)
    assert not server_files(str(file)).socket.exists()
    async with opened(file) as store:
        assert await store.message(kept.id) == kept


async def test_of_several_that_need_it_at_once_one_starts_it(client):
    clients = await asyncio.gather(*(client(owner=str(n)) for n in range(4)))

    assert len({each.server_pid for each in clients}) == 1
    assert len(await clients[0].clients()) == 4


async def test_g20_the_process_is_detached_and_has_no_keys(client, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("PIANO_API_KEY", "sk-secret")
    monkeypatch.setenv("PYTHONNOUSERSITE", "1")
    store = await client()
    process = Path(f"/proc/{store.server_pid}")

    assert b"sk-secret" not in (process / "environ").read_bytes()
    assert b"PYTHONNOUSERSITE=1" in (process / "environ").read_bytes()  # it finds the modules that the kernel finds
    assert (process / "cwd").readlink() == Path("/")
    assert os.getsid(store.server_pid) != os.getsid(0)
    assert server_files(store.name).socket.stat().st_mode & 0o777 == 0o600
    assert server_files(store.name).socket.parent.stat().st_mode & 0o777 == 0o700


async def test_a_process_that_is_killed_is_replaced_and_the_clients_go_on(client):
    heard = Heard()
    first, second = await client(owner="a"), await client(owner="b", listener=heard.listener)
    kept = await first.add_message(make.message("hi"))
    killed = first.server_pid
    os.kill(killed, signal.SIGKILL)
    answers = await asyncio.gather(*(each.message(kept.id) for each in (first, second, first)))
    await heard.missed.wait()

    assert answers == [kept] * 3
    assert first.server_pid == second.server_pid != killed


async def test_events_reach_the_others_in_order_and_not_the_one_that_tells(file):
    async with served(file):
        one, two, three = Heard(), Heard(), Heard()
        clients = [RemoteStore(file, owner=f"{n}", listener=each.listener) for n, each in enumerate((one, two, three))]
        for each in clients:
            await each.open()
        for number in range(100):
            clients[0].publish(b"%d" % number)
        for heard in (two, three):
            await heard.number(100)
        for each in clients:
            await each.close()

        assert two.events == three.events == [b"%d" % number for number in range(100)]
        assert one.events == []


async def test_a_client_that_is_gone_loses_its_jobs_after_the_grace_period_and_the_others_are_told(file):
    async with served(file):
        heard = Heard()
        there = RemoteStore(file, owner="there", listener=heard.listener)
        await there.open()
        async with killed_client(file, "gone"):
            lost, kept = await claimed(there, "gone"), await claimed(there, "there")
        await heard.told.wait()

        assert [(job.id, job.status, job.attempt) for job in heard.jobs] == [(lost.id, JobStatus.QUEUED, 1)]
        assert await there.job(kept.id) == kept
        await there.close()


async def test_a_client_that_comes_back_in_time_keeps_its_jobs(file):
    async with served(file, grace_s=60):
        there, back = RemoteStore(file, owner="b"), RemoteStore(file, owner="a")
        await there.open()
        async with killed_client(file, "a"):
            job = await claimed(there, "a")
        while len(await there.clients()) > 1:
            pass

        assert await there.recover({"b"}, 3, NOW) == []
        await back.open()
        assert await back.job(job.id) == job
        for each in (there, back):
            await each.close()


async def one_that_leaves_and_one_that_hears(file):
    """Return two clients, open, and what the second one is told."""
    heard = Heard()
    leaving, there = RemoteStore(file, owner="a"), RemoteStore(file, owner="b", listener=heard.listener)
    await leaving.open()
    await there.open()
    return leaving, there, heard


async def test_an_orderly_close_gives_jobs_back_without_an_attempt(file):
    async with served(file, grace_s=60):
        leaving, there, heard = await one_that_leaves_and_one_that_hears(file)
        job = await claimed(leaving, "a")
        await leaving.close()
        await heard.told.wait()
        found = await there.job(job.id)
        await there.close()

        assert (found.status, found.attempt, found.owner) == (JobStatus.QUEUED, 0, "a")


async def test_a_client_does_not_recover_the_jobs_of_another_that_is_connected(file):
    async with served(file):
        heard, told = Heard(), Heard()
        one = RemoteStore(file, owner="a", listener=heard.listener)
        two = RemoteStore(file, owner="b", listener=told.listener)
        await one.open()
        await two.open()
        job, dead = await claimed(one, "a"), await claimed(two, "dead")
        recovered = await two.recover({"b"}, 3, NOW)
        await heard.told.wait()

        assert [each.id for each in recovered] == [dead.id]
        assert (heard.jobs, told.jobs) == (recovered, [])
        assert await two.job(job.id) == job
        for each in (one, two):
            await each.close()


async def test_after_a_start_the_clients_that_come_back_keep_their_jobs_and_nobody_waits_for_them(file):
    async with opened(file) as store:
        mine, lost = await claimed(store, "slow"), await claimed(store, "dead")
    async with served(file, grace_s=0.5):
        heard = Heard()
        quick = RemoteStore(file, owner="quick", listener=heard.listener)
        slow = RemoteStore(file, owner="slow")
        await quick.open()
        assert await quick.recover({"quick"}, 3, NOW) == []
        await slow.open()
        await heard.told.wait()

        assert await slow.job(mine.id) == mine
        assert [(job.id, job.status) for job in heard.jobs] == [(lost.id, JobStatus.QUEUED)]
        for each in (quick, slow):
            await each.close()


async def test_a_kernel_that_was_started_again_has_the_jobs_of_the_one_before_it_at_once(file):
    notebook, other = Notebook("kernel", "a.ipynb"), Notebook("other", "b.ipynb")
    async with opened(file) as store:
        before, elsewhere = await claimed(store, "a1", notebook), await claimed(store, "b1", other)
    async with served(file, grace_s=60):
        there = RemoteStore(file, owner="a2")
        await there.open()
        found = [job.id for job in await there.recover({"a2"}, 3, NOW, notebook)]
        async with killed_client(file, "a3"):
            again = await claimed(there, "a3", notebook)
        while len(await there.clients()) > 1:
            pass
        found += [job.id for job in await there.recover({"a2"}, 3, NOW, notebook)]

        assert found == [before.id, again.id]
        assert (await there.job(elsewhere.id)).status is JobStatus.RUNNING
        await there.close()


class Failing(DuckDBStore):
    """A store in memory, one operation of which fails so many times."""

    def __init__(self, operation, times):
        super().__init__(":memory:")
        self.operation, self.times, self.failed = operation, times, asyncio.Event()

    async def call(self, operation, /, *arguments, **options):
        if operation == self.operation and self.times:
            self.times -= 1
            self.failed.set()
            raise StoreError("no room left on the disk")
        return await super().call(operation, *arguments, **options)


@pytest.mark.parametrize(("operation", "orderly"), [("recover", False), ("release", True)])
async def test_jobs_that_could_not_be_taken_back_at_first_are_taken_back_later(monkeypatch, operation, orderly):
    monkeypatch.setattr(leases, "FIRST_PAUSE_S", 0)
    store, told = Failing(operation, 3), asyncio.Queue()
    await store.open()
    taking = Leases(store, 60 if orderly else 0, told.put_nowait)
    taking.begin("a", 3)
    job = await claimed(store, "a")
    await taking.end("a", orderly=orderly)
    async with asyncio.timeout(20):
        [back] = await told.get()

    assert (back.id, back.status, store.times) == (job.id, JobStatus.QUEUED, 0)
    await taking.close()
    await store.close()


async def test_taking_jobs_back_is_not_tried_again_once_the_store_is_to_be_closed():
    store = Failing("jobs", 1)
    taking = Leases(store, 0, [].extend)
    await store.failed.wait()
    await taking.close()

    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_jobs_that_are_recovered_as_soon_as_the_process_starts_hold_nobody_up(file):
    async with opened(file) as store:
        for _ in range(4):
            await claimed(store, "gone")
        message = make.message("next")
        _, [waiting] = await store.enqueue(message, [make.job(message, make.agent())])
    async with served(file):
        there = RemoteStore(file, owner="there")
        await there.open()
        while await there.jobs(JobStatus.RUNNING):
            pass

        turn = Turn(max_demand=1, max_wait_s=60)
        assert (await there.claim_next(message.id, "there", [waiting.id], NOW, turn)).id == waiting.id
        await there.close()


async def test_a_client_that_is_gone_after_its_goodbye_gives_its_jobs_back_though_its_query_runs(file):
    async with served(file, grace_s=60):
        leaving, there, heard = await one_that_leaves_and_one_that_hears(file)
        job = await claimed(leaving, "a")
        endless = asyncio.create_task(leaving.sql("SELECT count(*) FROM range(10_000_000_000_000)"))
        await leaving.counts()
        await asyncio.to_thread(leaving.close_now, 0.1)
        with pytest.raises(StoreError, match="is closed"):
            await endless
        async with asyncio.timeout(20):
            await heard.told.wait()

        assert [(each.id, each.status, each.attempt) for each in heard.jobs] == [(job.id, JobStatus.QUEUED, 0)]
        await there.close()


@pytest.mark.parametrize("pause", [0, 3600])
async def test_a_client_that_cannot_connect_again_at_once_tries_again_and_its_close_waits_for_no_pause(
    file, monkeypatch, pause
):
    monkeypatch.setattr(remote_store, "FIRST_PAUSE_S", pause)
    monkeypatch.setattr(remote_store, "GOODBYE_TIMEOUT_S", 3600)
    heard, made, failed, connect = Heard(), [], threading.Event(), Election.connect

    async def fail_once(election, opened):
        if made and not failed.is_set():
            failed.set()
            raise StoreLockedError("the store process did not answer")
        made.append(await connect(election, opened))
        return made[-1]

    monkeypatch.setattr(Election, "connect", fail_once)
    async with served(file), asyncio.timeout(20):
        store = RemoteStore(file, owner="a", listener=heard.listener)
        await store.open()
        made[0].socket.shutdown(socket.SHUT_RDWR)
        await asyncio.to_thread(failed.wait)
        if pause:
            await store.counts()  # which connects
        await heard.missed.wait()
        await store.close()


async def test_a_batch_that_another_client_runs_which_came_a_moment_ago_is_not_taken_from_it(file):
    async with served(file):
        one, two = RemoteStore(file, owner="a"), RemoteStore(file, owner="b")
        await one.open()
        await two.open()
        about = {"id": make.message("").id, "inserted_at": NOW, "started_at": NOW, "name": "reviews"}
        batch = Batch(**about, template="Rate {{review}}", model="m", digest="d", owner="a")
        await one.open_batch(batch, {"a"})
        with pytest.raises(StoreError, match="runs already"):
            await two.open_batch(replace(batch, owner="b"), {"b"})
        for each in (one, two):
            await each.close()


async def test_j21_a_client_that_does_not_read_is_cut_off_and_the_others_go_on(file):
    async with served(file):
        talker, stalled = RemoteStore(file, owner="talker"), socket.socket(socket.AF_UNIX)
        stalled.connect(str(server_files(str(file)).socket))
        stalled.sendall(wire.frame(wire.Hello(wire.PROTOCOL, wire.own_version(), os.getpid(), "stalled", "")))
        await talker.open()
        while len(await talker.clients()) < 2:
            pass
        sent = 0
        while len(await talker.clients()) > 1:
            talker.publish(bytes(2**20))
            sent += 2**20
        assert sent <= MAX_UNREAD_EVENT_BYTES + 2**21
        stalled.close()
        await talker.close()


@pytest.mark.parametrize(("old", "new"), [("1.2", "1.10"), ("1.10", "1.2")])
async def test_of_two_versions_that_are_needed_at_once_the_second_is_told_both(file, old, new):
    async with served(file, version=old):
        there, other = RemoteStore(file, label="a.ipynb", version=old), RemoteStore(file, version=new)
        await there.open()
        with pytest.raises(StoreLockedError, match=f"Piano {old} .*for a.ipynb.* this is Piano {new}: restart"):
            await other.open()
        await there.close()


@pytest.mark.parametrize("version", ["0.0.1", "99.0"])
async def test_another_version_replaces_one_that_nobody_uses(file, version):
    async with served(file, version=version):
        store = RemoteStore(file, options=NO_DELAYS)
        await store.open()
        pid = store.server_pid
        await store.close()
        await ended(pid)

        assert pid != os.getpid()


async def test_a_copy_of_the_folder_is_made_while_it_runs_and_the_file_stays_locked(tmp_path, client):
    store = await client()
    kept = await store.add_message(make.message("hi"))
    await asyncio.to_thread(shutil.copytree, tmp_path, tmp_path / "copy")

    assert await store.message(kept.id) == kept
    assert "StoreLockedError" in outcome(
        "try:\n    asyncio.run(store.open())\nexcept StoreError as error:\n    print(type(error).__name__)", store.name
    )


async def test_a_database_that_a_kernel_has_alone_is_told_as_what_it_is(file):
    async with opened(file):
        with pytest.raises(StoreLockedError, match=f"is open in process {os.getpid()}"):
            await RemoteStore(file, options=NO_DELAYS).open()


async def test_a_process_that_cannot_start_says_why(file, tmp_path, monkeypatch):
    file.mkdir()
    with pytest.raises(StoreError, match="is a folder, not a file") as refused:
        await RemoteStore(file).open()
    assert not isinstance(refused.value, CannotShareError)
    with pytest.raises(
        CannotShareError, match=r"did not start: .*unrecognized arguments: --nonsense; .*share to False"
    ):
        await RemoteStore(tmp_path / "other.duckdb", options=("--nonsense",)).open()
    monkeypatch.setattr(election.sys, "executable", "/nowhere/python")
    with pytest.raises(CannotShareError, match=r"cannot be started \(.*nowhere.*share to False"):
        await RemoteStore(tmp_path / "other.duckdb").open()
    silent = tmp_path / "silent"
    silent.write_text(f"#!/bin/sh\nrm {server_files(str(tmp_path / 'other.duckdb')).log}\n")
    silent.chmod(0o700)
    monkeypatch.setattr(election.sys, "executable", str(silent))
    with pytest.raises(CannotShareError, match="did not start: nothing was said"):
        await RemoteStore(tmp_path / "other.duckdb").open()


@pytest.mark.parametrize(
    ("kind", "says"),
    [("socket", "cannot listen at .*Is a directory"), ("start_lock", "cannot be made .Is a directory")],
)
async def test_a_folder_where_a_socket_or_a_lock_has_to_be_is_no_fault_of_the_database(file, folders, kind, says):
    getattr(server_files(str(file)), kind).mkdir()
    with pytest.raises(CannotShareError, match=f"^[^;]*{says}[^;]*; set PianoConfig.share to False [^;]*$"):
        await RemoteStore(file).open()


async def test_a_process_that_is_stopped_is_told_as_that(client, monkeypatch):
    store = await client()
    monkeypatch.setattr(election, "CONNECT_TIMEOUT_S", 0.2)
    os.kill(store.server_pid, signal.SIGSTOP)
    try:
        with pytest.raises(StoreLockedError, match=r"did not answer within .*share to False"):
            await RemoteStore(store.name).open()
    finally:
        os.kill(store.server_pid, signal.SIGCONT)


async def test_j21_events_for_a_process_that_is_stopped_do_not_pile_up(client):
    heard = Heard()
    talker, other = await client(owner="a"), await client(owner="b", listener=heard.listener)
    await talker.counts()  # by now it has heard that there is another one
    os.kill(talker.server_pid, signal.SIGSTOP)
    try:
        for _ in range(3 * MAX_UNSENT_EVENT_BYTES // 2**20):
            talker.publish(bytes(2**20))
        asked = asyncio.create_task(talker.counts())
        await asyncio.sleep(0)
    finally:
        os.kill(talker.server_pid, signal.SIGCONT)
    await asked
    for each in (other, talker):  # the other may have been cut off, and the talker has to hear that it is back
        await each.counts()
    talker.publish(b"last")
    while b"last" not in heard.events:
        await heard.number(len(heard.events) + 1)

    assert len(heard.events) <= MAX_UNSENT_EVENT_BYTES // 2**20 + 2
    await heard.missed.wait()  # so that what was left out is read


async def test_of_an_event_that_is_too_large_to_be_told_the_others_know_that_they_missed_it(client):
    heard = Heard()
    talker, _ = await client(owner="a"), await client(owner="b", listener=heard.listener)
    await talker.counts()  # by now it has heard that there is another one
    talker.publish(bytes(MAX_UNSENT_EVENT_BYTES + 1))
    await heard.missed.wait()
    talker.publish(b"next")
    await heard.number(1)

    assert heard.events == [b"next"]


async def test_j22_a_socket_that_is_removed_or_whose_folder_is_lost_is_made_again(file, folders, monkeypatch):
    monkeypatch.setattr(store_server, "SOCKET_LOOK_S", 0.01)

    async def found_by_another():
        await asyncio.to_thread(until, server_files(str(file)).socket.exists)
        newcomer = RemoteStore(file)
        await newcomer.open()
        assert {each.owner for each in await newcomer.clients()} >= {"a"}
        await newcomer.close()

    async with served(file):
        first = RemoteStore(file, owner="a")
        await first.open()
        server_files(str(file)).socket.unlink()  # as those do that clean /tmp
        await found_by_another()
        shutil.rmtree(folders / "piano_jupyter")
        await found_by_another()
        with tempfile.TemporaryDirectory(dir="/tmp") as other:  # a logout removes the runtime folder
            monkeypatch.setattr(own_folders, "TEMPORARY", Path(other))
            monkeypatch.delenv("XDG_RUNTIME_DIR")
            await found_by_another()
            assert not list((folders / "piano_jupyter").iterdir())
            await first.close()


async def test_a_process_that_is_told_to_end_is_replaced_without_an_error(client):
    store = await client()
    messages = [make.message(str(number)) for number in range(40)]
    pids = set()
    for number, message in enumerate(messages):
        adding = [asyncio.create_task(store.add_message(message)), asyncio.create_task(store.counts())]
        await asyncio.sleep(0)
        pids.add(store.server_pid)
        if number in {10, 20, 30}:
            os.kill(store.server_pid, signal.SIGTERM)
        await asyncio.gather(*adding)

    assert (await store.counts()).messages == 40
    assert len(pids - {0}) == 4


async def test_a_connection_that_says_nothing_or_nonsense_keeps_no_process(client):
    store = await client()
    silent, nonsense = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    for each in (silent, nonsense):
        each.connect(str(server_files(store.name).socket))
    nonsense.sendall(b"GET / HTTP/1.1\r\n\r\n")
    assert nonsense.recv(1) == b""
    pid = store.server_pid
    await store.close()
    await ended(pid)

    assert silent.recv(1) == b""
    silent.close()
    nonsense.close()


async def test_j21_replies_that_a_client_does_not_read_do_not_pile_up(file, monkeypatch):
    monkeypatch.setattr(client_connection, "MAX_WAITING_REPLY_BYTES", 4 * 2**20)
    async with served(file):
        other, stalled = RemoteStore(file), socket.socket(socket.AF_UNIX)
        stalled.connect(str(server_files(str(file)).socket))
        stalled.sendall(wire.frame(wire.Hello(wire.PROTOCOL, wire.own_version(), os.getpid(), "stalled", "")))
        packed = OPERATIONS["sql"].pack_arguments((f"SELECT repeat('x', {2**20})",), {})
        stalled.sendall(b"".join(wire.frame(wire.Call(number, "sql", packed)) for number in range(10)))
        await other.open()
        while len(await other.clients()) > 1:
            pass
        stalled.close()
        await other.close()


async def test_what_goes_wrong_in_the_process_is_told_and_it_goes_on(file, monkeypatch):
    async with served(file):
        store = RemoteStore(file)
        await store.open()
        complaints = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context["exception"]))
        monkeypatch.setattr(DuckDBStore, "call", _broken)
        with pytest.raises(StoreError, match="store process failed at counts: ZeroDivisionError: oh"):
            await store.counts()
        monkeypatch.undo()
        monkeypatch.setattr(wire, "MAX_FRAME_BYTES", 2**20)
        with pytest.raises(StoreError, match="MB are too much to exchange"):
            await store.sql(f"SELECT repeat('x', {2**20})")

        assert (await store.counts()).messages == 0
        await store.close()
    assert [type(each) for each in complaints] == [ZeroDivisionError]


async def _broken(*_, **__):
    raise ZeroDivisionError("oh")


async def test_a_process_leaves_nothing_behind(client, folders):
    store = await client()
    pid = store.server_pid
    await store.close()
    await ended(pid)

    assert list((folders / "piano_jupyter").iterdir()) == []


async def test_an_error_of_the_store_arrives_as_what_it_is_and_the_connection_stays(client):
    store = await client()
    with pytest.raises(NotFoundError, match="no message with the id"):
        await store.message(make.message("x").id)
    with pytest.raises(StoreError, match="MB are too much to exchange"):
        await store.add_message(make.message("x" * wire.MAX_FRAME_BYTES))
    with pytest.raises(StoreError, match="MB are too much to exchange"):
        await store.sql(f"SELECT repeat('x', {wire.MAX_FRAME_BYTES})")
    with pytest.raises(TypeError):
        await store.call("message", 1, 2, 3)

    assert (await store.counts()).messages == 0


async def test_a_long_read_that_nobody_waits_for_ends_and_later_ones_are_served(client):
    store = await client()
    endless = asyncio.create_task(store.sql("SELECT count(*) FROM range(10_000_000_000_000)"))
    await store.counts()
    endless.cancel()

    assert (await store.sql("SELECT 1")).rows == ((1,),)


async def test_what_was_asked_for_before_the_close_is_done(client):
    store = await client()
    message = make.message("hi")
    adding = asyncio.create_task(store.add_message(message))
    await asyncio.sleep(0)
    await store.close()

    assert (await adding).id == message.id
    with pytest.raises(StoreError, match="is closed"):
        await store.counts()
    await store.close()
    await store.open()
    assert (await store.message(message.id)).content == "hi"


async def test_what_a_process_that_is_stopped_does_not_answer_ends_with_the_close(client):
    store = await client()
    os.kill(store.server_pid, signal.SIGSTOP)
    pid = store.server_pid
    try:
        asked = asyncio.create_task(store.counts())
        await asyncio.sleep(0)
        store.close_now(0.5)
        with pytest.raises(StoreError, match="is closed"):
            await asked
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_it_is_closed_at_once_from_another_thread(client):
    store = await client(owner="a")
    other = await client(owner="b")
    thread = threading.Thread(target=store.close_now, args=(10,))
    thread.start()
    await asyncio.to_thread(thread.join)

    assert [each.owner for each in await other.clients()] == ["b"]


def test_a_forked_child_is_told_so_at_once_and_does_not_keep_the_connection(tmp_path):
    said = outcome(
        CONNECT
        + """
store = RemoteStore(path, options=("--grace-s=0", "--idle-s=0"))
asyncio.run(store.open())
child = os.fork()
if not child:
    try:
        asyncio.run(store.counts())
    except StoreError as error:
        print(error, flush=True)
    store.close_now(1)
    os._exit(0)
os.waitpid(child, 0)
print(asyncio.run(store.counts()).messages)
store.close_now(10)
""",
        tmp_path / "piano.duckdb",
    )

    assert said.splitlines()[0].startswith("this process was forked from the one that has database")
    assert said.splitlines()[1] == "0"


def test_sockets_are_in_the_user_s_runtime_folder_where_nobody_else_can_enter(folders):
    assert socket_folder.private_folder() == folders / "piano_jupyter"
    assert (folders / "piano_jupyter").stat().st_mode & 0o777 == 0o700


def test_g21_a_folder_that_others_can_enter_is_not_used(folders):
    (folders / "piano_jupyter").mkdir(0o755)
    with pytest.raises(
        CannotShareError, match=r"piano_jupyter is open to other users; .*cannot be made.*share to False"
    ):
        socket_folder.private_folder()


def test_g21_a_link_in_place_of_the_folder_is_not_followed(folders, tmp_path):
    (folders / "piano_jupyter").symlink_to(tmp_path)
    with pytest.raises(CannotShareError, match="piano_jupyter is no folder"):
        socket_folder.private_folder()


@needs_root
def test_g21_another_user_s_folder_is_not_used(folders):
    (folders / "piano_jupyter").mkdir(0o700)
    os.chown(folders / "piano_jupyter", NOBODY, NOBODY)
    with pytest.raises(CannotShareError, match="piano_jupyter belongs to another user"):
        socket_folder.private_folder()


def test_a_folder_whose_path_is_too_long_is_passed_over(folders, monkeypatch):
    long = folders / ("long" * 30)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    monkeypatch.setattr(tempfile, "tempdir", str(folders))
    assert socket_folder.server_files("/x/piano.duckdb").socket.is_relative_to(folders)
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with pytest.raises(CannotShareError, match=r"too long for a socket; .*share to False"):
        socket_folder.private_folder()


def test_a_system_without_unix_sockets_is_told_as_that(monkeypatch):
    monkeypatch.delattr(socket, "AF_UNIX")
    with pytest.raises(CannotShareError, match=r"no unix sockets; set PianoConfig.share to False"):
        socket_folder.private_folder()


def test_a_socket_that_cannot_be_made_is_told(tmp_path):
    with pytest.raises(CannotShareError, match=r"cannot listen at .*share to False"):
        socket_folder.listening_socket(tmp_path / "missing" / "x.sock")


async def test_a_kernel_whose_job_has_to_wait_is_told_when_it_may_go(file):
    async with served(file):
        heard, turn = Heard(), Turn(max_demand=1, max_wait_s=60)
        one, two = RemoteStore(file, owner="a"), RemoteStore(file, owner="b", listener=heard.listener)
        await one.open()
        await two.open()
        running = await claimed(one, "a")
        message = make.message("hi")
        _, [waiting] = await two.enqueue(message, [make.job(message, make.agent())])

        assert await two.claim_next(message.id, "b", [waiting.id], NOW, turn) is None
        await one.fail(running, "over", NOW)
        await heard.stirred.wait()
        assert (await two.claim_next(message.id, "b", [waiting.id], NOW, turn)).id == waiting.id
        for each in (one, two):
            await each.close()


async def test_only_the_first_client_is_told_that_it_has_made_the_database(client):
    first, second = await client(owner="a"), await client(owner="b")

    assert [(await each.identity()).is_new for each in (first, first, second)] == [True, True, False]

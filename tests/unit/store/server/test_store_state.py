"""What the clients of a store process are told: of each other, of the file in use, and of what happens to it."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest
from child import IS_ROOT, NOBODY, needs_root
from making import Make
from store_processes import HOLD, opened, outcome, started
from store_servers import CONNECT, Heard, ended, killed_client, served
from waiting import until

from piano_jupyter.errors import StoreError
from piano_jupyter.store.duckdb.database_file import hold, let_go
from piano_jupyter.store.server import wire
from piano_jupyter.store.server.client_connection import MAX_UNREAD_EVENT_BYTES
from piano_jupyter.store.server.remote_store import RemoteStore
from piano_jupyter.store.server.socket_folder import server_files

make = Make()


class Notices:
    """Sentences that a client was told, on any thread."""

    def __init__(self):
        self.sentences, self._told = [], asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def notify(self, sentence):
        self.sentences.append(sentence)
        self._loop.call_soon_threadsafe(self._told.set)

    async def first(self):
        """Return the first one, once it has come."""
        await self._told.wait()
        return self.sentences[0]


async def test_each_client_knows_the_others_by_their_notebooks(client):
    first = await client(owner="a", label="one.ipynb")
    assert (first.others, first.problem) == ([], "")
    second, third = await client(owner="b"), await client(owner="c", label="three.ipynb")
    assert third.others == sorted(["one.ipynb", f"process {os.getpid()}"])
    await first.counts()
    assert first.others == sorted([f"process {os.getpid()}", "three.ipynb"])
    await second.close()
    await first.counts()

    assert first.others == ["three.ipynb"]


async def test_events_are_not_sent_while_nobody_is_there_to_hear_them(client, monkeypatch):
    sent, publish, heard = [], wire.Publish, Heard()
    monkeypatch.setattr(wire, "Publish", lambda event: sent.append(event) or publish(event))
    talker = await client(owner="a")
    talker.publish(b"to nobody")
    await talker.counts()
    await client(owner="b", listener=heard.listener)
    await talker.counts()
    talker.publish(b"to one")
    await heard.number(1)

    assert sent == heard.events == [b"to one"]


async def test_what_happened_before_the_first_client_came_is_told_to_it(file, client):
    file.write_bytes(bytes(100))
    first, second = Notices(), Notices()
    opening, later = await client(notify=first.notify), await client(notify=second.notify)
    assert "before anything could be stored in it: it was created again" in await first.first()
    await opening.counts()
    await later.counts()

    assert (len(first.sentences), second.sentences) == (1, [])


async def test_that_a_client_is_gone_is_told_since_nobody_runs_its_jobs_now_and_it_may_not_have_told_all(file):
    async with served(file):
        heard = Heard()
        there, orderly = RemoteStore(file, owner="a", listener=heard.listener), RemoteStore(file, owner="b")
        await there.open()
        await orderly.open()
        await there.counts()
        assert not heard.missed.is_set()
        await orderly.close()
        await heard.missed.wait()
        heard.missed.clear()
        async with killed_client(file, "killed"):
            pass
        await heard.missed.wait()
        await there.close()


LOSSES = {
    "deleted": lambda file, _: file.unlink(),
    "moved": lambda file, _: file.rename(file.with_name("moved.duckdb")),
    "replaced": lambda file, other: other.replace(file),
}


@pytest.mark.parametrize("loss", LOSSES)
async def test_a_lost_file_is_told_and_its_path_is_free_for_another_process(file, client, tmp_path, loss):
    async with opened(tmp_path / "other.duckdb"):
        pass
    notices = [Notices(), Notices()]
    heard = Heard()
    one, two = [
        await client(owner=str(number), notify=each.notify, listener=heard.listener)
        for number, each in enumerate(notices)
    ]
    kept = await one.add_message(make.message("hi"))
    LOSSES[loss](file, tmp_path / "other.duckdb")
    for each in notices:
        assert f"the file of database {file} was {loss}" in await each.first()
    file.with_name("piano.duckdb.wal").unlink(missing_ok=True)

    assert one.name == two.name != str(file)
    assert Path(one.name).name.startswith("piano-recovered-")
    new = await client(owner="new")
    assert (new.name, new.others, (await new.counts()).messages) == (str(file), [], 0)
    assert new.server_pid != one.server_pid
    os.kill(one.server_pid, signal.SIGKILL)
    await heard.missed.wait()
    assert await one.message(kept.id) == await two.message(kept.id) == kept
    assert not server_files(str(file)).socket.samefile(server_files(one.name).socket)


async def test_a_file_that_was_lost_a_moment_ago_takes_no_new_client(file, client):
    old = await client(owner="old")
    kept = await old.add_message(make.message("hi"))
    file.unlink()
    new = await client(owner="new")

    assert (new.name, new.others) == (str(file), [])
    assert (await new.counts()).messages == 0
    assert await old.message(kept.id) == kept


async def test_another_database_at_the_path_is_refused_after_the_process_was_gone(file, client, tmp_path):
    async with opened(tmp_path / "other.duckdb"):
        pass
    old = await client(owner="old")
    os.kill(old.server_pid, signal.SIGSTOP)
    (tmp_path / "other.duckdb").replace(file)
    file.with_name("piano.duckdb.wal").unlink(missing_ok=True)
    os.kill(old.server_pid, signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(StoreError, match=rf"{file} was replaced by another database .*: restart this kernel"):
            await old.counts()
    new = await client(owner="new")

    assert new.others == []
    await old.close()
    await old.open()
    assert old.server_pid == new.server_pid


async def test_a_client_that_ends_the_process_leaves_a_file_that_is_free(file, client):
    first, second = RemoteStore(file, owner="a"), RemoteStore(file, owner="b")
    await first.open()
    await second.open()
    pid = first.server_pid
    await first.close(end=True)
    assert second.server_pid == pid
    assert (await second.counts()).messages == 0
    await second.close(end=True)
    let_go(hold(str(file)))
    await ended(pid)


async def test_who_starts_a_store_process_and_leaves_at_once_is_in_nobody_s_way(file):
    first, second = RemoteStore(file), RemoteStore(file)
    opening = asyncio.create_task(first.open())
    await asyncio.to_thread(until, server_files(str(file)).log.exists, "none is started")
    opening.cancel()
    await asyncio.wait({opening})
    await first.close()  # the process has the database soon, and listens a moment later

    await second.open()

    assert (await second.counts()).messages == 0
    await second.close(end=True)


def fill(folder):
    """Leave no room on a disk."""
    with (folder / "filler").open("ab") as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(1 << 16))
            filler.flush()


@pytest.fixture
def small_disk(tmp_path):
    """Return a folder that is a disk of its own, which can be filled."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@needs_root
async def test_a_full_disk_is_told_to_all_and_stays_told_until_there_is_room(small_disk):
    one, two, later = [RemoteStore(small_disk / "piano.duckdb", owner=owner) for owner in "abc"]
    sentence = f"no room left on the disk of database {one.name}: free some and try again"
    fill(small_disk)
    with pytest.raises(StoreError, match=sentence) as refused:
        await one.open()
    assert type(refused.value) is StoreError
    (small_disk / "filler").unlink()
    await one.open()
    await two.open()
    fill(small_disk)
    adding = [one.add_message(make.message(os.urandom(100_000).hex())) for _ in range(100)]
    last = (await asyncio.gather(*adding, return_exceptions=True))[-1]
    assert str(last).startswith(sentence)
    await later.open()
    await two.counts()
    for each in (one, two, later):
        assert each.problem.startswith(sentence)

    (small_disk / "filler").unlink()
    await one.add_message(make.message("there is room"))
    await two.counts()
    assert (one.problem, two.problem) == ("", "")
    for each in (two, later, one):
        await each.close(end=True)
    async with opened(one.name) as store:
        assert (await store.sql("SELECT count(*) FROM messages WHERE content = 'there is room'")).rows == ((1,),)


#: A store process of another user, who may not be able to read where the interpreter is: in a process that was root's.
OTHER_USER = f"""
from piano_jupyter.store.server import __main__ as server
from piano_jupyter.store.server.store_server import Delays
from piano_jupyter.store.server.wire import ERROR
first = DuckDBStore(":memory:")
asyncio.run(first.open()); asyncio.run(first.close())
os.setgroups([]); os.setresgid(*[{NOBODY}] * 3); os.setresuid(*[{NOBODY}] * 3)
os.environ.pop("XDG_RUNTIME_DIR", None)
server.tell = lambda error: print(type(ERROR.unpack(error)).__name__, ERROR.unpack(error))
asyncio.run(server.run(path, Delays()))
"""


@needs_root
async def test_g21_another_user_s_database_is_told_as_that():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        async with opened(Path(folder, "piano.duckdb")):
            pass
        said = outcome(OTHER_USER, Path(folder, "piano.duckdb"))

    assert said.startswith(f"StoreError database {folder}/piano.duckdb cannot be written (Permission denied: ")
    assert ": allow it, or set PianoConfig.database" in said


needs_namespaces = pytest.mark.skipif(
    not IS_ROOT or shutil.which("unshare") is None, reason="only root can make a namespace of processes"
)
CONTAINER = ("unshare", "--pid", "--fork", "--mount-proc")
#: Connects, and says who else is there, or why it cannot.
JOIN = """
os.environ["XDG_RUNTIME_DIR"] = {folder!r}
store = RemoteStore(path, owner="inside", label="inside.ipynb", options=("--grace-s=0", "--idle-s=0"))
async def join():
    await store.open()
    print("joined", store.others, (await store.counts()).messages)
    await store.close()
try:
    asyncio.run(join())
except StoreError as error:
    print(type(error).__name__, error)
"""


@needs_namespaces
async def test_another_container_that_sees_the_socket_shares_the_database(client, folders):
    there = await client(owner="a", label="outside.ipynb")
    await there.add_message(make.message("hi"))
    said = await asyncio.to_thread(outcome, CONNECT + JOIN.format(folder=str(folders)), there.name, *CONTAINER)

    assert said == "joined ['outside.ipynb'] 1\n"


@needs_namespaces
async def test_another_container_that_does_not_see_the_socket_is_told_where_the_database_is_open(client, folders):
    there = await client(owner="a")
    kept = await there.add_message(make.message("hi"))
    with tempfile.TemporaryDirectory(dir="/tmp") as other:
        said = await asyncio.to_thread(outcome, CONNECT + JOIN.format(folder=other), there.name, *CONTAINER)

    assert said.startswith(
        f"StoreLockedError database {there.name} is open in a process of another container, "
        "which cannot be seen from here (python"
    )
    assert "): shut down the kernels that use it, or set PianoConfig.database to another file" in said
    assert await there.message(kept.id) == kept


def memory_of(pid):
    """Return how many bytes of memory a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_j21_a_frozen_client_stops_nobody_and_does_not_make_the_process_grow(file, client):
    heard = Heard()
    talker, _ = await client(owner="a"), await client(owner="b", listener=heard.listener)
    with started(f"{CONNECT}store = RemoteStore(path, owner='frozen')\n{HOLD}", file) as process:
        assert await asyncio.to_thread(process.stdout.readline) == "open\n"
        os.kill(process.pid, signal.SIGSTOP)
        before, sent = memory_of(talker.server_pid), 0
        while len(await talker.clients()) > 2:
            talker.publish(bytes(2**20))
            sent += 1
            await heard.number(sent)  # one that is slow loses events, too
        while sent < 100:
            talker.publish(bytes(2**20))
            sent += 1
            await heard.number(sent)

        assert memory_of(talker.server_pid) - before < 6 * MAX_UNREAD_EVENT_BYTES


async def test_a_folder_that_is_deleted_when_nobody_uses_it_any_more_stays_deleted(tmp_path):
    file = tmp_path / "project" / "piano.duckdb"
    client = RemoteStore(file)
    await client.open()
    await client.add_message(make.message("hi"))
    pid = client.server_pid
    await client.close()
    shutil.rmtree(file.parent)
    await ended(pid)  # long before its time

    assert not file.parent.exists()


async def test_a_file_that_is_replaced_when_nobody_uses_it_any_more_is_what_the_next_one_opens(file, tmp_path):
    async with opened(tmp_path / "other.duckdb") as store:
        other = await store.add_message(make.message("from elsewhere"))
    first = RemoteStore(file)
    await first.open()
    await first.add_message(make.message("hi"))
    await first.close()
    (tmp_path / "other.duckdb").replace(file)
    second = RemoteStore(file)
    await second.open()

    assert await second.messages(other.thread_id) == [other]
    assert second.name == str(file)
    await second.close()
    assert not list(file.parent.glob("piano-recovered-*"))

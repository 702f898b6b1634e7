"""What the clients of a store process are told: of each other, of the file in use, and of what happens to it."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
from making import Make
from store_processes import opened
from store_servers import Heard, ended, killed_client, served

from piano_jupyter.errors import StoreError
from piano_jupyter.store.duckdb.database_file import hold, let_go
from piano_jupyter.store.server import wire
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


async def test_a_client_whose_connection_breaks_may_have_been_heard_too_late(file):
    async with served(file):
        heard = Heard()
        there, orderly = RemoteStore(file, owner="a", listener=heard.listener), RemoteStore(file, owner="b")
        await there.open()
        await orderly.open()
        await orderly.close()
        await there.counts()
        assert not heard.missed.is_set()
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

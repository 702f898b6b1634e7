"""The history as a file, through the service: copied, restored, upgraded, and rid of a thread to the last byte."""

import asyncio
import json
import os
import shutil
import stat
import time
from pathlib import Path

import duckdb
import pytest

from piano_jupyter import Piano, PianoError
from piano_jupyter.errors import NotFoundError, StoreError
from piano_jupyter.events import MessageDelta, ThreadDeleted
from piano_jupyter.store.duckdb import backup_files
from piano_jupyter.store.duckdb.backup_files import DAY_S
from piano_jupyter.store.duckdb.migrate import migrations

SAID = "xyzzyplugh"  #: a word that stands nowhere else


@pytest.fixture
def folder(tmp_path):
    return tmp_path / ".piano"


@pytest.fixture
def piano_of(tmp_path, scripted):
    def make(*script, **settings):
        return Piano(workspace=tmp_path, model=scripted(*script), **settings)

    return make


def names(folder):
    return sorted(each.name for each in folder.iterdir())


def today():
    return backup_files.day_name(time.time())


def older(file, days):
    """Let a file be some days old."""
    then = time.time() - days * DAY_S
    os.utime(file, (then, then))


def holding(folder, word):
    """Return the files in a folder that have a word in their bytes."""
    return [each.name for each in sorted(folder.rglob("*")) if each.is_file() and word.encode() in each.read_bytes()]


async def test_a_copy_is_made_while_it_is_open_and_holds_all_that_was_said(piano_of, folder, tmp_path):
    async with piano_of("one", "two") as piano:
        await piano.ask("first")
        copy = await piano.backup()
        elsewhere = await piano.backup(tmp_path / "mine.duckdb")
        await piano.ask("second")

    assert (copy, elsewhere) == (str(folder / "backup" / today()), str(tmp_path / "mine.duckdb"))
    for file in (copy, elsewhere):
        assert stat.S_IMODE(Path(file).stat().st_mode) == 0o600
        async with piano_of(database=file) as again:
            [thread] = await again.threads()
            assert [each.content for each in await again.messages(thread)] == ["first", "one"]
    assert names(folder) == [".gitignore", "backup", "piano.duckdb", "piano.duckdb.lock"]


async def test_a_copy_goes_into_no_file_that_is_there(piano_of, tmp_path):
    (tmp_path / "mine.duckdb").write_text("mine")
    async with piano_of("one") as piano:
        await piano.ask("first")
        with pytest.raises(PianoError, match=r"mine\.duckdb exists; name another file"):
            await piano.backup(tmp_path / "mine.duckdb")
        with pytest.raises(PianoError, match="there is no folder"):
            await piano.backup(tmp_path / "none" / "mine.duckdb")

    assert (tmp_path / "mine.duckdb").read_text() == "mine"


async def test_a_history_that_is_named_from_the_home_folder_or_over_a_link_has_its_copies_there(
    piano_of, tmp_path, monkeypatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "link.duckdb").symlink_to(tmp_path / "data" / "real.duckdb")
    (tmp_path / "data").mkdir()
    for name in ("~/mine.duckdb", tmp_path / "link.duckdb"):
        async with piano_of("one", database=name) as piano:
            await piano.ask("first")
            copy = await piano.backup()
            await piano.restore(copy)
            assert [each.file for each in await piano.backups() if each.about == "of that day"] == [copy]
            assert (Path(copy).parent / ".gitignore").read_text() == "*\n"

    found = [each.relative_to(tmp_path).as_posix() for each in sorted(tmp_path.rglob("20*.duckdb"))]
    assert found == [f"data/real.duckdb.backup/{today()}", f"mine.duckdb.backup/{today()}"]


async def test_what_is_only_in_memory_has_no_copies(piano_of, tmp_path):
    async with piano_of(database=":memory:") as piano:
        assert await piano.backups() == []
        for verb in (piano.backup(), piano.restore(tmp_path / "x.duckdb")):
            with pytest.raises(PianoError, match="kept in memory only"):
                await verb


async def test_a_history_goes_back_to_a_copy_and_what_was_there_is_put_aside(piano_of, folder):
    async with piano_of("one", "two", "three", tools=[]) as piano:
        piano.add_tool(echo)
        await piano.ask("first")
        copy = await piano.backup()
        await piano.ask("second")

        aside = await piano.restore(copy)

        [thread] = await piano.threads()
        assert [each.content for each in await piano.messages(thread)] == ["first", "one"]
        assert piano.trusted
        assert "echo" in [each.name for each in await piano.tools()]
        assert (await piano.ask("third", thread=thread)).content == "three"
        about = {Path(each.file).name: each.about for each in await piano.backups()}
    async with piano_of(database=aside) as before:
        [thread] = await before.threads()
        assert [each.content for each in await before.messages(thread)] == ["first", "one", "second", "two"]

    assert about == {today(): "of that day", Path(aside).name: "put aside by a restore"}
    assert not list(folder.rglob("*.new-*"))


def echo(text: str) -> str:
    """Return the text."""
    return text


async def test_two_restores_in_one_second_put_both_aside(piano_of):
    async with piano_of("one") as piano:
        await piano.ask("first")
        copy = await piano.backup()
        asides = {await piano.restore(copy), await piano.restore(copy)}

    assert len(asides) == 2
    assert all(Path(each).exists() for each in asides)


async def test_a_history_that_cannot_be_opened_is_restored_too(piano_of, folder):
    async with piano_of("one") as piano:
        await piano.ask("first")
        copy = await piano.backup()
    damaged = b"x" * 20_000
    (folder / "piano.duckdb").write_bytes(damaged)
    piano = piano_of()
    with pytest.raises(StoreError, match="is damaged"):
        await piano.open()

    piano = piano_of()
    assert [each.file for each in await piano.backups()] == [copy]
    aside = await piano.restore(copy)
    [thread] = await piano.threads()
    await piano.close()

    assert thread.title == "first"
    assert Path(aside).read_bytes() == damaged


def make_text(path):
    path.write_text("hello " * 5000)


def make_encrypted(path):
    with duckdb.connect() as connection:
        connection.execute("SET force_mbedtls_unsafe = 'true'")  # there is no other without its extension
        connection.execute(f"ATTACH '{path}' AS secret (ENCRYPTION_KEY 'k')")
        connection.execute("CREATE TABLE secret.t (i INTEGER)")


def make_foreign(path):
    with duckdb.connect(path) as connection:
        connection.execute("CREATE TABLE sales (euros INTEGER)")


def make_newer(path):
    with duckdb.connect(path) as connection:
        connection.execute("CREATE TABLE messages (i INTEGER)")
        connection.execute("CREATE TABLE schema_version (version INTEGER, checksum VARCHAR)")
        connection.execute("INSERT INTO schema_version VALUES (9999, 'x')")


def make_pipe(path):
    os.mkfifo(path)


def make_nothing(_path):
    pass


WRONG = {
    make_text: "it is damaged or not one of DuckDB's",
    make_encrypted: "it is encrypted",
    make_foreign: "it is a DuckDB file, but no history of Piano's",
    make_newer: "a newer piano_jupyter wrote it; pip install -U piano_jupyter",
    make_pipe: "it is a named pipe, not a file",
    make_nothing: "No such file or directory",
}


@pytest.mark.parametrize("make_it", WRONG, ids=lambda make_it: make_it.__name__)
async def test_what_is_no_history_is_not_restored_and_nothing_changes(piano_of, folder, tmp_path, make_it):
    source = tmp_path / "source.duckdb"
    make_it(source)
    async with piano_of("one", "two") as piano:
        await piano.ask("first")
        with pytest.raises(StoreError, match=r"source\.duckdb is not restored") as refused:
            await piano.restore(source)
        with pytest.raises(StoreError, match="is the database itself"):
            await piano.restore(folder / "piano.duckdb")
        assert (await piano.ask("second")).content == "two"

    assert WRONG[make_it] in str(refused.value)
    assert names(folder / "backup") == [today()]  # made as it was closed


async def test_a_running_job_is_not_put_aside(piano_of):
    answer = asyncio.Event()
    async with piano_of(answer, "one") as piano:
        begun = piano.events()
        job = await piano.send("first")
        async for event in begun:
            if isinstance(event, MessageDelta):
                break
        for verb in (piano.restore(await piano.backup()), piano.delete_thread(piano.thread)):
            with pytest.raises(PianoError, match=r"runs.*: wait for it, or cancel it first"):
                await verb
        answer.set()
        assert (await piano.wait(job)).content == "one"


# -- the copy of each day --------------------------------------------------------------------------


async def test_a_copy_of_the_day_is_made_as_it_is_closed_and_none_where_nothing_has_changed(piano_of, folder):
    async with piano_of("one") as piano:
        await piano.ask("first")
    [first] = await piano_of().backups()
    async with piano_of() as piano:
        await piano.threads()
    older(first.file, 2)
    before = Path(first.file).stat().st_mtime
    older(folder / "piano.duckdb", 3)
    async with piano_of() as piano:
        await piano.threads()

    assert Path(first.file).name == today()
    assert Path(first.file).stat().st_mtime == before


async def test_a_copy_that_a_wrong_clock_has_dated_into_the_future_does_not_stop_the_copies(piano_of, tmp_path):
    async with piano_of("one", "two") as piano:
        await piano.ask("first")
        wrong = Path(await piano.backup())
        wrong = wrong.rename(wrong.with_name("2099-01-01.duckdb"))
        older(wrong, -10_000)
        await piano.ask("second")
        copies = [await piano.backup(), await piano.backup(), await piano.backup(tmp_path / "mine.duckdb")]

    assert [Path(each).name for each in copies] == [today(), today(), "mine.duckdb"]
    for each in copies:
        async with piano_of(database=each) as copy:
            assert [thread.title for thread in await copy.threads()] == ["first"]
            assert len(await copy.messages((await copy.threads())[0])) == 4


async def test_a_large_file_is_not_copied_as_it_is_closed(piano_of, folder, monkeypatch):
    monkeypatch.setattr("piano_jupyter.store.duckdb.database.MAX_BYTES_AT_CLOSE", 1000)
    async with piano_of("one") as piano:
        await piano.ask("first")

    assert names(folder) == [".gitignore", "piano.duckdb", "piano.duckdb.lock"]


async def test_copies_stay_for_a_week_and_the_newest_longer_and_what_a_restore_put_aside_for_ever(tmp_path):
    real = tmp_path / ".piano" / "piano.duckdb"
    ages = {"2026-01-01": 30, "2026-01-20": 6.9, "2026-01-22": 5, "before-0007-x": 8, "replaced-x": 100, "mine": 100}
    for name, days in ages.items():
        copy = real.parent / "backup" / f"{name}.duckdb"
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.touch()
        older(copy, days)

    backup_files.prune(str(real), time.time())
    left = names(real.parent / "backup")
    for name in ("2026-01-20", "2026-01-22"):
        older(real.parent / "backup" / f"{name}.duckdb", 30)
    backup_files.prune(str(real), time.time())

    assert left == ["2026-01-20.duckdb", "2026-01-22.duckdb", "mine.duckdb", "replaced-x.duckdb"]
    assert len(names(real.parent / "backup")) == 3


async def test_the_oldest_copies_go_first_where_they_take_more_than_a_gigabyte(tmp_path):
    real = tmp_path / "x.duckdb"
    for days in range(1, 6):
        copy = tmp_path / "x.duckdb.backup" / f"2026-01-0{days}.duckdb"
        copy.parent.mkdir(exist_ok=True)
        with copy.open("wb") as file:
            file.truncate(400_000_000)
        older(copy, 6 - days)

    backup_files.prune(str(real), time.time())

    assert names(tmp_path / "x.duckdb.backup") == ["2026-01-04.duckdb", "2026-01-05.duckdb"]


async def test_what_a_killed_process_was_copying_is_removed_when_it_is_opened(piano_of, folder):
    (folder / "backup").mkdir(parents=True)
    for name in (".new-1.duckdb", ".new-1.duckdb.wal"):
        (folder / "backup" / name).touch()
    async with piano_of():
        assert names(folder / "backup") == []


# -- upgrades ------------------------------------------------------------------------------------


async def test_a_history_of_an_older_schema_is_copied_before_it_is_upgraded(piano_of, folder, monkeypatch):
    path = folder / "piano.duckdb"
    older_ones = migrations()[:-1]
    with monkeypatch.context() as context:
        context.setattr("piano_jupyter.store.duckdb.database.migrations", lambda: older_ones)
        store = piano_of()
        await store.open()
        await store.open_thread("of before")
        await store.close()
    shutil.rmtree(folder / "backup")

    async with piano_of() as piano:
        [thread] = await piano.threads()
        [copy] = [each for each in await piano.backups() if each.about == "before an upgrade of the tables"]

    assert thread.title == "of before"
    assert Path(copy.file).name.startswith(f"before-{migrations()[-1].version:04}-20")
    assert stat.S_IMODE(Path(copy.file).stat().st_mode) == 0o600
    with duckdb.connect(copy.file, read_only=True) as connection:
        versions = connection.execute("SELECT max(version) FROM schema_version").fetchall()
        titles = connection.execute("SELECT title FROM threads").fetchall()
    assert (versions, titles) == ([(migrations()[-2].version,)], [("of before",)])
    with duckdb.connect(path, read_only=True) as connection:
        assert connection.execute("SELECT max(version) FROM schema_version").fetchall() == [(migrations()[-1].version,)]


async def test_a_history_that_cannot_be_copied_is_not_upgraded(piano_of, folder, monkeypatch):
    older_ones = migrations()[:-1]
    with monkeypatch.context() as context:
        context.setattr("piano_jupyter.store.duckdb.database.migrations", lambda: older_ones)
        async with piano_of():
            pass
    shutil.rmtree(folder / "backup")
    (folder / "backup").write_text("in the way")

    with pytest.raises(StoreError, match="cannot be copied before it is upgraded"):
        await piano_of().open()

    with duckdb.connect(folder / "piano.duckdb", read_only=True) as connection:
        versions = connection.execute("SELECT max(version) FROM schema_version").fetchall()
    assert versions == [(older_ones[-1].version,)]


# -- deleting ------------------------------------------------------------------------------------


async def test_a_deleted_thread_is_in_no_byte_of_the_history_and_its_copies(piano_of, folder, tmp_path, asks_for):
    said = [f"{SAID} {number} " + "and so on " * 100 for number in range(30)]
    script = [[asks_for("echo", text=SAID)], *said, "other", f"{SAID} archived"]
    async with piano_of(*script, tools=[echo]) as piano:
        await piano.update_agent("Assistant", enabled_tools=["echo"])
        for number in range(30):
            await piano.ask(f"question {SAID} {number}")
        thread = piano.thread
        last = (await piano.messages(thread))[-1]
        copy = Path(await piano.backup()).rename(folder / "backup" / "2026-01-01.duckdb")
        shutil.copy(copy, folder / "piano-recovered-1.duckdb")
        kept = await piano.open_thread("kept")
        await piano.ask("keep this", thread=kept)
        older(copy, 3)
        age = copy.stat().st_mtime
        events = []
        piano.bus.subscribe(events.append, ThreadDeleted)

        before = holding(folder, SAID)

        left = await piano.delete_thread(thread)

        age_now = copy.stat().st_mtime
        found = [each.title for each in await piano.threads()], len(await piano.sql("FROM tool_calls"))
        with pytest.raises(NotFoundError, match="was deleted"):
            await piano.ask("and now?", thread=thread)
        with pytest.raises(NotFoundError):
            await piano.message(last.id)
        happened = repr(piano.recent_events(1000))
        answer = await piano.messages(kept)
        while_open = holding(folder, SAID)

    assert before == [copy.name, "piano-recovered-1.duckdb", "piano.duckdb.wal"]
    assert left == []
    assert found == (["kept"], 0)
    assert [each.thread_id for each in events] == [thread.id]
    assert SAID not in happened
    assert [each.content for each in answer] == ["keep this", "other"]
    assert (while_open, holding(folder, SAID)) == ([], [])
    assert age_now == age
    async with piano_of(database=copy) as again:
        assert await again.threads() == []


async def test_a_fork_of_a_deleted_thread_goes_on(piano_of):
    async with piano_of("one", "two") as piano:
        answer = await piano.ask("first")
        first = piano.thread
        fork = await piano.fork_thread(answer, "fork")
        await piano.delete_thread(first)
        await piano.ask("second", thread=fork)
        said = [each.content for each in await piano.messages(fork)]
        listed = await piano.threads()

    assert said == ["first", "one", "second", "two"]
    assert [each.title for each in listed] == ["fork"]


async def test_a_queued_job_of_a_deleted_thread_never_runs(piano_of):
    async with piano_of("never") as piano:
        await piano.stop()
        job = await piano.send("first")
        await piano.delete_thread(piano.thread)
        await piano.start()
        await piano.drain()

        assert await piano.jobs() == []
        assert piano.thread is None
        with pytest.raises(NotFoundError):
            await piano.find_job(job)


async def test_several_threads_are_deleted_at_once_and_deleting_again_is_no_error(piano_of, folder):
    async with piano_of() as piano:
        threads = [await piano.open_thread(f"{SAID} {number}") for number in range(3)]
        await piano.delete_thread(*threads)
        await piano.delete_thread(*threads)
        assert await piano.threads() == []

    assert holding(folder, SAID) == []


async def test_a_copy_that_cannot_be_changed_is_named(piano_of, folder):
    async with piano_of() as piano:
        thread = await piano.open_thread(SAID)
        copy = Path(await piano.backup())
        copy.write_bytes(copy.read_bytes()[:8192])
        [left] = await piano.delete_thread(thread)

    assert left.startswith(f"{copy} may still hold it, and cannot be changed (")
    assert left.endswith("delete it by hand")


async def test_a_damaged_file_that_was_kept_is_named_when_a_thread_is_deleted(piano_of, folder):
    async with piano_of() as piano:
        thread = await piano.open_thread("first")
        kept = folder / "piano.duckdb.damaged-20260101-101500"
        kept.write_bytes(bytes(20_000))
        Path(f"{kept}.txt").write_text("a report")
        left = await piano.delete_thread(thread)

    assert left == [f"{kept} may still hold it, for it is kept as it was found damaged; delete it by hand"]


async def test_a_thread_is_deleted_from_the_copies_of_a_file_that_was_lost(piano_of, folder):
    async with piano_of() as piano:
        thread = await piano.open_thread(SAID)
        copy = Path(await piano.backup())
        (folder / "piano.duckdb").unlink()
        kept = await piano.open_thread("kept")
        [told] = piano.notices()
        before = holding(folder, SAID)
        left = await piano.delete_thread(thread)
        [saved] = folder.glob("piano-recovered-*.duckdb")
        rights = stat.S_IMODE(saved.stat().st_mode)
        files = {each.file: each.about for each in await piano.backups()}
    async with piano_of(database=saved) as again:
        titles = [each.title for each in await again.threads()]

    assert "was deleted; everything in it was saved to" in told
    assert copy.name in before
    log = folder / "piano.duckdb.wal"
    assert left == [f"{log} is the log of a lost file and may still hold it; delete it by hand"]
    assert (holding(folder, SAID), titles, rights) == ([log.name], [kept.title], 0o600)
    assert files[str(saved)] == "saved when the file was deleted or moved"


async def test_a_restore_wins_over_a_recovery_that_was_not_finished(piano_of, folder):
    async with piano_of() as piano:
        await piano.open_thread("first")
        copy = await piano.backup()
    shutil.copy(copy, folder / "piano.duckdb.recovered")
    report = {"time": "20260101-101500", "sentence": "recovered"}
    (folder / "piano.duckdb.recovered.txt").write_text(json.dumps(report))
    async with piano_of(database=folder / "other.duckdb") as other:
        await other.open_thread("chosen")
        source = await other.backup()

    piano = piano_of()
    await piano.restore(source)
    titles = [each.title for each in await piano.threads()]
    await piano.close()

    assert titles == ["chosen"]
    assert not (folder / "piano.duckdb.recovered").exists()


async def test_a_deleted_thread_leaves_no_word_in_the_index_of_an_older_copy(piano_of, folder):
    async with piano_of("one") as piano:
        thread = await piano.open_thread("goes")
        await piano.ask("quokka", thread=thread)
        copy = await piano.backup()
        with duckdb.connect(copy) as older:  # its segments had another length
            older.execute("INSERT INTO search_words VALUES (1, 'quokka')")
            older.execute("INSERT INTO search_postings VALUES (9, 1, 1)")
        assert await piano.delete_thread(thread) == []

    left = [each.name for each in folder.rglob("*") if each.is_file() and b"quokka" in each.read_bytes().lower()]
    assert left == []

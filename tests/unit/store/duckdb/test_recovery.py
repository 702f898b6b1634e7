"""A history outlives kills, power cuts, full disks and flipped bytes; what is lost all the same is told."""

import contextlib
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import database_runs
import duckdb
import pytest
import torn_writes
from campaigns.torn import CHECKPOINT, torn_checkpoint

from piano_jupyter import Piano
from piano_jupyter.errors import StoreError
from piano_jupyter.records import Notebook, Thread
from piano_jupyter.store.duckdb import file_format as form, recovery, salvage
from piano_jupyter.store.duckdb.database import Database

needs_compiler = pytest.mark.skipif(not torn_writes.HAS_COMPILER, reason="there is no C compiler to tear writes with")
CAMPAIGNS = Path(database_runs.__file__).parent / "campaigns"
MESSAGES = 30


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Return a small file with messages, checkpointed several times."""
    path = tmp_path_factory.mktemp("base") / "run.duckdb"
    database_runs.run(path, MESSAGES, every=10, size=3000)
    return path.read_bytes()


@pytest.fixture(scope="module")
def logged(base, tmp_path_factory):
    """Return the same file and a log with six more messages."""
    path = tmp_path_factory.mktemp("logged") / "run.duckdb"
    path.write_bytes(base)
    with subprocess.Popen(
        database_runs.command(path, "", 1000, 0), env=database_runs.environment(), stdout=subprocess.PIPE, text=True
    ) as child:
        assert any(line == f"done {MESSAGES + 6}\n" for line in child.stdout)
        child.kill()
    log = path.with_name("run.duckdb.wal").read_bytes()
    return path.read_bytes(), log[: commit_ends(log)[5]]


def commit_ends(log):
    """Return where in a log each commit ends."""
    return [found.end() for found in re.finditer(rb"\x64\x00\x64\xff\xff", log)]


@pytest.fixture
def in_this_process(monkeypatch):
    """Salvage without a process of its own, which takes most of the time."""

    def run(task, copy, *tables):
        try:
            if task == "verify":
                return salvage.verify(Path(copy))
            return json.loads(json.dumps(salvage.salvage(Path(copy), [*tables], strict=task == "strict")))
        except duckdb.Error:
            return {}

    monkeypatch.setattr(recovery, "in_own_process", run)


def open_and_check(path, least, most):
    """Open a database, read it, again if it was damaged, check what is in it, close it; return what was told."""
    told = []
    database = Database(str(path), told.append)
    try:
        with contextlib.suppress(StoreError):
            read_all(database)
        database.reopen_if_broken()
        database_runs.check(database, least, most)
    finally:
        database.close()
    return told


@needs_compiler
def test_j1_every_write_of_a_checkpoint_can_be_cut_short_by_a_kill_or_a_power_cut(tmp_path, base, in_this_process):
    done = torn_checkpoint(tmp_path, base, MESSAGES, CHECKPOINT)

    assert done["wrong"] == []
    assert done["states"] > 120
    assert done["repaired"] > 5


@needs_compiler
def test_j1_the_creation_of_a_database_and_its_migrations_can_be_cut_short(tmp_path):
    changes = database_runs.recorded(tmp_path / "recorded", rounds=2, every=0)

    for name, files, least, most in database_runs.torn_states(changes, step=1 << 20, new_step=1 << 20):
        files.lay_down(tmp_path / "torn")
        told = open_and_check(tmp_path / "torn" / "run.duckdb", least, most)
        assert all("before anything could be stored in it" in each for each in told), name


@needs_compiler
@pytest.mark.parametrize("damage", ["torn", "flipped"])
def test_j1_the_repair_and_the_recovery_can_be_cut_short_themselves(tmp_path, base, in_this_process, damage):
    path = tmp_path / "recorded" / "run.duckdb"
    path.parent.mkdir()
    if damage == "torn":
        state = database_runs.first_torn_block(tmp_path / "first", base, MESSAGES)
        state.lay_down(path.parent)
    else:
        path.write_bytes(flipped(base, message_block(base) + 3))
    files = {str(each): each.read_bytes() for each in path.parent.iterdir()}
    changes = database_runs.recorded_again(path, rounds=1)

    count = next(int(change.data.split()[1]) for change in changes if change.data.startswith(b"open "))
    for name, torn, least, most in database_runs.torn_states(changes, 1 << 20, 1 << 20, files, count):
        torn.lay_down(tmp_path / "torn")
        told = open_and_check(tmp_path / "torn" / "run.duckdb", least, most)
        assert damage == "flipped" or told == [], name
    assert count >= MESSAGES


def test_j1_fifty_kills_at_random_moments_lose_nothing(tmp_path):
    done = subprocess.run(
        [sys.executable, CAMPAIGNS / "file_kills.py", tmp_path / "kills", "50", "7"],
        env=database_runs.environment(),
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )

    assert json.loads(done.stdout)["wrong"] == []


@needs_compiler
@pytest.mark.parametrize("first", [0, 3, 6, 9, 10, 11, 12, 14, 17])
def test_j5_a_disk_that_is_full_at_any_write_loses_nothing_that_was_acknowledged(tmp_path, base, first):
    path = tmp_path / "run.duckdb"
    path.write_bytes(base)
    done = subprocess.run(
        database_runs.command(path, "", 10, 3),
        env=database_runs.environment(LD_PRELOAD=str(torn_writes.library(tmp_path)), WRITES_FULL=f"{first}:1000000"),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    kept = [int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("done ")]

    assert "No space left on device" in done.stderr
    assert open_and_check(path, max(kept, default=MESSAGES), max(kept, default=MESSAGES) + 1) == []


ALL = "SELECT seq, content FROM messages ORDER BY seq"


def flipped(data, at):
    """Return data of which one byte has changed."""
    return data[:at] + bytes((data[at] ^ 0x10,)) + data[at + 1 :]


def message_block(base):
    """Return where in a file the text of a message lies."""
    at = base.find(database_runs.text_of(MESSAGES // 2, 3000)[:100].encode())
    assert at > 0
    return at // 8 * 8


def find_out(path):
    """Use a database, again after a close, until all can be read; return the messages and what was told.

    None: it is refused.
    """
    told = []
    for _ in range(2):
        try:
            database = Database(str(path), told.append)
        except StoreError:
            return None
        try:
            for _ in range(2):
                with contextlib.suppress(StoreError):
                    return read_all(database), told
                database.reopen_if_broken()
        finally:
            database.close()
    return pytest.fail(f"it cannot be read: {told}")


def read_all(database):
    """Return all messages, as an operation would."""
    return database.do(lambda _: database.connection.execute(ALL).fetchall())


def test_j5_a_flipped_byte_anywhere_loses_little_and_what_is_told_of_it_is_true(tmp_path, logged, in_this_process):
    file, log = logged
    chance = random.Random(5)
    places = [("", at + chance.randrange(4096)) for at in (*range(0, 12288, 4096), *range(12288, len(file), 24 * 4096))]
    places += [(".wal", at + chance.randrange(1024)) for at in range(0, len(log) - 1024, 1024)]
    refused = []
    for number, (suffix, at) in enumerate(places):
        path = tmp_path / str(number) / "run.duckdb"
        path.parent.mkdir()
        path.write_bytes(file if suffix else flipped(file, at))
        Path(f"{path}.wal").write_bytes(flipped(log, at) if suffix else log)

        if (found := find_out(path)) is None:  # what names the tables is damaged: there is nothing to hold on to
            refused.append(suffix or at)
            assert path.read_bytes() == flipped(file, at)
            continue
        rows, told = found
        wrong = [number for number, text in rows if not database_runs.is_text_of(number, text)]
        lost = MESSAGES + 6 - len(rows)
        assert wrong == [] or (len(wrong) == 1 and "one value may be wrong" in told[0]), (suffix, at, wrong)
        assert lost <= 0 or "not recovered" in told[0] or "the last change" in told[0], (suffix, at, lost)
        assert lost <= (6 if suffix else 1), (suffix, at, told)
        for sentence in told:
            kept = Path(sentence.rpartition("kept as ")[2])
            assert kept.read_bytes() == (file if suffix else flipped(file, at)) or lost == 0
            assert Path(f"{kept}.txt").exists() or "before anything" in sentence
    assert refused == []


@pytest.mark.parametrize("content", [b"", bytes(4096), bytes(12288), 100, 4096, 10_000])
def test_j1_a_file_that_was_not_even_created_is_set_aside_and_created_again(tmp_path, base, content):
    path = tmp_path / "run.duckdb"
    path.write_bytes(base[:content] if isinstance(content, int) else content)

    told = open_and_check(path, 0, 0)

    assert len(told) == (content != b"")
    assert all("was interrupted before anything could be stored in it" in each for each in told)
    assert len(list(tmp_path.glob("*.damaged-*"))) == len(told)
    assert open_and_check(path, 0, 0) == []


async def test_j5_what_was_recovered_is_told_in_the_piano_that_opens(tmp_path, logged):
    file, log = logged
    path = tmp_path / "run.duckdb"
    path.write_bytes(file)
    third = commit_ends(log)[2]
    Path(f"{path}.wal").write_bytes(log[: third + 200] + bytes(64) + log[third + 264 :])
    async with Piano(database=str(path), workspace=tmp_path) as piano:
        told, distrust = piano.notices()
        assert piano.notices() == []
        (kept,) = await piano.sql("SELECT count(*) FROM messages")

    assert kept == (MESSAGES + 3,)
    assert "was not made by you on this machine" in distrust
    assert told.startswith(
        f"database {path} was damaged: recovered 1 agent and {MESSAGES + 3} messages; not recovered: "
    )
    assert "up to 3 changes at the end of its log; the damaged file is kept as " in told
    kept_as = Path(told.rpartition("kept as ")[2])
    assert kept_as.read_bytes() == file
    assert json.loads(Path(f"{kept_as}.txt").read_text())["sentence"] == told


async def test_j5_damage_that_is_met_while_the_kernel_runs_is_recovered_by_the_next_command(tmp_path, base):
    path = tmp_path / "run.duckdb"
    path.write_bytes(flipped(base, message_block(base) + 3))
    told = []
    database = Database(str(path), told.append)
    try:
        with pytest.raises(StoreError, match=r"is damaged .* what can be read of it is recovered when it is used next"):
            read_all(database)
        database_runs.commit(database, MESSAGES + 1, 100)
        (count,) = database.connection.execute("SELECT count(*) FROM messages").fetchone()
    finally:
        database.close()

    assert count == MESSAGES + 1
    assert len(told) == 1


def test_an_interrupted_recovery_is_finished_and_told_by_the_next_opening(tmp_path, base):
    path = tmp_path / "run.duckdb"
    path.write_bytes(flipped(base, message_block(base) + 3))
    assert recovery.has_recovered(str(path))
    assert path.read_bytes() != base

    (told,) = open_and_check(path, MESSAGES, MESSAGES)

    assert "was damaged" in told
    assert sorted(each.name.partition(".damaged-")[0] for each in tmp_path.iterdir()) == [
        *("run.duckdb", "run.duckdb", "run.duckdb"),
        "run.duckdb.backup",
        "run.duckdb.lock",
    ]


def test_j5_a_table_over_which_duckdb_crashes_is_left_out_and_told(tmp_path, base, monkeypatch):
    path, tasks = tmp_path / "run.duckdb", []
    path.write_bytes(flipped(base, message_block(base) + 3))

    def crash(task, copy, *skipped):
        tasks.append((task, *skipped))
        if "messages" not in skipped:
            return {"table": "messages"}  # the last thing that was heard of it
        return json.loads(json.dumps(salvage.salvage(Path(copy), [*skipped], strict=True)))

    monkeypatch.setattr(recovery, "in_own_process", crash)
    told = recovery.recover(str(path))

    assert tasks == [("salvage",), ("strict",), ("strict", "messages")]
    assert f"recovered 1 agent; not recovered: {MESSAGES} messages;" in told


def test_a_pipe_or_a_folder_in_place_of_a_file_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "run.duckdb")
    (tmp_path / "run.duckdb.wal").mkdir()
    name = str(tmp_path / "run.duckdb")

    assert (recovery.finish_recovery(name), recovery.set_incomplete_aside(name)) == ("", "")
    assert [check(name) for check in (recovery.is_log_broken, recovery.is_repaired, recovery.has_recovered)] == [
        False
    ] * 3


def test_a_file_of_another_storage_version_or_of_another_program_is_left_as_it_is(tmp_path, base):
    other = form.with_checksum(base[:12] + b"\x05\x04" + base[14:4096]) + base[4096:]
    for content in (other, b"hello" * 5000, b"SQLite format 3\0" + bytes(20_000)):
        path = tmp_path / "run.duckdb"
        path.write_bytes(content)

        assert not recovery.has_recovered(str(path))
        assert not recovery.is_repaired(str(path))
        with pytest.raises(StoreError):
            Database(str(path))
        assert path.read_bytes() == content
        assert {each.name for each in tmp_path.iterdir()} == {"run.duckdb", "run.duckdb.lock"}


def test_a_damaged_file_of_a_newer_piano_is_left_as_it_is(tmp_path, base, in_this_process):
    path = tmp_path / "run.duckdb"
    path.write_bytes(base)
    with duckdb.connect(path) as connection:
        connection.execute("INSERT INTO schema_version VALUES (700, 'x', now()::TIMESTAMP)")
    newer = path.read_bytes()
    content = flipped(newer, message_block(newer) + 3)
    path.write_bytes(content)

    with pytest.raises(StoreError, match="written by a newer piano_jupyter"):
        Database(str(path))
    assert not recovery.has_recovered(str(path))
    assert path.read_bytes() == content


def test_one_changed_byte_of_a_block_is_found_by_its_checksum(base):
    text = message_block(base)
    start = text - (text - form.BLOCKS_START) % form.BLOCK_BYTES
    block = base[start : start + form.BLOCK_BYTES]

    assert form.is_valid(block)
    for at in range(4):
        assert form.corrected_block(flipped(block, text - start + 80 + at)) == block
    assert form.corrected_block(flipped(flipped(block, text - start), text - start + 40)) is None


def test_the_headers_are_put_right_from_each_other(base):
    head = base[: form.BLOCKS_START]
    live = form.read_headers(head)

    for at in range(0, form.BLOCKS_START, 97):
        right = form.corrected_head(flipped(head, at))
        assert right is not None, at
        assert form.read_headers(right)[:2] == live[:2], at


def test_the_current_threads_of_notebooks_are_in_a_rebuilt_database(tmp_path, base):
    path, notebook = tmp_path / "run.duckdb", Notebook("k1", "/work/sales.ipynb")
    path.write_bytes(base)
    thread = Thread(id=UUID(int=7), title="talk", inserted_at=database_runs.TIME)
    with contextlib.closing(Database(str(path))) as database:
        database.tables.add_thread(thread)
        database.tables.keep_thread(notebook, thread.id, database_runs.TIME)

    salvage.salvage(path, ["agents"], strict=False)

    with contextlib.closing(Database(str(path))) as database:
        assert database.tables.kept_thread(notebook) == thread


def test_the_index_of_searches_is_left_out_of_a_rebuilt_database_and_made_again(tmp_path, base):
    path = tmp_path / "run.duckdb"
    path.write_bytes(base)
    with contextlib.closing(Database(str(path))) as database:
        database.connection.execute("INSERT INTO search_segments VALUES (0, 1)")

    salvage.salvage(path, ["agents"], strict=False)

    with contextlib.closing(Database(str(path))) as database:
        assert database.connection.execute("SELECT count(*) FROM search_segments").fetchone() == (0,)
        assert database.connection.execute("SELECT count(*) FROM messages").fetchone() == (MESSAGES,)

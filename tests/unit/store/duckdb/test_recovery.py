"""A history outlives kills, power cuts, full disks and flipped bytes; what is lost all the same is told."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import database_runs
import duckdb
import pytest
from database_runs import MESSAGES, commit_ends, files_of, flipped, message_block, open_and_check

from piano_jupyter import Piano
from piano_jupyter.batch_records import Batch, BatchAnswer
from piano_jupyter.errors import StoreError
from piano_jupyter.records import Notebook, Thread
from piano_jupyter.store.duckdb import file_format as form, recovery, salvage
from piano_jupyter.store.duckdb.backup_files import orphaned_logs
from piano_jupyter.store.duckdb.backups import prepare_restore, put_in_place
from piano_jupyter.store.duckdb.database import Database

CAMPAIGNS = Path(database_runs.__file__).parent / "campaigns"


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


@pytest.mark.parametrize("checkpointed", [True, False], ids=["checkpointed", "never checkpointed"])
def test_a_log_whose_file_is_gone_is_kept_and_told(tmp_path, base, checkpointed):
    path = tmp_path / "run.duckdb"
    _, log = database_runs.with_log(path, base if checkpointed else b"", 2)
    path.unlink()

    (told,) = open_and_check(path, 0, 0)

    assert f"the file of database {path} is gone, and only its log was left" in told
    (kept,) = tmp_path.glob("run.duckdb.damaged-*.wal")
    assert kept.read_bytes().startswith(log)
    assert f"the log is kept as {kept}" in told
    assert orphaned_logs(str(path)) == [kept]
    assert open_and_check(path, 0, 0) == []


def test_a_log_that_was_kept_and_its_file_make_the_whole_history(tmp_path, base):
    path = tmp_path / "run.duckdb"
    file, _ = database_runs.with_log(path, base, 2)
    path.unlink()
    open_and_check(path, 0, 0)
    (kept,) = tmp_path.glob("run.duckdb.damaged-*.wal")
    kept.with_suffix("").write_bytes(file)

    prepared = prepare_restore(str(path), kept.with_suffix(""))
    put_in_place(str(path), prepared)

    assert open_and_check(path, MESSAGES + 2, MESSAGES + 3) == []


def test_a_damaged_directory_is_put_right_among_thousands_of_guesses(tmp_path, base, in_this_process):
    block = base[form.BLOCKS_START : form.BLOCKS_START + form.BLOCK_BYTES]
    used = [at for at in range(form.CHECKSUM_BYTES, len(block), 8) if any(block[at : at + 8])]
    path = tmp_path / "flipped" / "run.duckdb"
    for at in used[len(used) // 2 :: 50]:
        damaged = flipped(base, form.BLOCKS_START + at + 7)  # the last byte of a word says least of where it was
        files_of(damaged).lay_down(path.parent)
        try:
            salvage.verify(path)  # many bytes can be read as they are
        except (duckdb.Error, UnicodeError):
            break
    guesses = form.corrections(damaged[form.BLOCKS_START : form.BLOCKS_START + form.BLOCK_BYTES])
    files_of(damaged).lay_down(path.parent)

    (told,) = open_and_check(path, MESSAGES, MESSAGES)

    assert "nothing is missing" in told
    assert next(number for number, guess in enumerate(guesses) if guess == block) > 1000


def test_j5_what_is_tried_of_a_directory_leaves_the_file_and_its_log_as_they_are(tmp_path, logged):
    """A wrong directory that opens was checkpointed when its trial ended, and fitted neither guesses nor log then."""
    files_of(*logged).lay_down(tmp_path)
    path = tmp_path / "run.duckdb"

    assert salvage.refused_block(path) is None
    assert (path.read_bytes(), Path(f"{path}.wal").read_bytes()) == logged


async def test_j5_damage_that_is_met_while_the_kernel_runs_is_recovered_by_the_next_command(tmp_path, base):
    path = tmp_path / "run.duckdb"
    path.write_bytes(flipped(base, message_block(base) + 3))
    told = []
    database = Database(str(path), told.append)
    try:
        with pytest.raises(StoreError, match=r"is damaged .* what can be read of it is recovered when it is used next"):
            database.do(lambda _: database.connection.execute(database_runs.ALL).fetchall())
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
    path, notebook = tmp_path / "run.duckdb", Notebook("k1", "/notes/sales.ipynb")
    path.write_bytes(base)
    thread = Thread(id=UUID(int=7), title="talk", inserted_at=database_runs.TIME)
    with contextlib.closing(Database(str(path))) as database:
        database.tables.add_thread(thread)
        database.tables.keep_thread(notebook, thread.id, database_runs.TIME)

    salvage.salvage(path, ["agents"], strict=False)

    with contextlib.closing(Database(str(path))) as database:
        assert database.tables.kept_thread(notebook) == thread


def test_r32_the_answers_of_batches_are_in_a_rebuilt_database(tmp_path, base):
    path, now = tmp_path / "run.duckdb", database_runs.TIME
    path.write_bytes(base)
    batch = Batch(id=UUID(int=8), name="b", template="{{a}}", model="m", digest="d", inserted_at=now)
    answers = [
        BatchAnswer(key=bytes([0] * 15 + [number]), place=number, asked={"a": number}, answer="x", answered_at=now)
        for number in range(9)
    ]
    with contextlib.closing(Database(str(path))) as database:
        database.tables.open_batch(batch)
        database.tables.add_answers(batch.id, answers)

    salvage.salvage(path, ["agents"], strict=False)

    with contextlib.closing(Database(str(path))) as database:
        assert database.tables.answers_from(batch.id, -1, bytes(16), 99) == answers


def test_the_index_of_searches_is_left_out_of_a_rebuilt_database_and_made_again(tmp_path, base):
    path = tmp_path / "run.duckdb"
    path.write_bytes(base)
    with contextlib.closing(Database(str(path))) as database:
        database.connection.execute("INSERT INTO search_segments VALUES (0, 1)")

    salvage.salvage(path, ["agents"], strict=False)

    with contextlib.closing(Database(str(path))) as database:
        assert database.connection.execute("SELECT count(*) FROM search_segments").fetchone() == (0,)
        assert database.connection.execute("SELECT count(*) FROM messages").fetchone() == (MESSAGES,)

import shutil
from pathlib import Path

import duckdb
import pytest

from piano_jupyter.store.duckdb.lost_file import WatchedFile, recovered_path


@pytest.fixture
def folder(tmp_path):
    (tmp_path / ".piano").mkdir()
    return tmp_path / ".piano"


@pytest.fixture
def connection(folder):
    connection = duckdb.connect(str(folder / "p.duckdb"))
    connection.execute("CREATE TABLE said (text VARCHAR)")
    connection.execute("INSERT INTO said VALUES ('one')")
    yield connection
    connection.close()


@pytest.fixture
def watched(folder, connection):
    return WatchedFile(str(folder / "p.duckdb"))


def replaced(folder):
    (folder / "p.duckdb").unlink()
    (folder / "p.duckdb").write_bytes(b"another")


LOSSES = {
    "the folder is deleted": (shutil.rmtree, "was deleted"),
    "the file is deleted": (lambda folder: (folder / "p.duckdb").unlink(), "was deleted"),
    "the folder is moved": (lambda folder: folder.rename(folder.parent / "kept"), "was moved to {}/kept/p.duckdb"),
    "the file is renamed": (lambda folder: (folder / "p.duckdb").rename(folder / "q"), "was moved to {}/.piano/q"),
    "the file is replaced": (replaced, "was replaced by another file"),
    "the log is deleted": (lambda folder: (folder / "p.duckdb.wal").unlink(), "has lost its log"),
}


@pytest.mark.parametrize(("lose", "told"), LOSSES.values(), ids=LOSSES)
def test_a_lost_file_is_noticed_and_everything_committed_is_copied(folder, connection, watched, lose, told, tmp_path):
    assert watched.what_happened() == ""
    lose(folder)
    connection.execute("INSERT INTO said VALUES ('two')")  # the log is open: DuckDB takes no notice

    assert watched.what_happened() == told.format(tmp_path)
    path = recovered_path(watched.path)
    watched.copy_to(path)

    assert path.stat().st_mode & 0o777 == 0o600
    with duckdb.connect(str(path)) as recovered:
        assert recovered.execute("SELECT text FROM said").fetchall() == [("one",), ("two",)]


def test_an_unchanged_file_is_left_alone_through_commits_and_checkpoints(connection, watched):
    for number in range(3):
        connection.execute("INSERT INTO said VALUES (?)", [str(number)])
        assert watched.what_happened() == ""
        connection.execute("CHECKPOINT")
        assert watched.what_happened() == ""


def test_a_log_that_was_replaced_is_noticed(folder, connection, watched):
    log = folder / "p.duckdb.wal"
    shutil.copy(log, folder / "copy")
    (folder / "copy").replace(log)

    assert watched.what_happened() == "has another file as its log"


def test_a_recovered_file_never_replaces_another(folder, connection, watched):
    paths = []
    for _ in range(3):
        paths.append(recovered_path(watched.path))
        watched.copy_to(paths[-1])

    assert len(set(paths)) == 3
    with pytest.raises(FileExistsError):
        watched.copy_to(paths[0])


def test_where_the_system_shows_no_descriptors_nothing_is_copied(connection, watched, monkeypatch, tmp_path):
    monkeypatch.setattr("piano_jupyter.store.duckdb.lost_file.DESCRIPTORS", Path(tmp_path / "none"))

    with pytest.raises(FileNotFoundError, match="does not show a process what it has open"):
        watched.copy_to(tmp_path / "new.duckdb")
    assert not (tmp_path / "new.duckdb").exists()

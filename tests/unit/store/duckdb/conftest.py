"""What the tests of a damaged database share."""

import json
from pathlib import Path

import database_runs
import duckdb
import pytest
from database_runs import MESSAGES

from piano_jupyter.store.duckdb import recovery, salvage


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """Return a small file with messages, checkpointed several times."""
    path = tmp_path_factory.mktemp("base") / "run.duckdb"
    database_runs.run(path, MESSAGES, every=10, size=3000)
    return path.read_bytes()


@pytest.fixture(scope="session")
def logged(base, tmp_path_factory):
    """Return the same file and a log with six more messages."""
    return database_runs.with_log(tmp_path_factory.mktemp("logged") / "run.duckdb", base, 6)


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

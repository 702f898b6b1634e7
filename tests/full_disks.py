"""A disk that is full from one write on, or at one write only: each write of a run in turn.

Each time a process is forked that opens a database, reads and commits. They all come from one process, whose writes
the library of `torn_writes.c` counts, so that none has to start an interpreter.

python tests/full_disks.py FOLDER COUNT ROUNDS
"""

import ctypes
import itertools
import json
import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import NamedTuple

import database_runs
import torn_writes

from piano_jupyter.errors import StoreError
from piano_jupyter.store.duckdb import recovery, salvage
from piano_jupyter.store.duckdb.database import Database

ALWAYS = 1_000_000  #: writes fail from the first on


class Outcome(NamedTuple):
    """What a process told on whose disk some writes failed, and the folder that it left."""

    folder: Path
    acknowledged: int  #: the last message, as far as the process knows
    refused: list  #: the sentences of its errors
    told: list  #: what the database told


def outcomes(folder, files, count, rounds):
    """Yield what became of a database for each write that is the first of `count` that fail."""
    files.lay_down(folder / "base")
    built = torn_writes.library(folder)
    done = subprocess.run(
        [sys.executable, __file__, folder, str(count), str(rounds)],
        env=database_runs.environment(LD_PRELOAD=str(built)),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        place, *rest = json.loads(line)
        yield Outcome(Path(place), *rest)


def live(path, rounds, tell):
    """Open the database, read it, commit and checkpoint, in spite of what is refused; tell what came of it."""
    last, refused, told = 0, [], []
    try:
        database = Database(str(path), told.append)
        try:
            database_runs.read_all(database)
            last = database.tables.seqs["messages"]
            for number in range(rounds):
                try:
                    database_runs.commit(database, database_runs.read_all(database)[-1][0] + 1, 500)
                    last = database.tables.seqs["messages"]
                    if number % 3 == 2:
                        database.do(lambda _: database.connection.execute("CHECKPOINT"))
                except StoreError as error:
                    refused.append(str(error))
                    database.rollback()
        finally:
            database.close()
    except StoreError as error:
        refused.append(str(error))
    tell(last, refused, told)


def forked(function):
    """Run a function in a forked process; return what it wrote."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        os.dup2(write, 1)
        try:
            function()
            sys.stdout.flush()
        except BaseException:  # noqa: BLE001
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        output = pipe.read()
    os.waitpid(child, 0)
    return output


def salvage_in_fork(task, copy, *tables):
    """Salvage in a process of its own, which has its interpreter already."""
    return recovery.last_told(forked(lambda: salvage.main([task, copy, *tables])))


def main(folder, count, rounds):
    """Let each write in turn be the first that fails, until there is none left."""
    recovery.in_own_process = salvage_in_fork
    base = {path.relative_to(folder / "base"): path for path in (folder / "base").rglob("*.*") if path.is_file()}
    for first in itertools.count():
        place = folder / str(first)
        for name, path in base.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(path.read_bytes())

        def work(first=first, place=place):
            os.environ["WRITES_FULL"] = f"{first}:{count}"
            live(place / "run.duckdb", rounds, lambda *told: print(json.dumps(told)))

        outcome = json.loads(forked(work))
        if ctypes.CDLL(None).count_writes_anew() <= first:
            return
        print(json.dumps([str(place), *outcome]), flush=True)


if __name__ == "__main__":
    asked, how_many, how_long = sys.argv[1:]
    main(Path(asked), int(how_many), int(how_long))

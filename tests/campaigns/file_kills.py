"""Kill children that commit and checkpoint, at random moments; each next one must find everything.

python tests/campaigns/file_kills.py FOLDER [COUNT] [SEED]
"""

import json
import os
import random
import select
import shutil
import signal
import sys
import time
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

from database_runs import check, commit  # noqa: E402

from piano_jupyter.store.duckdb import database as module  # noqa: E402
from piano_jupyter.store.duckdb.database import Database  # noqa: E402

LARGEST_FILE_BYTES = 20_000_000
LONGEST_LIFE_S = 0.08
MORE_TABLES = 60  #: so that there is much to rewrite in place at a checkpoint


def live(path, tell, least, most):
    """Open the database, look whether all is there, then commit and checkpoint until it is killed or closes."""
    repaired, told = [], []
    repair = module.is_repaired
    module.is_repaired = lambda name: repaired.append(repair(name)) or repaired[-1]
    database = Database(path, told.append)
    for table in range(MORE_TABLES):
        database.connection.execute(f"CREATE TABLE IF NOT EXISTS more_{table} (id UUID PRIMARY KEY, a INT, b VARCHAR)")
    check(database, least, most)
    number = database.tables.seqs["messages"]
    tell("open", number, sum(repaired), told)
    for _ in range(random.Random(number).randrange(1, 60)):
        number += 1
        tell("begin", number)
        commit(database, number, 300)
        tell("done", number)
        database.connection.execute("CHECKPOINT")
    database.close()
    tell("closed", number)


def start(path, least, most):
    """Fork a child that lives; return its process id and the end of the pipe on which it tells."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)

        def tell(*what):
            os.write(write, json.dumps(what).encode() + b"\n")

        try:
            live(path, tell, least, most)
        except BaseException as error:  # noqa: BLE001
            tell("failed", f"{type(error).__name__}: {error}")
        os._exit(0)
    os.close(write)
    return child, read


def kills(folder, count, seed):
    """Kill so many children; return how often the file was repaired, and all that went wrong."""
    chance, path = random.Random(seed), folder / "kills.duckdb"
    least = most = repaired = files = 0
    wrong, began = [], time.monotonic()
    for _ in range(count):
        if not path.exists() or path.stat().st_size > LARGEST_FILE_BYTES:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            least = most = 0
            files += 1
        child, told = start(str(path), least, most)
        if chance.random() < 0.7:  # else it is killed while it opens
            select.select([told], [], [])
        select.select([], [], [], chance.uniform(0, LONGEST_LIFE_S))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with os.fdopen(told, "rb") as pipe:
            lines = [json.loads(line) for line in pipe.read().splitlines()]
        for word, *rest in lines:
            if word == "open":
                least = most = rest[0]
                repaired += rest[1]
                wrong += rest[2]
            elif word == "failed":
                wrong += rest
            elif word != "closed":
                least, most = (rest[0], most) if word == "done" else (least, rest[0])
        if wrong:
            break
    return {"kills": count, "files": files, "repaired": repaired, "wrong": wrong, "s": round(time.monotonic() - began)}


if __name__ == "__main__":
    asked, how_many, first = [*sys.argv[1:], *("lab", "1000", "1")[len(sys.argv) - 1 :]]
    print(json.dumps(kills(Path(asked), int(how_many), int(first))))

"""Flip a byte in every page of a small file and its log; count what is lost, and what is told of it.

python tests/campaigns/flips.py FOLDER [STEP_BYTES] [SEED]
"""

import collections
import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

import database_runs  # noqa: E402

from piano_jupyter.errors import StoreError  # noqa: E402
from piano_jupyter.store.duckdb.database import Database  # noqa: E402

MESSAGES, LOGGED = 150, 15
ALL = "SELECT seq, content FROM messages ORDER BY seq"


def build(folder):
    """Return the content of a file that was checkpointed, and of its log."""
    path = folder / "flips.duckdb"
    database_runs.run(path, MESSAGES, every=MESSAGES // 2, size=2000)
    with subprocess.Popen(
        database_runs.command(path, "", 1000, 0), env=database_runs.environment(), stdout=subprocess.PIPE, text=True
    ) as child:
        assert any(line == f"done {MESSAGES + LOGGED}\n" for line in child.stdout)
        child.kill()
    return path.read_bytes(), Path(f"{path}.wal").read_bytes()


def read(path, told):
    """Return all messages, after a recovery if it takes one; None where the file is refused."""
    for _ in range(2):
        try:
            database = Database(str(path), told.append)
        except StoreError:
            return None
        try:
            for _ in range(2):
                try:
                    return database.do(lambda _, of=database: of.connection.execute(ALL).fetchall())
                except StoreError:
                    database.reopen_if_broken()
        finally:
            database.close()
    return None


def main(folder, step, seed):
    """Flip and count."""
    folder.mkdir(parents=True)
    file, log = build(folder)
    chance, found, began = random.Random(seed), collections.Counter(), time.monotonic()
    places = [("file", at) for at in range(0, len(file), step)] + [("log", at) for at in range(0, len(log), 512)]
    for kind, page in places:
        at = page + chance.randrange(4096 if kind == "file" else min(512, len(log) - page))
        content = {"file": bytearray(file), "log": bytearray(log)}
        content[kind][at] ^= 1 << chance.randrange(8)
        path = folder / "flipped" / "flips.duckdb"
        shutil.rmtree(path.parent, ignore_errors=True)
        path.parent.mkdir()
        path.write_bytes(content["file"])
        Path(f"{path}.wal").write_bytes(content["log"])
        told = []
        rows = read(path, told)
        if rows is None:
            found[f"{kind}: refused"] += 1
            continue
        wrong = sum(not database_runs.is_text_of(*row) for row in rows)
        lost = max(MESSAGES + LOGGED - len(rows), 0)
        outcome = f"{kind}: {'told' if told else 'not told'}, {'some' if lost else 'none'} lost, {wrong} wrong"
        found[outcome] += 1
    print(json.dumps({"flips": len(places), "found": found.most_common(), "s": round(time.monotonic() - began)}))


if __name__ == "__main__":
    place, how_fine, first = [*sys.argv[1:], *("lab", "4096", "1")[len(sys.argv) - 1 :]]
    main(Path(place), int(how_fine), int(first))

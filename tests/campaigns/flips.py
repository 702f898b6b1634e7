"""Flip a byte in every page of a small file and its log; count what is lost, and what is told of it.

python tests/campaigns/flips.py FOLDER [STEP_BYTES] [SEED]
"""

import collections
import json
import random
import sys
import time
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

import database_runs  # noqa: E402

from piano_jupyter.errors import StoreError  # noqa: E402
from piano_jupyter.store.duckdb.database import Database  # noqa: E402

MESSAGES, LOGGED = 150, 15


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
                    return database.do(lambda _, of=database: of.connection.execute(database_runs.ALL).fetchall())
                except StoreError:
                    database.reopen_if_broken()
        finally:
            database.close()
    return None


def main(folder, step, seed):
    """Flip and count."""
    folder.mkdir(parents=True)
    path = folder / "flips.duckdb"
    database_runs.run(path, MESSAGES, every=MESSAGES // 2, size=2000)
    file, log = database_runs.with_log(path, path.read_bytes(), LOGGED)
    content = {"file": file, "log": log}
    chance, found, began = random.Random(seed), collections.Counter(), time.monotonic()
    places = [("file", at) for at in range(0, len(file), step)] + [("log", at) for at in range(0, len(log), 512)]
    for kind, page in places:
        at = page + chance.randrange(4096 if kind == "file" else min(512, len(log) - page))
        mask = 1 << chance.randrange(8)
        damaged = [database_runs.flipped(data, at, mask) if each == kind else data for each, data in content.items()]
        database_runs.files_of(*damaged).lay_down(folder / "flipped")
        told = []
        rows = read(folder / "flipped" / "run.duckdb", told)
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

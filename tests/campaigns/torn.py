"""Cut short every write of a checkpoint, lay down what is left, and look whether everything is there.

python tests/campaigns/torn.py FOLDER [MEGABYTES] [STEP_BYTES]
"""

import itertools
import json
import sys
import time
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

import database_runs  # noqa: E402

from piano_jupyter.store.duckdb import database as module  # noqa: E402
from piano_jupyter.store.duckdb.database import Database  # noqa: E402
from piano_jupyter.store.duckdb.file_format import BLOCKS_START  # noqa: E402


class Steps(NamedTuple):
    """At which lengths writes are cut, in bytes; and how often the power fails before each sync."""

    metadata: int  #: in the block that is rewritten in place
    others: int
    new: int  #: where the file grows
    power_cuts: int


CHECKPOINT = Steps(metadata=4096, others=65536, new=131072, power_cuts=3)  #: in CI


def torn_checkpoint(folder, base, count, steps):
    """Record two commits, a checkpoint and closing on a file of `count` messages; return what became of its states."""
    changes = database_runs.recorded(folder / "recorded", rounds=2, every=count + 1, base=base)
    files = {str(folder / "recorded" / "run.duckdb"): base}
    done, began = {"states": 0, "repaired": 0, "wrong": []}, time.monotonic()
    repair, path = module.is_repaired, folder / "torn" / "run.duckdb"

    def counted(name):
        is_repaired = repair(name)
        done["repaired"] += is_repaired
        return is_repaired

    module.is_repaired = counted
    try:
        torn = database_runs.torn_states(
            changes, lambda at: steps.metadata if at == BLOCKS_START else steps.others, steps.new, files, count
        )
        cuts = database_runs.power_cuts(changes, steps.power_cuts, files, count)
        for name, state, least, most in itertools.chain(torn, cuts):
            done["states"] += 1
            state.lay_down(path.parent)
            told = []
            try:
                database = Database(str(path), told.append)
                try:
                    database_runs.check(database, least, most)
                finally:
                    database.close()
            except Exception as error:  # noqa: BLE001
                told.append(f"{type(error).__name__}: {error}")
            is_last = "power" in name and all("the last change to database" in each for each in told)
            done["wrong"] += [(name, *told)] if told and not is_last else []
    finally:
        module.is_repaired = repair
    return done | {"s": round(time.monotonic() - began)}


def main(folder, megabytes, step):
    """Build a file of about this size, and tear a checkpoint of it."""
    built = folder / "built.duckdb"
    folder.mkdir(parents=True)
    size = 20_000
    count = max(megabytes * 1_000_000 // size, 10) // 10 * 10
    database_runs.run(built, count, every=count // 5, size=size)
    base = built.read_bytes()
    done = torn_checkpoint(folder, base, count, Steps(4096, step, step, 10))
    print(json.dumps({"bytes": len(base)} | done))


if __name__ == "__main__":
    place, how_large, how_fine = [*sys.argv[1:], *("lab", "50", "4096")[len(sys.argv) - 1 :]]
    main(Path(place), int(how_large), int(how_fine))

"""Cut short every write of a checkpoint, lay down what is left, and look whether everything is there.

Each state is looked at once: most of those in which a write stops a little later have the same bytes.

python tests/campaigns/torn.py FOLDER [MEGABYTES] [STEP_BYTES]
"""

import json
import sys
import time
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

import database_runs  # noqa: E402

from piano_jupyter.store.duckdb import database as module  # noqa: E402

STEP_BYTES = 4096
POWER_CUTS = 10  #: before each sync
MESSAGE_CHARACTERS = 20_000
PROGRESS_STATES = 50  #: after so many, it says how far it is


def torn_checkpoint(folder, base, count, step, power_cuts, rounds=2):
    """Record commits, checkpoints and closing on a file of `count` messages; return what became of their states.

    The first of `rounds` commits is checkpointed, and the last by closing.
    """
    began, files = time.monotonic(), database_runs.files_of(base)
    changes = database_runs.recorded(folder / "recorded", rounds, every=count + 1, base=files)
    torn = database_runs.torn_states(changes, step, files, count)
    states = [*torn, *database_runs.power_cuts(changes, power_cuts, files, count)]
    done = {"states": len(states), "distinct": 0, "repaired": 0, "wrong": []}
    repair = module.is_repaired

    def counted(name):
        is_repaired = repair(name)
        done["repaired"] += is_repaired
        return is_repaired

    module.is_repaired = counted
    try:
        for name, state, least, most in database_runs.distinct(states):
            done["distinct"] += 1
            if done["distinct"] % PROGRESS_STATES == 0:
                print(json.dumps(done | {"s": round(time.monotonic() - began)}), file=sys.stderr, flush=True)
            state.lay_down(folder / "torn")
            try:
                told = database_runs.open_and_check(folder / "torn" / "run.duckdb", least, most)
            except Exception as error:  # noqa: BLE001
                told = [f"{type(error).__name__}: {error}"]
            is_last = "power" in name and all("the last change to database" in each for each in told)
            done["wrong"] += [(name, *told)] if told and not is_last else []
    finally:
        module.is_repaired = repair
    return done | {"s": round(time.monotonic() - began)}


def main(folder, megabytes, step):
    """Build a file of about this size, and tear a checkpoint of it."""
    built = folder / "built.duckdb"
    folder.mkdir(parents=True)
    count = max(megabytes * 1_000_000 // MESSAGE_CHARACTERS, 10) // 10 * 10
    database_runs.run(built, count, every=count // 5, size=MESSAGE_CHARACTERS)
    base = built.read_bytes()
    done = torn_checkpoint(folder, base, count, step, POWER_CUTS)
    print(json.dumps({"bytes": len(base)} | done))


if __name__ == "__main__":
    place, how_large, how_fine = [*sys.argv[1:], *("lab", "50", str(STEP_BYTES))[len(sys.argv) - 1 :]]
    main(Path(place), int(how_large), int(how_fine))

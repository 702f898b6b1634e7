"""A history outlives kills and power cuts at any write: of checkpoints, creation, upgrades, repairs, recoveries."""

import pytest
import torn_writes
from campaigns.torn import STEP_BYTES, torn_checkpoint
from database_runs import (
    MESSAGES,
    distinct,
    files_of,
    first_torn_block,
    flipped,
    message_block,
    of_first_version,
    open_and_check,
    power_cuts,
    recorded,
    torn_states,
)

pytestmark = pytest.mark.skipif(not torn_writes.HAS_COMPILER, reason="there is no C compiler to tear writes with")
LONG_STEP_BYTES = 65536  #: where it is the small writes that matter: each commit of a migration


def test_j1_every_write_of_a_checkpoint_can_be_cut_short_by_a_kill_or_a_power_cut(tmp_path, base, in_this_process):
    done = torn_checkpoint(tmp_path, base, MESSAGES, STEP_BYTES, power_cuts=3)

    assert done["wrong"] == []
    assert done["states"] > 500
    assert done["distinct"] > 100
    assert done["repaired"] > 5


def test_j1_the_creation_of_a_database_and_its_migrations_can_be_cut_short(tmp_path):
    changes = recorded(tmp_path / "recorded", rounds=2)

    for name, files, least, most in distinct(torn_states(changes, LONG_STEP_BYTES)):
        files.lay_down(tmp_path / "torn")
        told = open_and_check(tmp_path / "torn" / "run.duckdb", least, most)
        assert all("before anything could be stored in it" in each for each in told), name


def test_j1_the_upgrade_of_an_older_file_can_be_cut_short_by_a_kill_or_a_power_cut(tmp_path):
    file, log = of_first_version(tmp_path / "first.duckdb", MESSAGES)
    base = files_of(file, log)
    changes = recorded(tmp_path / "recorded", rounds=1, base=base)
    states = [*torn_states(changes, LONG_STEP_BYTES, base, MESSAGES), *power_cuts(changes, 3, base, MESSAGES)]

    copies = 0
    for name, files, least, most in distinct(states):
        files.lay_down(tmp_path / "torn")
        told = open_and_check(tmp_path / "torn" / "run.duckdb", least, most)
        assert "power" in name or told == [], name
        assert all("the last change to database" in each for each in told), name
        for copy in (each for each in files if "before-" in each):
            copies += 1
            assert files.content(copy) == (log if copy.endswith(".wal") else file), name
    assert copies > 20


@pytest.mark.parametrize("damage", ["torn", "flipped"])
def test_j1_the_repair_and_the_recovery_can_be_cut_short_themselves(tmp_path, base, in_this_process, damage):
    if damage == "torn":
        files = first_torn_block(tmp_path / "first", files_of(base), MESSAGES)
    else:
        files = files_of(flipped(base, message_block(base) + 3))
    changes = recorded(tmp_path / "recorded", rounds=1, base=files)

    count = next(int(change.data.split()[1]) for change in changes if change.data.startswith(b"open "))
    for name, torn, least, most in distinct(torn_states(changes, STEP_BYTES, files, count)):
        torn.lay_down(tmp_path / "torn")
        told = open_and_check(tmp_path / "torn" / "run.duckdb", least, most)
        assert damage == "flipped" or told == [], name
    assert count >= MESSAGES

"""A disk that is full at any write loses nothing that was acknowledged, and is named."""

import database_runs
import full_disks
import pytest
import torn_writes
from campaigns.flips import read
from database_runs import MESSAGES, files_of, first_torn_block, flipped, message_block, open_and_check

pytestmark = pytest.mark.skipif(not torn_writes.HAS_COMPILER, reason="there is no C compiler to fill a disk with")


@pytest.mark.parametrize("count", [full_disks.ALWAYS, 1], ids=["from then on", "for a moment"])
def test_j5_a_disk_that_is_full_at_any_write_loses_nothing_that_was_acknowledged(tmp_path, base, count):
    outcomes = [*full_disks.outcomes(tmp_path, files_of(base), count, rounds=10)]

    assert len(outcomes) > 30
    for each in outcomes:
        assert all("no room left on the disk of database" in sentence for sentence in each.refused)
        assert each.told == []
        # What was refused may be stored all the same: the disk can be full when the log is told to be complete.
        least = max(each.acknowledged, MESSAGES)
        assert open_and_check(each.folder / "run.duckdb", least, least + 1) == []
    assert sum(each.refused != [] for each in outcomes) > 20


def test_j5_a_disk_that_is_full_during_an_upgrade_leaves_the_older_file_or_the_newer_one(tmp_path):
    file, log = database_runs.of_first_version(tmp_path / "first.duckdb", MESSAGES)
    outcomes = [*full_disks.outcomes(tmp_path / "full", files_of(file, log), full_disks.ALWAYS, rounds=1)]

    assert sum(each.refused != [] for each in outcomes) > 10
    for each in outcomes:
        assert all(is_about_room(sentence) for sentence in each.refused), each.refused
        assert open_and_check(each.folder / "run.duckdb", MESSAGES, MESSAGES + 1) == []


def is_about_room(sentence):
    return "no room left on the disk" in sentence or "No space left on device" in sentence


@pytest.mark.parametrize("damage", ["torn", "flipped"])
def test_j5_a_disk_that_is_full_during_a_repair_or_a_recovery_leaves_the_damaged_file_for_the_next_one(
    tmp_path, in_this_process, damage
):
    few, made = 4, tmp_path / "made.duckdb"
    database_runs.run(made, few, size=3000)
    base = made.read_bytes()
    if damage == "torn":
        files = first_torn_block(tmp_path / "first", files_of(base), few)
    else:
        text = message_block(base, few // 2)
        files = files_of(flipped(flipped(base, text), text + 40))
    outcomes = [*full_disks.outcomes(tmp_path / "full", files, full_disks.ALWAYS, rounds=0)]

    refused = [each for each in outcomes if each.refused]
    assert len(refused) > 10
    for each in refused:
        (sentence,) = each.refused
        assert "No space left on device" in sentence
        assert "its folder must be writable and have room for two copies of it" in sentence
        assert (each.folder / "run.duckdb").read_bytes() == files.content("run.duckdb")
        assert {path.name for path in each.folder.glob("run.*")} <= {*files, "run.duckdb.lock", "run.duckdb.backup"}
    for each in outcomes:
        told = []
        rows = read(each.folder / "run.duckdb", told)
        assert len(rows) >= few
        assert len(told) == (damage == "flipped" and each in refused), told

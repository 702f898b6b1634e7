"""A flipped byte loses little, wherever it is in the file or its log, and what is told of it is true."""

import random
from pathlib import Path

import database_runs
import pytest
from campaigns.flips import read
from database_runs import files_of, flipped

from piano_jupyter.store.duckdb import file_format as form

MESSAGES, LOGGED = 10, 6
PAGE_BYTES, LOG_STEP_BYTES = 4096, 1024
DIRECTORY = range(form.BLOCKS_START, form.BLOCKS_START + form.BLOCK_BYTES)
EMPTY_PAGES = 8  #: of so many empty pages one is tried: they are alike (`campaigns/flips.py` tries each)
PARTS = 2  #: so that each is done in time on a slow machine


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a file of eight blocks, and a log."""
    path = tmp_path_factory.mktemp("made") / "run.duckdb"
    database_runs.run(path, MESSAGES, size=9000)
    return database_runs.with_log(path, path.read_bytes(), LOGGED)


@pytest.mark.parametrize("part", range(PARTS))
def test_j5_a_flipped_byte_in_any_page_loses_little_and_what_is_told_of_it_is_true(
    tmp_path, made, part, in_this_process
):
    file, log = made
    chance = random.Random(5)
    pages = [at for at in range(0, len(file), PAGE_BYTES) if any(file[at : at + PAGE_BYTES])]
    pages += sorted({*range(0, len(file), PAGE_BYTES)}.difference(pages))[::EMPTY_PAGES]
    places = [("", at + chance.randrange(PAGE_BYTES)) for at in pages]
    steps = range(0, len(log), LOG_STEP_BYTES)
    places += [(".wal", min(at + chance.randrange(LOG_STEP_BYTES), len(log) - 1)) for at in steps]
    path = tmp_path / "flipped" / "run.duckdb"
    for suffix, at in places[part::PARTS]:
        damaged = file if suffix else flipped(file, at)
        files_of(damaged, flipped(log, at) if suffix else log).lay_down(path.parent)
        told = []
        rows = read(path, told)

        assert rows is not None, (suffix, at, "it is refused")
        wrong = [number for number, text in rows if not database_runs.is_text_of(number, text)]
        lost = MESSAGES + LOGGED - len(rows)
        assert wrong == [] or (len(wrong) == 1 and "one value may be wrong" in told[0]), (suffix, at, wrong)
        assert lost <= 0 or "not recovered" in told[0] or "the last change" in told[0], (suffix, at, lost)
        is_of_directory = not suffix and at in DIRECTORY  # if it can be read in a wrong way, too, that may cost more
        assert is_of_directory or lost <= (LOGGED if suffix else 1), (suffix, at, told)
        for sentence in told:
            kept = Path(sentence.rpartition("kept as ")[2])
            assert kept.read_bytes() == damaged or lost == 0
            assert Path(f"{kept}.txt").exists() or "before anything" in sentence
    assert len(places) > 90

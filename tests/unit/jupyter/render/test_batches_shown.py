"""How far batches are, as cells, terminals and the panel show it."""

from dataclasses import replace
from uuid import UUID

import pytest
from hostile import HOSTILE, OBEYED
from making import START

from piano_jupyter.batch_records import Batch, BatchStatus
from piano_jupyter.events import BatchProgress
from piano_jupyter.jupyter.magic.options import split_words
from piano_jupyter.jupyter.render.batch_tables import (
    DictTable,
    batch_card,
    batches_table,
    latest_progress,
    running_lines,
)
from piano_jupyter.jupyter.render.batch_text import (
    bar_html,
    fraction,
    interrupted_line,
    plan_line,
    progress_line,
    rate,
    rounded,
    summary_line,
    time_left,
)
from piano_jupyter.jupyter.render.event_lines import event_line
from piano_jupyter.jupyter.render.record_lines import record_line
from piano_jupyter.records import Notebook

MARKUP = "<img src=x onerror='window.pwned = 1'>"
BEGUN = BatchProgress(
    batch_id=UUID(int=1), name="reviews", status=BatchStatus.RUNNING, rows=2_000, known=120, done=0, failed=0, tokens=0
)
HALFWAY = replace(BEGUN, done=877, failed=3, rows_per_s=4.26, tokens_per_s=321.4, seconds_left=235.0, tokens=243_210)
RETRY = "; after %piano batch reviews --retry, the next run asks those again"
BATCH = Batch(
    id=UUID(int=1),
    name="reviews",
    template="How many stars? {{review}}",
    model="qwen3:32b",
    digest="d",
    inserted_at=START,
    agent="ada",
    row_count=2_000,
    notebook=Notebook("k", "/notes/sales.ipynb"),
    done=997,
    failed=3,
)


def test_before_it_starts_rows_known_rows_and_tokens_are_told_and_how_to_try_it():
    assert plan_line(HALFWAY) == "2,000 rows, 120 of them known, about 240,000 tokens to read; --limit 20 tries it"
    assert plan_line(HALFWAY, has_limit=True).endswith("about 240,000 tokens to read")
    assert plan_line(replace(BEGUN, rows=1, known=0, tokens=31)) == "1 row, about 31 tokens to read"
    assert plan_line(replace(BEGUN, rows=120)) == "120 rows, all known"
    assert plan_line(BEGUN, has_limit=True) == "2,000 rows, 120 of them known"  # Daft: its rows are elsewhere


def test_while_it_runs_rows_speed_time_and_failures_are_told():
    assert progress_line(HALFWAY) == "1,000 of 2,000 rows · 4.3 rows/s · 321 tokens/s · about 4 min left · 3 failed"
    assert progress_line(BEGUN) == "120 of 2,000 rows"
    assert progress_line(replace(BEGUN, reason="the server is busy")) == "120 of 2,000 rows · the server is busy"
    reading = replace(BEGUN, known=0, read=800)
    assert progress_line(reading) == "reading 2,000 rows: 800 read"
    assert progress_line(replace(reading, reason="no disk")) == "reading 2,000 rows: 800 read · no disk"
    assert plan_line(reading) == "2,000 rows"
    assert interrupted_line(reading) == "interrupted; nothing was asked"
    assert fraction(HALFWAY) == 0.5
    assert fraction(replace(BEGUN, rows=0)) == 0


@pytest.mark.parametrize(
    ("progress", "failed", "line"),
    [
        ({"known": 0, "done": 2_000}, 0, "2,000 rows, 2,000 answered"),
        ({"known": 2_000}, 0, "2,000 rows, 2,000 known; nothing was asked"),
        (
            {"known": 0, "done": 2_000, "cut": 3},
            0,
            "2,000 rows, 2,000 answered; 3 answers cut off at the limit of the length",
        ),
        ({"known": 1_000, "done": 990}, 0, "2,000 rows, 1,000 known, 990 answered, 10 the same as others"),
        (
            {"known": 3, "done": 1_995, "failed": 2},
            2,
            f"2,000 rows, 3 known, 1,995 answered, 2 failed{RETRY}",
        ),
        (
            {"known": 0, "done": 1_998, "failed": 2},
            0,
            "2,000 rows, 1,998 answered, 2 failed; the next run asks those again",
        ),
        (
            {"known": 2_000},
            4,
            f"2,000 rows, 2,000 known; nothing was asked{RETRY}",
        ),
    ],
)
def test_at_the_end_one_line_without_times_is_left(progress, failed, line):
    assert (
        summary_line(replace(HALFWAY, **({"done": 0, "failed": 0} | progress), status=BatchStatus.DONE), failed) == line
    )


def test_an_interrupt_says_what_is_kept_and_how_to_go_on():
    assert interrupted_line(HALFWAY) == (
        "interrupted; the answers to 997 of 2,000 rows are kept: run this again to go on"
    )
    assert interrupted_line(None) == "interrupted; nothing was asked"


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (None, ""),
        (0, ""),
        (3, "less than a minute left"),
        (61, "about 1 min left"),
        (3_600, "about 60 min left"),
        (7_200, "about 2 hours left"),
        (200_000, "about 2 days left"),
    ],
)
def test_the_time_that_is_left_is_told_as_one_would_say_it(seconds, told):
    assert time_left(seconds) == told


def test_numbers_have_as_many_digits_as_one_needs():
    assert [rate(each) for each in (0.251, 4.26, 321.4, 1_250.2)] == ["0.25", "4.3", "321", "1,250"]
    assert [rounded(each) for each in (0, 7, 31, 4_321, 987_654)] == [0, 7, 31, 4_300, 990_000]


def test_batches_are_listed_with_their_speed_and_the_time_left_while_they_run():
    progress = latest_progress([(START, BEGUN), (START, HALFWAY)])
    ended = replace(BATCH, id=UUID(int=2), name="letters", status=BatchStatus.DONE, notebook=Notebook())

    running, done = repr(batches_table([BATCH, ended], progress)).splitlines()[1:]

    assert running.split("  ")[0] == "reviews"
    assert [each.strip() for each in running.split("  ") if each.strip()] == [
        *("reviews", "running", "2,000", "997", "3", "4.3", "about 4 min left", "qwen3:32b", "sales.ipynb"),
    ]
    assert "left" not in done
    assert done.endswith("a script")
    assert repr(batches_table([ended], {}, Notebook())).splitlines() == [
        "batch    status  rows   done  failed  model",
        "letters  done    2,000  997   3       qwen3:32b",
    ]
    assert repr(batches_table([], {})) == "no batches yet; %%piano --map FRAME asks about each row of a table"


def test_a_batch_is_one_line_in_a_list():
    assert record_line(BATCH) == "<Batch reviews, running>"


def test_status_tells_of_the_batches_that_run_and_of_no_others():
    others = [replace(BATCH, status=each) for each in BatchStatus if each is not BatchStatus.RUNNING]

    assert running_lines([BATCH, *others], {BATCH.id: HALFWAY}) == f"reviews: {progress_line(HALFWAY)}"
    assert running_lines([BATCH], {}) == "reviews: 1,000 of 2,000 rows"
    assert running_lines(others, {}) == ""


def test_a_card_counts_the_errors_and_shows_the_commonest():
    errors = [("too long", 900), *((f"error {number}", 1) for number in range(20))]

    card = repr(batch_card(BATCH, HALFWAY, errors))

    assert "900 × too long" in card
    assert "error 8" in card
    assert "error 9" not in card
    assert "and 11 others" in card


def test_r40_text_of_others_is_never_markup_and_steers_no_terminal():
    hostile = MARKUP + HOSTILE
    batch = replace(
        BATCH,
        name=hostile,
        template=hostile,
        model=hostile,
        agent=hostile,
        reason=hostile,
        schema={hostile: hostile},
        options={hostile: hostile},
        notebook=Notebook("k", hostile),
    )
    told = replace(HALFWAY, name=hostile, reason=hostile, notebook=hostile)
    rows = DictTable([{"review": hostile, hostile: None}])
    tables = [batches_table([batch], {batch.id: told}), batch_card(batch, told, [(hostile, 3)])]

    html = [*(each._repr_html_() for each in tables), rows._repr_html_(), bar_html(told, hostile, hostile)]
    plain = [
        *map(repr, tables),
        repr(rows),
        *map(repr, [batch, told]),
        record_line(batch),
    ]

    assert all("<img" not in each for each in html)
    assert all("&lt;img" in each for each in html)
    assert [each for each in plain if OBEYED.search(each)] == []
    assert event_line(told, {}).startswith(MARKUP)


@pytest.mark.parametrize("name", ["--delete --yes", 'a" --delete', "two words", "-x", "@ada", "'"])
def test_r41_the_name_of_a_batch_in_a_hint_is_a_name_and_no_options(name):
    hint = summary_line(replace(HALFWAY, name=name), 3)
    typed = hint.partition("%piano batch ")[2].partition(", the next run")[0]

    options, handles, words = split_words(typed, {"--retry": "", "--delete": "", "--yes": ""})

    assert (options, handles, " ".join(words)) == ({"--retry": ""}, [], name)


class Looked(list):
    """Rows that know which of them were looked at."""

    def __init__(self, rows):
        super().__init__(rows)
        self.places = set()

    def __getitem__(self, place):
        self.places.add(place)
        return super().__getitem__(place)


def test_r42_of_a_huge_table_some_rows_are_shown_and_each_value_is_cut():
    rows = Looked({"text": "x" * 10_000, "empty": number, "self": None} for number in range(5_000))

    html = DictTable(rows)._repr_html_()

    assert html.count("<tr>") == 201
    assert "and 4,800 more rows" in html
    assert len(html) < 100_000
    assert rows.places == set(range(200)), "all others are not looked at"
    assert repr(DictTable([])) == "no rows"

"""What a cell, or a terminal, shows of the batch that it waits for."""

import io
import sys
from dataclasses import replace
from types import SimpleNamespace
from uuid import UUID

import pytest
from hostile import HOSTILE, OBEYED

from piano_jupyter.batch_records import BatchStatus
from piano_jupyter.bus import EventBus
from piano_jupyter.events import BatchProgress, ModelLoading
from piano_jupyter.jupyter.cell.batch_cell import BatchView
from piano_jupyter.pipeline.job_results import JobResults

BEGUN = BatchProgress(
    batch_id=UUID(int=1), name="reviews", status=BatchStatus.RUNNING, rows=40, known=0, done=0, failed=0, tokens=400
)
HALFWAY = replace(BEGUN, done=20, rows_per_s=2.0, seconds_left=10.0)
DONE = replace(HALFWAY, done=40, status=BatchStatus.DONE)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def session():
    """What a view uses of the session of a terminal, which has no notebook."""
    return SimpleNamespace(in_notebook=False, shell=SimpleNamespace(), shown_batches=set())


@pytest.fixture
def terminal(monkeypatch):
    """Return a function that makes standard output a terminal, and returns that."""
    monkeypatch.setenv("COLUMNS", "80")

    def make():
        monkeypatch.setattr(sys, "stdout", Terminal())
        return sys.stdout

    return make


def test_a_terminal_shows_one_line_that_changes_and_in_the_end_the_result(session, terminal):
    shown, view = terminal(), BatchView(session, has_limit=False)
    for event in (replace(BEGUN, read=10), BEGUN, HALFWAY, DONE):
        view.take(event)
    view.end()
    view.summarize(0)

    first, rest = shown.getvalue().split("\n", 1)
    *changing, last = rest.split("\r")
    reading, cleared, first = (each.strip() for each in first.split("\r") if each)
    assert (reading, cleared) == ("reading 40 rows: 10 read", "")
    assert first == "40 rows, about 400 tokens to read; --limit 20 tries it"
    assert "20 of 40 rows · 2.0 rows/s · less than a minute left" in [each.strip() for each in changing]
    assert all(len(each) < 80 for each in changing)
    assert last == "40 rows, 40 answered\n"


def test_what_is_no_terminal_gets_the_first_and_the_last_line(session, capsys):
    view = BatchView(session, has_limit=True)
    for event in (BEGUN, HALFWAY, DONE):
        view.take(event)
    view.end()
    view.summarize(0)

    assert capsys.readouterr().out == "40 rows, about 400 tokens to read\n40 rows, 40 answered\n"


def test_r40_what_a_server_says_of_its_model_steers_no_terminal(session, terminal):
    shown, view = terminal(), BatchView(session)
    view.take(BEGUN)
    view.take(ModelLoading(note=HOSTILE))
    view.take(replace(BEGUN, reason=HOSTILE))
    view.end()
    view.say(HOSTILE)

    assert "evil" in shown.getvalue()
    assert not OBEYED.search(shown.getvalue().replace("\r", ""))


def test_two_views_of_one_notebook_show_a_batch_each_and_none_of_other_notebooks(session, capsys):
    one, two = BatchView(session), BatchView(session)
    other = replace(BEGUN, batch_id=UUID(int=2))
    elsewhere = replace(BEGUN, batch_id=UUID(int=3), notebook="elsewhere.ipynb")
    for event in (elsewhere, BEGUN, other, HALFWAY):
        one.take(event)
        two.take(event)

    assert (one.progress, two.progress) == (HALFWAY, other)
    assert capsys.readouterr().out.count("\n") == 2


def test_a_batch_that_runs_for_hours_does_not_push_other_events_out_of_those_that_are_remembered():
    bus = EventBus()
    results = JobResults(bus)

    for number in range(3):
        bus.publish(ModelLoading(note="loading"))
        bus.publish(replace(BEGUN, done=number))
        bus.publish(replace(BEGUN, batch_id=UUID(int=2), done=number))

    told = [event for _, event in results.recent(10)]
    assert [event.done for event in told if isinstance(event, BatchProgress)] == [2, 2]
    assert len(told) == 5

"""What a cell that waits for several answers shows of the events."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from piano_jupyter.errors import ModelError
from piano_jupyter.events import (
    AgentAdded,
    Answered,
    ApprovalRequested,
    HistoryTrimmed,
    JobCancelled,
    JobDone,
    JobFailed,
    JobQueued,
    JobStarted,
    MessageAdded,
    MessageDelta,
    ModelLoading,
    ToolCalled,
    ToolFlagged,
    ToolReturned,
    ToolWaiting,
)
from piano_jupyter.jupyter.cell import live_cell
from piano_jupyter.jupyter.cell.live_cell import LiveAnswer, LiveCell, LivePart, live_answers, pause_after
from piano_jupyter.progress import ProgressTracker
from piano_jupyter.records import Agent, CallStatus, Job, Message, ToolCall

NOW = datetime(2026, 1, 1, tzinfo=UTC)
THREAD, QUESTION = UUID(int=1), UUID(int=2)
ADA, BOB = UUID(int=3), UUID(int=4)


def job(number, agent=ADA, about=QUESTION, hops=0, model="small"):
    return Job(
        id=UUID(int=number), thread_id=THREAD, message_id=about, agent_id=agent, model=model, inserted_at=NOW, hops=hops
    )


def answer(number, of, text="said", role="assistant"):
    return Message(id=UUID(int=number), thread_id=THREAD, role=role, content=text, inserted_at=NOW, job_id=of.id)


def delta(of, text, reasoning="", message=99):
    return MessageDelta(job_id=of.id, message_id=UUID(int=message), text=text, reasoning=reasoning)


def written(name, *texts, message=99, **fields):
    """Return an answer so far: the text of a message, or texts about calls and of other messages."""
    parts = [LivePart(text, UUID(int=message)) if isinstance(text, str) else text for text in texts]
    return LiveAnswer(name, tuple(parts), **fields)


@pytest.fixture
def asked():
    """Two agents are asked: the jobs, and what follows them."""
    jobs = [job(10, ADA), job(11, BOB)]
    return *jobs, ProgressTracker(jobs, {ADA: "ada", BOB: "bob"})


def test_answers_are_in_the_order_asked_whatever_order_they_end_in(asked):
    first, second, following = asked

    following.apply(JobDone(job=second, message=answer(21, second, "two")))
    half = following.has_ended
    following.apply(JobDone(job=first, message=answer(20, first, "one")))

    assert (half, following.has_ended) == (False, True)
    assert [each.answer.content for each in following.all] == ["one", "two"]


def test_delegated_jobs_are_followed_and_shown_after_the_answer_that_delegates(asked):
    first, second, following = asked
    said = answer(20, first)
    next_job = job(12, BOB, about=said.id, hops=1)

    following.apply(Answered(message=said))
    following.apply(JobQueued(job=next_job))
    following.apply(JobDone(job=second, message=answer(21, second)))
    following.apply(JobDone(job=first, message=said))
    waits = not following.has_ended
    following.apply(delta(next_job, "asked again"))

    assert waits
    assert following.all == [following.by_job_id[each.id] for each in (first, next_job, second)]
    assert following.requested == [following.by_job_id[each.id] for each in (first, second)]
    assert set(following.by_job_id) == {first.id, second.id, next_job.id}
    assert live_answers(following)[1] == written("bob", "asked again")


def test_the_jobs_of_others_are_not_followed(asked):
    first, _, following = asked
    stranger = job(30)

    following.apply(JobQueued(job=stranger))
    following.apply(JobQueued(job=job(31, about=UUID(int=77), hops=1)))
    following.apply(delta(stranger, "not for you"))
    following.apply(JobDone(job=stranger, message=answer(40, stranger)))
    following.apply(JobDone(job=first, message=answer(20, first)))

    assert len(following.all) == 2
    assert [each.text for each in live_answers(following)] == ["", ""]


def test_the_text_before_a_call_the_call_and_the_text_after_it_are_shown_in_turn(asked):
    first, _, following = asked
    call = ToolCall(id=UUID(int=50), message_id=UUID(int=20), name="price", arguments={"of": "tea"}, started_at=NOW)
    returned = ToolCall(
        id=call.id, message_id=call.message_id, name="price", arguments={}, started_at=NOW,
        status=CallStatus.OK, result="3",
    )  # fmt: skip

    following.apply(delta(first, "I look "))
    following.apply(delta(first, "it up."))
    following.apply(MessageAdded(message=answer(99, first, "I look it up.")))
    following.apply(ToolCalled(job_id=first.id, call=call))
    during = live_answers(following)[0]
    following.apply(ToolReturned(job_id=first.id, call=returned))
    following.apply(delta(first, "It is 3.", message=98))

    assert during == written("ada", "I look it up.", status="running price")
    assert live_answers(following)[0] == written(
        "ada", "I look it up.", LivePart("[price() → ok: 3]"), LivePart("It is 3.", UUID(int=98))
    )
    assert following.all[0].calls == [returned]


def test_the_cell_says_that_a_call_waits_for_approval(asked):
    first, _, following = asked
    call = ToolCall(id=UUID(int=50), message_id=UUID(int=20), name="bash", arguments={}, started_at=NOW)

    following.apply(ApprovalRequested(id=UUID(int=900), job_id=first.id, call=call, question="ada wants to run bash"))
    asked_for = [each.status for each in live_answers(following)]
    following.apply(ToolCalled(job_id=first.id, call=call))

    assert asked_for == ["waits for your approval", "waiting in the queue"]
    assert live_answers(following)[0].status == "running bash"
    assert following.threads == {THREAD}


def test_the_cell_says_what_a_call_waits_for_and_shows_its_flag(asked):
    first, _, following = asked
    call = ToolCall(id=UUID(int=50), message_id=UUID(int=20), name="bash", arguments={}, started_at=NOW)

    following.apply(ToolFlagged(job_id=first.id, call=call, reason="it reaches for keys (\u202e)"))
    following.apply(ToolCalled(job_id=first.id, call=call))
    following.apply(ToolWaiting(job_id=first.id, call=call, note="another cell runs"))
    following.apply(delta(first, "So."))
    flag = "look at this call of bash: it reaches for keys (‹U+202E›)"

    assert live_answers(following)[0].text == f"{flag}\nSo."
    assert following.all[0].flags == ["look at this call of bash: it reaches for keys (\u202e)"]
    following.apply(ToolWaiting(job_id=first.id, call=call, note="another cell runs"))
    assert live_answers(following)[0].status == "bash waits: another cell runs"


def test_the_cell_says_how_long_a_model_has_been_loading():
    jobs = [job(10, ADA, model="small"), job(11, BOB, model="large")]
    following = ProgressTracker(jobs, {ADA: "ada", BOB: "bob"})

    following.apply(JobStarted(job=jobs[0]))
    following.apply(ModelLoading(note="loading", model="large", seconds=12.4))
    by_model = [each.status for each in live_answers(following)]
    following.apply(ModelLoading(note="fetching", job_id=jobs[0].id, fraction=0.25))
    by_job = live_answers(following)[0]
    following.apply(delta(jobs[0], "", "hm"))
    thinks = live_answers(following)[0].status
    following.apply(delta(jobs[0], "so"))
    following.apply(ModelLoading(note="too late", fraction=1.0))

    assert by_model == ["thinking", "large is loading, 12 s"]
    assert (by_job.status, by_job.fraction) == ("fetching", 0.25)
    assert thinks == "thinking"
    assert live_answers(following)[0] == written("ada", "so")
    assert live_answers(following)[1] == LiveAnswer("bob", (), "too late")


def test_the_cell_says_that_history_was_trimmed_until_the_answer_comes(asked):
    first, _, following = asked

    following.apply(HistoryTrimmed(thread_id=THREAD, job_id=first.id, turns=3, note="The first 3 turns no longer fit"))

    assert live_answers(following)[0].status == "The first 3 turns no longer fit"


def test_the_cell_says_why_a_job_ended_without_an_answer(asked):
    first, second, following = asked
    error = ModelError("it broke")

    following.apply(JobFailed(job=first, reason="it broke", error=error))
    following.apply(JobCancelled(job=second))

    assert following.has_ended
    assert following.all[0].error is error
    assert str(following.all[1].error) == "the job was cancelled"
    assert [each.status for each in live_answers(following)] == ["it broke", "cancelled"]


def test_notes_on_an_answer_and_new_agents_are_followed(asked):
    first, _, following = asked
    said, note = answer(20, first), answer(60, first, "carl was not asked", role="system")
    carl = Agent(id=UUID(int=5), name="carl", model="small", inserted_at=NOW)

    following.apply(AgentAdded(agent=carl))
    following.apply(Answered(message=said))
    following.apply(MessageAdded(message=note))
    following.apply(JobQueued(job=job(12, carl.id, about=said.id, hops=1)))
    following.apply(JobDone(job=first, message=said))

    assert following.all[0].notes == [note]
    assert following.all[1].name == "carl"


def test_a_terminal_shows_each_answer_completely_before_the_next(capsys):
    live = LiveCell(in_notebook=False)

    live.draw([written("ada", "one "), written("bob", "two")])
    live.draw([written("ada", "one more", has_ended=True), written("bob", "two, three")])
    live.draw([written("ada", "one more", has_ended=True), written("bob", "two, three.", has_ended=True)])
    live.end()

    assert capsys.readouterr().out == "ada:\none more\nbob:\ntwo, three.\n"


def test_a_terminal_shows_a_single_answer_without_a_name(capsys):
    live = LiveCell(in_notebook=False)

    live.draw([LiveAnswer("ada", (), "loading")])
    live.draw([written("ada", "one", has_ended=True)])
    live.end()

    assert capsys.readouterr().out == "one\n"


def test_an_answer_that_restarts_replaces_the_text_so_far(asked):
    first, _, following = asked

    following.apply(delta(first, "Lond"))
    following.apply(delta(first, "Par", message=98))
    following.apply(delta(first, "is", message=98))

    assert live_answers(following)[0].text == "Paris"


def test_on_a_terminal_an_answer_that_restarts_begins_a_new_line(capsys):
    live = LiveCell(in_notebook=False)

    live.draw([written("ada", "Lond")])
    live.draw([written("ada", "Paris, of course")])
    live.end()

    assert capsys.readouterr().out == "Lond\nParis, of course\n"


def test_late_text_of_a_job_that_has_ended_changes_nothing(asked):
    first, _, following = asked
    following.apply(delta(first, "half"))
    following.apply(JobCancelled(job=first))
    before = live_answers(following)

    following.apply(delta(first, " of it"))
    following.apply(delta(first, "anew", message=98))
    following.apply(ModelLoading(job_id=first.id, note="loading"))

    assert live_answers(following) == before
    assert before[0] == written("ada", "half", status="cancelled", has_ended=True)


@pytest.fixture
def updates(monkeypatch):
    """The HTML of each update of a live output in a notebook."""
    seen = []

    class Handle:
        def update(self, bundle, *, raw, **_):
            seen.append(bundle.get("text/html", "") if raw else None)

    monkeypatch.setattr(live_cell, "display", lambda *_, **__: Handle())
    return seen


def test_a_notebook_shows_the_rendered_text_so_far_and_ends_empty(updates):
    live = LiveCell(in_notebook=True)

    live.draw([written("ada", "It is **fi")])
    live.draw(
        [written("ada", "It is **fine**.\n\n```py\nx = 1", LivePart("[price() → ok: <3>]"), status="running price")]
    )
    live.end()

    assert "<p>It is <strong>fi</strong></p>" in updates[0]
    assert "<p>It is <strong>fine</strong>.</p>" in updates[1]
    assert "language-py" in updates[1]
    assert ">[price() → ok: &lt;3&gt;]</div>" in updates[1]
    assert updates[1].index("ok: &lt;3&gt;") < updates[1].index("running price")
    assert updates[2] == ""


def test_a_raw_answer_is_shown_as_it_is_written(updates):
    live = LiveCell(in_notebook=True, raw=True)

    live.draw([written("ada", "It is **fi")])

    assert '<pre style="white-space:pre-wrap">It is **fi</pre>' in updates[0]


@pytest.mark.parametrize(
    ("drawing_time", "size", "pause"),
    [(0.0001, 500, 0.05), (0.01, 500, 0.2), (0.01, 100_000, 0.5), (3.0, 500, 1.0)],
)
def test_long_answers_and_slow_drawings_are_updated_less_often(drawing_time, size, pause):
    assert pause_after(drawing_time, size) == pytest.approx(pause)

"""What the fold makes of events, whoever draws it."""

from dataclasses import fields, replace
from uuid import UUID

import pytest

from piano_jupyter import events
from piano_jupyter.events import (
    Answered,
    ApprovalRequested,
    Event,
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
)
from piano_jupyter.progress import CallProgress, JobProgress, ProgressTracker, TextProgress
from piano_jupyter.records import CallStatus

KINDS = [each for each in vars(events).values() if isinstance(each, type) and issubclass(each, Event)]


def delta(text="", reasoning="", message=1000):
    return MessageDelta(job_id=UUID(int=1), message_id=UUID(int=message), text=text, reasoning=reasoning)


@pytest.fixture
def job(make):
    return make.job(make.message("?"), make.agent("ada"))


@pytest.fixture
def progress():
    return JobProgress("ada", "m")


def test_every_event_of_a_job_carries_its_id_whatever_it_holds(make, job):
    message = make.message("yes", role="assistant", job_id=job.id)
    holds_a_record = [
        *(kind(job=job) for kind in (JobQueued, JobStarted, JobCancelled)),
        JobDone(job=job, message=message),
        JobFailed(job=job, reason="no"),
        MessageAdded(message=message),
        Answered(message=message),
    ]

    assert {event.job_id for event in holds_a_record} == {job.id}
    assert MessageAdded(message=make.message("?")).job_id is None
    assert replace(holds_a_record[0], job=replace(job, id=UUID(int=7))).job_id == UUID(int=7)
    assert all("job_id" in {each.name for each in fields(kind)} for kind in KINDS)


def test_texts_and_calls_are_in_order_of_arrival(make, job, progress):
    said = replace(make.message("I look.", role="assistant", job_id=job.id), id=UUID(int=1000))
    call = make.call(said, result=None)
    returned = replace(call, status=CallStatus.OK, result="3")

    for event in (
        JobStarted(job=job),
        delta("I "),
        delta("look."),
        MessageAdded(message=said),
        ToolFlagged(job_id=job.id, call=call, reason="it reaches"),
        ToolCalled(job_id=job.id, call=call),
        ToolReturned(job_id=job.id, call=returned),
        delta("It is", message=1001),
    ):
        progress.apply(event)
    first, middle, last = progress.parts.values()

    assert (first.text.getvalue(), first.message) == ("I look.", said)
    assert middle == CallProgress(returned, "ok", flag="it reaches")
    assert (last.text.getvalue(), last.message, progress.status) == ("It is", None, "writing")
    assert (progress.calls, progress.flags) == ([returned], [f"look at this call of {call.name}: it reaches"])


@pytest.mark.parametrize(
    ("end", "status", "note"),
    [
        (lambda job, _: JobFailed(job=job, reason="no server"), "failed", "no server"),
        (lambda job, _: JobCancelled(job=job), "cancelled", ""),
        (lambda job, message: JobDone(job=job, message=message), "done", ""),
    ],
)
def test_a_job_that_has_ended_stays_ended_and_so_do_its_open_calls(make, job, progress, end, status, note):
    message = make.message("so", role="assistant", job_id=job.id)
    call = make.call(message, result=None)
    asks = ApprovalRequested(id=UUID(int=9), job_id=job.id, call=call, question="may I?")
    for event in (JobStarted(job=job), asks, end(job, message)):
        progress.apply(event)
    parts = dict(progress.parts)

    for late in (delta("late"), ToolCalled(job_id=job.id, call=call), asks, ModelLoading(job_id=job.id, note="loads")):
        progress.apply(late)

    assert (progress.has_ended, progress.status, progress.note) == (True, status, note)
    assert progress.parts == parts
    assert progress.parts[call.id] == CallProgress(call, status)
    assert (progress.answer is None) == (progress.error is not None) == (status != "done")


def test_stored_messages_of_a_job_that_has_ended_are_still_added(make, job, progress):
    call = make.call(make.message("so"), status=CallStatus.OK)
    progress.apply(JobCancelled(job=job))

    progress.apply(ToolReturned(job_id=job.id, call=call))

    assert (progress.calls, progress.status) == ([call], "cancelled")


def test_a_restarted_job_drops_its_unfinished_messages(make, job, progress):
    kept = replace(make.message("kept", role="assistant", job_id=job.id), id=UUID(int=1000))
    for event in (delta("kept"), MessageAdded(message=kept), delta("half", message=1001)):
        progress.apply(event)

    progress.apply(JobFailed(job=job, reason="gone"))
    half = len(progress.parts)
    progress.apply(JobStarted(job=job))

    assert (half, list(progress.parts), progress.status) == (2, [kept.id], "running")


def test_a_late_piece_of_a_stored_message_changes_nothing(make, job, progress):
    kept = replace(make.message("kept", role="assistant", job_id=job.id), id=UUID(int=1000))
    progress.apply(MessageAdded(message=kept))

    progress.apply(delta("late", reasoning="late"))

    [part] = progress.parts.values()
    assert (part.text.getvalue(), part.message, progress.status) == ("", kept, "queued")


def test_what_is_never_stored_is_carried_over_when_a_job_is_read_again(make, job):
    said = make.message("so", role="assistant", job_id=job.id)
    call = make.call(said, result=None)
    before, anew = JobProgress("ada"), JobProgress("ada")
    before.add_message(said)
    for event in (ToolFlagged(job_id=job.id, call=call, reason="it reaches"), delta("half", message=1001)):
        before.apply(event)

    anew.add_message(said)
    anew.add_call(call)
    anew.carry_over(before)

    assert list(anew.parts) == [said.id, call.id, UUID(int=1001)]
    assert (anew.flags, anew.status) == (before.flags, "writing")
    assert isinstance(anew.parts[UUID(int=1001)], TextProgress)


def test_an_event_returns_the_progress_of_its_job_if_that_is_followed(make, job):
    stranger = make.job(make.message("elsewhere"), make.agent("bo"))
    following = ProgressTracker([job], {})

    assert following.apply(JobStarted(job=job)) is following.by_job_id[job.id]
    assert following.apply(JobQueued(job=stranger)) is None
    assert following.apply(JobStarted(job=stranger)) is None
    following.apply(JobCancelled(job=job))
    assert following.apply(JobStarted(job=job)) is None
    assert following.has_ended


def test_a_long_answer_is_not_joined_again_for_each_piece(progress):
    for _ in range(20_000):
        progress.apply(delta("word "))

    [part] = progress.parts.values()
    assert len(part.text.getvalue()) == 100_000

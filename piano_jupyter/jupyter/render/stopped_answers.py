"""What was written of answers that were stopped or failed, as messages of a transcript."""

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from piano_jupyter.records import Job, JobStatus, Message

STOPPED = {
    JobStatus.CANCELLED: "(stopped)",
    JobStatus.FAILED: "(stopped by an error)",
    JobStatus.QUEUED: "(stopped; the job waits in the queue)",
}


def with_stopped_answers(messages: Iterable[Message], jobs: Sequence[Job]) -> list[Message]:
    """Return the messages of a branch, and after each what was written of its answers; the id of that is the job's."""
    last = {(job.message_id, job.agent_id): job for job in jobs}
    stopped = {job.id: job for job in last.values() if job.partial and job.status in STOPPED}
    shown: list[Message] = []
    for message in messages:
        shown.append(message)
        shown += [_answer(message, job) for job in stopped.values() if job.message_id == message.id]
    return shown


def stopped_lines(jobs: Iterable[Job]) -> Mapping[UUID, list[str]]:
    """Return the lines below these answers, by the id of the job."""
    return {job.id: [STOPPED[job.status]] for job in jobs if job.partial and job.status in STOPPED}


def _answer(question: Message, job: Job) -> Message:
    return Message(
        id=job.id,
        thread_id=job.thread_id,
        role="assistant",
        content=job.partial,
        inserted_at=job.finished_at or question.inserted_at,
        agent_id=job.agent_id,
        job_id=job.id,
    )

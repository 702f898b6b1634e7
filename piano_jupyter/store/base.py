"""Store: what a store must do. One call is one transaction, so that the calls can travel.

Every method but `sql` takes and gives records; no row, cursor or connection leaves a store. All raise `StoreError`.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, NamedTuple, Protocol
from uuid import UUID

from piano_jupyter.records import (
    Agent,
    Approval,
    Counts,
    Hit,
    Identity,
    Job,
    JobStatus,
    Message,
    Rows,
    Thread,
    ThreadStatus,
    ToolCall,
)

UsageBy = Literal["agent", "model", "day"]


class Acknowledged(NamedTuple):
    """What `ack` has kept, with each row's `seq`."""

    job: Job
    answer: Message
    asked: list[Job]
    note: Message | None


class Store(Protocol):
    """Keeps agents, threads, messages, tool calls and jobs."""

    async def open(self) -> None:
        """Open, migrate and get ready. Raises StoreLockedError where another process has it."""

    async def close(self) -> None:
        """Write what is owed and let go of the file. May be called twice."""

    def close_now(self, timeout: float) -> None:
        """Do the same from any thread, without a loop, in at most `timeout` seconds: for the exit of the process."""

    async def identity(self) -> Identity:
        """Return which database this is."""
        ...

    async def add_agent(self, agent: Agent) -> Agent:
        """Keep a new agent; a name that is taken (whatever its case) raises StoreError."""
        ...

    async def update_agent(self, agent: Agent) -> Agent:
        """Keep a changed agent, known by its id."""
        ...

    async def agents(self) -> list[Agent]:
        """Return all agents, oldest first."""
        ...

    async def add_thread(self, thread: Thread) -> Thread:
        """Keep a new thread."""
        ...

    async def update_thread(self, thread: Thread) -> Thread:
        """Keep a changed thread, known by its id."""
        ...

    async def thread(self, thread_id: UUID) -> Thread:
        """Return one thread. Raises NotFoundError."""
        ...

    async def threads(self, status: ThreadStatus | None = None) -> list[Thread]:
        """Return threads, newest first."""
        ...

    async def enqueue(self, message: Message, jobs: Sequence[Job] = ()) -> tuple[Message, list[Job]]:
        """Keep a message together with the jobs that are to answer it; return both with their `seq`.

        A message whose id is known is not kept again: what was kept the first time is returned.
        """
        ...

    async def add_message(self, message: Message) -> Message:
        """Keep one message without a job."""
        ...

    async def add_jobs(self, jobs: Sequence[Job]) -> list[Job]:
        """Keep jobs that answer messages which are kept already; return them with their `seq`."""
        ...

    async def add_conversation(self, thread: Thread, messages: Sequence[Message], calls: Sequence[ToolCall]) -> Thread:
        """Keep a whole thread that was made elsewhere, with its messages and its finished calls, or nothing of it."""
        ...

    async def message(self, message_id: UUID) -> Message:
        """Return one message. Raises NotFoundError."""
        ...

    async def messages_ending(self, digits: str) -> list[Message]:
        """Return the messages whose id ends in these lower-case hexadecimal digits, in order."""
        ...

    async def messages(self, thread_id: UUID, last: int | None = None) -> list[Message]:
        """Return a thread's messages (only the `last` so many) in order."""
        ...

    async def start_call(self, call: ToolCall) -> ToolCall:
        """Keep a tool call before its tool runs; return it with its `seq`."""
        ...

    async def finish_call(self, call: ToolCall) -> ToolCall:
        """Keep a call's status, result and end. The first result stands; a second is ignored."""
        ...

    async def tool_calls(self, thread_id: UUID) -> list[ToolCall]:
        """Return all tool calls of a thread, in order."""
        ...

    async def request_approval(self, approval: Approval) -> Approval:
        """Keep what the user is to be asked; return it with its `seq`."""
        ...

    async def decide_approval(self, approval: Approval) -> tuple[Approval, bool]:
        """Keep the answer to what was asked; return what stands, and whether it is this: the first answer does."""
        ...

    async def unbegun(self, job_id: UUID) -> list[Approval]:
        """Return a job's calls that were asked about and have not begun, each as it was asked last, in order."""
        ...

    async def claim(self, job_id: UUID, owner: str, now: datetime) -> Job | None:
        """Mark a queued job running, its attempt one higher; None if it is no longer queued."""
        ...

    async def ack(
        self, job: Job, answer: Message, now: datetime, *, asked: Sequence[Job] = (), note: Message | None = None
    ) -> Acknowledged:
        """Keep the answer and mark the job done, together with the jobs that the answer asks for and a note on it.

        Raises StoreError if `job.owner` no longer runs it.
        """
        ...

    async def fail(self, job: Job, reason: str, now: datetime) -> Job:
        """Mark a job failed; its calls without a result are given `reason` as one. No effect on one that has ended."""
        ...

    async def cancel(self, job: Job, now: datetime) -> Job:
        """Mark a job cancelled; its calls without a result get "cancelled" as one. No effect on one that has ended."""
        ...

    async def retry(self, job: Job) -> Job:
        """Put a failed or cancelled job back into the queue, for `job.model` and under `job.terms`, attempts forgotten.

        Raises StoreError for one that is in any other state.
        """
        ...

    async def release(self, job: Job, now: datetime) -> Job:
        """Put a job that its owner was stopped in the middle of back into the queue; that attempt does not count.

        Calls without a result are given the result that `recover` gives them. A job that has ended, or that another
        owner runs by now, is left as it is.
        """
        ...

    async def recover(self, max_attempts: int, now: datetime) -> list[Job]:
        """Take over the jobs that a dead owner left running; return them as they now are.

        Each goes back to queued, or to failed once it was claimed `max_attempts` times; one that waited for the user's
        answer does not count that. Calls without a result are given "outcome unknown: the kernel stopped while it ran".
        """
        ...

    async def job(self, job_id: UUID) -> Job:
        """Return one job as it now stands. Raises NotFoundError."""
        ...

    async def jobs(self, *statuses: JobStatus, thread_id: UUID | None = None, last: int | None = None) -> list[Job]:
        """Return jobs (only the `last` so many), oldest first."""
        ...

    async def jobs_ending(self, digits: str) -> list[Job]:
        """Return the jobs whose id ends in these lower-case hexadecimal digits, in order."""
        ...

    async def counts(self) -> Counts:
        """Return how much is kept."""
        ...

    async def search(self, text: str, limit: int) -> list[Hit]:
        """Return where all the words of `text` occur, in titles and in what was said, best first."""
        ...

    async def usage(self, by: UsageBy) -> Rows:
        """Return what answers cost, a row for each agent, model or day (UTC).

        Columns: the group, answers, prompt_tokens, cached_tokens, completion_tokens, tokens_per_second (median),
        first_token_s (median), load_s (sum).
        """
        ...

    async def sql(self, query: str) -> Rows:
        """Run one SELECT; nothing is changed, no file or network reached. Raises StoreError with DuckDB's own words."""
        ...

"""Store: what a store must do. One call is one transaction, so that the calls can travel.

Every method but `sql` takes and gives records; no row, cursor or connection leaves a store. All raise `StoreError`.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from piano_jupyter.records import Agent, Job, JobStatus, Message, Rows, Thread, ThreadStatus, ToolCall


class Store(Protocol):
    """Keeps agents, threads, messages, tool calls and jobs."""

    async def open(self) -> None:
        """Open, migrate and get ready. Raises StoreLockedError where another process has it."""

    async def close(self) -> None:
        """Write what is owed and let go of the file. May be called twice."""

    def close_now(self, timeout: float) -> None:
        """Do the same from any thread, without a loop, in at most `timeout` seconds: for the exit of the process."""

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

    async def message(self, message_id: UUID) -> Message:
        """Return one message. Raises NotFoundError."""
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

    async def claim(self, job_id: UUID, owner: str, now: datetime) -> Job | None:
        """Mark a queued job running, its attempt one higher; None if it is no longer queued."""
        ...

    async def ack(self, job: Job, answer: Message, now: datetime) -> tuple[Job, Message]:
        """Keep the answer and mark the job done, together. Raises StoreError if `job.owner` no longer runs it."""
        ...

    async def fail(self, job: Job, reason: str, now: datetime) -> Job:
        """Mark a job failed; its calls without a result are given `reason` as one. No effect on one that has ended."""
        ...

    async def cancel(self, job: Job, now: datetime) -> Job:
        """Mark a job cancelled; its calls without a result get "cancelled" as one. No effect on one that has ended."""
        ...

    async def retry(self, job: Job) -> Job:
        """Put a failed or cancelled job back into the queue, attempts forgotten. Raises StoreError for any other."""
        ...

    async def recover(self, max_attempts: int, now: datetime) -> list[Job]:
        """Take over the jobs that a dead owner left running; return them as they now are.

        Each goes back to queued, or to failed once it was claimed `max_attempts` times. Calls without a result are
        given "outcome unknown: the kernel stopped while it ran".
        """
        ...

    async def jobs(self, *statuses: JobStatus, thread_id: UUID | None = None) -> list[Job]:
        """Return jobs, oldest first."""
        ...

    async def sql(self, query: str) -> Rows:
        """Run one SELECT; nothing is changed, no file or network reached. Raises StoreError with DuckDB's own words."""
        ...

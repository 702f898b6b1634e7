"""Store: what a store must do. One call is one transaction, so that calls can go over a network.

Every method but `sql` takes and gives records; no row, cursor or connection leaves a store. All raise `StoreError`.
"""

# mypy: disable-error-code="empty-body"
# An operation is declared without a body: `operations` gives it one.

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, Literal, NamedTuple, TypeVar
from uuid import UUID

from piano_jupyter.attachments.attachment import Attachment
from piano_jupyter.batch_records import Batch, BatchAnswer, BatchStatus, RowDemand, RowOutcome
from piano_jupyter.records import (
    Agent,
    Approval,
    ChosenBranch,
    Counts,
    DatabaseIdentity,
    Hit,
    Job,
    JobStatus,
    Message,
    Notebook,
    Rows,
    Thread,
    ThreadStatus,
    ToolCall,
)

Declared = TypeVar("Declared", bound="Backend")
UsageBy = Literal["agent", "model", "day", "batch"]


class AckResult(NamedTuple):
    """What `ack` has kept, with each row's `seq`."""

    job: Job
    answer: Message
    asked: list[Job]
    note: Message | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """What a kernel says of its jobs, so that it is decided over the jobs of all kernels which one goes next."""

    max_demand: int  #: jobs at once on one model; of different ones the smallest counts
    max_wait_s: float  #: seconds that a job may wait behind newer ones of a model that is loaded
    loaded: tuple[str, ...] | None = None  #: all models that answer without a swap; None: the server never swaps
    aliases: Mapping[str, str] = field(default_factory=dict)  #: other names of models, and the models


class Backend(ABC):
    """Runs the operations of a store, or forwards them to a store that does: one method for all of them."""

    @abstractmethod
    async def open(self) -> None:
        """Open, migrate and get ready. Raises StoreLockedError if another process has it."""

    @abstractmethod
    async def close(self) -> None:
        """Finish pending writes and close the file. May be called twice."""

    @abstractmethod
    def close_now(self, timeout: float) -> None:
        """Do the same from any thread, without a loop, in at most `timeout` seconds: for the exit of the process."""

    @abstractmethod
    async def call(self, operation: str, /, *arguments: Any, **options: Any) -> Any:
        """Run the operation of this name."""


def operations(store: type[Declared]) -> type[Declared]:
    """Give each declared operation its body: it passes its name and arguments to `call`."""
    for name, declaration in list(vars(store).items()):
        if iscoroutinefunction(declaration):
            setattr(store, name, _passed_on(declaration))
    return store


def _passed_on(declaration: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(declaration)
    async def call(store: Backend, *arguments: Any, **options: Any) -> Any:
        return await store.call(declaration.__name__, *arguments, **options)

    return call


@operations
class Store(Backend):
    """Keeps agents, threads, messages, tool calls, jobs and batches. Each operation is declared here, and nowhere else.

    All are safe to repeat, since a reply can be lost: the same call a second time has no second effect, and returns
    what the first has kept, as it now stands.

    The content of an attachment comes with the message or call that it belongs to, is stored once by its hash, and is
    returned by `attachments` only. An attachment without content must be stored already: else StoreError is raised.
    """

    async def identity(self) -> DatabaseIdentity:
        """Return which database this is."""

    async def add_agent(self, agent: Agent) -> Agent:
        """Store a new agent, known by its id; a name that is taken (whatever its case) raises StoreError.

        The name of a deleted agent is free.
        """

    async def update_agent(self, agent: Agent) -> Agent:
        """Store a changed agent, known by its id."""

    async def agents(self) -> list[Agent]:
        """Return all agents, those that were deleted, too, oldest first."""

    async def add_thread(self, thread: Thread) -> Thread:
        """Store a new thread, known by its id."""

    async def update_thread(self, thread: Thread) -> Thread:
        """Store a changed thread, known by its id."""

    async def thread(self, thread_id: UUID) -> Thread:
        """Return one thread. Raises NotFoundError."""

    async def threads(self, status: ThreadStatus | None = None, notebook: Notebook | None = None) -> list[Thread]:
        """Return threads, newest first; of a notebook those in which it has sent a job, and its current one.

        A notebook is known by its id and by its name; what is empty of these finds nothing.
        """

    async def keep_thread(self, notebook: Notebook, thread_id: UUID | None, now: datetime) -> None:
        """Remember which thread is current in a notebook; None for no thread. One without id and name keeps none."""

    async def kept_thread(self, notebook: Notebook) -> Thread | None:
        """Return which thread is current in a notebook, known by its id, else by what was kept last under its name.

        None if none was kept, or if the thread is archived or deleted.
        """

    async def choose_branch(self, thread_id: UUID, chosen: ChosenBranch) -> None:
        """Remember which branch of a thread was chosen last. Raises NotFoundError if there is no such thread."""

    async def chosen_branch(self, thread_id: UUID) -> ChosenBranch | None:
        """Return which branch of a thread was chosen last; None if none was."""

    async def keep_draft(self, thread_id: UUID, text: str, now: datetime) -> None:
        """Keep what is written for a thread and not sent yet, in place of what was kept before; "" keeps nothing.

        For a thread that is gone, nothing is kept.
        """

    async def draft(self, thread_id: UUID) -> str:
        """Return what was kept last; "" for nothing."""

    async def keep_draft_files(self, thread_id: UUID, files: Sequence[Attachment]) -> None:
        """Keep the files that go with a draft, in place of those that were kept before.

        For a thread that is gone, nothing is kept. Raises StoreError if the content of one is neither given nor kept.
        """

    async def draft_files(self, thread_id: UUID) -> list[Attachment]:
        """Return the files that go with a draft, without their content."""

    async def delete_threads(self, threads: Sequence[UUID]) -> None:
        """Delete threads by their ids, with their messages, calls, approvals and jobs; one that is gone is no error.

        Raises StoreError while a job runs in one of them. Their bytes stay in the file until `compact`.
        """

    async def erase(self, threads: Sequence[UUID], batches: Sequence[UUID] = ()) -> list[str]:
        """Rewrite the copies of the file without these threads and batches.

        Returns what could not be, a sentence each.
        """

    async def compact(self) -> None:
        """Rewrite the file, so that nothing of what was deleted is left in its bytes. All else waits meanwhile."""

    async def enqueue(
        self, message: Message, jobs: Sequence[Job] = (), newest: int | None = None
    ) -> tuple[Message, list[Job]]:
        """Store a message together with the jobs that are to answer it; return both with their `seq`.

        A message whose id is known is not stored again: what was stored the first time is returned. With `newest`, the
        `seq` of what the caller knows as the thread's newest message, raises StaleThreadError if the thread has a
        question that is newer than that, and NotFoundError if it was deleted.
        """

    async def add_message(self, message: Message, job: Job | None = None) -> Message:
        """Store one message that nobody is to answer.

        With the `job` that it is written in, raises StoreError if `job.owner` no longer runs it under this claim.
        """

    async def add_jobs(self, jobs: Sequence[Job]) -> list[Job]:
        """Store jobs that answer messages that are stored already; return them with their `seq`.

        In place of one whose agent has that message to answer already, that job is returned.
        """

    async def add_conversation(self, thread: Thread, messages: Sequence[Message], calls: Sequence[ToolCall]) -> Thread:
        """Import a thread with its messages and its finished calls, all or nothing.

        Raises StoreError if one of them is stored already, unless all of them are.
        """

    async def message(self, message_id: UUID) -> Message:
        """Return one message. Raises NotFoundError."""

    async def messages_ending(self, digits: str) -> list[Message]:
        """Return the messages whose id ends in these lower-case hexadecimal digits, in order."""

    async def messages(self, thread_id: UUID, last: int | None = None) -> list[Message]:
        """Return a thread's messages (only the `last` so many) in order."""

    async def start_call(self, call: ToolCall, job: Job | None = None) -> ToolCall:
        """Store a tool call before its tool runs; return it with its `seq`.

        With the `job` that makes it, raises StoreError if `job.owner` no longer runs it under this claim: a tool does
        not run for a kernel that was gone for too long.
        """

    async def finish_call(self, call: ToolCall) -> ToolCall:
        """Store a call's status, result and end. The first result stands; a second is ignored."""

    async def tool_calls(self, thread_id: UUID) -> list[ToolCall]:
        """Return all tool calls of a thread, in order."""

    async def attachments(self, hashes: Sequence[str]) -> list[Attachment]:
        """Return the attachments with these hashes, each once and with its content; one that is gone is left out."""

    async def request_approval(self, approval: Approval) -> Approval:
        """Store an approval request; return it with its `seq`."""

    async def decide_approval(self, approval: Approval) -> tuple[Approval, bool]:
        """Store the user's decision; return the first decision, which stands, and whether it is this one."""

    async def unbegun(self, job_id: UUID) -> list[Approval]:
        """Return the newest approval request of each of a job's calls that have not started, in order."""

    async def open_approvals(self, job_id: UUID) -> list[Approval]:
        """Return the approval requests without a decision of a job's calls that have no result, in order."""

    async def claim_next(
        self, request_id: UUID, owner: str, wanted: Sequence[UUID], now: datetime, turn: Turn | None = None
    ) -> Job | None:
        """Mark the first of the `wanted` jobs that is still queued running, its attempt one higher; None if none is.

        A request is given one job: the same one when it is repeated, or None once that has ended. A wanted job that
        the owner runs already is returned as it is. With `turn`, a store that several kernels share gives the wanted
        job whose turn it is over the jobs of all of them, and None while it is none's.
        """

    async def ack(
        self, job: Job, answer: Message, now: datetime, *, asked: Sequence[Job] = (), note: Message | None = None
    ) -> AckResult:
        """Store the answer and mark the job done, together with the jobs it delegates and a note on it.

        Raises StoreError if `job.owner` no longer runs it under this claim, unless this very answer is kept.
        """

    async def fail(self, job: Job, reason: str, now: datetime) -> Job:
        """Mark a job failed; its calls without a result are given `reason` as one.

        No effect on a job that has ended, or that no longer waits for `job.owner` or is run by it under this claim.
        """

    async def cancel(self, job: Job, now: datetime) -> Job:
        """Mark a job cancelled, whoever runs it; its calls without a result get "cancelled" as one.

        No effect on one that has ended.
        """

    async def keep_partial(self, job: Job) -> Job:
        """Store what was written of the answer of a job, which is `job.partial`; return the job as it now is.

        It is dropped when the job is claimed again. No effect on a job that has its answer, or that was last claimed
        by another request than `job.request_id`.
        """

    async def retry(self, job: Job) -> Job:
        """Put a failed or cancelled job back into the queue, attempts forgotten.

        It waits for `job.owner` and runs with `job.model` and under `job.terms`. `job` says how it ended: where that is
        not how it stands, it was put back before, and is left as it is. Raises StoreError for one that has not failed
        and was not cancelled.
        """

    async def take_over(self, job: Job, owner: str, notebook: Notebook) -> Job:
        """Give a queued job to another owner and notebook, if it still waits for `job.owner`; return it as it now is.

        Any other job is left as it is.
        """

    async def release(self, job: Job, now: datetime) -> Job:
        """Put a job that its owner was stopped in the middle of back into its queue; that attempt does not count.

        Calls without a result are given the result that `recover` gives them. A job that has ended, or that `job.owner`
        no longer runs under this claim, is left as it is.
        """

    async def recover(
        self, alive: Collection[str], max_attempts: int, now: datetime, notebook: Notebook | None = None
    ) -> list[Job]:
        """Take over the running jobs of all owners but those that are `alive`; return them as they now are.

        Where several processes share the store, an owner that may come back keeps its jobs for some seconds, unless
        they are of `notebook`, whose kernel was started again.
        Each goes back to queued, still for its owner, or to failed once it was claimed `max_attempts` times; one that
        waited for the user's answer does not count that. Calls without a result are given "outcome unknown: the kernel
        stopped while it ran". Called again, it finds nothing left to take over.
        """

    async def job(self, job_id: UUID) -> Job:
        """Return one job as it now stands. Raises NotFoundError."""

    async def jobs(self, *statuses: JobStatus, thread_id: UUID | None = None, last: int | None = None) -> list[Job]:
        """Return jobs (only the `last` so many), oldest first."""

    async def jobs_ending(self, digits: str) -> list[Job]:
        """Return the jobs whose id ends in these lower-case hexadecimal digits, in order."""

    async def open_batch(self, batch: Batch, alive: Collection[str] = ()) -> Batch:
        """Store a batch that runs now, known by its name; return it as it now is: a known one keeps its id and answers.

        Its errors whose `usage` has `unavailable` are forgotten: they say nothing about their rows.

        Raises StoreError for a name (whatever its case) of a batch that asks something else, and while another one of
        the owners that are `alive` runs it.
        """

    async def end_batch(self, batch: Batch, status: BatchStatus, reason: str | None, now: datetime) -> Batch:
        """Note how a batch ended; return it as it now is. No effect on one that `batch.owner` does not run any more."""

    async def cancel_batch(self, batch_id: UUID, now: datetime) -> Batch:
        """Mark a batch cancelled, whoever runs it; return it. No effect on one that has ended. Raises NotFoundError."""

    async def retry_batch(self, batch_id: UUID) -> Batch:
        """Forget the errors of a batch, so that those rows are asked again; return it. Raises NotFoundError."""

    async def delete_batch(self, batch_id: UUID) -> None:
        """Delete a batch with its answers; one that is gone is no error. Raises StoreError while it runs.

        Its bytes stay in the file until `compact`.
        """

    async def batches(self) -> list[Batch]:
        """Return all batches, oldest first."""

    async def known_rows(self, batch_id: UUID | None, keys: bytes) -> bytes:
        """Return a digit for each key, of `KEY_BYTES` each: whether its row was asked.

        `0` if not; `1` if it has an answer in this batch, `2` if it has an error there; `3` if it has an answer in
        another one.
        """

    async def copy_answers(self, batch_id: UUID, keys: bytes, place: int) -> None:
        """Give a batch the answers that other batches have to these keys, where it has none; they cost nothing.

        `place` is that of the first key. Raises NotFoundError if there is no such batch.
        """

    async def add_answers(self, batch_id: UUID, answers: Sequence[BatchAnswer]) -> Batch:
        """Store answers to rows of a batch; return it as it now is. To a row that has one, the first answer stands.

        Raises NotFoundError if there is no such batch.
        """

    async def outcomes(self, batch_id: UUID, keys: bytes) -> list[RowOutcome]:
        """Return what a batch has for these keys, in order; nothing for a key that was not asked."""

    async def answers_from(self, batch_id: UUID, place: int, key: bytes, most: int) -> list[BatchAnswer]:
        """Return at most so many answers of a batch, by their places in the table: those after this place and key."""

    async def lease_rows(self, demand: RowDemand, turn: Turn | None = None) -> int:
        """Return how many rows of a batch may be in flight now, for a moment; what is more should not begin.

        A store that several kernels share gives nothing while a job waits that they would delay, and tells the owner
        to ask again when that changes.
        """

    async def counts(self) -> Counts:
        """Return how many records are stored."""

    async def search(self, text: str, limit: int) -> list[Hit]:
        """Return where all the words of `text` occur, in titles and in what was said, best first."""

    async def usage(self, by: UsageBy) -> Rows:
        """Return what answers cost, a row for each agent, model, day (UTC) or batch.

        Columns: the group, answers, prompt_tokens, cached_tokens, completion_tokens, tokens_per_second (median),
        first_token_s (median), load_s (sum).
        """

    async def backup(self, older_than_s: float = 0.0) -> str:
        """Copy the database beside itself while work goes on, and return the path of the newest copy; "" for none.

        Nothing is copied where nothing has changed since the newest copy, or where that is younger than `older_than_s`.
        """

    async def sql(self, query: str) -> Rows:
        """Run one SELECT; nothing is changed, no file or network reached. Raises StoreError with DuckDB's own words."""

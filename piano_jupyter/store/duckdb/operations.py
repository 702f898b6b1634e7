"""What each operation does to the rows, inside a transaction that the caller begins and ends.

It knows no database library: a connection is anything that executes a query and returns rows.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol, TypeVar
from uuid import UUID

from piano_jupyter.attachments.attachment import Attachment
from piano_jupyter.batch_records import Batch
from piano_jupyter.errors import NotFoundError, StaleThreadError, StoreError
from piano_jupyter.records import (
    Agent,
    Approval,
    CallStatus,
    ChosenBranch,
    Counts,
    DatabaseIdentity,
    Job,
    JobStatus,
    Message,
    Notebook,
    Thread,
    ThreadStatus,
    ToolCall,
    short,
)
from piano_jupyter.store.base import AckResult, Turn
from piano_jupyter.store.duckdb import queries
from piano_jupyter.store.duckdb.codec import (
    NOTEBOOK_COLUMNS,
    Record,
    attachments_of_json,
    json_of_attachments,
    records_of,
    row_of,
    utc,
)

RESULT_COLUMNS = ("status", "result", "finished_at", "attachments")
DECISION_COLUMNS = ("allowed", "note", "decided_at")
COLUMNS_ADDED_LATER: Mapping[type, tuple[str, ...]] = {
    ToolCall: RESULT_COLUMNS,
    Approval: DECISION_COLUMNS,
    Batch: ("done", "failed"),
}  #: columns stored in a row of their own, added later
TERMS_COLUMNS = ("mode", "rules", "server", *NOTEBOOK_COLUMNS)
PROGRESS_COLUMNS = ("status", "attempt", "owner", "request_id", "reason", "started_at", "finished_at", "partial")
OUTCOME_UNKNOWN = "outcome unknown: the kernel stopped while it ran"

Attached = TypeVar("Attached", Message, ToolCall)


class QueryResult(Protocol):
    """What a query gave."""

    @property
    def description(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...


class Connection(Protocol):
    """Whatever executes queries."""

    def execute(self, query: str, parameters: Any = None, /) -> QueryResult: ...


class Operations:
    """The operations of a store on one connection, as the contract has them. Each one checks first, then writes."""

    def __init__(self, connection: Connection, identity: DatabaseIdentity | None = None) -> None:
        self._connection = connection
        self._identity = identity
        self.seqs: dict[str, int] = {}

    def load_counters(self) -> None:
        """Continue the counters from the stored rows; call it before the first write."""
        self.seqs = {name: seq or 0 for name, seq in self._connection.execute(queries.LAST_SEQS).fetchall()}

    def identity(self) -> DatabaseIdentity:
        assert self._identity is not None
        return self._identity

    def add_agent(self, agent: Agent) -> Agent:
        if (known := self._find(Agent, agent.id)) is not None:
            return known
        self._check_name(agent, self.agents())
        return self._add(agent)

    def update_agent(self, agent: Agent) -> Agent:
        known = self.agents()
        if all(each.id != agent.id for each in known):
            raise NotFoundError.among("agent", agent.name, [each.name for each in known])
        self._check_name(agent, known)
        return self._update(agent)

    def agents(self) -> list[Agent]:
        return self._all(Agent, queries.AGENTS)

    def add_thread(self, thread: Thread) -> Thread:
        return self._find(Thread, thread.id) or self._add(thread)

    def update_thread(self, thread: Thread) -> Thread:
        self.thread(thread.id)
        return self._update(thread)

    def thread(self, thread_id: UUID) -> Thread:
        return self._get(Thread, thread_id)

    def threads(self, status: ThreadStatus | None = None, notebook: Notebook | None = None) -> list[Thread]:
        if notebook is None:
            return self._all(Thread, queries.THREADS, status=status)
        names = {"id": notebook.id, "name": notebook.name, "key": _key(notebook)}
        return self._all(Thread, queries.THREADS_OF_NOTEBOOK, status=status, **names)

    def keep_thread(self, notebook: Notebook, thread_id: UUID | None, now: datetime) -> None:
        if key := _key(notebook):
            kept = {"id": key, "name": notebook.name, "thread_id": thread_id, "now": utc(now)}
            self._connection.execute(queries.KEEP_THREAD, kept)

    def kept_thread(self, notebook: Notebook) -> Thread | None:
        found = self._all(Thread, queries.KEPT_THREAD, key=_key(notebook), name=notebook.name)
        return next(iter(found), None)

    def choose_branch(self, thread_id: UUID, chosen: ChosenBranch) -> None:
        self.thread(thread_id)
        self._connection.execute(queries.CHOOSE_BRANCH, {"thread_id": thread_id, **chosen._asdict()})

    def chosen_branch(self, thread_id: UUID) -> ChosenBranch | None:
        found = self._connection.execute(queries.CHOSEN_BRANCH, {"thread_id": thread_id}).fetchall()
        return ChosenBranch(*found[0]) if found else None

    def keep_draft(self, thread_id: UUID, text: str, now: datetime) -> None:
        if text:
            self._connection.execute(queries.KEEP_DRAFT, {"id": thread_id, "text": text, "now": utc(now)})
        else:
            self._connection.execute(queries.DELETE_DRAFT, {"id": thread_id})

    def draft(self, thread_id: UUID) -> str:
        found = self._connection.execute(queries.DRAFT, {"id": thread_id}).fetchall()
        return str(found[0][0]) if found else ""

    def keep_draft_files(self, thread_id: UUID, files: Sequence[Attachment]) -> None:
        before = self.draft_files(thread_id)
        if self._find(Thread, thread_id) is None or (not before and not files):
            return
        listed = json_of_attachments(self._stored_attachments(files))
        self._connection.execute(queries.KEEP_DRAFT_FILES, {"id": thread_id, "attachments": listed})
        if {each.sha256 for each in before} - {each.sha256 for each in files}:
            self._connection.execute(queries.delete_unused_attachments())

    def draft_files(self, thread_id: UUID) -> list[Attachment]:
        found = self._connection.execute(queries.DRAFT_FILES, {"id": thread_id}).fetchall()
        return list(attachments_of_json(str(found[0][0]))) if found else []

    def delete_threads(self, threads: Sequence[UUID]) -> None:
        for each in threads:
            for job in self.jobs(JobStatus.RUNNING, JobStatus.QUEUED, thread_id=each):
                does = "runs" if job.status is JobStatus.RUNNING else "waits"
                raise StoreError(f"job {short(job.id)} {does} in this thread: wait for it, or cancel it first")
        ids = {"ids": list(threads)}
        for query in queries.DELETE_THREADS.values():
            self._connection.execute(query, ids)
        self._connection.execute(queries.delete_unused_attachments())

    def enqueue(
        self, message: Message, jobs: Sequence[Job] = (), newest: int | None = None
    ) -> tuple[Message, list[Job]]:
        known = self._find(Message, message.id)
        if known is not None:
            kept = self._all(Job, queries.JOBS_OF_MESSAGE, message_id=message.id) if jobs else []
            asked = {job.id for job in jobs}
            return known, [job for job in kept if job.id in asked] or kept  # others may have been added since
        if newest is not None and self._find(Thread, message.thread_id) is None:
            raise NotFoundError(f"the thread {short(message.thread_id)} was deleted; ask in another one")
        if newest is not None and self._has_newer_question(message.thread_id, newest):
            raise StaleThreadError(
                f"thread {short(message.thread_id)} has a newer question than the one it was to follow; ask again"
            )
        return self._add(message), [self._add(job) for job in jobs]

    def add_message(self, message: Message, job: Job | None = None) -> Message:
        self._check_held(job)
        return self._find(Message, message.id) or self._add(message)

    def add_jobs(self, jobs: Sequence[Job]) -> list[Job]:
        return [self._find(Job, job.id) or self._open_like(job) or self._add(job) for job in jobs]

    def add_conversation(self, thread: Thread, messages: Sequence[Message], calls: Sequence[ToolCall]) -> Thread:
        known_thread = self._find(Thread, thread.id)
        if known_thread is not None and self._has(thread.id, messages, calls):
            return known_thread
        self._add_new(thread)
        for message in messages:
            if message.thread_id != thread.id:
                raise StoreError(f"message {message.id} is not of the thread {thread.id} that it comes with")
            self._add_new(message)
        known = {message.id for message in messages}
        for call in calls:
            if call.message_id not in known:
                raise StoreError(f"tool call {call.id} is of no message that it comes with")
            if call.status is CallStatus.STARTED:
                raise StoreError(f"tool call {call.id} has no result: only finished calls can be imported")
            self._finish(self._add_new(call))
        return thread

    def message(self, message_id: UUID) -> Message:
        return self._get(Message, message_id)

    def messages(self, thread_id: UUID, last: int | None = None) -> list[Message]:
        return self._all(Message, queries.MESSAGES, thread_id=thread_id, last=last)[::-1]

    def messages_ending(self, digits: str) -> list[Message]:
        return self._ending(Message, digits)

    def start_call(self, call: ToolCall, job: Job | None = None) -> ToolCall:
        self._check_held(job)
        started = replace(call, status=CallStatus.STARTED, result=None, finished_at=None, attachments=())
        return self._find(ToolCall, call.id) or self._add(started)

    def finish_call(self, call: ToolCall) -> ToolCall:
        known = self._get(ToolCall, call.id)
        if known.status is not CallStatus.STARTED:
            return known
        ended = replace(known, status=call.status, result=call.result, finished_at=call.finished_at)
        return self._finish(replace(ended, attachments=call.attachments))

    def tool_calls(self, thread_id: UUID) -> list[ToolCall]:
        return self._all(ToolCall, queries.CALLS, thread_id=thread_id)

    def attachments(self, hashes: Sequence[str]) -> list[Attachment]:
        result = self._connection.execute(queries.ATTACHMENTS, {"hashes": list(hashes)})
        names = [column[0] for column in result.description]
        rows = (dict(zip(names, each, strict=True)) for each in result.fetchall())
        return [Attachment(**row, size=len(row["content"])) for row in rows]

    def request_approval(self, approval: Approval) -> Approval:
        asked = replace(approval, allowed=None, note="", decided_at=None)
        return self._find(Approval, approval.id) or self._add(asked)

    def decide_approval(self, approval: Approval) -> tuple[Approval, bool]:
        known = self._get(Approval, approval.id)
        if approval.allowed is None or approval.decided_at is None:
            raise StoreError(f"approval {approval.id} has no answer to keep")
        kept = replace(known, allowed=approval.allowed, note=approval.note, decided_at=approval.decided_at)
        if known.allowed is not None:
            return known, known == kept
        self._insert("decisions", {"approval_id": kept.id} | _only(row_of(kept), DECISION_COLUMNS))
        return kept, True

    def unbegun(self, job_id: UUID) -> list[Approval]:
        return self._all(Approval, queries.UNBEGUN, job_id=job_id)

    def open_approvals(self, job_id: UUID) -> list[Approval]:
        return self._all(Approval, queries.OPEN_APPROVALS, job_id=job_id)

    def claim_next(
        self, request_id: UUID, owner: str, wanted: Sequence[UUID], now: datetime, turn: Turn | None = None
    ) -> Job | None:
        del turn  # a process that has the store alone decides on the order of what it wants
        found = self._found(Job, wanted)
        given = [job for job in found if job.request_id == request_id]
        begun = [job for job in found if (job.status, job.owner) == (JobStatus.RUNNING, owner)]
        job = next(iter(given or begun or [job for job in found if job.status is JobStatus.QUEUED]), None)
        if job is None or job.status is not JobStatus.QUEUED:
            return job if job in begun else None
        running = replace(job, status=JobStatus.RUNNING, attempt=job.attempt + 1, started_at=now, partial="")
        return self._move(replace(running, owner=owner, request_id=request_id))

    def ack(
        self, job: Job, answer: Message, now: datetime, *, asked: Sequence[Job] = (), note: Message | None = None
    ) -> AckResult:
        fence = {"id": job.id, "owner": job.owner, "request_id": job.request_id, "now": utc(now)}
        if self._connection.execute(queries.DONE_JOB, fence).fetchall() == [(1,)]:
            done = replace(job, status=JobStatus.DONE, finished_at=now)
            kept, noted = self._add(answer), None if note is None else self._add(note)
            return AckResult(done, kept, self.add_jobs(asked), noted)
        known = self.job(job.id)
        if known.status is JobStatus.DONE and (said := self._find(Message, answer.id)):
            there = self._found(Job, [each.id for each in asked])
            return AckResult(known, said, there, note and self._find(Message, note.id))
        if known.status is not JobStatus.RUNNING:
            raise StoreError(
                f"job {short(job.id)} is {known.status} already: this answer came too late and is not kept"
            )
        raise StoreError(f"job {short(job.id)} is run by {known.owner!r} now: the answer of {job.owner!r} is not kept")

    def fail(self, job: Job, reason: str, now: datetime) -> Job:
        known = self.job(job.id)
        if job.owner not in {None, known.owner} or job.request_id not in {None, known.request_id}:
            return known
        return self._end(known, JobStatus.FAILED, reason, now, CallStatus.FAILED, reason)

    def cancel(self, job: Job, now: datetime) -> Job:
        return self._end(self.job(job.id), JobStatus.CANCELLED, None, now, CallStatus.FAILED, "cancelled")

    def keep_partial(self, job: Job) -> Job:
        known = self.job(job.id)
        if known.status is JobStatus.DONE or (known.owner, known.request_id) != (job.owner, job.request_id):
            return known
        return self._move(replace(known, partial=job.partial))

    def retry(self, job: Job) -> Job:
        known = self.job(job.id)
        if job.status not in {JobStatus.FAILED, JobStatus.CANCELLED}:
            raise StoreError(f"job {short(job.id)} is {known.status}; only a failed or cancelled one can be retried")
        if (known.status, known.finished_at) != (job.status, job.finished_at):
            return known
        again = replace(known, model=job.model, owner=job.owner, **job.terms._asdict())
        return self._move(_requeued(again, attempt=0))

    def take_over(self, job: Job, owner: str, notebook: Notebook) -> Job:
        known = self.job(job.id)
        if known.status is not JobStatus.QUEUED or known.owner != job.owner:
            return known
        return self._move(replace(known, owner=owner, notebook=notebook))

    def release(self, job: Job, now: datetime) -> Job:
        known = self.job(job.id)
        if not _is_held(known, job):
            return known
        self._finish_open_calls(known, CallStatus.UNKNOWN, OUTCOME_UNKNOWN, now)
        return self._move(_requeued(known, attempt=max(known.attempt - 1, 0)))

    def recover(
        self, alive: Collection[str], max_attempts: int, now: datetime, notebook: Notebook | None = None
    ) -> list[Job]:
        del notebook  # nobody comes back to a file that another process has now
        running = self.jobs(JobStatus.RUNNING)
        return [self._recover(job, max_attempts, now) for job in running if job.owner not in alive]

    def job(self, job_id: UUID) -> Job:
        return self._get(Job, job_id)

    def jobs(self, *statuses: JobStatus, thread_id: UUID | None = None, last: int | None = None) -> list[Job]:
        words = [status.value for status in statuses] if 0 < len(set(statuses)) < len(JobStatus) else None
        return self._all(Job, queries.JOBS, statuses=words, thread_id=thread_id, last=last)[::-1]

    def jobs_ending(self, digits: str) -> list[Job]:
        return self._ending(Job, digits)

    def counts(self) -> Counts:
        kept = dict(self._connection.execute(queries.COUNTS).fetchall())
        jobs = {status: kept.get(status.value, 0) for status in JobStatus}
        return Counts(agents=kept["agents"], threads=kept["threads"], messages=kept["messages"], jobs=jobs)

    def _has(self, thread_id: UUID, messages: Sequence[Message], calls: Sequence[ToolCall]) -> bool:
        said = {each.id for each in self.messages(thread_id)}
        called = {each.id for each in self.tool_calls(thread_id)}
        return said.issuperset(each.id for each in messages) and called.issuperset(each.id for each in calls)

    def _open_like(self, job: Job) -> Job | None:
        """Return the job that the same agent has for the same message, if that is queued or runs."""
        asked = self._all(Job, queries.JOBS_OF_MESSAGE, message_id=job.message_id)
        is_open = {JobStatus.QUEUED, JobStatus.RUNNING}
        return next((each for each in asked if each.agent_id == job.agent_id and each.status in is_open), None)

    def _has_newer_question(self, thread_id: UUID, seq: int) -> bool:
        return bool(self._connection.execute(queries.NEWER_QUESTION, {"thread_id": thread_id, "seq": seq}).fetchall())

    def _check_held(self, job: Job | None) -> None:
        """Raise StoreError if a job is not run any more under the claim that somebody holds."""
        if job is None or _is_held(known := self.job(job.id), job):
            return
        now = f"run by {known.owner!r} now" if known.status is JobStatus.RUNNING else f"{known.status} already"
        raise StoreError(f"job {short(known.id)} is {now}: what {job.owner!r} does for it is not kept")

    def _recover(self, job: Job, max_attempts: int, now: datetime) -> Job:
        if any(each.allowed is None for each in self.unbegun(job.id)):  # it waited for the user: that is no failure
            return self._move(_requeued(job, attempt=max(job.attempt - 1, 0)))
        if job.attempt >= max_attempts:
            times = "once" if job.attempt == 1 else f"{job.attempt} times"
            reason = f"the kernel stopped {times} while this job ran"
            return self._end(job, JobStatus.FAILED, reason, now, CallStatus.UNKNOWN, OUTCOME_UNKNOWN)
        self._finish_open_calls(job, CallStatus.UNKNOWN, OUTCOME_UNKNOWN, now)
        return self._move(_requeued(job, attempt=job.attempt))

    def _end(
        self, job: Job, status: JobStatus, reason: str | None, now: datetime, call_status: CallStatus, result: str
    ) -> Job:
        if job.status not in {JobStatus.QUEUED, JobStatus.RUNNING}:
            return job
        self._finish_open_calls(job, call_status, result, now)
        return self._move(replace(job, status=status, reason=reason, finished_at=now))

    def _finish_open_calls(self, job: Job, status: CallStatus, result: str, now: datetime) -> None:
        for call in self._all(ToolCall, queries.OPEN_CALLS, job_id=job.id):
            self._finish(replace(call, status=status, result=result, finished_at=now))

    def _finish(self, call: ToolCall) -> ToolCall:
        call = self._with_stored_attachments(call)
        self._insert("tool_results", {"call_id": call.id} | _only(row_of(call), RESULT_COLUMNS))
        return call

    def _move(self, job: Job) -> Job:
        return self._update(job, ("id", "model", *TERMS_COLUMNS, *PROGRESS_COLUMNS))

    def _check_name(self, agent: Agent, known: Sequence[Agent]) -> None:
        for each in known:
            is_taken = not (each.deleted or agent.deleted) and each.name.casefold() == agent.name.casefold()
            if each.id != agent.id and is_taken:
                raise StoreError(
                    f"there is an agent named {each.name!r} already; choose another name, or change that agent"
                )

    def _add_new(self, record: Record) -> Record:
        """Keep a record that nobody has kept. Raises StoreError where somebody has."""
        if self._find(type(record), record.id) is not None:
            raise StoreError(f"there is a {_word(type(record))} with the id {record.id} already")
        return self._add(record)

    def _add(self, record: Record) -> Record:
        """Keep a record, but not what is added to it later; return it with its `seq`, if it has one."""
        if isinstance(record, Message):
            record = self._with_stored_attachments(record)
        table, later = queries.TABLES[type(record)], COLUMNS_ADDED_LATER.get(type(record), ())
        self.seqs[table] = seq = self.seqs[table] + 1
        row = row_of(record) | {"seq": seq}
        self._insert(table, {column: value for column, value in row.items() if column not in later})
        return record if isinstance(record, Agent | Thread) else replace(record, seq=seq)

    def _with_stored_attachments(self, record: Attached) -> Attached:
        """Store the content of a record's attachments; return the record without it. Raises StoreError if it lacks."""
        if not record.attachments:
            return record
        return replace(record, attachments=self._stored_attachments(record.attachments))

    def _stored_attachments(self, attachments: Sequence[Attachment]) -> tuple[Attachment, ...]:
        """Store the content of attachments; return them without it."""
        hashes = list({each.sha256: None for each in attachments})
        stored = {sha256 for (sha256,) in self._connection.execute(queries.KNOWN_HASHES, {"hashes": hashes}).fetchall()}
        for each in attachments:
            if each.sha256 in stored:
                continue
            if each.content is None:
                raise StoreError(f"the content of the attachment {each.label} is neither given nor stored")
            row = {"sha256": each.sha256, "mime": each.mime, "content": each.content}
            self._insert("attachments", row | {"width": each.width, "height": each.height})
            stored.add(each.sha256)
        return tuple(each.without_content() for each in attachments)

    def _update(self, record: Record, columns: Sequence[str] = ()) -> Record:
        row = row_of(record)
        row = _only(row, columns or tuple(row))
        self._connection.execute(queries.update(queries.TABLES[type(record)], row), row)
        return record

    def _insert(self, table: str, row: dict[str, Any]) -> None:
        self._connection.execute(queries.insert(table, row), row)

    def _get(self, kind: type[Record], identity: UUID) -> Record:
        if (record := self._find(kind, identity)) is None:
            raise NotFoundError(f"no {_word(kind)} with the id {identity}")
        return record

    def _found(self, kind: type[Record], ids: Iterable[UUID]) -> list[Record]:
        return [record for each in ids if (record := self._find(kind, each))]

    def _find(self, kind: type[Record], identity: UUID) -> Record | None:
        return next(iter(self._all(kind, queries.by_id(kind), id=identity)), None)

    def _ending(self, kind: type[Record], digits: str) -> list[Record]:
        """Return the records whose ids end in these hexadecimal digits, by the bits of an id that they give."""
        if not re.fullmatch("[0-9a-f]{1,32}", digits):
            return []
        mask, wanted = UUID(int=16 ** len(digits) - 1), UUID(int=int(digits, 16))
        return self._all(kind, queries.ending(kind), mask=mask, digits=wanted)

    def _all(self, kind: type[Record], query: str, **values: Any) -> list[Record]:
        return read(self._connection, kind, query, values)


def read(connection: Connection, kind: type[Record], query: str, values: Mapping[str, Any]) -> list[Record]:
    """Return the records that a query gives."""
    result = connection.execute(query, dict(values))
    return records_of(kind, [column[0] for column in result.description], result.fetchall())


def _only(row: Mapping[str, Any], columns: Sequence[str]) -> dict[str, Any]:
    return {column: row[column] for column in columns}


def _word(kind: type[Record]) -> str:
    """Return what people call a record."""
    return "batch" if kind is Batch else queries.TABLES[kind].removesuffix("s").replace("_", " ")


def _is_held(known: Job, job: Job) -> bool:
    """Return whether a job still runs under the claim that somebody holds."""
    return known.status is JobStatus.RUNNING and (known.owner, known.request_id) == (job.owner, job.request_id)


def _key(notebook: Notebook) -> str:
    """Return under what the thread of a notebook is kept; "" for nothing."""
    return notebook.id or notebook.name


def _requeued(job: Job, attempt: int) -> Job:
    begun = replace(job, status=JobStatus.QUEUED, attempt=attempt, request_id=None)
    return replace(begun, reason=None, started_at=None, finished_at=None)

"""Batches: one question asked of each row of a table: run, planned, listed, cancelled, retried, deleted, exported."""

import asyncio
import hashlib
import json
import re
import threading
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from piano_jupyter.batch.answer_columns import answer_columns, free_names
from piano_jupyter.batch.asker import connection_settings
from piano_jupyter.batch.batch_rows import BatchRows
from piano_jupyter.batch.batch_run import BatchRun, BatchServices
from piano_jupyter.batch.batch_runner import BatchAsker, BatchRunner
from piano_jupyter.batch.daft_runner import DaftRunner
from piano_jupyter.batch.frames import Frame, open_frame, reading
from piano_jupyter.batch.row_answer import RowAnswer
from piano_jupyter.batch.row_template import RowTemplate
from piano_jupyter.batch_records import KEY_BYTES, Batch, BatchAnswer, BatchPlan, BatchStatus, RowOutcome
from piano_jupyter.cancellation import finish_even_if_cancelled
from piano_jupyter.config import PianoConfig
from piano_jupyter.errors import NotFoundError, PianoError, StoreError
from piano_jupyter.events import BatchProgress
from piano_jupyter.records import EMBEDDED, Agent, Notebook
from piano_jupyter.safe_files import check_writable, copy_file
from piano_jupyter.store.duckdb.parquet_file import ParquetColumn, write_parquet
from piano_jupyter.text.placeholders import Placeholder, split_placeholders
from piano_jupyter.variables.data_frames import kind_among

ANSWERS_AT_ONCE = 4_096  #: that are read together at first
MOST_AT_ONCE = 65_536  #: and at most: each time all keys that are stored are read
LARGE_CHARS = 8_000_000  #: of answers that are read together: much more could not be exchanged with the store process
MAX_NAME_WORDS, MAX_NAME_CHARS = 5, 40  #: of a template, in the name that a batch gets by default
DIGEST_DIGITS = 6  #: and of its digest
DAFT = frozenset({"daft.DataFrame"})
PARQUET = frozenset({".parquet", ".pq"})

#: Returns what asks: for a model, with options, a schema, how many at once at most, and servers ((): the present one).
MakeAsker = Callable[[str, Mapping[str, Any], Any, int | None, Sequence[str]], AbstractAsyncContextManager[BatchAsker]]


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchOwner:
    """As what this process runs batches."""

    process: str  #: never that of another process, also of one that is gone
    notebook: Notebook
    alive: Callable[[], Awaitable[Collection[str]]]  #: returns the processes that share the store
    address: Callable[[], Awaitable[str]]  #: returns the server that is asked


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What a batch asks of each row."""

    text: str  #: the template
    agent: Agent
    model: str
    schema: Mapping[str, Any] | None = None
    name: str | None = None
    servers: Sequence[str] = ()

    @property
    def template(self) -> RowTemplate:
        """Raise PianoError for a template that names no column."""
        return RowTemplate(self.text, system=self.agent.system_prompt, schema=self.schema)

    @property
    def digest(self) -> str:
        """A digest of all that is the same for each row."""
        same = [self.text, self.agent.system_prompt, self.model, dict(self.agent.options)]
        written = json.dumps(same, sort_keys=True, default=str) + json.dumps(self.schema)
        return hashlib.blake2b(written.encode("utf-8", "replace"), digest_size=KEY_BYTES).hexdigest()

    @property
    def batch_name(self) -> str:
        """The name that was given, else one from the template, and from the digest, so that another has another."""
        if self.name:
            return self.name
        said = "".join(each for each in split_placeholders(self.text) if not isinstance(each, Placeholder))
        words = "-".join(re.findall(r"\w+", said.casefold())[:MAX_NAME_WORDS])[:MAX_NAME_CHARS]
        return f"{words}-{self.digest[:DIGEST_DIGITS]}".replace("--", "-").lstrip("-")


class Batches:
    """The batches of a workspace."""

    def __init__(self, services: BatchServices, owner: BatchOwner, make_asker: MakeAsker, config: PianoConfig) -> None:
        self._services, self._store, self._owner, self._make_asker = services, services.store, owner, make_asker
        self._config = config
        self._running: dict[BatchRun, asyncio.Task[Any]] = {}
        self._names = set[str]()  #: of those that run here, or are about to
        services.bus.subscribe(self._follow, BatchProgress)

    async def map(self, table: Any, question: Question, limit: int | None, max_in_flight: int | None) -> Any:
        """Ask the question of each row; return the table with the answers. Raises PianoError."""
        if kind_among(table, DAFT):
            return await self._map_daft(table, question, limit, max_in_flight)
        template, frame = question.template, await _opened(table, limit)
        rows = _rows(frame, question, template, limit)
        asker = self._make_asker(
            question.model, question.agent.options, question.schema, max_in_flight, question.servers
        )
        with self._only_run_of(question.batch_name):
            runner = BatchRunner(self._services, await self._open(question, rows.count), template, rows)

            async def run() -> None:
                async with asker as opened:
                    await runner.run(opened)

            await self._run(runner, run())
        return await self._with_answers(runner.batch, frame, rows, question.schema)

    async def _map_daft(self, table: Any, question: Question, limit: int | None, max_in_flight: int | None) -> Any:
        """Ask about each row of a Daft DataFrame where Daft runs; the answers are stored as those of other tables."""
        template = question.template
        template.check(table.column_names)
        if limit is not None:
            raise PianoError("limit is not for a Daft DataFrame, whose rows have no order; give frame.limit(20)")
        servers = list(question.servers) or [await self._owner.address()]
        if servers in ([EMBEDDED], [""]):
            raise PianoError(
                "a Daft DataFrame is asked where Daft runs, which needs the address of a server: give servers="
            )
        settings = {
            "servers": servers,
            "model": question.model,
            "options": question.agent.options,
            "max_in_flight": max_in_flight or self._config.max_in_flight,
            "config": connection_settings(self._config, api_key=self._config.api_key),
        }
        with reading("the table"):
            count = await asyncio.to_thread(table.count_rows) or 0  # None where its files are gone
        with self._only_run_of(question.batch_name):
            runner = DaftRunner(self._services, await self._open(question, count), table, template, settings)
            await self._run(runner, runner.run())
        return runner.result

    async def plan(self, table: Any, question: Question, limit: int | None) -> BatchPlan:
        """Return what `map` would ask. Raises PianoError."""
        if kind_among(table, DAFT):
            raise PianoError("what a Daft DataFrame holds is known only once it runs; plan a part of it")
        rows = _rows(await _opened(table, limit), question, question.template, limit)
        known = next((each for each in await self._store.batches() if each.digest == question.digest), None)

        async def signs(keys: bytes, _: int) -> bytes:
            return await self._store.known_rows(known.id if known else None, keys)

        await rows.survey(signs)
        return BatchPlan(rows=rows.count, known=rows.known, tokens=rows.tokens)

    async def all(self) -> list[Batch]:
        """Return all batches, oldest first; one that runs in a process that is gone is interrupted."""
        batches = await self._store.batches()
        alive = {*await self._owner.alive(), self._owner.process}  # last: one that came meanwhile may have opened one
        return [
            replace(each, status=BatchStatus.INTERRUPTED)
            if each.status is BatchStatus.RUNNING and each.owner not in alive
            else each
            for each in batches
        ]

    async def running(self) -> list[Batch]:
        """Return the batches that run, in whichever notebook."""
        return [each for each in await self.all() if each.status is BatchStatus.RUNNING]

    async def find(self, name: str) -> Batch:
        """Return a batch by its name, whatever its case. Raises NotFoundError."""
        known = await self.all()
        found = next((each for each in known if each.name.casefold() == name.strip().casefold()), None)
        if found is None:
            raise NotFoundError.among("batch", name, [each.name for each in known])
        return found

    async def cancel(self, name: str) -> Batch:
        """Cancel a batch, whoever runs it. Raises PianoError for one that does not run."""
        batch = await self.find(name)
        if batch.status is not BatchStatus.RUNNING:
            raise PianoError(f"the batch {batch.name!r} does not run: it is {batch.status}")
        return await finish_even_if_cancelled(self._cancel(batch))

    async def _cancel(self, batch: Batch) -> Batch:
        cancelled = await self._store.cancel_batch(batch.id, self._services.clock.now())
        done = cancelled.done + cancelled.failed
        self._services.bus.publish(
            BatchProgress(
                batch_id=batch.id,
                name=batch.name,
                status=cancelled.status,
                rows=cancelled.row_count,
                known=done,
                done=0,
                failed=cancelled.failed,
                tokens=0,
                notebook=batch.notebook.name,
            )
        )
        return cancelled

    async def retry(self, name: str) -> Batch:
        """Forget the errors of a batch, so that its next run asks those rows again. Raises PianoError if it runs."""
        batch = await self._not_running(name)
        return await self._store.retry_batch(batch.id)

    async def delete(self, name: str) -> list[str]:
        """Delete a batch from the database and its copies; return what may still hold it, a sentence each.

        Raises PianoError if it runs.
        """
        batch = await self._not_running(name)
        left = await self._store.erase((), [batch.id])  # first: whoever is stopped in the middle can delete it again
        if batch.status is BatchStatus.INTERRUPTED:  # to the store, one of a dead process runs
            await self._store.cancel_batch(batch.id, self._services.clock.now())
        await self._store.delete_batch(batch.id)
        try:
            await self._store.compact()
        except StoreError as error:
            left.append(f"its bytes are in the file until the next deletion: {error}")
        return left

    async def export(self, name: str, file: Path, workspace: str | Path) -> int:
        """Write the answers of a batch to a new Parquet file; return how many there are. Raises PianoError."""
        batch = await self.find(name)
        if file.suffix.lower() not in PARQUET:
            raise PianoError(f"a batch is written as Parquet; name a file that ends in .parquet, not {file.name!r}")
        check_writable(file, workspace=workspace, replace=False)
        loop = asyncio.get_running_loop()

        def next_answers(place: int, key: bytes) -> list[BatchAnswer]:  # called on another thread
            coroutine = self._store.answers_from(batch.id, place, key, ANSWERS_AT_ONCE)
            return asyncio.run_coroutine_threadsafe(coroutine, loop).result()

        return await asyncio.to_thread(_write, batch, file, workspace, next_answers)

    def stir(self) -> None:
        """Have the batches that run here ask again how many rows may be in flight."""
        for runner in self._running:
            runner.stir()

    async def close(self) -> None:
        """Interrupt the batches that run here; what they have done is kept."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _open(self, question: Question, count: int) -> Batch:
        clock, owner = self._services.clock, self._owner
        batch = Batch(
            id=clock.new_id(),
            name=question.batch_name,
            template=question.text,
            model=question.model,
            digest=question.digest,
            inserted_at=clock.now(),
            agent=question.agent.name,
            schema=question.schema,
            server=question.servers[0] if question.servers else await owner.address(),
            options=question.agent.options,
            row_count=count,
            owner=owner.process,
            notebook=owner.notebook,
            started_at=clock.now(),
        )
        alive = await owner.alive()
        try:
            return await finish_even_if_cancelled(self._store.open_batch(batch, alive))
        except asyncio.CancelledError:
            await finish_even_if_cancelled(self._note_interrupted(batch))
            raise

    async def _note_interrupted(self, opened: Batch) -> None:
        """Store that a batch that was just opened does not run."""
        for each in await self._store.batches():
            if each.name.casefold() == opened.name.casefold() and each.owner == opened.owner:
                await self._store.end_batch(each, BatchStatus.INTERRUPTED, None, self._services.clock.now())

    @contextmanager
    def _only_run_of(self, name: str) -> Iterator[None]:
        """Let no other batch of this name run here meanwhile. Raises PianoError if one does."""
        key = name.casefold()
        if key in self._names:
            raise PianoError(f"the batch {name!r} runs here already: wait for it, or cancel it")
        self._names.add(key)
        try:
            yield
        finally:
            self._names.discard(key)

    async def _run(self, runner: BatchRun, run: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(run, name=f"piano-batch-{runner.batch.name}")
        self._running[runner] = task
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait([task])
            raise
        finally:
            del self._running[runner]
        if task.cancelled():  # by `close`
            raise PianoError(f"the batch {runner.batch.name!r} was interrupted, as Piano closes; run it again to go on")
        task.result()

    async def _with_answers(self, batch: Batch, frame: Frame, rows: BatchRows, schema: Mapping[str, Any] | None) -> Any:
        loop = asyncio.get_running_loop()

        def answers() -> Iterator[RowAnswer]:  # read on another thread
            start, count = 0, ANSWERS_AT_ONCE
            while keys := bytes(rows.keys[start : start + count * KEY_BYTES]):
                found = asyncio.run_coroutine_threadsafe(self._store.outcomes(batch.id, keys), loop).result()
                yield from (given := _in_order(keys, found))
                chars = sum(len(each.text) for each in given)
                start += len(keys)
                if chars > LARGE_CHARS:
                    count = max(count // 2, 1)
                elif 2 * chars < LARGE_CHARS:
                    count = min(2 * count, MOST_AT_ONCE)

        return await asyncio.to_thread(frame.with_answers, answers(), schema)

    async def _not_running(self, name: str) -> Batch:
        batch = await self.find(name)
        if batch.status is BatchStatus.RUNNING:
            raise PianoError(f"the batch {batch.name!r} runs: wait for it, or cancel it first")
        return batch

    def _follow(self, event: BatchProgress) -> None:
        """Stop a batch that another notebook has cancelled."""
        if event.status is BatchStatus.CANCELLED:
            for runner in self._running:
                if runner.batch.id == event.batch_id:
                    runner.cancel()


async def _opened(table: Any, limit: int | None) -> Frame:
    """Return a table to read; it is read on another thread, which an interrupt stops. Raises PianoError."""
    if limit is not None and (not isinstance(limit, Integral) or limit < 1):
        raise PianoError(f"limit must be a whole number of at least 1, not {limit!r}")
    stopped = threading.Event()
    try:
        return await asyncio.to_thread(open_frame, table, limit, stopped.is_set)
    finally:
        stopped.set()


def _rows(frame: Frame, question: Question, template: RowTemplate, limit: int | None) -> BatchRows:
    return BatchRows(frame, template, question.model, question.agent.options, limit)


def _in_order(keys: bytes, found: Sequence[RowOutcome]) -> list[RowAnswer]:
    """Return an answer for each key; one that was not asked has neither answer nor error."""
    known = {each.key: RowAnswer(text=str(each.answer), value=each.answer, error=each.error) for each in found}
    nothing = RowAnswer()
    return [known.get(keys[at : at + KEY_BYTES], nothing) for at in range(0, len(keys), KEY_BYTES)]


def _write(
    batch: Batch, file: Path, workspace: str | Path, next_answers: Callable[[int, bytes], list[BatchAnswer]]
) -> int:
    names = RowTemplate(batch.template).columns

    def pieces() -> Iterator[list[ParquetColumn]]:
        after = (-1, bytes(KEY_BYTES))
        while answers := next_answers(*after):
            after = answers[-1].place, answers[-1].key
            yield _columns(batch, names, answers)

    with TemporaryDirectory(prefix="piano-") as folder:
        made = Path(folder, "answers.parquet")
        count = write_parquet(made, pieces())
        if not count:
            raise PianoError(f"the batch {batch.name!r} has no answers yet")
        copy_file(made, file, workspace=workspace)
    return count


def _columns(batch: Batch, names: Sequence[str], answers: Sequence[BatchAnswer]) -> list[ParquetColumn]:
    """Return the columns that `map` gives: those that the question names, then the answers.

    In a database, names have to differ in more than case, and to be no empty text.
    """
    free = free_names([name or "column" for name in names], ())
    asked = [
        ParquetColumn(column, "", [_text(each.asked.get(name)) for each in answers])
        for column, name in zip(free, names, strict=True)
    ]
    given = [RowAnswer(text=str(each.answer), value=each.answer, error=each.error) for each in answers]
    columns = answer_columns(given, len(given), batch.schema, free)
    found = [
        ParquetColumn(each.name, each.kind, each.values if each.kind else [_text(value) for value in each.values])
        for each in columns
    ]
    return [*asked, *found]


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)

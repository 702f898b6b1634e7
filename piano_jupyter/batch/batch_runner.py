"""BatchRunner: runs one batch: asks the rows that are not known, keeps their answers, and tells how far it is.

Answers are stored together, every quarter of a second: what a dead kernel asks again is what was in flight, and that.
How many rows are in flight is the store's to say, over the chats and batches of all kernels. Errors are held back until
a later row is answered: where a server fails, the rows that it failed at are asked again the next time.
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, contextmanager, suppress
from typing import Any, Protocol

from piano_jupyter.batch.batch_rows import BatchRows, UnknownRow
from piano_jupyter.batch.batch_run import BatchRun, BatchServices
from piano_jupyter.batch.row_answer import RowAnswer
from piano_jupyter.batch.row_permits import RowPermits
from piano_jupyter.batch.row_template import RowTemplate
from piano_jupyter.batch_records import Batch, BatchAnswer, BatchStatus, RowDemand
from piano_jupyter.cancellation import finish_even_if_cancelled
from piano_jupyter.errors import PianoError
from piano_jupyter.logs import logger

log = logger(__name__)

COMMIT_S = 0.25  #: between two commits, and two reports of how far it is
SLOW_S = 1.0  #: after which a store that has not answered is waited for: no more rows begin until it has
RENEW_S = 0.25  #: after which it asks again how many rows may be in flight, unless it is told to
COPIED = b"3"


class RowWorker(Protocol):
    """Asks one row at a time, over a connection of its own."""

    async def ask_row(self, template: RowTemplate, row: Mapping[str, Any], /) -> RowAnswer:
        """Return the answer, with why there is none in its `error`. Raises PianoError if too many rows failed."""
        ...


class BatchAsker(Protocol):
    """What gives workers."""

    async def capacity(self) -> int:
        """Return how many requests may be in flight at most."""
        ...

    def worker(self) -> AbstractAsyncContextManager[RowWorker]:
        """Return a worker."""
        ...


class BatchRunner(BatchRun):
    """One run of a batch over a table of this process."""

    def __init__(self, services: BatchServices, batch: Batch, template: RowTemplate, rows: BatchRows) -> None:
        super().__init__(services, batch)
        self._turn = services.turn
        self._template, self._rows = template, rows
        self._permits = RowPermits()
        self._stirred = asyncio.Event()
        self._limit = 1
        self._answered: list[BatchAnswer] = []  #: and not stored yet
        self._errors: list[BatchAnswer] = []  #: of the last rows in a row, which are stored once another is answered
        self._taken: set[bytes] = set()  #: the keys of rows that are being asked, or whose answers are not stored yet
        self._read_told_at = 0.0
        self._asked_store: dict[object, float] = {}  #: since when the store is asked for something

    def stir(self) -> None:
        self._stirred.set()

    async def run(self, asker: BatchAsker) -> None:
        """Ask all rows that are not known. Raises PianoError where it stops before the end; what was done is kept."""
        async with self._until_it_ends():
            await self._rows.survey(self._known_rows, self._tell_read)
            self._read, self._known, self._tokens_to_read = None, self._rows.known, self._rows.tokens
            log.info("batch=%s rows=%d known=%d", self.batch.name, self._rows.count, self._known)
            self._tell()
            if self._rows.unknown:
                await self._ask(asker)

    def cancel(self) -> None:
        super().cancel()
        self.stir()

    async def _ask(self, asker: BatchAsker) -> None:
        self._limit = await asker.capacity()
        unasked: asyncio.Queue[UnknownRow | None] = asyncio.Queue(2 * self._limit)
        try:
            async with asyncio.TaskGroup() as group:
                helpers = [group.create_task(each) for each in (self._lease_rows(), self._commit_regularly())]
                workers = [group.create_task(self._work(asker, unasked)) for _ in range(self._limit)]
                await self._feed(unasked)
                for _ in workers:
                    await unasked.put(None)
                await asyncio.wait(workers)
                for each in helpers:
                    each.cancel()
        except* PianoError as stopped:
            raise stopped.exceptions[0] from None
        self._answered += self._errors
        self._errors = []
        await self._commit()

    async def _feed(self, unasked: "asyncio.Queue[UnknownRow | None]") -> None:
        async with aclosing(self._rows.to_ask(self._known_by_now)) as rows:
            async for each in rows:
                if each.is_repeated or each.key in self._taken:
                    self._done += 1
                else:
                    self._taken.add(each.key)
                    await unasked.put(each)

    def _tell_read(self, count: int) -> None:
        """Tell how many rows of a long table are read, now and then: nothing is asked before all are."""
        self._check_cancelled()
        now = self._clock.monotonic()
        if self._read is None or now - self._read_told_at >= COMMIT_S:
            self._read, self._read_told_at, self._known = count, now, self._rows.known
            self._tell()

    async def _known_rows(self, keys: bytes, place: int) -> bytes:
        """Return a digit for each key; answers of other batches are copied to this one first."""
        signs = await self._store.known_rows(self.batch.id, keys)
        if COPIED in signs:
            await self._store.copy_answers(self.batch.id, keys, place)
            signs = signs.replace(COPIED, b"1")
        return signs

    async def _known_by_now(self, keys: bytes, place: int) -> bytes:
        await self._commit()
        return await self._known_rows(keys, place)

    async def _work(self, asker: BatchAsker, unasked: "asyncio.Queue[UnknownRow | None]") -> None:
        async with asker.worker() as worker:
            while (each := await unasked.get()) is not None:
                async with self._permits.row():
                    answer = await worker.ask_row(self._template, each.row)
                self._take(each, answer)

    def _take(self, row: UnknownRow, answer: RowAnswer) -> None:
        """Note an answer, to be stored."""
        asked = self._template.fields(row.row) if answer.tries else "{}"
        kept = self._counted(row.key, row.place, asked, answer)
        if answer.error is None or not answer.tries:
            self._answered.append(kept)
        else:
            self._errors.append(kept)
        if answer.error is None:
            self._answered += self._errors
            self._errors = []

    async def _commit_regularly(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_S)
            await self._commit()
            self._tell()

    async def _commit(self) -> None:
        """Store what was answered. Raises StoreError."""
        if not self._answered:
            return
        answers, self._answered = self._answered, []
        try:
            with self._asking_store():
                batch = await finish_even_if_cancelled(self._store.add_answers(self.batch.id, answers))
        except PianoError:
            self._answered[:0] = answers
            raise
        self._taken.difference_update(each.key for each in answers)
        if batch.status is BatchStatus.CANCELLED:
            self.cancel()

    async def _lease_rows(self) -> None:
        """Ask the store again and again how many rows may be in flight."""
        while True:
            self._stirred.clear()
            self._check_cancelled()
            turn = await self._turn(self.batch.model)
            with self._asking_store():
                allowed = await self._store.lease_rows(self._demand(self._limit), turn)
            self._permits.limit = 0 if self._is_store_slow() else allowed
            with suppress(TimeoutError):
                async with asyncio.timeout(RENEW_S):
                    await self._stirred.wait()

    @contextmanager
    def _asking_store(self) -> Iterator[None]:
        """Let no more rows begin while the store does not answer: their answers would not be kept."""
        loop, request = asyncio.get_running_loop(), object()
        self._asked_store[request] = loop.time()
        pausing = loop.call_later(SLOW_S, self._pause)
        try:
            yield
        finally:
            pausing.cancel()
            del self._asked_store[request]

    def _pause(self) -> None:
        self._permits.limit = 0

    def _is_store_slow(self) -> bool:
        now = asyncio.get_running_loop().time()
        return any(now - since >= SLOW_S for since in self._asked_store.values())

    def _demand(self, wanted: int) -> RowDemand:
        batch = self.batch
        return RowDemand(
            batch_id=batch.id,
            owner=batch.owner or "",
            server=batch.server,
            model=batch.model,
            in_flight=self._permits.in_flight,
            wanted=wanted,
            limit=self._limit,
        )

    async def _finish(self) -> None:
        """Store what is left, and give back what was leased."""
        try:
            await self._commit()
        finally:
            await self._store.lease_rows(self._demand(0))

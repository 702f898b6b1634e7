"""BatchRun: what all runs of batches have: they count the answers, tell how far they are, and store how they ended."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from piano_jupyter.batch.batch_pace import BatchPace
from piano_jupyter.batch.row_answer import RowAnswer
from piano_jupyter.batch_records import Batch, BatchAnswer, BatchStatus
from piano_jupyter.bus import EventBus
from piano_jupyter.cancellation import finish_even_if_cancelled
from piano_jupyter.clock import Clock
from piano_jupyter.errors import PianoError
from piano_jupyter.events import BatchProgress
from piano_jupyter.logs import logger
from piano_jupyter.store.base import Store, Turn
from piano_jupyter.text.json_text import json_or_none, mapping

log = logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchServices:
    """What batches need from the other components."""

    store: Store
    bus: EventBus
    clock: Clock
    turn: Callable[[str], Awaitable[Turn]]  #: returns what the store has to know to decide how a model's rows go


class BatchRun:
    """One run of a batch. `rows` is how many its table has; the counts are of those, as far as they are known."""

    def __init__(self, services: BatchServices, batch: Batch) -> None:
        self.batch = batch
        self._store, self._bus, self._clock = services.store, services.bus, services.clock
        self._pace = BatchPace(self._clock.monotonic)
        self._read: int | None = None  #: rows whose keys are known, while not all are
        self._known = self._done = self._failed = self._cut = 0
        self._tokens_to_read = self._tokens_written = 0
        self._cancelled = False
        self._told: BatchProgress | None = None

    def stir(self) -> None:
        """Have it ask the store at once how many rows may be in flight, if it asks."""

    def cancel(self) -> None:
        """Stop it; what was done is kept."""
        self._cancelled = True

    @asynccontextmanager
    async def _until_it_ends(self) -> AsyncIterator[None]:
        """Store and tell how it ended: done, or as the error or the interrupt says that comes from inside."""
        status, reason = BatchStatus.INTERRUPTED, None
        try:
            yield
            status = BatchStatus.DONE
        except PianoError as error:
            status, reason = (BatchStatus.CANCELLED, None) if self._cancelled else (BatchStatus.FAILED, str(error))
            raise
        finally:
            await finish_even_if_cancelled(self._end(status, reason))

    async def _end(self, status: BatchStatus, reason: str | None) -> None:
        try:
            await self._finish()
            self.batch = await self._store.end_batch(self.batch, status, reason, self._clock.now())
        except PianoError as error:
            log.warning("batch=%s its end could not be stored: %s", self.batch.name, error)
        log.info("batch=%s %s done=%d failed=%d %s", self.batch.name, status, self._done, self._failed, reason or "")
        self._tell(status, reason)

    async def _finish(self) -> None:
        """Do what is left to do before its end is stored. Raises PianoError."""

    def _check_cancelled(self) -> None:
        if self._cancelled:
            raise PianoError(f"the batch {self.batch.name!r} was cancelled; run it again to go on with it")

    def _counted(self, key: bytes, place: int, asked: str, answer: RowAnswer) -> BatchAnswer:
        """Count an answer; return it as it is stored. `asked` are the values of the row, as JSON."""
        if answer.error is None:
            self._done += 1
            self._cut += bool(answer.usage.get("cut"))
        else:
            self._failed += 1
        self._tokens_written += int(answer.usage.get("completion_tokens") or 0)
        return BatchAnswer(
            key=key,
            place=place,
            asked=mapping(json_or_none(asked)),
            answer=answer.value,
            error=answer.error,
            usage={**answer.usage, "unavailable": True} if answer.unavailable else answer.usage,
            answered_at=self._clock.now(),
        )

    def _tell(self, status: BatchStatus = BatchStatus.RUNNING, reason: str | None = None) -> None:
        """Publish how far it is, if that has changed."""
        if self._read is None:
            self._pace.note(self._done + self._failed, self._tokens_written)
        rows_per_s, tokens_per_s = (0.0, 0.0) if self._clock.repeats else self._pace.speed
        left = self.batch.row_count - self._known - self._done - self._failed
        progress = BatchProgress(
            batch_id=self.batch.id,
            name=self.batch.name,
            status=status,
            rows=self.batch.row_count,
            read=self._read,
            known=self._known,
            done=self._done,
            failed=self._failed,
            tokens=self._tokens_to_read,
            rows_per_s=rows_per_s,
            tokens_per_s=tokens_per_s,
            seconds_left=max(0, left) / rows_per_s if rows_per_s else None,
            reason=reason,
            notebook=self.batch.notebook.name,
            cut=self._cut,
        )
        if progress != self._told:
            self._told = progress
            self._bus.publish(progress)

"""DaftRunner: runs a batch over a Daft DataFrame: Daft moves the rows, the store keeps the answers."""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from piano_jupyter.batch.batch_pace import BatchPace
from piano_jupyter.batch.batch_runner import COPIED, BatchServices
from piano_jupyter.batch.row_answer import RowAnswer
from piano_jupyter.batch.row_template import RowTemplate
from piano_jupyter.batch_records import Batch, BatchAnswer, BatchStatus
from piano_jupyter.cancellation import finish_even_if_cancelled
from piano_jupyter.errors import PianoError
from piano_jupyter.events import BatchProgress
from piano_jupyter.logs import logger

log = logger(__name__)

KEYS_AT_ONCE = 65_536  #: that are looked up together
BATCH_ROWS = 256  #: rows that a worker of Daft asks before their answers are stored

Result = TypeVar("Result")


class DaftRunner:
    """One run of a batch over a Daft frame, which is at `result` once it has run.

    It is the `Answers` of `ask_frame`: `known` and `add` are called on the thread that `ask_frame` runs on.
    """

    def __init__(
        self, services: BatchServices, batch: Batch, frame: Any, template: RowTemplate, settings: Mapping[str, Any]
    ) -> None:
        self.batch = batch
        self.result: Any = None
        self._store, self._bus, self._clock = services.store, services.bus, services.clock
        self._frame, self._template, self._settings = frame, template, settings
        self._loop = asyncio.get_running_loop()
        self._pace = BatchPace(self._clock.monotonic)
        self._known = self._done = self._failed = self._tokens = 0
        self._stop_reason = ""

    def stir(self) -> None:
        """Do nothing: the rows are asked elsewhere, and wait for no chat."""

    def cancel(self) -> None:
        """Stop it once the rows that are asked now are answered; what was done is kept."""
        self._stop_reason = f"the batch {self.batch.name!r} was cancelled; run it again to go on with it"

    async def run(self) -> None:
        """Ask all rows that are not known. Raises PianoError where it stops before the end; what was done is kept."""
        from piano_jupyter.batch.daft_frame import ask_frame  # noqa: PLC0415  The user has imported Daft.

        status, reason = BatchStatus.INTERRUPTED, None
        self._tell(BatchStatus.RUNNING)
        try:
            self.result = await asyncio.to_thread(
                ask_frame, self._frame, self._template, answers=self, batch_rows=BATCH_ROWS, **self._settings
            )
            status = BatchStatus.DONE
        except PianoError as error:
            status, reason = BatchStatus.FAILED, str(error)
            if self._stop_reason:
                status, reason = BatchStatus.CANCELLED, None
            raise
        finally:
            self._stop_reason = self._stop_reason or "the batch was interrupted"  # the thread may still ask
            await finish_even_if_cancelled(self._end(status, reason))

    def known(self, keys: Sequence[bytes]) -> dict[bytes, RowAnswer]:
        """Return the answers and errors that the store has for these keys."""
        found: dict[bytes, RowAnswer] = {}
        for start in range(0, len(keys), KEYS_AT_ONCE):
            found |= self._wait_for(self._find(b"".join(keys[start : start + KEYS_AT_ONCE])))
        return found

    def add(self, answers: Mapping[bytes, RowAnswer]) -> None:
        """Store answers, and why some rows have none. Raises PianoError once the batch is to stop."""
        self._wait_for(self._keep(answers))
        if self._stop_reason:
            raise PianoError(self._stop_reason)

    def _wait_for(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _find(self, keys: bytes) -> dict[bytes, RowAnswer]:
        if COPIED in await self._store.known_rows(self.batch.id, keys):
            await self._store.copy_answers(self.batch.id, keys, self._known)
        outcomes = await self._store.outcomes(self.batch.id, keys)
        self._known += len(outcomes)
        self._tell(BatchStatus.RUNNING)
        return {each.key: RowAnswer(text=str(each.answer), value=each.answer, error=each.error) for each in outcomes}

    async def _keep(self, answers: Mapping[bytes, RowAnswer]) -> None:
        if not answers:
            return
        now, place = self._clock.now(), self._known + self._done + self._failed
        kept = [
            BatchAnswer(
                key=key,
                place=place + number,
                asked={},  # the rows stay where they are
                answer=answer.value,
                error=answer.error,
                usage={**answer.usage, "unavailable": True} if answer.unavailable else answer.usage,
                answered_at=now,
            )
            for number, (key, answer) in enumerate(answers.items())
        ]
        failed = sum(answer.error is not None for answer in answers.values())
        batch = await finish_even_if_cancelled(self._store.add_answers(self.batch.id, kept))
        self._failed += failed
        self._done += len(answers) - failed
        self._tokens += sum(int(answer.usage.get("completion_tokens") or 0) for answer in answers.values())
        self._pace.note(self._done + self._failed, self._tokens)
        if batch.status is BatchStatus.CANCELLED:
            self.cancel()
        elif not self._stop_reason:
            self._tell(BatchStatus.RUNNING)

    async def _end(self, status: BatchStatus, reason: str | None) -> None:
        """Note how it ended. Logs what cannot be stored."""
        try:
            self.batch = await self._store.end_batch(self.batch, status, reason, self._clock.now())
        except PianoError as error:
            log.warning("batch=%s its end could not be stored: %s", self.batch.name, error)
        self._tell(status, reason)

    def _tell(self, status: BatchStatus, reason: str | None = None) -> None:
        rows_per_s, tokens_per_s = self._pace.speed
        left = self.batch.row_count - self._known - self._done - self._failed
        self._bus.publish(
            BatchProgress(
                batch_id=self.batch.id,
                name=self.batch.name,
                status=status,
                rows=self.batch.row_count,
                known=self._known,
                done=self._done,
                failed=self._failed,
                tokens=0,
                rows_per_s=rows_per_s,
                tokens_per_s=tokens_per_s,
                seconds_left=max(0, left) / rows_per_s if rows_per_s else None,
                reason=reason,
                notebook=self.batch.notebook.name,
            )
        )

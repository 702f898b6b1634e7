"""DaftRunner: runs a batch over a Daft DataFrame: Daft moves the rows, the store keeps the answers."""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from piano_jupyter.batch.batch_run import BatchRun, BatchServices
from piano_jupyter.batch.batch_runner import COPIED
from piano_jupyter.batch.frames import reading
from piano_jupyter.batch.row_answer import RowAnswer
from piano_jupyter.batch.row_template import RowTemplate
from piano_jupyter.batch_records import Batch, BatchStatus
from piano_jupyter.cancellation import finish_even_if_cancelled
from piano_jupyter.errors import PianoError

KEYS_AT_ONCE = 65_536  #: that are looked up together
BATCH_ROWS = 256  #: rows that a worker of Daft asks before their answers are stored

Result = TypeVar("Result")


class DaftRunner(BatchRun):
    """One run of a batch over a Daft frame, which is at `result` once it has run. It waits for no chat.

    It is the `Answers` of `ask_frame`: `known` and `add` are called on the thread that `ask_frame` runs on.
    """

    def __init__(
        self, services: BatchServices, batch: Batch, frame: Any, template: RowTemplate, settings: Mapping[str, Any]
    ) -> None:
        super().__init__(services, batch)
        self.result: Any = None
        self._frame, self._template, self._settings = frame, template, settings
        self._loop = asyncio.get_running_loop()
        self._is_over = False

    async def run(self) -> None:
        """Ask all rows that are not known. Raises PianoError where it stops before the end; what was done is kept."""
        from piano_jupyter.batch.daft_frame import ask_frame  # noqa: PLC0415  The user has imported Daft.

        self._tell()
        async with self._until_it_ends():
            try:
                with reading("the table"):
                    self.result = await asyncio.to_thread(
                        ask_frame, self._frame, self._template, answers=self, batch_rows=BATCH_ROWS, **self._settings
                    )
            finally:
                self._is_over = True  # the thread may still ask

    def known(self, keys: Sequence[bytes]) -> dict[bytes, RowAnswer]:
        """Return the answers and errors that the store has for these keys."""
        found: dict[bytes, RowAnswer] = {}
        for start in range(0, len(keys), KEYS_AT_ONCE):
            found |= self._wait_for(self._find(b"".join(keys[start : start + KEYS_AT_ONCE])))
        return found

    def add(self, answers: Mapping[bytes, RowAnswer], asked: Mapping[bytes, str]) -> None:
        """Store answers, and why some rows have none. Raises PianoError once the batch is to stop."""
        self._wait_for(self._keep(answers, asked))
        self._check_cancelled()
        if self._is_over:
            raise PianoError("the batch was interrupted")

    def _wait_for(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _find(self, keys: bytes) -> dict[bytes, RowAnswer]:
        if COPIED in await self._store.known_rows(self.batch.id, keys):
            await self._store.copy_answers(self.batch.id, keys, self._known)
        outcomes = await self._store.outcomes(self.batch.id, keys)
        self._known += len(outcomes)
        self._tell()
        return {each.key: RowAnswer(text=str(each.answer), value=each.answer, error=each.error) for each in outcomes}

    async def _keep(self, answers: Mapping[bytes, RowAnswer], asked: Mapping[bytes, str]) -> None:
        if not answers:
            return
        place = self._known + self._done + self._failed
        kept = [
            self._counted(key, place + number, asked[key], answer)
            for number, (key, answer) in enumerate(answers.items())
        ]
        batch = await finish_even_if_cancelled(self._store.add_answers(self.batch.id, kept))
        if batch.status is BatchStatus.CANCELLED:
            self.cancel()
        elif not self._is_over:
            self._tell()

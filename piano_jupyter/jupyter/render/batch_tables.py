"""Batches as a table and as a card."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from piano_jupyter.batch_records import Batch, BatchStatus
from piano_jupyter.events import BatchProgress, Event
from piano_jupyter.jupyter.render.batch_text import progress_line, rate, time_left
from piano_jupyter.jupyter.render.cards import SCRIPT
from piano_jupyter.jupyter.render.tables import RecordCard, RecordTable, counted, html_table, plain_table
from piano_jupyter.records import Notebook
from piano_jupyter.text.short_paths import short_paths
from piano_jupyter.text.truncation import truncated

if TYPE_CHECKING:
    from datetime import datetime

MANY_EVENTS_COUNT = 1_000  # all that are remembered
MAX_ERRORS = 10  # that a card shows
MAX_ERROR_CHARS = 300
MAX_TEMPLATE_CHARS = 2_000
Progress = Mapping[UUID, BatchProgress]
NO_BATCHES = "no batches yet; %%piano --map FRAME asks about each row of a table"


def latest_progress(events: "Iterable[tuple[datetime, Event]]") -> dict[UUID, BatchProgress]:
    """Return what the latest events say of each batch."""
    return {event.batch_id: event for _, event in events if isinstance(event, BatchProgress)}


def batches_table(batches: Sequence[Batch], progress: Progress, here: Notebook | None = None) -> RecordTable[Batch]:
    """Return batches as a table, with the speed of those that run or ran lately, and the time that is left.

    Which notebook a batch was run from is shown where that is not always the one that it is shown in, `here`.
    """
    titles = short_paths(batch.notebook.name for batch in batches)

    def speed(batch: Batch) -> str:
        now = progress.get(batch.id)
        return rate(now.rows_per_s) if now is not None and now.rows_per_s else ""

    def left(batch: Batch) -> str:
        now = progress.get(batch.id)
        return time_left(now.seconds_left) if now is not None and batch.status is BatchStatus.RUNNING else ""

    optional: dict[str, Callable[[Batch], str]] = {"rows/s": speed, "time left": left}
    is_all_here = here is not None and all(batch.notebook.is_same(here) for batch in batches)
    return RecordTable(
        batches,
        NO_BATCHES,
        batch=lambda each: each.name,
        status=lambda each: each.status,
        rows=lambda each: f"{each.row_count:,}",
        done=lambda each: f"{each.done:,}",
        failed=lambda each: f"{each.failed:,}",
        **{head: column for head, column in optional.items() if any(map(column, batches))},
        model=lambda each: each.model,
        **({} if is_all_here else {"notebook": lambda each: titles[each.notebook.name] or SCRIPT}),
    )


def batch_card(batch: Batch, progress: BatchProgress | None, errors: Sequence[tuple[str, int]]) -> RecordCard:
    """Return a batch with all that is known of it; `errors` says how often each error occurred, the commonest first."""
    runs = progress is not None and batch.status is BatchStatus.RUNNING
    more = len(errors) - MAX_ERRORS
    return RecordCard(
        batch=batch.name,
        status=f"{batch.status}{f': {batch.reason}' if batch.reason else ''}",
        now=progress_line(progress) if progress is not None and runs else "",
        rows=f"{batch.row_count:,}",
        answers=f"{batch.done:,} done, {batch.failed:,} failed",
        errors="\n".join(
            [
                *(
                    f"{count:,} × {truncated(' '.join(why.split()), MAX_ERROR_CHARS)}"
                    for why, count in errors[:MAX_ERRORS]
                ),
                *([f"and {counted(more, 'other')}"] if more > 0 else []),
            ]
        ),
        question=truncated(batch.template, MAX_TEMPLATE_CHARS),
        schema=json.dumps(batch.schema, ensure_ascii=False) if batch.schema is not None else "",
        agent=f"@{batch.agent}" if batch.agent else "",
        model=batch.model,
        options=", ".join(f"{name}={value}" for name, value in sorted(batch.options.items())),
        server=batch.server,
        notebook=batch.notebook.name,
    )


def running_lines(batches: Iterable[Batch], progress: Progress) -> str:
    """Return how far the batches are that run, a line each."""
    running = [batch for batch in batches if batch.status is BatchStatus.RUNNING]
    return "\n".join(f"{batch.name}: {progress_line(progress_of(batch, progress.get(batch.id)))}" for batch in running)


def progress_of(batch: Batch, progress: BatchProgress | None) -> BatchProgress:
    """Return how far a batch is that runs: what was told of it last, else what is stored."""
    return progress or BatchProgress(
        batch_id=batch.id,
        name=batch.name,
        status=batch.status,
        rows=batch.row_count,
        known=batch.done + batch.failed,
        done=0,
        failed=0,
        tokens=0,
        notebook=batch.notebook.name,
    )


class DictTable(Sequence[tuple[object, ...]]):
    """Dicts as a table with the columns of the first one. Only those that are shown are looked at."""

    def __init__(self, dicts: Sequence[Mapping[str, Any]]) -> None:
        self._dicts, self._names = dicts, tuple(dicts[0]) if dicts else ()

    def __len__(self) -> int:
        return len(self._dicts)

    def __getitem__(self, at: Any) -> Any:
        values = map(self._dicts[at].get, self._names)
        return tuple("" if value is None else value for value in values)

    def __repr__(self) -> str:
        return plain_table(self._columns, self) if self._dicts else "no rows"

    def _repr_html_(self) -> str:
        return html_table(self._columns, self)

    @property
    def _columns(self) -> list[str]:
        return list(map(str, self._names))

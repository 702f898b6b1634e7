"""What a page asks about batches: how far those are that run, in any notebook; and to cancel one."""

from datetime import UTC, datetime, timedelta
from typing import Any

from piano_jupyter.batch_records import BatchStatus
from piano_jupyter.events import BatchProgress
from piano_jupyter.jupyter.panel.actions.action_panel import Panel
from piano_jupyter.jupyter.panel.actions.page_request import PageRequest
from piano_jupyter.jupyter.render.batch_tables import MANY_EVENTS_COUNT, progress_of
from piano_jupyter.jupyter.render.batch_text import fraction, progress_line

SILENT_AFTER = timedelta(seconds=5)  # a batch that was not heard of for so long may have died with its kernel


async def batches(panel: Panel, _request: PageRequest) -> list[dict[str, Any]]:
    """Return the batches that run."""
    return [
        {
            "id": str(each.batch_id),
            "name": each.name,
            "fraction": fraction(each),
            "text": progress_line(each),
            "about": each.notebook,
        }
        for each in await _running(panel)
    ]


async def cancel_batch(panel: Panel, request: PageRequest) -> None:
    """Cancel a batch, in whichever notebook it runs; what was answered is kept."""
    await panel.piano.cancel_batch(request.text())


async def _running(panel: Panel) -> list[BatchProgress]:
    """Return how far the batches are that run.

    The store would count all answers, and pages ask twice a second: it is asked only where events do not tell.
    """
    events = panel.piano.recent_events(MANY_EVENTS_COUNT)
    told = {event.batch_id: (at, event) for at, event in events if isinstance(event, BatchProgress)}
    running = [(at, event) for at, event in told.values() if event.status is BatchStatus.RUNNING]
    if running and min(at for at, _ in running) > datetime.now(UTC) - SILENT_AFTER:
        return [event for _, event in running]
    latest = {batch_id: event for batch_id, (_, event) in told.items()}
    stored = await panel.piano.batches()
    return [progress_of(each, latest.get(each.id)) for each in stored if each.status is BatchStatus.RUNNING]


ACTIONS = {"batches": batches, "cancel_batch": cancel_batch}

"""What a page asks about batches: how far those are that run, in any notebook; and to cancel one."""

from typing import Any

from piano_jupyter.batch_records import BatchStatus
from piano_jupyter.jupyter.panel.actions.action_panel import Panel
from piano_jupyter.jupyter.panel.actions.page_request import PageRequest
from piano_jupyter.jupyter.render.batch_tables import MANY_EVENTS_COUNT, how_far, how_much, latest_progress

MAX_ABOUT_CHARS = 300


async def batches(panel: Panel, _request: PageRequest) -> list[dict[str, Any]]:
    """Return the batches that run."""
    progress = latest_progress(panel.piano.recent_events(MANY_EVENTS_COUNT))
    return [
        {
            "id": str(each.id),
            "name": each.name,
            "fraction": how_much(each, progress.get(each.id)),
            "text": how_far(each, progress.get(each.id)),
            "about": " · ".join(filter(None, [each.model, each.notebook.name, each.template[:MAX_ABOUT_CHARS]])),
        }
        for each in await panel.piano.batches()
        if each.status is BatchStatus.RUNNING
    ]


async def cancel_batch(panel: Panel, request: PageRequest) -> None:
    """Cancel a batch, in whichever notebook it runs; what was answered is kept."""
    await panel.piano.cancel_batch(request.text())


ACTIONS = {"batches": batches, "cancel_batch": cancel_batch}

"""%piano models, stats: what the server has loaded, and what the answers cost."""

import importlib.util
from functools import partial
from typing import TYPE_CHECKING, Any

from IPython.display import display

from piano_jupyter.errors import PianoError
from piano_jupyter.jupyter.cell.waiting import wait_in_cell
from piano_jupyter.jupyter.render.cards import models_table
from piano_jupyter.jupyter.render.usage_table import UsageStatistics
from piano_jupyter.jupyter.session import Session
from piano_jupyter.records import Model, Rows

if TYPE_CHECKING:
    from piano_jupyter.piano import Piano


def models(session: Session, *, load: str | None = None, unload: str | None = None) -> Any:
    """List the models that the server has, with their states; --load and --unload have it swap them.

    A model that is not loaded is loaded when an agent needs it: --load only does it ahead of time.
    """
    return models_table(wait_in_cell(session, partial(_swapped, load, unload)))


def stats(session: Session, *, by: str = "agent", plot: bool = False) -> Any:
    """Show what the answers cost: tokens, speed, seconds, by agent, model or day (UTC); --plot draws it too."""
    if plot and importlib.util.find_spec("matplotlib") is None:
        raise PianoError("--plot needs matplotlib: pip install matplotlib, or leave it out for the table alone")
    rows: Rows = session.call(lambda piano: piano.stats(by))  # type: ignore[arg-type]  # checked to be one of them
    if plot and rows:
        from piano_jupyter.jupyter.render.usage_plot import bars  # noqa: PLC0415  Only where it is installed and wanted.

        display(bars(rows))
    return UsageStatistics(rows)


async def _swapped(load: str | None, unload: str | None, piano: "Piano") -> list[Model]:
    if unload is not None:
        await piano.unload_model(None if unload == "all" else unload)
    if load is not None:
        await piano.load_model(load)
    return await piano.models()

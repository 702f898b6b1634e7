"""%piano models, stats: the models of the server, and what the answers cost."""

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
    """List the server's models and their states; --load and --unload load or unload one.

    The server loads a model when an agent needs it; --load only does so in advance.
    """
    return models_table(wait_in_cell(session, partial(_load_and_list, load, unload)))


def stats(session: Session, *, by: str = "agent", plot: bool = False) -> Any:
    """Show what the answers cost in tokens and seconds, by agent, model or day (UTC); --plot also draws a chart."""
    if plot and importlib.util.find_spec("matplotlib") is None:
        raise PianoError("--plot needs matplotlib: pip install matplotlib, or leave it out for the table alone")
    rows: Rows = session.call(lambda piano: piano.stats(by))  # type: ignore[arg-type]  # checked to be one of them
    if plot and rows:
        from piano_jupyter.jupyter.render.usage_plot import bars  # noqa: PLC0415  Only where it is installed and wanted.

        display(bars(rows))
    return UsageStatistics(rows)


async def _load_and_list(load: str | None, unload: str | None, piano: "Piano") -> list[Model]:
    if unload is not None:
        await piano.unload_model(None if unload == "all" else unload)
    if load is not None:
        await piano.load_model(load)
    return await piano.models()

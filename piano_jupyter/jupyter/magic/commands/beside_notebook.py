"""%piano panel --side: the panel beside the notebook, by Piano's JupyterLab extension, or by sidecar without that.

The kernel asks the front end by a comm, which no notebook file can hold. A front end with the extension answers, opens
the panel and asks the kernel for it; one without it closes the comm.
"""

import importlib.util
from collections.abc import Callable
from typing import Any

from comm import create_comm
from IPython.display import display

from piano_jupyter.errors import PianoError
from piano_jupyter.jupyter.render.tables import Note
from piano_jupyter.jupyter.session import OpenPanel, Session

TARGET = "piano-jupyter:dock"
NO_NOTEBOOK = "there is no notebook here to open the panel beside"
OPENING = "opening the chat beside the notebook; if nothing opens, %piano panel shows it in a cell"
OPENED = "the chat is open beside the notebook"
IN_SIDECAR = "the chat is open in a sidecar"
NO_EXTENSION = (
    "this front end has no extension that opens the chat beside the notebook: install piano_jupyter, or sidecar, where "
    "JupyterLab runs, and reload the page; %piano panel shows the chat in a cell"
)


def open_beside(session: Session, panel: Callable[[], OpenPanel]) -> None:
    """Ask the front end to open the panel beside the notebook; the output of the cell says how it went.

    `panel` makes the panel for a sidecar. Raises PianoError where there is no notebook.
    """
    if not session.in_notebook:
        raise PianoError(NO_NOTEBOOK)
    note = display(Note(OPENING), display_id=True)
    comm = create_comm(target_name=TARGET)

    def opened(_: object) -> None:
        comm.close()
        note.update(Note(OPENED))

    def refused(_: object) -> None:
        note.update(Note(IN_SIDECAR if _open_sidecar(session, panel) else NO_EXTENSION))

    comm.on_msg(opened)
    comm.on_close(refused)


def _open_sidecar(session: Session, panel: Callable[[], OpenPanel]) -> bool:
    """Show the panel in a sidecar, the only one; return False where that is not installed."""
    if importlib.util.find_spec("sidecar") is None:
        return False
    from sidecar import Sidecar  # noqa: PLC0415  It may not be installed.

    data, metadata = panel().live_bundle()
    shown: dict[str, Any] = {"output_type": "display_data", "data": data, "metadata": metadata}
    if session.sidecar is not None:
        session.sidecar.close()
    session.sidecar = Sidecar(title="Piano", outputs=(shown,))
    display(session.sidecar)
    return True

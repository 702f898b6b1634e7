"""What "Open Piano" in the front end runs in the kernel: it shows the panel beside the notebook."""

from typing import Any

from IPython import get_ipython

from piano_jupyter.jupyter.extension import session_of
from piano_jupyter.jupyter.magic.commands.ask import side_panel
from piano_jupyter.jupyter.magic.dispatch import in_cell

LOADED = "This kernel has loaded piano_jupyter, as with %load_ext piano_jupyter."


def show(*, resume: bool) -> None:
    """Show the panel, after loading the extension where it is not loaded, which is said.

    `resume` goes on with the jobs that an earlier kernel left, as `%piano panel` does. Raises PianoError.
    """
    shell = get_ipython()
    if session_of(shell) is None:
        shell.extension_manager.load_extension("piano_jupyter")
        print(LOADED)  # noqa: T201  Above the panel.
    session: Any = session_of(shell)
    with in_cell(session):
        side_panel(session, resume=resume).show_live_view()

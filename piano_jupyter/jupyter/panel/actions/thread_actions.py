"""What a page asks about threads: rename the one shown, show another one."""

from piano_jupyter.jupyter.panel.actions.action_panel import Panel
from piano_jupyter.jupyter.panel.actions.page_request import PageRequest


async def rename(panel: Panel, request: PageRequest) -> None:
    """Rename the thread shown."""
    await panel.piano.rename_thread(panel.thread, request.text())


async def show(panel: Panel, request: PageRequest) -> None:
    """Show another thread, which becomes the current one."""
    await panel.show_thread(await panel.piano.find_thread(request.id()))


ACTIONS = {"rename": rename, "show": show}

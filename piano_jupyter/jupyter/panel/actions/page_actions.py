"""What a page asks for itself: everything at first, more of it, the content of attachments."""

from piano_jupyter.jupyter.panel.actions.action_panel import Panel
from piano_jupyter.jupyter.panel.actions.page_request import PageRequest
from piano_jupyter.jupyter.render.attachments import attachment_html


async def hello(panel: Panel, request: PageRequest) -> None:
    """Send everything to a page that was opened or has missed something.

    It says which thread it showed before, and from which kernel.
    """
    if not await panel.come_back_to(request.text("thread"), request.text("kernel")):
        panel.send_everything(request.page)


async def here(_panel: Panel, _request: PageRequest) -> None:
    """Take in that a page is still open: what every request says."""


async def bye(panel: Panel, request: PageRequest) -> None:
    """Forget a page that was closed."""
    panel.forget_page(request.page)


async def reply(panel: Panel, request: PageRequest) -> None:
    """Take what a page was asked for."""
    panel.page_questions.take_reply(request.text(), request.content.get("value"))


async def earlier(panel: Panel, _request: PageRequest) -> None:
    """Show more of the messages before the first one shown."""
    await panel.show_earlier()


async def find_earlier(panel: Panel, request: PageRequest) -> bool:
    """Show the messages from the last one that has a text, before the first one shown; return whether one has."""
    return await panel.find_earlier(request.text())


async def attachment(panel: Panel, request: PageRequest) -> str:
    """Return a figure, an image or a table as HTML."""
    return "".join(map(attachment_html, await panel.piano.attachments([request.text()])))


ACTIONS = {
    "hello": hello,
    "here": here,
    "bye": bye,
    "reply": reply,
    "earlier": earlier,
    "find_earlier": find_earlier,
    "attachment": attachment,
}

"""Panel: what an action can use of the panel."""

from collections.abc import Callable
from typing import Protocol
from uuid import UUID

from piano_jupyter.jupyter.panel.page_questions import PageQuestions
from piano_jupyter.jupyter.panel.uploads import Uploads
from piano_jupyter.jupyter.panel.view import ThreadView
from piano_jupyter.piano import Piano
from piano_jupyter.records import Thread
from piano_jupyter.variables.fill_in import FilledText


class Panel(Protocol):
    """The panel as its actions see it; all of it is used on the chat's loop."""

    piano: Piano
    thread: Thread
    view: ThreadView
    uploads: Uploads
    page_questions: PageQuestions
    questions: Callable[[], list[str]]  #: returns what an empty panel offers to ask
    picked: dict[UUID, tuple[UUID, ...]]  #: by thread, the agents that answer there if several do

    def send_everything(self, page: str | None) -> None:
        """Send everything, to one page or to all."""

    async def come_back_to(self, thread: str, kernel: str) -> bool:
        """Show the thread that a page showed in an earlier kernel, unless one was chosen; return whether it did."""

    def forget_page(self, page: str) -> None:
        """Take in that a page was closed."""

    async def show_earlier(self) -> None:
        """Show more of the messages before the first one shown."""

    async def find_earlier(self, text: str) -> bool:
        """Show the messages from the last one that has a text, before the first one shown; return whether one has."""

    async def show_thread(self, thread: Thread) -> None:
        """Show another thread, which becomes the current one."""

    def tell(self, *topics: str) -> None:
        """Tell the pages that something has changed beside the conversation."""

    async def filled(self, text: str) -> str | FilledText:
        """Return a question with the values of the variables that it names. Raises PianoError."""

    async def offered(self) -> list[dict[str, str]]:
        """Return what of the notebook a question can name. Raises PianoError."""

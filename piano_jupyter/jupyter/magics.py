"""PianoMagics: what %piano and %%piano do: parse, find the sub-command, return what is shown."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from piano_jupyter.errors import NotFoundError, PianoError
from piano_jupyter.jupyter.commands.agents import Agents
from piano_jupyter.jupyter.commands.asking import Asking
from piano_jupyter.jupyter.commands.command import COMMANDS
from piano_jupyter.jupyter.commands.looking import Looking
from piano_jupyter.jupyter.commands.queue import Queue
from piano_jupyter.jupyter.commands.threads import Threads
from piano_jupyter.jupyter.display import Note
from piano_jupyter.jupyter.options import split_options, split_words

if TYPE_CHECKING:
    from piano_jupyter.jupyter.extension import Session


def sentences(method: Callable[..., Any]) -> Callable[..., Any]:
    """Show a PianoError as one sentence, without a traceback."""

    @functools.wraps(method)
    def shown(self: "PianoMagics", line: str, cell: str | None = None) -> Any:
        try:
            return method(self, line, cell)
        except PianoError as error:
            raise UsageError(str(error)) from None

    return shown


class PianoMagics(Asking, Threads, Agents, Queue, Looking):
    """The magics of one session."""

    def __init__(self, shell: Any, session: "Session") -> None:
        self.shell, self.session = shell, session

    @sentences
    def piano(self, line: str, cell: str | None = None) -> Any:
        """Ask an agent, or see and steer the chat: `%piano help` lists what there is."""
        self.session.adopt_tools()
        if cell is not None:
            return self.ask_in_cell(line, cell)
        name, _, rest = line.strip().partition(" ")
        if name in {"", "--help", "-h"}:
            name = "help" if name else "status"
        if name not in COMMANDS:
            raise PianoError(f"{NotFoundError.among('sub-command', name, COMMANDS)}. To ask: %piano ask {line.strip()}")
        chosen = COMMANDS[name]
        if rest.strip() in {"--help", "-h"}:
            return Note(chosen.explanation)
        options, handles, text = (split_options if chosen.is_text else split_words)(rest, chosen.options)
        if handles and "@" not in chosen.usage:
            text = " ".join([*(f"@{handle}" for handle in handles), text]).strip()
        arguments = {option[2:].replace("-", "_"): value for option, value in options.items()}
        return chosen.run(self, text, **({"agents": handles} if "@" in chosen.usage else {}), **arguments)

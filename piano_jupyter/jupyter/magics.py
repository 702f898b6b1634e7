"""PianoMagics: what %piano and %%piano do: parse, find the sub-command, return what is shown."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from piano_jupyter.errors import NotFoundError, PianoError
from piano_jupyter.jupyter.commands.agents import Agents
from piano_jupyter.jupyter.commands.asking import Asking
from piano_jupyter.jupyter.commands.branches import Branches
from piano_jupyter.jupyter.commands.command import COMMANDS, Command
from piano_jupyter.jupyter.commands.files import Files
from piano_jupyter.jupyter.commands.looking import Looking
from piano_jupyter.jupyter.commands.models import Models
from piano_jupyter.jupyter.commands.queue import Queue
from piano_jupyter.jupyter.commands.threads import Threads
from piano_jupyter.jupyter.options import split_options, split_words
from piano_jupyter.jupyter.tables import Note

if TYPE_CHECKING:
    from piano_jupyter.jupyter.extension import Session

HELP = frozenset({"--help", "-h"})


def sentences(method: Callable[..., Any]) -> Callable[..., Any]:
    """Show a PianoError as one sentence, without a traceback."""

    @functools.wraps(method)
    def shown(self: "PianoMagics", line: str, cell: str | None = None) -> Any:
        try:
            return method(self, line, cell)
        except PianoError as error:
            raise UsageError(str(error)) from None

    return shown


class PianoMagics(Asking, Branches, Threads, Agents, Models, Queue, Looking, Files):
    """The magics of one session."""

    def __init__(self, shell: Any, session: "Session") -> None:
        self.shell, self.session = shell, session

    @sentences
    def piano(self, line: str, cell: str | None = None) -> Any:
        """Ask an agent, or see and steer the chat: `%piano help` lists what there is."""
        self.session.adopt_tools()
        name, rest = _first_word(line)
        if cell is not None and not (name in COMMANDS and COMMANDS[name].cell):
            name, rest = "ask", line  # the first line is text, or options of the question
        if name in {"", *HELP}:
            name = "help" if name else "status"
        if name not in COMMANDS:
            raise PianoError(f"{NotFoundError.among('sub-command', name, COMMANDS)}. To ask: %piano ask {line.strip()}")
        chosen = COMMANDS[name]
        if rest.strip() in HELP:
            return Note(chosen.explanation)
        return self._run(chosen, rest, cell)

    def _run(self, chosen: Command, rest: str, cell: str | None) -> Any:
        options, handles, text = (split_options if chosen.is_text else split_words)(rest, chosen.options)
        arguments: dict[str, Any] = {}
        for option, value in options.items():
            words = chosen.options[option]
            if words.islower() and value not in words.split("|"):
                raise NotFoundError.among(f"value of {option}", value, words.split("|"))
            arguments[option[2:].replace("-", "_")] = value if words else True
        if chosen.asks:
            arguments["agents"] = handles
        elif handles:
            text = " ".join([*(f"@{handle}" for handle in handles), text]).strip()
        if text and not chosen.takes:
            raise PianoError(f"%piano {chosen.name} takes no name, but here is {text!r}; %piano {chosen.name} --help")
        if cell is not None and chosen.is_text:
            text = f"{text}\n{cell}".strip()
        elif cell is not None:
            arguments["cell"] = cell.strip()
        return chosen.run(self, text, **arguments)


def _first_word(line: str) -> tuple[str, str]:
    name, *rest = line.strip().split(maxsplit=1) or [""]
    return name, "".join(rest)

"""Command: a sub-command of %piano, as help, TAB and the dispatch know it."""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from uuid import UUID

from piano_jupyter.errors import PianoError
from piano_jupyter.text.docstrings import docstring

if TYPE_CHECKING:
    from piano_jupyter.piano import Piano

OPTION = re.compile(r"\[(--[\w-]+)(?: ([^\]]+))?\] ?")


@dataclass(frozen=True)
class Command:
    """A sub-command of %piano.

    `run` is a coroutine function of the Piano, which runs on the chat's loop; or a plain function of the Session, which
    runs in the cell, on the main thread: it waits there, reads variables or prints. It gets the text as `text` where
    the usage names something, the handles as `agents` where it names agents, and the options that were given.
    """

    run: Callable[..., Any]  #: its name is that of the sub-command, its docstring the help
    usage: str = ""  #: what follows the name: capital letters say what each word is, which TAB reads too
    example: str = ""  #: what follows the name, for instance
    cell: str = ""  #: what the body of a cell is to it; "" if it takes none

    @property
    def name(self) -> str:
        """What follows %piano."""
        return self.run.__name__.strip("_")

    @cached_property
    def options(self) -> dict[str, str]:
        """The word for each option's value, "" where it takes none."""
        return dict(OPTION.findall(self.usage))

    @cached_property
    def takes(self) -> str:
        """The usage without the options."""
        return OPTION.sub("", self.usage).strip()

    @property
    def is_text(self) -> bool:
        """Whether what follows the options is text as it stands, not names."""
        return self.takes.endswith(("TEXT", "…"))

    @property
    def asks(self) -> bool:
        """Whether it takes handles: `@ada`."""
        return "@AGENT" in self.takes

    @property
    def waits_in_cell(self) -> bool:
        """Whether it runs in the cell and waits there by itself; all others run on the chat's loop."""
        return not inspect.iscoroutinefunction(self.run)

    @property
    def help(self) -> str:
        """What it does; the first line is a sentence of its own."""
        return docstring(self.run)

    @property
    def explanation(self) -> str:
        """How it is used, and what it does."""
        cell = f"As %%piano {self.name}, the cell is {self.cell}." if self.cell else ""
        head = f"%piano {self.name} {self.usage}".strip()
        example = f"For example:  %piano {self.name} {self.example}".strip()
        return "\n\n".join(filter(None, [head, self.help, cell, example]))


def named(kind: str, text: str, example: str) -> str:
    """Return what a sub-command was given. Raises PianoError if that is nothing."""
    if not text:
        raise PianoError(f"name the {kind}: {example}")
    return text


def number(option: str, value: str | None, least: int = 0) -> int | None:
    """Return an option's value as a number. Raises PianoError if it is none, or too small."""
    if value is not None and not (value.isdecimal() and int(value) >= least):
        raise PianoError(f"{option} takes a whole number{f' from {least}' if least else ''}, not {value!r}")
    return None if value is None else int(value)


async def agent_names(piano: "Piano") -> dict[UUID | None, str]:
    """Return the names of the agents by their ids."""
    return {agent.id: agent.name for agent in await piano.agents()}

"""Command: one sub-command of %piano, as help, TAB completion and dispatch use it."""

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

    `run` is either a coroutine function that takes the Piano and runs on the chat's loop, or a plain function that
    takes the Session and runs on the main thread, where it can wait, read variables and print. It also gets `text`
    if the usage has a positional argument, `agents` (the mentioned handles) if it has `@AGENT`, and the options given.
    """

    run: Callable[..., Any]  #: its name is the sub-command, its docstring the help text
    usage: str = ""  #: the arguments; TAB completion reads the words in capitals
    example: str = ""  #: example arguments
    cell: str = ""  #: what the body of a %%piano cell means; "" if it takes none

    @property
    def name(self) -> str:
        """The word after %piano."""
        return self.run.__name__.strip("_")

    @cached_property
    def options(self) -> dict[str, str]:
        """Each option with the name of its value, "" for a flag."""
        return dict(OPTION.findall(self.usage))

    @cached_property
    def takes(self) -> str:
        """The usage without the options."""
        return OPTION.sub("", self.usage).strip()

    @property
    def is_text(self) -> bool:
        """Whether the text after the options is used verbatim, not split into names."""
        return self.takes.endswith(("TEXT", "…"))

    @property
    def asks(self) -> bool:
        """Whether it takes mentions: `@ada`."""
        return "@AGENT" in self.takes

    @property
    def waits_in_cell(self) -> bool:
        """Whether it runs on the main thread and waits by itself; the others run on the chat's loop."""
        return not inspect.iscoroutinefunction(self.run)

    @property
    def help(self) -> str:
        """What it does; the first line is a sentence of its own."""
        return docstring(self.run)

    @property
    def summary(self) -> str:
        """The first line of the help."""
        return self.help.splitlines()[0]

    @property
    def explanation(self) -> str:
        """The text of `%piano help SUB-COMMAND`."""
        cell = f"As %%piano {self.name}, the cell is {self.cell}." if self.cell else ""
        head = f"%piano {self.name} {self.usage}".strip()
        example = f"For example:  %piano {self.name} {self.example}".strip()
        return "\n\n".join(filter(None, [head, self.help, cell, example]))


def required(kind: str, text: str, example: str) -> str:
    """Return the argument of a sub-command. Raises PianoError if it is missing."""
    if not text:
        raise PianoError(f"name the {kind}: {example}")
    return text


def whole_number(option: str, value: str | None, minimum: int = 0) -> int | None:
    """Return an option's value as a number. Raises PianoError if it is not one, or too small."""
    if value is not None and not (value.isdecimal() and int(value) >= minimum):
        raise PianoError(f"{option} takes a whole number{f' of at least {minimum}' if minimum else ''}, not {value!r}")
    return None if value is None else int(value)


async def agent_names(piano: "Piano") -> dict[UUID | None, str]:
    """Return the agents' names by id."""
    return {agent.id: agent.name for agent in await piano.agents(deleted=True)}

"""@command: a method becomes a sub-command of %piano."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from piano_jupyter.errors import PianoError

if TYPE_CHECKING:
    from piano_jupyter.jupyter.session import Session
    from piano_jupyter.piano import Piano

TEXT = frozenset({"TEXT", "…"})  # at the end of a usage: the rest is text as it stands


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """A sub-command of %piano.

    What it takes is said in capital letters, which TAB reads too: `[THREAD]` is completed with the threads that there
    are, `--by agent|model|day` with these three words.
    """

    name: str
    takes: str  #: what follows the name, options apart
    help: str
    run: Callable[..., Any]
    options: Mapping[str, str] = field(default_factory=dict)  #: the word for each one's value, "" for none
    example: str = ""
    cell: str = ""  #: what the body of a cell is to it; "" if it takes none

    @property
    def is_text(self) -> bool:
        """Whether what follows the options is text as it stands, not names."""
        return self.takes.rpartition(" ")[2] in TEXT

    @property
    def asks(self) -> bool:
        """Whether it takes handles: `@ada`."""
        return "@AGENT" in self.takes

    @property
    def usage(self) -> str:
        """What follows the name."""
        options = [f"[{name} {value}]" if value else f"[{name}]" for name, value in self.options.items()]
        before, _, text = self.takes.rpartition(" ") if self.is_text else (self.takes, "", "")
        return " ".join(filter(None, [before, *options, text]))

    @property
    def explanation(self) -> str:
        """How it is used, and what it does."""
        cell = f"As %%piano {self.name}, the cell is {self.cell}." if self.cell else ""
        example = f"For example:  {self.example}" if self.example else ""
        head = f"%piano {self.name} {self.usage}".strip()
        return "\n\n".join(filter(None, [head, self.help, cell, example]))


COMMANDS: dict[str, Command] = {}


class Commands:
    """What a group of sub-commands has: the kernel's session."""

    session: "Session"

    def _call(self, verb: Callable[["Piano"], Any]) -> Any:
        return self.session.call(verb)


def command(
    takes: str = "", *, example: str = "", cell: str = "", **options: str
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a method a sub-command, its docstring the help; `no_wait=""` is the option --no-wait, without a value."""

    def register(method: Callable[..., Any]) -> Callable[..., Any]:
        name = method.__name__.strip("_")
        COMMANDS[name] = Command(
            name=name,
            takes=takes,
            help=inspect.getdoc(method) or "",
            run=method,
            options={f"--{option.replace('_', '-')}": value for option, value in options.items()},
            example=example,
            cell=cell,
        )
        return method

    return register


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

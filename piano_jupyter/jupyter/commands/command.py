"""@command: a method becomes a sub-command of %piano."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from piano_jupyter.errors import PianoError
from piano_jupyter.jupyter.display import Listing

if TYPE_CHECKING:
    from piano_jupyter.jupyter.extension import Session
    from piano_jupyter.piano import Piano


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """A sub-command of %piano."""

    name: str
    usage: str  #: what follows the name
    help: str
    run: Callable[..., Any]
    options: Mapping[str, bool] = field(default_factory=dict)  #: whether each takes a value

    @property
    def is_text(self) -> bool:
        """Whether what follows the options is text as it stands, not names."""
        return self.usage.endswith(("TEXT", "..."))

    @property
    def explanation(self) -> str:
        """How it is used, and what it does."""
        return f"%piano {self.name} {self.usage}".strip() + f"\n\n{self.help}"


COMMANDS: dict[str, Command] = {}


class Commands:
    """What a group of sub-commands has: the kernel's session."""

    session: "Session"

    def _call(self, verb: Callable[["Piano"], Any]) -> Any:
        return self.session.call(verb)


def command(usage: str = "", **options: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a method a sub-command, its docstring the help; `no_wait=False` is the option --no-wait, without a value."""

    def register(method: Callable[..., Any]) -> Callable[..., Any]:
        name = method.__name__.strip("_")
        COMMANDS[name] = Command(
            name=name,
            usage=usage,
            help=inspect.getdoc(method) or "",
            run=method,
            options={f"--{option.replace('_', '-')}": takes for option, takes in options.items()},
        )
        return method

    return register


def named(kind: str, text: str) -> str:
    """Return what a sub-command was given. Raises PianoError if that is nothing."""
    if not text:
        raise PianoError(f"name the {kind}")
    return text


def number(option: str, value: str | None) -> int | None:
    """Return an option's value as a number. Raises PianoError if it is none."""
    if value is not None and not value.isdecimal():
        raise PianoError(f"{option} takes a whole number, not {value!r}")
    return None if value is None else int(value)


def pairs(rows: dict[str, str]) -> Listing[tuple[str, str]]:
    """Return names and values as a table."""
    return Listing(rows.items(), "", **{" ": lambda pair: pair[0], "": lambda pair: pair[1]})

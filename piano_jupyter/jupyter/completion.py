"""TAB after %piano and %%piano: sub-commands, options, and the names of agents, threads, models and the like.

What can stand where is read from each sub-command's usage (`commands/command.py`). Names are asked of a Piano that is
open; one that is late to answer is not waited for, and what it says is known at the next TAB.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult, context_matcher

from piano_jupyter.jupyter.names import Names

if TYPE_CHECKING:
    from piano_jupyter.jupyter.commands.command import Command
    from piano_jupyter.jupyter.names import Peek

IDENTIFIER = "piano_jupyter.completion"
MOST = 100  # names
LINE = re.compile(r"""\s*(?:[\w.\[\]'", ]+=\s*)?%piano\s+(.*)""", re.DOTALL)
CELL = re.compile(r"\s*%%piano(?:\s+(.*))?")
HANDLE = re.compile(r"(?:^|\s)(@[\w.-]*)$")
WORD = re.compile(r"""(?:"(?:[^"\\]|\\.)*(?:"|$)|'(?:[^'\\]|\\.)*(?:'|$)|\S)+""")
FREE = frozenset({"FILE", "SELECT", "TEXT"})  # where IPython may offer what it knows
QUOTED = re.compile(r"""\s|^["'@-]""")


class Place(NamedTuple):
    """Where a word is being written."""

    kinds: tuple[str, ...]  #: what may stand there: "option", SUB-COMMAND, AGENT, THREAD, ..., "agent|model|day"
    written: str  #: what is there of it already
    command: "Command | None" = None


def place(typed: str, commands: Mapping[str, "Command"], *, is_cell: bool = False) -> Place | None:
    """Return what may stand at the end of `typed`, which follows %piano or %%piano; None where that is free text."""
    found = list(WORD.finditer(typed))
    words = [match[0] for match in found]
    if not found or found[-1].end() < len(typed):
        words.append("")
    name, *rest = words
    if is_cell and not (rest and name in commands and commands[name].cell):
        asked = _argument(words, typed, commands["ask"])
        if rest or name[:1] in {"-", "@"}:
            return asked
        return Place(("cell", *(asked.kinds if asked else ())), name, commands["ask"])
    if not rest:
        return Place(("SUB-COMMAND",), name)
    return _argument(rest, typed[found[0].end() :].lstrip(), commands[name]) if name in commands else None


def _argument(words: list[str], typed: str, command: "Command") -> Place | None:
    """Return what may stand at the last of the words that follow a sub-command."""
    value, positional, options = "", 0, 0  # the value that is awaited; how many words and options there were
    *before, written = words
    for word in before:
        option, is_given, _ = word.partition("=")
        if value:
            value = ""
        elif option in command.options:
            value, options = "" if is_given else command.options[option], options + 1
        elif not (command.asks and word.startswith("@")):
            positional += 1
    option, is_given, rest = written.partition("=")
    if not value and is_given and option in command.options:
        value, written = command.options[option], rest
    if value:
        return Place((value.removesuffix(",…"),), written.rpartition(",")[2].lstrip() if "…" in value else written)
    if positional and command.is_text:
        return None
    kind = command.takes.partition(" ")[0].strip("[]@")
    if command.asks and not written.startswith("@"):
        kind = ""
    elif kind == "THREAD" and positional and not options and not written.startswith("-"):  # a title needs no quotes
        return Place((kind,), typed)
    elif positional:
        kind = ""
    kinds = tuple(filter(None, [kind if not written.startswith("-") else "", "option"]))
    return Place(kinds, written, command)


def candidates(where: Place, commands: Mapping[str, "Command"], names: Callable[[str], list[str]]) -> list[str]:
    """Return what may stand at a place, as it is written; `names` gives the names of a kind."""
    found: list[str] = []
    for kind in where.kinds:
        if kind == "SUB-COMMAND":
            found += _beginning(where.written, sorted(commands))
        elif kind == "cell":
            found += _beginning(where.written, [name for name in sorted(commands) if commands[name].cell])
        elif kind == "option":
            found += _beginning(where.written, where.command.options if where.command else ())
        else:
            for part in kind.split("|"):
                known = [part] if part.islower() else names(part)
                if part == "AGENT" and where.written.startswith("@"):
                    found += _beginning(where.written, [f"@{name}" for name in known])
                else:
                    found += map(_quoted, _beginning(where.written.lstrip("\"'"), known))
    return found[:MOST]


def _beginning(written: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.casefold().startswith(written.casefold())]


def _quoted(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"' if QUOTED.search(name) else name


def register(shell: Any, peek: "Peek") -> None:
    """Let a shell complete what follows %piano; `peek` starts a verb of the Piano, if one is open."""
    names = Names(peek)

    @context_matcher(identifier=IDENTIFIER, priority=1000)
    def matcher(context: CompletionContext) -> SimpleMatcherResult:
        on = _typed(context.full_text, context.cursor_line, context.text_until_cursor)
        if on is None:
            return {"completions": []}
        from piano_jupyter.jupyter.commands.command import COMMANDS  # noqa: PLC0415  Not before it is used.
        from piano_jupyter.jupyter.magics import PianoMagics  # noqa: F401, PLC0415  It fills COMMANDS.

        typed, is_cell = on
        where = place(typed, COMMANDS, is_cell=is_cell)
        if where is None:
            return {"completions": []}
        found = candidates(where, COMMANDS, names.of)
        if not found and FREE.isdisjoint(where.kinds):
            found = [where.written]  # it stays as it is: else IPython would offer Python's names
        return {
            "completions": [SimpleCompletion(text, type=where.kinds[0].lower()) for text in found],
            "matched_fragment": where.written,
            "ordered": True,
            "suppress": bool(found),
        }

    shell.Completer.custom_matchers.append(matcher)


def unregister(shell: Any) -> None:
    """Undo `register`."""
    matchers = shell.Completer.custom_matchers
    matchers[:] = [each for each in matchers if getattr(each, "matcher_identifier", "") != IDENTIFIER]


def _typed(text: str, line_number: int, line: str) -> tuple[str, bool] | None:
    """Return what follows %piano up to the cursor, and whether it is %%piano; None where it is neither."""
    cell = CELL.match(text.lstrip().partition("\n")[0])
    if cell is None:
        on_line = None if text.lstrip().startswith("%%") else LINE.fullmatch(line)
        return (on_line[1], False) if on_line else None
    if text[: len(text) - len(text.lstrip())].count("\n") == line_number:
        here = CELL.fullmatch(line)
        return (here[1], True) if here and here[1] is not None else None
    handle = HANDLE.search(line)  # in what is said
    return (handle[1], True) if handle else None

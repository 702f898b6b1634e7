"""Run %piano and %%piano: parse the line, find the sub-command, run it, return its result."""

import contextlib
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

from piano_jupyter.errors import NotFoundError, PianoError
from piano_jupyter.jupyter.cell.waiting import AnswerFailedError
from piano_jupyter.jupyter.magic.catalog import COMMANDS
from piano_jupyter.jupyter.magic.command import Command
from piano_jupyter.jupyter.magic.manual import topics
from piano_jupyter.jupyter.magic.options import split_options, split_words
from piano_jupyter.jupyter.render.tables import Note
from piano_jupyter.jupyter.session import Session
from piano_jupyter.secrets.redactor import redact

HELP_OPTIONS = {"--help": "", "-h": ""}
ONE_NAME_ONLY = frozenset({"FILE", "AGENT", "MESSAGE", "JOB", "CALL"})  # one word, or in quotes


def run_magic(session: Session, line: str, cell: str | None) -> Any:
    """Run a %piano line or a %%piano cell. Raises PianoError, which a cell shows as one sentence."""
    with in_cell(session):
        return _dispatch(session, line, cell)


@contextlib.contextmanager
def in_cell(session: Session) -> Iterator[None]:
    """Add the tools that cells have defined before what a cell does; mask its errors and print notices after it."""
    try:
        session.adopt_tools()
        yield
    except PianoError as error:
        if session.config.mask_secrets:
            error.args = (redact(str(error)),)
        raise
    finally:
        session.announce_database()


def _dispatch(session: Session, line: str, cell: str | None) -> Any:
    name, rest = [*line.split(maxsplit=1), "", ""][:2]
    name, rest = name.rstrip(";"), rest.rstrip()
    if cell is not None and not _is_for_cell(name, rest):
        return _run(session, COMMANDS["ask"], line, cell)  # the first line is text or options of the question
    if cell is None and name in {"", *HELP_OPTIONS}:
        name = "help" if name else "status"
    if name not in COMMANDS and name.rstrip("?") in COMMANDS and not rest:
        name, rest = name.rstrip("?"), "--help"
    if name not in COMMANDS:
        raise PianoError(_unknown(name, line.strip()))
    chosen = COMMANDS[name]
    try:
        return _run(session, chosen, rest, cell)
    except AnswerFailedError:
        raise
    except PianoError as error:
        as_text = "; to ask this as a question, put it below the first line" if cell and not chosen.asks else ""
        error.args = (f"{error}{_unquoted_title(chosen, rest)}{as_text}",)
        raise


def _run(session: Session, chosen: Command, rest: str, cell: str | None) -> Any:
    options, handles, text = _parsed(chosen, rest)
    if options.keys() & HELP_OPTIONS:
        return Note(chosen.explanation)
    arguments: dict[str, Any] = {}
    for option, value in options.items():
        takes = chosen.options[option]
        if takes.islower() and value not in takes.split("|"):
            raise NotFoundError.among(f"value of {option}", value, takes.split("|"))
        arguments[option[2:].replace("-", "_")] = value if takes else True
    if chosen.asks:
        arguments["agents"] = handles
    elif handles:
        text = " ".join([*(f"@{handle}" for handle in handles), text]).strip()
    if text and not chosen.takes:
        raise PianoError(f"%piano {chosen.name} takes no argument, but got {text!r}; see %piano {chosen.name} --help")
    if cell is not None and chosen.is_text:
        text = f"{text}\n{cell}".strip()
    elif cell is not None:
        arguments["cell"] = cell.strip()
    if chosen.takes:
        arguments["text"] = text
    if chosen.waits_in_cell:
        return chosen.run(session, **arguments)
    return session.call(partial(chosen.run, **arguments))


def _parsed(chosen: Command, rest: str) -> tuple[dict[str, str], list[str], str]:
    """Return the options, the handles and the text after a sub-command."""
    known = {**chosen.options, **HELP_OPTIONS}
    if chosen.is_text:
        return split_options(rest, known)
    options, handles, words = split_words(rest, known)
    kind = chosen.takes.strip("[]")
    if len(words) > 1 and kind in ONE_NAME_ONLY:
        raise PianoError(f"expected one {kind}, got {len(words)}: {', '.join(words)}; put a name with spaces in quotes")
    return options, handles, " ".join(words)


def _is_for_cell(name: str, rest: str) -> bool:
    """Return whether the first line of a cell starts with a sub-command rather than a sentence."""
    if name not in COMMANDS or not COMMANDS[name].cell:
        return False
    try:
        return not (COMMANDS[name].asks and split_options(rest, {**COMMANDS[name].options, **HELP_OPTIONS})[2])
    except PianoError:
        return True


def _unknown(name: str, line: str) -> str:
    if name.lower() in COMMANDS:
        return f"sub-commands are in lower case: %piano {name.lower()}"
    if name.lower() in topics():
        return f"{name} is a topic of the manual: %piano help {name.lower()}"
    return f"{NotFoundError.among('sub-command', name, COMMANDS)}. To ask: %piano ask {line}"


def _unquoted_title(chosen: Command, rest: str) -> str:
    """Return a hint if the title after an option has several words and no quotes."""
    for option, takes in chosen.options.items():
        found = re.search(rf"{option}(?:=|\s+)((?![\"'-])\S+(?:\s+(?!--)\S+)+)", rest)
        if takes == "TITLE" and found:
            return f'; put a title of several words in quotes: {option} "{found[1]}"'
    return ""

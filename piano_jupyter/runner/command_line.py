"""What commands a line of shell holds, read generously: for rules that deny or ask, which had better fit too often.

Not a shell: it finds each command between control operators, in subshells and substitutions, behind assignments,
keywords and programs that run others. Of a word that is expanded it knows only that it is not known.
"""

import re
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import NamedTuple

from piano_jupyter.rules import RESERVED, Word as Pattern, fits_text
from piano_jupyter.runner.runs_others import ALWAYS

DEEP = 8  #: levels of substitutions and of commands in words that are read
LONG = 20_000  #: characters of a line that are read
KEYWORDS = RESERVED | {"!", "{", "}"}
CARRIERS = ALWAYS | {"find", "fd", "fdfind"}  #: whose arguments may be commands
REDIRECTION = re.compile(r"\d*(?:[<>](?!\()[<>&|-]*|&>>?)[ \t]*")
ASSIGNMENT = re.compile(r"[A-Za-z_]\w*(\[.*?\])?\+?=", re.DOTALL)


class Fits(IntEnum):
    """Whether a command is what a rule is about."""

    NO = 0
    MAYBE = 1  #: that is known only when it runs
    YES = 2


class Word(NamedTuple):
    """A word of a command, its quotes taken off."""

    text: str
    is_known: bool  #: whether it is so when it runs: not where something in it is expanded


Command = list[Word]


class UnreadableError(Exception):
    """A quote or a parenthesis is not closed, or there is too much of it."""


def fits(pattern: Sequence[Pattern], line: str) -> Fits:
    """Return whether any command of a line is what a pattern is about: its name, then its words, others between them.

    A line that cannot be read may be anything.
    """
    wanted = [tuple(piece.casefold() for piece in word) for word in pattern]
    while len(wanted) > 1 and wanted[-1] == ("", ""):
        wanted.pop()  # the rest is anything anyway
    try:
        return max((_fits(wanted, command) for command in commands_in(line)), default=Fits.NO)
    except UnreadableError:
        return Fits.MAYBE


def commands_in(line: str, depth: int = 0) -> Iterator[Command]:
    """Yield the commands of a line. Raises UnreadableError."""
    if depth > DEEP or len(line) > LONG:
        raise UnreadableError
    reader = _Reader(line, depth)
    reader.read()
    for command in reader.found:
        yield from _bare(command, depth)


def _bare(command: Command, depth: int) -> Iterator[Command]:
    """Yield a command without keywords and assignments before it, and those that it carries."""
    at = 0
    while at < len(command) and (command[at].text in KEYWORDS or ASSIGNMENT.match(command[at].text)):
        at += 1
    if not command[at:]:
        return
    yield command[at:]
    if _name(command[at]) in CARRIERS:
        for later in range(at + 1, len(command)):
            yield command[later:]
            if re.search(r"[\s;&|`$(]", command[later].text):
                yield from commands_in(command[later].text, depth + 1)


def _name(word: Word) -> str:
    return word.text.rpartition("/")[2].casefold()


def _fits(pattern: Sequence[Pattern], command: Command) -> Fits:
    name, *words = command
    if not name.is_known:
        return Fits.MAYBE
    if not fits_text(pattern[0], _name(name)):
        return Fits.NO
    wanted = list(pattern[1:])
    for word in words:
        if wanted and word.is_known and fits_text(wanted[0], word.text.casefold()):
            del wanted[0]
    if wanted:
        return Fits.NO if all(word.is_known for word in words) else Fits.MAYBE
    return Fits.YES


class _Reader:
    """Reads a line from left to right."""

    def __init__(self, text: str, depth: int) -> None:
        self._text, self._depth = text.replace("\\\n", ""), depth
        self._at = 0
        self.found: list[Command] = []

    def read(self, *, closes: bool = False) -> None:
        """Find the commands up to the end, or up to the parenthesis that closes a substitution."""
        text, command, opened = self._text, Command(), 0
        while self._at < len(text):
            here = text[self._at]
            if here in " \t":
                self._at += 1
            elif here in ";&|\n()":
                self._at += 1
                if here == ")" and closes and not opened:
                    self._end(command)
                    return
                opened += {"(": 1, ")": -1}.get(here, 0)
                command = self._end(command)
            elif here == "#":
                self._at = (text + "\n").index("\n", self._at)
            elif redirection := REDIRECTION.match(text, self._at):
                self._at = redirection.end()
                if self._at < len(text) and text[self._at] not in ";&|\n()<>":
                    self._word()  # where to; a substitution in it is found
            else:
                command.append(self._word())
        if closes:
            raise UnreadableError
        self._end(command)

    def _end(self, command: Command) -> Command:
        if command:
            self.found.append(command)
        return Command()

    def _word(self) -> Word:
        said, is_known = [], True
        while self._at < len(self._text) and (here := self._text[self._at]) not in " \t;&|\n()":
            self._at += 1
            if here == "'":
                said.append(self._up_to("'"))
            elif here == '"':
                text, known = self._in_double_quotes()
                said.append(text)
                is_known &= known
            elif here == "\\":
                said.append(self._text[self._at : self._at + 1])
                self._at += 1
            elif here in "<>":
                if not self._text.startswith("(", self._at):
                    self._at -= 1
                    break
                is_known = False
                self._nested()
            elif here in "$`":
                is_known = False
                self._expansion(here)
            else:
                is_known &= here not in "*?[{"
                said.append(here)
        text = "".join(said)
        return Word(text, is_known or text in KEYWORDS or text == "[")

    def _in_double_quotes(self) -> tuple[str, bool]:
        said, is_known = [], True
        while (here := self._text[self._at : self._at + 1]) != '"':
            if not here:
                raise UnreadableError
            self._at += 1
            if here == "\\":
                said.append(self._text[self._at : self._at + 1])
                self._at += 1
            elif here in "$`":
                is_known = False
                self._expansion(here)
            else:
                said.append(here)
        self._at += 1
        return "".join(said), is_known

    def _expansion(self, sign: str) -> None:
        """Pass over what follows `$` or a backtick, and find the commands in it."""
        after = self._text[self._at : self._at + 1]
        if sign == "`":
            self.found += commands_in(re.sub(r"\\([`$\\])", r"\1", self._up_to("`")), self._depth + 1)
        elif after == "(":
            self._nested()
        elif after == "{":
            inner = self._up_to("}")
            self.found += commands_in(inner[1:], self._depth + 1) if re.search(r"[$`]", inner) else []

    def _nested(self) -> None:
        self._at += 1
        self._depth += 1
        if self._depth > DEEP:
            raise UnreadableError
        self.read(closes=True)
        self._depth -= 1

    def _up_to(self, end: str) -> str:
        """Return what comes before the next such sign that is not escaped, and pass over both."""
        begun = self._at
        while self._at < len(self._text):
            here = self._text[self._at]
            self._at += 1
            if here == end:
                return self._text[begun : self._at - 1]
            self._at += here == "\\" and end != "'"
        raise UnreadableError

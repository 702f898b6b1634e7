"""What commands a line of shell holds, read generously: for rules that deny or ask, which had better fit too often.

Not a shell: it finds each command between control operators, in subshells and substitutions, behind assignments,
keywords and programs that run others. Of a word that is expanded it knows only that it is not known.
"""

import re
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import NamedTuple

from piano_jupyter.rules import RESERVED, Word as Pattern, fits_text
from piano_jupyter.runner.commands.runs_others import ALWAYS

DEEP = 8  #: levels of substitutions and of commands in words that are read
LONG = 20_000  #: characters of a line that are read
MANY = 500  #: words of a command that carries others
KEYWORDS = RESERVED | {"!", "{", "}"}
NAMING = {"coproc", "function", "time"}  #: behind which a name or an option may stand
CARRIERS = ALWAYS | {"find", "fd", "fdfind"}  #: whose arguments may be commands
REDIRECTION = re.compile(r"\d*(?:[<>](?!\()[<>&|-]*|&>>?)[ \t]*")
HEREDOC = re.compile(r"\d*<<-?[ \t]*")
ANSI_C = re.compile(r"'(?:[^'\\]|\\.)*+'", re.DOTALL)
IN_INDEX = re.compile(r"\[[^\]]*[$`]")  #: what bash reckons, even where it was quoted: `test -v 'a[$(rm x)]'`
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
    """A line cannot be read whole; the text says why."""


class _NotShellError(UnreadableError):
    """What is no command line: a quote or a parenthesis is not closed, say."""


OPEN = "a quote, a brace or a parenthesis in it is not closed"
UNUSUAL = "it is written in a way that rules cannot follow"
TOO_LONG = f"it has more than {LONG:,} characters"
TOO_DEEP = "it is nested too deeply"
TOO_MANY = f"a command in it that runs others has more than {MANY} words"


def commands_of(line: str) -> list[Command]:
    """Return the commands of a line. Raises UnreadableError where it cannot be read whole."""
    try:
        return list(_commands_in(line, 0))
    except RecursionError:
        raise UnreadableError(TOO_DEEP) from None


def fits(pattern: Sequence[Pattern], commands: Sequence[Command]) -> Fits:
    """Return whether any command is what a pattern is about: its name, then its words, others between them."""
    wanted = [tuple(piece.casefold() for piece in word) for word in pattern]
    while len(wanted) > 1 and wanted[-1] == ("", ""):
        wanted.pop()  # the rest is anything anyway
    return max((_fits(wanted, command) for command in commands), default=Fits.NO)


def _commands_in(line: str, depth: int, *, is_shell: bool = True) -> Iterator[Command]:
    """Yield the commands of a line; of a text that may be none, those up to where it is none, and one unknown."""
    if depth > DEEP:
        raise UnreadableError(TOO_DEEP)
    if len(line) > LONG:
        raise UnreadableError(TOO_LONG)
    reader = _Reader(line, depth)
    try:
        reader.read()
    except _NotShellError:
        if is_shell:
            raise
        reader.found.append([Word("", is_known=False)])
    yield from reader.nested
    for command in reader.found:
        yield from _bare(command, depth)


def _bare(command: Command, depth: int) -> Iterator[Command]:
    """Yield a command without keywords and assignments before it, and those that it carries."""
    at = _beginning(command, 0)
    for _ in range(DEEP):
        if not command[at:]:
            return
        yield from _with_carried(command[at:], depth)
        if not at or command[at - 1].text not in NAMING:
            return
        at = _beginning(command, at + 1)
    raise UnreadableError(TOO_DEEP)


def _beginning(command: Command, at: int) -> int:
    while at < len(command) and (command[at].text in KEYWORDS or ASSIGNMENT.match(command[at].text)):
        at += 1
    return at


def _with_carried(command: Command, depth: int) -> Iterator[Command]:
    yield command
    carries = _name(command[0]) in CARRIERS
    if carries and len(command) > MANY:
        raise UnreadableError(TOO_MANY)
    for later in range(1, len(command)):
        if carries:
            yield command[later:]
        if re.search(r"[\s;&|`$(]" if carries else IN_INDEX, command[later].text):
            yield from _commands_in(command[later].text, depth + 1, is_shell=False)


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
        self._text, self._depth = text, depth
        self._at = 0
        self._heredocs: list[tuple[str, bool]] = []  # that begin with the next line: what ends each, behind tabs or not
        self.found: list[Command] = []
        self.nested: list[Command] = []  #: those that were read by another reader, with what they carry

    def read(self, *, closes: bool = False) -> None:
        """Find the commands up to the end, or up to the parenthesis that closes a substitution."""
        text, command, opened = self._text, Command(), 0
        while self._at < len(text):
            here = text[self._at]
            if here in " \t":
                self._at += 1
            elif text.startswith("\\\n", self._at):
                self._at += 2
            elif here in ";&|\n()":
                self._at += 1
                if here == "\n":
                    self._pass_heredocs()
                if here == ")" and closes and not opened:
                    self._end(command)
                    if any(word.text == "case" for word in command):
                        raise _NotShellError(UNUSUAL)  # it ends a pattern
                    return
                opened += {"(": 1, ")": -1}.get(here, 0)
                command = self._end(command)
            elif here == "#":
                self._at = (text + "\n").index("\n", self._at)
            elif redirection := REDIRECTION.match(text, self._at):
                self._at = redirection.end()
                self._redirected(redirection[0])
            else:
                command.append(self._word())
        if closes:
            raise _NotShellError(OPEN)
        self._end(command)

    def _redirected(self, sign: str) -> None:
        """Pass over where a redirection leads; a substitution in it is found."""
        if HEREDOC.fullmatch(sign):
            end = self._word()
            if not end.is_known:
                raise _NotShellError(UNUSUAL)
            self._heredocs.append((end.text, "-" in sign))
        elif self._at < len(self._text) and self._text[self._at] not in ";&|\n()<>":
            self._word()

    def _pass_heredocs(self) -> None:
        """Pass over the texts that follow a line; each may be for a shell."""
        for end, behind_tabs in self._heredocs:
            lines = []
            while self._at < len(self._text):
                line, _, _ = self._text[self._at :].partition("\n")
                self._at += len(line) + 1
                line = line.lstrip("\t") if behind_tabs else line
                if line == end:
                    break
                lines.append(line)
            self._nest("\n".join(lines), is_shell=False)
        self._heredocs.clear()

    def _nest(self, text: str, *, is_shell: bool = True) -> None:
        self.nested += _commands_in(text, self._depth + 1, is_shell=is_shell)

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
                said.append(self._escaped())
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
                raise _NotShellError(OPEN)
            self._at += 1
            if here == "\\":
                said.append(self._escaped())
            elif here in "$`":
                is_known = False
                self._expansion(here, quoted=True)
            else:
                said.append(here)
        self._at += 1
        return "".join(said), is_known

    def _escaped(self) -> str:
        """Return what a backslash stands before: of a line's end, nothing is left."""
        self._at += 1
        return self._text[self._at - 1 : self._at].strip("\n")

    def _expansion(self, sign: str, *, quoted: bool = False) -> None:
        """Pass over what follows `$` or a backtick, and find the commands in it."""
        after = self._text[self._at : self._at + 1]
        if sign == "`":
            self._nest(re.sub(r"\\([`$\\])", r"\1", self._up_to("`")))
        elif after == "(":
            self._nested()
        elif after == "{":
            self._at += 1
            self._in_braces(quoted=quoted)
        elif after == "'" and not quoted:
            text = ANSI_C.match(self._text, self._at)
            if text is None:
                raise _NotShellError(OPEN)
            self._at = text.end()

    def _in_braces(self, *, quoted: bool) -> None:
        """Pass over `name:-word}`, up to the brace that closes it."""
        if self._text[self._at : self._at + 1] in {" ", "\t", "\n", "|"}:
            raise _NotShellError(UNUSUAL)  # commands, to a newer bash
        while (here := self._text[self._at : self._at + 1]) != "}":
            if not here or (here == "'" and quoted):  # a quote for some operators, a character for others
                raise _NotShellError(UNUSUAL if here else OPEN)
            self._at += 1
            if here == "'":
                self._up_to("'")
            elif here == '"':
                self._in_double_quotes()
            elif here == "\\":
                self._at += 1
            elif here in "$`":
                self._expansion(here, quoted=quoted)
        self._at += 1

    def _nested(self) -> None:
        self._at += 1
        self._depth += 1
        if self._depth > DEEP:
            raise UnreadableError(TOO_DEEP)
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
        raise _NotShellError(OPEN)

"""What commands a line of shell holds, read generously: for rules that deny or ask, which had better fit too often.

Not a shell: it finds each command of the syntax tree, behind keywords and in the words of programs that run others. Of
a word that is expanded it knows only that it is not known.
"""

import re
from collections.abc import Iterator, Sequence
from enum import IntEnum

from piano_jupyter.rules import RESERVED, PatternWord, fits_text
from piano_jupyter.runner.tools.permissions.launchers import ALWAYS
from piano_jupyter.runner.tools.permissions.syntax_tree import Command, ShellWord, guessed, read

DEEP = 8  #: levels of substitutions and of commands in words that are read
LONG = 20_000  #: characters of a line that are read
BRACKETS = 2_000  #: parentheses and redirections of a line: what takes a parser long
MANY = 500  #: words of a command that carries others
CARRIERS = ALWAYS | RESERVED | {"find", "fd", "fdfind", "!", "{", "}"}  #: whose arguments may be commands
IN_INDEX = re.compile(r"\[[^\]]*[$`]")  #: what bash reckons, even where it was quoted: `test -v 'a[$(rm x)]'`


class RuleMatch(IntEnum):
    """Whether a command is what a rule is about."""

    NO = 0
    MAYBE = 1  #: that is known only when it runs
    YES = 2


class UnparsableCommandError(Exception):
    """A line cannot be read whole; the text says why."""


UNCLEAR = "a quote or a bracket in it is not closed, or it is written in a way that rules cannot follow"
TOO_LONG = f"it has more than {LONG:,} characters"
TOO_DEEP = "it is nested too deeply"
TOO_BRANCHED = f"it has more than {BRACKETS:,} parentheses and redirections"
TOO_MANY = f"a command in it that runs others has more than {MANY} words"


def commands_of(line: str) -> list[Command]:
    """Return the commands of a line. Raises UnparsableCommandError where it cannot be read whole."""
    return list(_commands_in(line, 0))


def fits(pattern: Sequence[PatternWord], commands: Sequence[Command]) -> RuleMatch:
    """Return whether any command is what a pattern is about: its name, then its words, others between them."""
    wanted = [tuple(piece.casefold() for piece in word) for word in pattern]
    while len(wanted) > 1 and wanted[-1] == ("", ""):
        wanted.pop()  # the rest is anything anyway
    return max((_fits(wanted, command) for command in commands), default=RuleMatch.NO)


def _commands_in(line: str, depth: int, *, is_shell: bool = True) -> Iterator[Command]:
    """Yield the commands of a line; of a text that may be no shell, those that are seen or guessed."""
    if depth > DEEP:
        raise UnparsableCommandError(TOO_DEEP)
    if len(line) > LONG:
        raise UnparsableCommandError(TOO_LONG)
    if line.count("(") + line.count("<") > BRACKETS:
        raise UnparsableCommandError(TOO_BRANCHED)
    reading = read(line, depth)
    if reading.depth > DEEP:
        raise UnparsableCommandError(TOO_DEEP)
    if reading.is_unclear:
        if is_shell:
            raise UnparsableCommandError(UNCLEAR)
        reading.commands += guessed(line)
    for text in reading.texts:
        yield from _commands_in(text.text, text.depth, is_shell=text.is_shell and is_shell)
    for command in reading.commands:
        yield from _with_carried(command, depth)


def _with_carried(command: Command, depth: int) -> Iterator[Command]:
    yield command
    carries = _name(command[0]) in CARRIERS
    if carries and len(command) > MANY:
        raise UnparsableCommandError(TOO_MANY)
    for later in range(1, len(command)):
        if carries:
            yield command[later:]
        if re.search(r"[\s;&|`$(]" if carries else IN_INDEX, command[later].text):
            yield from _commands_in(command[later].text, depth + 1, is_shell=False)


def _name(word: ShellWord) -> str:
    return word.text.rpartition("/")[2].casefold()


def _fits(pattern: Sequence[PatternWord], command: Command) -> RuleMatch:
    name, *words = command
    if not name.is_known:
        return RuleMatch.MAYBE
    if not fits_text(pattern[0], _name(name)):
        return RuleMatch.NO
    wanted = list(pattern[1:])
    for word in words:
        if wanted and word.is_known and fits_text(wanted[0], word.text.casefold()):
            del wanted[0]
    if wanted:
        return RuleMatch.NO if all(word.is_known for word in words) else RuleMatch.MAYBE
    return RuleMatch.YES

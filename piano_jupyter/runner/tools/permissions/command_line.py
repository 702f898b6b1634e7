"""Finds all commands in a line of shell, for rules that deny or ask: better that those match too often than too rarely.

It is not a shell: it finds each command in the syntax tree, after keywords and in the arguments of programs that run
other programs. A word that a shell would expand counts as unknown.
"""

import re
from collections.abc import Iterator, Sequence
from enum import IntEnum

from piano_jupyter.rules import RESERVED_WORDS, PatternWord, matches_text
from piano_jupyter.runner.tools.permissions.launchers import ALWAYS_LAUNCHERS
from piano_jupyter.runner.tools.permissions.syntax_tree import Command, ShellWord, guess_commands, parse_line

MAX_DEPTH = 8  #: levels of substitutions and of commands in arguments
MAX_LINE_CHARS = 20_000
MAX_BRACKETS = 2_000  #: parentheses and redirections of a line, which slow the parser down
MAX_CARRIER_WORDS = 500  #: words of a command that runs others
CARRIERS = (
    ALWAYS_LAUNCHERS | RESERVED_WORDS | {"find", "fd", "fdfind", "!", "{", "}"}
)  #: programs whose arguments may be commands
IN_INDEX = re.compile(r"\[[^\]]*[$`]")  #: bash evaluates this even if it was quoted: `test -v 'a[$(rm x)]'`


class RuleMatch(IntEnum):
    """Whether a command matches a rule."""

    NO = 0
    MAYBE = 1  #: known only when it runs
    YES = 2


class UnparsableCommandError(Exception):
    """A line cannot be read completely; the text says why."""


UNCLEAR = "a quote or a bracket in it is not closed, or its syntax is too unusual for rules"
TOO_LONG = f"it has more than {MAX_LINE_CHARS:,} characters"
TOO_DEEP = "it is nested too deeply"
TOO_BRANCHED = f"it has more than {MAX_BRACKETS:,} parentheses and redirections"
TOO_MANY = f"a command in it that runs others has more than {MAX_CARRIER_WORDS} words"


def commands_of(line: str) -> list[Command]:
    """Return the commands of a line. Raises UnparsableCommandError if it cannot be read completely."""
    return list(_commands_in(line, 0))


def match_commands(pattern: Sequence[PatternWord], commands: Sequence[Command]) -> RuleMatch:
    """Return whether any command matches a pattern: its name, then its words in order, with any words between them."""
    wanted = [tuple(piece.casefold() for piece in word) for word in pattern]
    while len(wanted) > 1 and wanted[-1] == ("", ""):
        wanted.pop()  # other words are allowed anyway
    return max((_match_command(wanted, command) for command in commands), default=RuleMatch.NO)


def _commands_in(line: str, depth: int, *, is_shell: bool = True) -> Iterator[Command]:
    """Yield the commands of a line; if the text may not be shell, also those that can only be guessed."""
    if depth > MAX_DEPTH:
        raise UnparsableCommandError(TOO_DEEP)
    if len(line) > MAX_LINE_CHARS:
        raise UnparsableCommandError(TOO_LONG)
    if line.count("(") + line.count("<") > MAX_BRACKETS:
        raise UnparsableCommandError(TOO_BRANCHED)
    parsed = parse_line(line, depth)
    if parsed.depth > MAX_DEPTH:
        raise UnparsableCommandError(TOO_DEEP)
    if parsed.is_unclear:
        if is_shell:
            raise UnparsableCommandError(UNCLEAR)
        parsed.commands += guess_commands(line)
    for text in parsed.texts:
        yield from _commands_in(text.text, text.depth, is_shell=text.is_shell and is_shell)
    for command in parsed.commands:
        yield from _with_carried(command, depth)


def _with_carried(command: Command, depth: int) -> Iterator[Command]:
    yield command
    is_carrier = _program_name(command[0]) in CARRIERS
    if is_carrier and len(command) > MAX_CARRIER_WORDS:
        raise UnparsableCommandError(TOO_MANY)
    for start in range(1, len(command)):
        if is_carrier:
            yield command[start:]
        if re.search(r"[\s;&|`$(]" if is_carrier else IN_INDEX, command[start].text):
            yield from _commands_in(command[start].text, depth + 1, is_shell=False)


def _program_name(word: ShellWord) -> str:
    return word.text.rpartition("/")[2].casefold()


def _match_command(pattern: Sequence[PatternWord], command: Command) -> RuleMatch:
    name, *words = command
    if not name.is_known:
        return RuleMatch.MAYBE
    if not matches_text(pattern[0], _program_name(name)):
        return RuleMatch.NO
    wanted = list(pattern[1:])
    for word in words:
        if wanted and word.is_known and matches_text(wanted[0], word.text.casefold()):
            del wanted[0]
    if wanted:
        return RuleMatch.NO if all(word.is_known for word in words) else RuleMatch.MAYBE
    return RuleMatch.YES

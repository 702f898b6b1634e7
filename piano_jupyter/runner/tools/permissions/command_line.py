"""Finds all commands in a line of shell, for rules that deny or ask: better that those match too often than too rarely.

It is not a shell: it finds each command in the syntax tree, after keywords and in the arguments of programs that run
other programs. A word that a shell would expand counts as unknown.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from piano_jupyter.rules import RESERVED_WORDS, PatternWord, matches_text
from piano_jupyter.runner.tools.permissions.launchers import (
    SHELLS,
    may_run_others,
    python_module,
    reads_commands,
    without_version,
)
from piano_jupyter.runner.tools.permissions.syntax_tree import (
    ASSIGNMENT,
    UNKNOWN,
    Command,
    ShellWord,
    guess_commands,
    parse_line,
)

MAX_DEPTH = 8  #: levels of substitutions and of commands in arguments
MAX_LINE_CHARS = 20_000
MAX_BRACKETS = 2_000  #: parentheses and redirections of a line, which slow the parser down
KEYWORDS = RESERVED_WORDS | {"!", "{", "}"}  #: a command follows
SHELL_SIGNS = re.compile(r"[\s;&|`$(]")  #: a text with one of these may be a command
IN_INDEX = re.compile(r"\[[^\]]*[$`]")  #: bash evaluates this even if it was quoted: `test -v 'a[$(rm x)]'`
#: What code of other languages runs: `os.system("rm x")`, `subprocess.run(["rm", "x"])`.
CALL = re.compile(
    r"\b(?:system|passthru|popen\w*|exec\w*|spawn\w*|run|shell_exec|call|check_call|check_output|get(?:status)?output|Popen)\s*\(([^)\]]*)"
)
QUOTED_TEXT = re.compile(r"""'([^']*)'|"([^"]*)\"""")
PART = re.compile(r"""[^\s'"`=:;,|&(){}<>!$@\[\]\\]+""")  #: what may be a program in an argument, as in `--pre=PROGRAM`
JOINED = re.compile(r"-\w|[\d,$]*e")  #: an option's letter, or sed's `e`, right before a program


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


@dataclass(slots=True)
class CommandLine:
    """What is in a line of shell, and in the texts in it that may be shell."""

    commands: list[Command] = field(default_factory=list)
    carriers: list[Command] = field(default_factory=list)  #: parts of what a program is given that may run any of them
    words: set[ShellWord] = field(default_factory=set)  #: all that may be a path
    texts: set[str] = field(default_factory=set)  #: with paths in them, perhaps: code of other languages, for example
    folders: set[ShellWord] = field(default_factory=set)  #: where `cd` goes


def read_command_line(line: str) -> CommandLine:
    """Return what is in a line. Raises UnparsableCommandError if it cannot be read completely."""
    found = CommandLine()
    _read(line, 0, found)
    return found


def match_commands(pattern: Sequence[PatternWord], line: CommandLine) -> RuleMatch:
    """Return whether any command matches a pattern: its name, then its words in order, with any words between them."""
    wanted = [tuple(piece.casefold() for piece in word) for word in pattern]
    while len(wanted) > 1 and wanted[-1] == ("", ""):
        wanted.pop()  # other words are allowed anyway
    plain = [_match_command(wanted, command) for command in line.commands]
    return max([*plain, *(_match_carrier(wanted, parts) for parts in line.carriers)], default=RuleMatch.NO)


def _read(line: str, depth: int, found: CommandLine, *, is_shell: bool = True, is_run: bool = False) -> None:
    """Add what is in a text: if it may not be shell, also commands that can only be guessed.

    `is_run`: a shell runs it.
    """
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
        parsed.words = {UNKNOWN}
    if is_shell or is_run:
        found.words |= parsed.words
    if not is_shell:
        found.texts.add(line)
        for arguments in CALL.findall(line):
            _read(
                " ".join(map("".join, QUOTED_TEXT.findall(arguments))), depth + 1, found, is_shell=False, is_run=is_run
            )
    found.folders |= parsed.folders
    is_read = any(reads_commands(_texts(command)) for command in parsed.commands)  # what the others print
    for text in parsed.texts:
        _read(text.text, text.depth, found, is_shell=text.is_shell and is_shell, is_run=is_run or is_read)
    for command in parsed.commands:
        _add_command(command, depth, found, is_read=is_read)


def _add_command(command: Command, depth: int, found: CommandLine, *, is_read: bool) -> None:
    found.commands.append(command)
    if module := python_module(_texts(command)):  # `python -m pip` is pip, whose words are the last ones
        named, *words = command[-len(module) :]
        found.commands.append([ShellWord(module[0].partition(".")[0], named.is_known), *words])
    name = _program_name(command[0])
    is_run = any(_program_name(word) in SHELLS | {"eval"} for word in command)
    is_carrier = is_read or name in {*KEYWORDS, ASSIGNMENT.text} or may_run_others(_texts(command))
    if is_carrier:
        found.carriers.append([part for word in command[1:] for part in _parts(word)])
    for word in command[1:]:
        texts = {word.text, word.text.partition("=")[2].lstrip("!")} if is_carrier else {word.text}
        for text in texts:
            if (SHELL_SIGNS if is_carrier else IN_INDEX).search(text):
                _read(text, depth + 1, found, is_shell=False, is_run=is_run)


def _texts(command: Command) -> list[str]:
    return [_program_name(command[0]), *(word.text for word in command[1:])]


def _parts(word: ShellWord) -> Iterator[ShellWord]:
    """Yield a word of a program that runs others, and each part of it that may be a program."""
    yield word
    for part in PART.findall(word.text):
        for text in {part, JOINED.sub("", part, count=1) if JOINED.match(part) else part} - {word.text}:
            yield ShellWord(text, is_known=True)


def _program_name(word: ShellWord) -> str:
    return word.text.rpartition("/")[2].casefold()


def _is_program(pattern: PatternWord, word: ShellWord) -> bool:
    """Return whether a pattern is about a program, by its name with or without a version (`pip3` is `pip`)."""
    name = _program_name(word)
    return any(matches_text(pattern, each) for each in {name, without_version(name)})


def _match_command(pattern: Sequence[PatternWord], command: Command) -> RuleMatch:
    name, *words = command
    if not name.is_known:
        return RuleMatch.MAYBE
    if not _is_program(pattern[0], name):
        return RuleMatch.NO
    return _match_words(pattern[1:], words)


def _match_carrier(pattern: Sequence[PatternWord], parts: Command) -> RuleMatch:
    """Return whether any of the parts can be the program of a pattern, and those after it its words."""
    for at, part in enumerate(parts):
        if part.is_known and _is_program(pattern[0], part):
            if _match_words(pattern[1:], parts[at + 1 :]) is RuleMatch.YES:
                return RuleMatch.YES
            break  # later ones have fewer words after them
    return RuleMatch.NO if all(part.is_known for part in parts) else RuleMatch.MAYBE


def _match_words(pattern: Sequence[PatternWord], words: Command) -> RuleMatch:
    wanted = list(pattern)
    for word in words:
        if wanted and word.is_known and matches_text(wanted[0], word.text.casefold()):
            del wanted[0]
    if wanted:
        return RuleMatch.NO if all(word.is_known for word in words) else RuleMatch.MAYBE
    return RuleMatch.YES

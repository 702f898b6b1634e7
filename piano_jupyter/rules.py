"""Rules: which tool calls the user allows, wants to be asked about, or denies; their syntax and what they match.

`allow bash(git status)`, `ask edit_file`, `deny create_file(secrets/*)`: a verdict, a tool, and optionally a pattern in
which `*` stands for any text. `allow github.search` is about a tool of an MCP server, `ask github.*` about all of its
tools. For a shell, a rule can only allow one plain command: words and quoted words, without
anything that a shell would expand, redirect or split.
"""

import os
import re
from dataclasses import dataclass

from piano_jupyter.errors import PianoError
from piano_jupyter.text.unicode_forms import comparable
from piano_jupyter.tool import Verdict

RULE_SYNTAX = re.compile(
    r"(allow|ask|deny)\s+([A-Za-z0-9_-]{1,64}(?:\.(?:\*|[A-Za-z0-9_.-]{1,128}))?)(?:\((.*)\))?", re.DOTALL
)
EVERY_TOOL = ".*"  #: after the name of an MCP server
EXAMPLES = "write it as 'allow bash(git status)', 'ask edit_file' or 'deny create_file(secrets/*)'"
SHELL_TOOL = "bash"  #: the tool whose patterns are commands
READING_TOOL = "read_file"  #: the tool whose denied paths commands must not name either

PLAIN_CHARS = r"A-Za-z0-9_@%+=:,./-"
PLAIN_LINE = re.compile(rf"""(?:[* \t{PLAIN_CHARS}]|'[^']*'|"[^"$`\\!]*")*""")
WORD = re.compile(r"""(?:'[^']*'|"[^"]*"|[^ \t'"])+""")
PIECE = re.compile(rf"""([{PLAIN_CHARS}]+)|'([^']*)'|"([^"]*)"|(\*)""")
RESERVED_WORDS = frozenset(
    {"case", "coproc", "do", "done", "elif", "else", "esac", "fi", "for", "function", "if", "in", "select", "then"}
    | {"time", "until", "while"}
)

#: A word of a pattern, as the texts between its stars.
PatternWord = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """What the user has decided about a tool's calls."""

    text: str
    verdict: Verdict
    tool: str
    pattern: str | None  #: what the call's subject must match; None matches every call

    def names(self, tool: str) -> bool:
        """Return whether it is about this tool."""
        server = self.tool.removesuffix(EVERY_TOOL)
        return tool.startswith(f"{server}.") if server != self.tool else tool == self.tool


def parse_rule(text: str) -> Rule:
    """Parse the text of a rule. Raises PianoError for an invalid rule."""
    found = RULE_SYNTAX.fullmatch(text.strip())
    if found is None:
        raise PianoError(f"{text!r} is not a valid rule; {EXAMPLES}")
    verdict, tool, pattern = Verdict(found[1]), found[2], found[3]
    if pattern is not None and not pattern.strip():
        raise PianoError(f"the rule {text!r} has empty parentheses; leave them out to match every call")
    if tool == SHELL_TOOL and pattern is not None and verdict is Verdict.ALLOW and pattern_words(pattern) is None:
        raise PianoError(
            f"the rule {text!r} can never match: it can only allow one plain command, without ; & | < > $ ` or "
            f"similar characters; * stands for any text"
        )
    return Rule(text.strip(), verdict, tool, pattern.strip() if pattern is not None else None)


def plain_command_words(text: str) -> list[str] | None:
    """Return the words of a command line that is one plain command, None if it is anything else."""
    words = pattern_words(text)
    if words is None or any(len(word) > 1 for word in words):
        return None
    return [text for (text,) in words]


def pattern_words(text: str) -> list[PatternWord] | None:
    """Return the words of a command pattern, each as the texts between its stars, None if it is not plain.

    A star in quotes is a literal star.
    """
    if not text.replace("\t", " ").isprintable() or PLAIN_LINE.fullmatch(text) is None:
        return None
    words = [_parse_word(found[0]) for found in WORD.finditer(text)]
    if (
        not words
        or "=" in words[0][0]
        or words[0][0].startswith("%")
        or words[0] in {(each,) for each in RESERVED_WORDS}
    ):
        return None  # an assignment, a job, or the start of a compound command
    return words


def matches_words(pattern: list[PatternWord], words: list[str]) -> bool:
    """Return whether a plain command matches a pattern word by word; a star alone at the end matches the rest."""
    if pattern[-1:] == [("", "")]:
        pattern, words = pattern[:-1], words[: len(pattern) - 1]
    return len(pattern) == len(words) and all(
        matches_text(each, word) for each, word in zip(pattern, words, strict=True)
    )


def matches_text(pattern: PatternWord, text: str) -> bool:
    """Return whether a text consists of the pieces of a pattern with any text between them."""
    if len(pattern) == 1:
        return text == pattern[0]
    start, *middle_pieces, end = map(re.escape, pattern)
    middle = "".join(f"(?>.*?{piece})" for piece in middle_pieces)  # the first match leaves the most for the others
    return re.fullmatch(f"{start}{middle}.*{end}", text, re.DOTALL) is not None


def path_patterns(pattern: str, workspace: str) -> list[str]:
    """Return a pattern of paths and, if it leads through a link, where that leads in the workspace; comparable."""
    home, (fixed, star, rest) = os.path.realpath(workspace), pattern.partition("*")
    folder, slash, start = fixed.rpartition("/") if star else (fixed, "", "")
    found = [pattern]
    real = os.path.realpath(os.path.join(home, folder))  # noqa: PTH118  Path would raise for some texts.
    if folder and real.startswith(f"{home}/"):
        found.append(f"{os.path.relpath(real, home)}{slash}{start}{star}{rest}")
    return list(dict.fromkeys(map(comparable, found)))


def _parse_word(source: str) -> PatternWord:
    pieces = [""]
    for plain, single, double, star in PIECE.findall(source):
        if star:
            pieces.append("")
        else:
            pieces[-1] += plain or single or double
    return tuple(pieces)

"""Rules: which tool calls the user allows, wants to be asked about, or forbids; how they are written, what they fit.

`allow bash(git status)`, `ask edit_file`, `deny create_file(secrets/*)`: a verdict, a tool, and perhaps a pattern in
which `*` stands for any text. What may be allowed of a shell is one plain command: words and quoted words, with nothing
in them that a shell would expand, redirect or split. What is not plain is never allowed by a rule.
"""

import re
from dataclasses import dataclass

from piano_jupyter.errors import PianoError
from piano_jupyter.tool import Verdict

RULE = re.compile(r"(allow|ask|deny)\s+([A-Za-z0-9_-]{1,64})(?:\((.*)\))?", re.DOTALL)
HOW = "write it as 'allow bash(git status)', 'ask edit_file' or 'deny create_file(secrets/*)'"
SHELL = "bash"  #: the tool whose patterns are commands

PLAIN = r"A-Za-z0-9_@%+=:,./-"
LINE = re.compile(rf"""(?:[* \t{PLAIN}]|'[^']*'|"[^"$`\\!]*")*+""")
WORD = re.compile(r"""(?:'[^']*'|"[^"]*"|[^ \t'"])+""")
PIECE = re.compile(rf"""([{PLAIN}]+)|'([^']*)'|"([^"]*)"|(\*)""")
RESERVED = frozenset(
    {"case", "coproc", "do", "done", "elif", "else", "esac", "fi", "for", "function", "if", "in", "select", "then"}
    | {"time", "until", "while"}
)

#: A word of a pattern: the texts between its stars.
PatternWord = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """What the user has said of a tool's calls."""

    text: str
    verdict: Verdict
    tool: str
    pattern: str | None  #: what the call's subject is like; None: every call


def parsed_rule(text: str) -> Rule:
    """Return a rule from its text. Raises PianoError, a sentence, for one that makes no sense."""
    found = RULE.fullmatch(text.strip())
    if found is None:
        raise PianoError(f"{text!r} is no rule; {HOW}")
    verdict, tool, pattern = Verdict(found[1]), found[2], found[3]
    if pattern is not None and not pattern.strip():
        raise PianoError(f"the rule {text!r} has nothing in its parentheses; leave them out to mean every call")
    if tool == SHELL and pattern is not None and verdict is Verdict.ALLOW and pattern_words(pattern) is None:
        raise PianoError(
            f"the rule {text!r} can never fit: what it allows must be one plain command, without ; & | < > $ ` or "
            f"the like; * stands for any text"
        )
    return Rule(text.strip(), verdict, tool, pattern.strip() if pattern is not None else None)


def plain_command(text: str) -> list[str] | None:
    """Return the words of a command line that is one plain command; None where it is anything more, or unreadable."""
    words = pattern_words(text)
    if words is None or any(len(word) > 1 for word in words):
        return None
    return [text for (text,) in words]


def pattern_words(text: str) -> list[PatternWord] | None:
    """Return the words of a pattern of commands, each as the texts between its stars; None where they are not plain.

    A star in quotes is a star.
    """
    if not text.replace("\t", " ").isprintable() or LINE.fullmatch(text) is None:
        return None
    words = [_word(found[0]) for found in WORD.finditer(text)]
    if not words or "=" in words[0][0] or words[0][0].startswith("%") or words[0] in {(each,) for each in RESERVED}:
        return None  # an assignment, a job, or the beginning of something longer
    return words


def fits_words(pattern: list[PatternWord], words: list[str]) -> bool:
    """Return whether a plain command fits a pattern word by word; a star that stands alone at the end fits the rest."""
    if pattern[-1:] == [("", "")]:
        pattern, words = pattern[:-1], words[: len(pattern) - 1]
    return len(pattern) == len(words) and all(fits_text(each, word) for each, word in zip(pattern, words, strict=True))


def fits_text(pattern: PatternWord, text: str) -> bool:
    """Return whether a text is the pieces of a pattern with anything between them."""
    if len(pattern) == 1:
        return text == pattern[0]
    first, *between, last = map(re.escape, pattern)
    middle = "".join(f"(?>.*?{piece})" for piece in between)  # the first place that fits leaves the most to the others
    return re.fullmatch(f"{first}{middle}.*{last}", text, re.DOTALL) is not None


def _word(written: str) -> PatternWord:
    pieces = [""]
    for plain, single, double, star in PIECE.findall(written):
        if star:
            pieces.append("")
        else:
            pieces[-1] += plain or single or double
    return tuple(pieces)

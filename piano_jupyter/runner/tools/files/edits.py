"""Edits of a text: where the old text stands in it, once, and what becomes of it. Pure.

A match is exact, or it differs only in white space: blanks within and at the ends of lines, and an indentation that is
other throughout. Anything looser is refused, with the place that comes nearest: a wrong edit costs more than a retry.
"""

import difflib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypedDict

from piano_jupyter.errors import ToolError
from piano_jupyter.runner.tools.files.workspace import refused
from piano_jupyter.text.truncation import truncated

LINE_END = re.compile(r"\r\n|\r(?!\n)|(?<!\r)\n")
LINE = re.compile(r"(?!\Z)([^\r\n]*)(?:\r\n|\r|\n|\Z)")  #: with its end
NUMBERED = re.compile(r"\s*\d+\t")
MANY = 20  #: matches to tell of
LONGEST = 160  #: characters of a line that is quoted


class Replacement(TypedDict):
    """One piece of text to replace, as a model gives it."""

    old_text: str
    new_text: str


@dataclass(frozen=True, slots=True)
class EditResult:
    """An edited text, and what happened to it."""

    text: str
    lines: tuple[int, ...]  #: where each edit was made, from 1, in the text as it was then
    loose: tuple[int, ...]  #: those of them where the match differed in white space


@dataclass(frozen=True, slots=True)
class _Line:
    start: int
    text: str
    end: int  #: after its end mark

    @property
    def words(self) -> str:
        return " ".join(self.text.split())

    @property
    def indent(self) -> str:
        return self.text[: len(self.text) - len(self.text.lstrip())]


@dataclass(frozen=True, slots=True)
class _Match:
    start: int
    end: int
    indents: Mapping[str, str] = field(default_factory=dict)  #: the old text's indentations -> the text's


def edited(text: str, edits: Sequence[Replacement]) -> EditResult:
    """Return the text after all edits, each made in the result of the one before; it keeps its own line ends.

    Raises ToolError where one of them cannot be made: what to do now.
    """
    if not edits:
        raise refused("empty", "edits is empty; give at least one old_text with its new_text")
    lines: list[int] = []
    loose: list[int] = []
    for number, edit in enumerate(edits, start=1):
        try:
            text, line, exact = _replaced(text, edit["old_text"], edit["new_text"])
        except ToolError as error:
            code, _, sentence = str(error).partition(": ")
            which = f"edit {number} of {len(edits)}, so none was made: " if len(edits) > 1 else ""
            raise refused(code, which + sentence) from None
        lines.append(line)
        loose += [] if exact else [line]
    return EditResult(text, tuple(lines), tuple(loose))


def _replaced(text: str, old: str, new: str) -> tuple[str, int, bool]:
    """Return the text with `old` replaced by `new`, the line of it, and whether it was there exactly."""
    old, new = (LINE_END.sub("\n", each) for each in (old, new))
    if not old:
        raise refused("empty", "old_text is empty; give the text to replace, or use create_file for a new file")
    if old == new:
        raise refused("same", "old_text and new_text are equal; there is nothing to change")
    exact = _exact(text, old)
    matches = exact or _loose(_lines(text), _lines(old))
    if len(matches) > 1:
        where = ", ".join(str(_number(text, match.start)) for match in matches[:MANY]) + ", ..." * (len(matches) > MANY)
        raise refused("not_unique", f"old_text is there more than once, at lines {where}; add lines around it")
    if not matches:
        raise refused("not_found", _nearest(_lines(text), _lines(old)))
    (match,) = matches
    if not exact:
        new = "\n".join(_indented(line, match.indents) for line in new.split("\n"))
    mark = LINE_END.search(text, match.start, match.end) or LINE_END.search(text)
    new = new.replace("\n", mark.group() if mark else "\n")
    return text[: match.start] + new + text[match.end :], _number(text, match.start), bool(exact)


def _exact(text: str, old: str) -> list[_Match]:
    """Return where the old text stands, whatever the line ends are; overlaps count."""
    pattern = f"(?:{LINE_END.pattern})".join(re.escape(line) for line in old.split("\n"))
    return [_Match(*found.span(1)) for found in islice(re.finditer(f"(?=({pattern}))", text), MANY + 1)]


def _loose(lines: Sequence[_Line], old: Sequence[_Line]) -> list[_Match]:
    """Return where whole lines differ from the old text only in white space."""
    wanted = [line.words for line in old]
    words = [line.words for line in lines]
    matches: list[_Match] = []
    for at in range(len(lines) - len(old) + 1 if any(wanted) else 0):
        if words[at] == wanted[0] and words[at : at + len(old)] == wanted:
            indents: dict[str, str] = {}
            pairs = [pair for pair in zip(lines[at : at + len(old)], old, strict=True) if pair[1].words]
            if all(indents.setdefault(given.indent, real.indent) == real.indent for real, given in pairs):
                last, marked = lines[at + len(old) - 1], old[-1].end > old[-1].start + len(old[-1].text)
                matches.append(_Match(lines[at].start, last.end if marked else last.start + len(last.text), indents))
    return matches


def _indented(line: str, indents: Mapping[str, str]) -> str:
    """Return a new line with the indentation that the text has where the old text had this one."""
    rest = line.lstrip()
    if not rest:
        return line
    indent = line[: len(line) - len(rest)]
    if indent in indents:
        return indents[indent] + rest
    given, real = next(iter(indents.items()))
    added, removed = real.removesuffix(given), given.removesuffix(real)
    if all(added + each == there for each, there in indents.items()):
        return added + line
    if indent.startswith(removed) and all(each == removed + there for each, there in indents.items()):
        return line.removeprefix(removed)
    raise refused(
        "bad_indent", "the file is indented otherwise than old_text and new_text; read the lines, then copy them"
    )


def _nearest(lines: Sequence[_Line], old: Sequence[_Line]) -> str:
    """Return where the text comes nearest to the old one, and the first line that differs."""
    if all(NUMBERED.match(line.text) for line in old if line.words):
        return "old_text has line numbers at its start; give the text without them"
    places: dict[str, list[int]] = {}
    for at, line in enumerate(old):
        if line.words and len(places.setdefault(line.words, [])) < MANY:
            places[line.words].append(at)
    votes: Counter[int] = Counter()
    for at, line in enumerate(lines):
        for place in places.get(line.words, ()):
            votes[at - place] += len(line.words)
    if not votes and places:
        longest = max(places, key=len)
        alike = difflib.get_close_matches(longest[:400], [line.words[:400] for line in lines[:5000]], n=1, cutoff=0.5)
        votes.update(at - places[longest][0] for at, line in enumerate(lines[:5000]) if line.words[:400] in alike)
    if not votes:
        return "old_text is not in the file, nor is anything like it; read the file first"
    at = max(votes, key=lambda each: (votes[each], -each))
    pairs = enumerate((lines[at + place].text if 0 <= at + place < len(lines) else None) for place in range(len(old)))
    place, real = next(((place, real) for place, real in pairs if real != old[place].text), (0, old[0].text))
    there = "the file has no such line" if real is None else f"the file has {truncated(real, LONGEST)!r}"
    region = f"lines {max(at, 0) + 1}-{min(at + len(old), len(lines))}"
    wanted = truncated(old[place].text, LONGEST)
    return f"nearest are {region}; at line {at + place + 1} {there}, old_text has {wanted!r}"


def _lines(text: str) -> list[_Line]:
    return [_Line(found.start(), found[1], found.end()) for found in LINE.finditer(text)]


def _number(text: str, position: int) -> int:
    return sum(1 for _ in LINE_END.finditer(text, 0, position)) + 1

"""Edits a text: finds the one place of the old text and replaces it. Pure.

A match is exact, or it differs only in white space: blanks within and at the ends of lines, and an indentation that
differs in the same way on all lines. Anything looser is an error that names the most similar place: a wrong edit costs
more than a retry.
"""

import difflib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypedDict

from piano_jupyter.errors import ToolError
from piano_jupyter.runner.tools.files.workspace import tool_error
from piano_jupyter.text.truncation import truncated

LINE_END = re.compile(r"\r\n|\r(?!\n)|(?<!\r)\n")
LINE = re.compile(r"(?!\Z)([^\r\n]*)(?:\r\n|\r|\n|\Z)")  #: with its line end
NUMBERED = re.compile(r"\s*\d+\t")
MAX_MATCHES = 20  #: how many places an error lists
MAX_QUOTED_CHARS = 160  #: of a line quoted in an error


class Replacement(TypedDict):
    """One piece of text to replace, as a model gives it."""

    old_text: str
    new_text: str


@dataclass(frozen=True, slots=True)
class EditResult:
    """An edited text, and what happened to it."""

    text: str
    lines: tuple[int, ...]  #: the line of each edit, from 1, in the text at that time
    whitespace_lines: tuple[int, ...]  #: those of them where the match differed in white space


@dataclass(frozen=True, slots=True)
class _Line:
    start: int
    text: str
    end: int  #: after its line end

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
    indents: Mapping[str, str] = field(default_factory=dict)  #: indentation in the old text -> indentation in the file


def apply_edits(text: str, edits: Sequence[Replacement]) -> EditResult:
    """Return the text after all edits, each made in the result of the one before; line ends stay as they are.

    Raises ToolError, which says what to do, if one of them cannot be made.
    """
    if not edits:
        raise tool_error("empty", "edits is empty; give at least one old_text with its new_text")
    lines: list[int] = []
    whitespace_lines: list[int] = []
    for number, edit in enumerate(edits, start=1):
        try:
            text, line, exact = _apply_edit(text, edit["old_text"], edit["new_text"])
        except ToolError as error:
            code, _, message = str(error).partition(": ")
            which = f"edit {number} of {len(edits)} failed, so none was made: " if len(edits) > 1 else ""
            raise tool_error(code, which + message) from None
        lines.append(line)
        whitespace_lines += [] if exact else [line]
    return EditResult(text, tuple(lines), tuple(whitespace_lines))


def _apply_edit(text: str, old: str, new: str) -> tuple[str, int, bool]:
    """Return the text with `old` replaced by `new`, the line of the edit, and whether the match was exact."""
    old, new = (LINE_END.sub("\n", each) for each in (old, new))
    if not old:
        raise tool_error("empty", "old_text is empty; give the text to replace, or use create_file for a new file")
    if old == new:
        raise tool_error("same", "old_text and new_text are the same; there is nothing to change")
    exact = _exact_matches(text, old)
    matches = exact or _whitespace_matches(_split_lines(text), _split_lines(old))
    if len(matches) > 1:
        numbers = [str(_line_number(text, match.start)) for match in matches[:MAX_MATCHES]]
        where = ", ".join([*numbers, "..."] if len(matches) > MAX_MATCHES else numbers)
        raise tool_error("not_unique", f"old_text occurs more than once, at lines {where}; include more lines")
    if not matches:
        raise tool_error("not_found", _nearest_place(_split_lines(text), _split_lines(old)))
    (match,) = matches
    if not exact:
        new = "\n".join(_reindented(line, match.indents) for line in new.split("\n"))
    line_end = LINE_END.search(text, match.start, match.end) or LINE_END.search(text)
    new = new.replace("\n", line_end.group() if line_end else "\n")
    return text[: match.start] + new + text[match.end :], _line_number(text, match.start), bool(exact)


def _exact_matches(text: str, old: str) -> list[_Match]:
    """Return where the old text occurs, with any line ends, including overlapping matches."""
    pattern = f"(?:{LINE_END.pattern})".join(re.escape(line) for line in old.split("\n"))
    return [_Match(*found.span(1)) for found in islice(re.finditer(f"(?=({pattern}))", text), MAX_MATCHES + 1)]


def _whitespace_matches(lines: Sequence[_Line], old: Sequence[_Line]) -> list[_Match]:
    """Return where whole lines match the old text except for white space."""
    wanted = [line.words for line in old]
    words = [line.words for line in lines]
    matches: list[_Match] = []
    for at in range(len(lines) - len(old) + 1 if any(wanted) else 0):
        if words[at] == wanted[0] and words[at : at + len(old)] == wanted:
            indents: dict[str, str] = {}
            pairs = [pair for pair in zip(lines[at : at + len(old)], old, strict=True) if pair[1].words]
            if all(indents.setdefault(given.indent, real.indent) == real.indent for real, given in pairs):
                last, has_line_end = lines[at + len(old) - 1], old[-1].end > old[-1].start + len(old[-1].text)
                matches.append(
                    _Match(lines[at].start, last.end if has_line_end else last.start + len(last.text), indents)
                )
    return matches


def _reindented(line: str, indents: Mapping[str, str]) -> str:
    """Return a new line with the file's indentation in place of the old text's."""
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
    raise tool_error(
        "bad_indent", "the file is indented differently from old_text and new_text; read the lines, then copy them"
    )


def _nearest_place(lines: Sequence[_Line], old: Sequence[_Line]) -> str:
    """Describe the place most similar to the old text, and the first line that differs."""
    if all(NUMBERED.match(line.text) for line in old if line.words):
        return "old_text starts with line numbers; give the text without them"
    places: dict[str, list[int]] = {}
    for at, line in enumerate(old):
        if line.words and len(places.setdefault(line.words, [])) < MAX_MATCHES:
            places[line.words].append(at)
    votes: Counter[int] = Counter()
    for at, line in enumerate(lines):
        for place in places.get(line.words, ()):
            votes[at - place] += len(line.words)
    if not votes and places:
        longest = max(places, key=len)
        similar = difflib.get_close_matches(longest[:400], [line.words[:400] for line in lines[:5000]], n=1, cutoff=0.5)
        votes.update(at - places[longest][0] for at, line in enumerate(lines[:5000]) if line.words[:400] in similar)
    if not votes:
        return "neither old_text nor anything similar is in the file; read the file first"
    at = max(votes, key=lambda each: (votes[each], -each))
    pairs = enumerate((lines[at + place].text if 0 <= at + place < len(lines) else None) for place in range(len(old)))
    place, real = next(((place, real) for place, real in pairs if real != old[place].text), (0, old[0].text))
    file_line = "the file has no such line" if real is None else f"the file has {truncated(real, MAX_QUOTED_CHARS)!r}"
    region = f"lines {max(at, 0) + 1}-{min(at + len(old), len(lines))}"
    wanted = truncated(old[place].text, MAX_QUOTED_CHARS)
    return f"most similar: {region}; at line {at + place + 1} {file_line}, old_text has {wanted!r}"


def _split_lines(text: str) -> list[_Line]:
    return [_Line(found.start(), found[1], found.end()) for found in LINE.finditer(text)]


def _line_number(text: str, position: int) -> int:
    return sum(1 for _ in LINE_END.finditer(text, 0, position)) + 1

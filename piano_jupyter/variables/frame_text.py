"""Data frames as text for a model: the columns with their types, and as many rows as a budget allows.

What is left out is said in the last line: rows, columns, and the ends of long cells.
"""

import json
import re
import struct
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from piano_jupyter.text.truncation import truncated
from piano_jupyter.variables.bounded_text import bounded_text
from piano_jupyter.variables.frame_parts import FrameParts

CHARS_PER_TOKEN = 4
FULL_RATIO = 0.9  #: a budget of which less than this is used has room for a part of the next row
NOTE_CHARS = 90  #: what the note on rows that are left out takes at most
NO_ROWS = "\nit has no rows"
ALL_ROWS = "\n[left out: all rows]"
CUT = "…[cut]"
MUST_BE_QUOTED = re.compile(r'[",\\\x00-\x1f\x7f-\x9f\u2028\u2029]|^\s|\s$|^$')
#: types of numbers with fewer digits than Python's, in small letters, and their sign in `struct`
SHORT_FLOATS = {
    **dict.fromkeys(("float16", "halffloat", "halffloat[pyarrow]"), "e"),
    **dict.fromkeys(("float32", "float", "float[pyarrow]"), "f"),
}
MAX_INT = 10**100  #: Python refuses to write much larger ones
ROWS = "rows as CSV, in the order of the columns; a missing value is empty:"


def frame_text(kind: str, parts: FrameParts, max_chars: int) -> str:
    """Return a frame as text of at most `max_chars` characters; where it is larger, at least 90 % of them are used.

    Where not even the columns fit, the text has the first of them and says which ones are left out.
    """
    if not parts.names and parts.rows != 0:
        return f"{kind}, {_size(parts)}"
    head = f"{kind}, {_size(parts)}\ncolumns: "
    columns, leave_room = _columns(parts, max_chars - len(head))
    if not leave_room:
        return head + columns
    text = f"{head}{columns}\n{ROWS}\n"
    room = max_chars - len(text)
    cells = list(_cells(parts, max(room, 0), _max_cell_chars(max_chars)))
    lines = [",".join(row) for row in cells]
    is_whole = len(lines) == parts.rows or (parts.rows is None and not _may_have_more(lines, parts, room))
    if is_whole and sum(map(len, lines)) + len(lines) - 1 <= room:
        return text + "\n".join(lines)
    return text + _rows_within(lines, cells, parts, room, max_chars)


def _size(parts: FrameParts) -> str:
    rows = "rows computed when it is read" if parts.rows is None else _counted(parts.rows, "row")
    if parts.is_series:
        return rows.replace("row", "value", 1)
    return f"{rows} × {_counted(len(parts.names) - parts.index, 'column')}"


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _max_cell_chars(max_chars: int) -> int:
    return max(20, min(200, max_chars // 25))


def _columns(parts: FrameParts, room: int) -> tuple[str, bool]:
    """Return the columns with their types, and whether they leave room for rows; a note says what does not fit."""
    width, longest = len(parts.names), _max_cell_chars(room)
    written: list[str] = []
    used = 0
    for name, kind in zip(parts.names, parts.types, strict=True):
        written.append(f"{_csv(_short(str(name), longest))} ({truncated(str(kind), longest, CUT)})")
        used += len(written[-1]) + len(", ")
        if used > room:
            break
    text = ", ".join(written)
    if len(written) == width and parts.rows != 0 and used + len(ROWS) + NOTE_CHARS <= room:
        return text, True
    ending = NO_ROWS if parts.rows == 0 else ALL_ROWS
    if len(written) == width and len(text) + len(ending) <= room:
        return text + ending, False
    names = [_csv(_short(str(name), longest // 2)) for name in (*islice(parts.names, len(written)), parts.names[-1])]
    while written:
        written.pop()
        first, last = len(written) + 1, width
        which = f"columns {first:,} to {last:,} ({names[first - 1]} to {names[-1]})" if first < last else names[-1]
        note = f"\n[left out: {which}, and all rows]"
        text = ", ".join(written) + note
        if len(text) <= room:
            return text, False
    return truncated(f"[left out: all {width:,} columns, and all rows]", max(room, 0)), False


def _cells(parts: FrameParts, room: int, longest: int) -> Iterator[list[str]]:
    """Return the cells of the first rows as text, until they fill the room."""
    used, formats = 0, [SHORT_FLOATS.get(str(kind).lower(), "") for kind in parts.types]
    for row in zip(*parts.read(room // len(parts.names) + 1), strict=True):
        yield (cells := [_cell(value, longest, short) for value, short in zip(row, formats, strict=True)])
        used += sum(map(len, cells)) + len(cells)
        if used > room + 1:
            return


def _may_have_more(lines: Sequence[str], parts: FrameParts, room: int) -> bool:
    """Return whether a frame whose rows were not counted may have more than these."""
    return len(lines) > room // len(parts.names) or sum(map(len, lines)) + len(lines) - 1 > room


def _rows_within(
    lines: Sequence[str], cells: Sequence[Sequence[str]], parts: FrameParts, room: int, max_chars: int
) -> str:
    """Return the first rows and a note on the others; a part of a row if whole ones would leave much room empty."""
    kept, used = len(lines), sum(map(len, lines)) + len(lines)  # each with its line end
    while kept and (kept == len(lines) or used + len(_note(kept, parts)) > room):
        kept -= 1
        used -= len(lines[kept]) + 1
    text = "".join(f"{line}\n" for line in lines[:kept])
    note = _note(kept, parts)
    if max_chars - room + used + len(note) < FULL_RATIO * max_chars and kept < len(cells):
        text += _part_of_row(cells[kept], kept, room - used - len(note))
    return text + note


def _part_of_row(cells: Sequence[str], number: int, room: int) -> str:
    """Return as many cells of a row as fit, in a line that says so; "" if none do."""
    for count in range(len(cells) - 1, 0, -1):
        line = f"[of row {number:,} only the first {_counted(count, 'cell')}:] {','.join(cells[:count])}\n"
        if len(line) <= room:
            return line
    return ""


def _note(kept: int, parts: FrameParts) -> str:
    """Return what says which rows are left out."""
    if parts.rows is None:
        return f"[left out: the rows after the first {kept:,}; there may be many]"
    which = f"rows {kept:,} to {parts.rows - 1:,}" if kept < parts.rows - 1 else f"row {kept:,}"
    return f"[left out: {which}, which is {parts.rows - kept:,} of {_counted(parts.rows, 'row')}]"


def _cell(value: Any, longest: int, short_float: str) -> str:
    """Return a cell on one line, cut with a mark."""
    if value is None or _is_nan(value):
        return ""
    kind = type(value)
    if kind is float and short_float:
        return _short_number(value, short_float)
    if kind is float or kind is bool or (kind is int and -MAX_INT < value < MAX_INT):
        return _short(repr(value), longest)
    return _csv(_short(value, longest) if kind is str else _text_of(value, longest))


def _short_number(value: float, kind: str) -> str:
    """Return a number of 16 or 32 bits with the digits that it has: 0.1, not 0.10000000149011612."""
    texts = (f"{value:.{digits}g}" for digits in range(3, 10))
    return next(
        (repr(float(text)) for text in texts if _packed(float(text), kind) == _packed(value, kind)), repr(value)
    )


def _packed(value: float, kind: str) -> bytes:
    try:
        return struct.pack(kind, value)
    except OverflowError:  # rounded up to more than the type can have
        return b""


def _text_of(value: Any, longest: int) -> str:
    try:
        return truncated(bounded_text(value, longest), longest, CUT)  # the rest is not written out, so not counted
    except Exception as error:  # noqa: BLE001  An object in a cell may raise anything.
        return f"<a {type(value).__name__}, whose text raised {type(error).__name__}>"


def _is_nan(value: Any) -> bool:
    """Return whether a value is missing: NaN, NaT or NA."""
    if type(value) is float:
        return value != value  # noqa: PLR0124  NaN is not equal to itself.
    return type(value).__name__ in {"NaTType", "NAType"}


def _short(text: str, longest: int) -> str:
    return truncated(text, longest, "…[{left} more]")


def _csv(text: str) -> str:
    """Return a text as one cell of CSV on one line, quoted as JSON quotes where it must be."""
    return json.dumps(text, ensure_ascii=False) if MUST_BE_QUOTED.search(text) else text

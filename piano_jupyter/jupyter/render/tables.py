"""Tables, notes and highlighted text: as HTML for notebooks, as aligned text for terminals and nbval.

Colours come from the theme of the notebook; pages without one get a grey that is legible on white and on black.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from html import escape
from itertools import islice, zip_longest
from typing import Any, Generic, TypeVar

from piano_jupyter.records import Rows
from piano_jupyter.text.invisible import terminal_text
from piano_jupyter.text.truncation import HOW_MUCH, truncated

R = TypeVar("R")

MAX_TEXT_CHARS = 500_000  # of one text
MAX_CELL_CHARS = 300  # of a table's cell
MAX_ROWS = 200  # of a table
NO_MATHJAX = "tex2jax_ignore mathjax_ignore"  # CSS classes: MathJax leaves the text of people and models alone
TABLE_TAG = f'<table class="piano-table {NO_MATHJAX}" style="text-align:left">'
LEFT_ALIGNED = ' style="text-align:left"'
TOP_LEFT_ALIGNED = ' style="text-align:left;vertical-align:top"'
SMALL_GREY = 'style="color:var(--jp-ui-font-color2,#767676);font-size:0.85em"'
HIGHLIGHT = (
    'style="background:none;color:inherit;font-weight:bold;border-bottom:2px solid var(--jp-brand-color1,#1976d2)"'
)


class RecordList(Sequence[R], Generic[R]):
    """A sequence of records with its own display in a cell."""

    def __init__(self, records: Iterable[R]) -> None:
        self._records = list(records)

    def __getitem__(self, index: Any) -> Any:
        return self._records[index]

    def __len__(self) -> int:
        return len(self._records)


class RecordTable(RecordList[R]):
    """Records as a table."""

    def __init__(self, records: Iterable[R], empty: str, **columns: Callable[[R], object]) -> None:
        super().__init__(records)
        self._empty, self._columns = empty, columns

    def __repr__(self) -> str:
        return plain_table(list(self._columns), self._rows()) if self._records else terminal_text(self._empty)

    def _repr_html_(self) -> str:
        if not self._records:
            return f"<p>{escape(self._empty)}</p>"
        return html_table(list(self._columns), self._rows())

    def _rows(self) -> list[list[object]]:
        return [[column(record) for column in self._columns.values()] for record in self._records]


class RecordCard:
    """Names and values, one a line; empty values are left out. A `_` in a name becomes a space."""

    def __init__(self, **rows: str) -> None:
        self._rows = {name.replace("_", " "): value for name, value in rows.items() if value}

    def __repr__(self) -> str:
        width = max(map(len, self._rows), default=0) + 2
        shown = {name: terminal_text(value) for name, value in self._rows.items()}
        indented = {name: value.replace("\n", "\n" + " " * width) for name, value in shown.items()}
        return "\n".join(f"{name:{width}}{value}" for name, value in indented.items())

    def _repr_html_(self) -> str:
        rows = (
            f"<tr><th{TOP_LEFT_ALIGNED}>{escape(name)}</th><td{LEFT_ALIGNED}>{lines_html(value)}</td></tr>"
            for name, value in self._rows.items()
        )
        return f"{TABLE_TAG}<tbody>{''.join(rows)}</tbody></table>"


class Note:
    """A short message of Piano's, shown as plain text."""

    def __init__(self, text: str) -> None:
        self._cell_text = text

    def __repr__(self) -> str:
        return terminal_text(self._cell_text)


class HighlightedText:
    """A text in which the words that a search found are highlighted."""

    def __init__(self, text: str, marks: Iterable[tuple[int, int]]) -> None:
        self._cell_text, self._marks = text, tuple(marks)

    def __str__(self) -> str:
        return "".join(f"*{piece}*" if marked else piece for piece, marked in self._pieces())

    @property
    def html(self) -> str:
        """The text with its highlights."""
        shown = ((escape(piece), marked) for piece, marked in self._pieces())
        return "".join(f"<mark {HIGHLIGHT}>{piece}</mark>" if marked else piece for piece, marked in shown)

    def _pieces(self) -> Iterator[tuple[str, bool]]:
        end = 0
        for first, past in self._marks:
            yield self._cell_text[end:first], False
            yield self._cell_text[first:past], True
            end = past
        yield self._cell_text[end:], False


def plain_table(columns: Sequence[str], rows: Collection[Sequence[object]]) -> str:
    """Return a table as aligned text."""
    cells = [list(columns), *([_cell_text(cell) for cell in row] for row in islice(rows, MAX_ROWS))]
    shown = [[terminal_text(truncated(cell, MAX_CELL_CHARS)).replace("\n", "⏎") for cell in row] for row in cells]
    widths = [max(map(len, column)) for column in zip_longest(*shown, fillvalue="")]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in shown]
    return "\n".join([*lines, *_rows_left_out(len(rows))])


def html_table(columns: Sequence[str], rows: Collection[Sequence[object]]) -> str:
    """Return a table as HTML."""
    head = "".join(f"<th{LEFT_ALIGNED}>{escape(column)}</th>" for column in columns)
    shown = ("".join(f"<td{LEFT_ALIGNED}>{_cell_html(cell)}</td>" for cell in row) for row in islice(rows, MAX_ROWS))
    body = "".join(f"<tr>{row}</tr>" for row in shown)
    more = "".join(f"<div {SMALL_GREY}>{line}</div>" for line in _rows_left_out(len(rows)))
    return f"{TABLE_TAG}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def rows_plain(rows: Rows) -> str:
    """Return the result of a query as text."""
    return plain_table(rows.columns, rows) if rows else "no rows"


def capped(text: str) -> str:
    """Return a text; of a very long one, the start and how many characters follow."""
    return truncated(text, MAX_TEXT_CHARS, HOW_MUCH)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: `1 row`, `2,000 rows`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def lines_html(text: str) -> str:
    """Return plain text as HTML with its line breaks."""
    return escape(text).replace("\n", "<br>")


def _cell_html(cell: object) -> str:
    return cell.html if isinstance(cell, HighlightedText) else lines_html(truncated(_cell_text(cell), MAX_CELL_CHARS))


def _cell_text(cell: object) -> str:
    """Return a cell as text; floats are rounded to 15 digits, so that 0.1 + 0.2 is 0.3."""
    return str(float(f"{cell:.15g}")) if isinstance(cell, float) else str(cell)


def _rows_left_out(total: int) -> list[str]:
    return [f"… and {total - MAX_ROWS:,} more rows"] if total > MAX_ROWS else []

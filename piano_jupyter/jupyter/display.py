"""How records look in a cell: HTML for the page, plain text for terminals, GitHub's diffs and nbval.

What a model wrote is never trusted: it becomes HTML through `markdown.py` only, all else is escaped. Stored output
holds no ids, times, addresses or versioned markup, so that a notebook that is run again compares equal.
"""

from collections.abc import Callable, Iterable, Sequence
from html import escape
from itertools import zip_longest
from typing import Any, Generic, TypeVar

from piano_jupyter.records import Job, Message, Rows, ToolCall, short

R = TypeVar("R")

LONGEST_CELL = 300  # characters of a table's cell
TABLE = '<table class="piano-table" style="text-align:left">'
LEFT = ' style="text-align:left"'
QUIET = 'style="color:var(--jp-ui-font-color2,#666);font-size:0.85em"'


class Listing(Sequence[R], Generic[R]):
    """Records as a table; a sequence of the records themselves."""

    def __init__(self, records: Iterable[R], empty: str, **columns: Callable[[R], object]) -> None:
        self._records, self._empty, self._columns = list(records), empty, columns

    def __getitem__(self, index: Any) -> Any:
        return self._records[index]

    def __len__(self) -> int:
        return len(self._records)

    def __repr__(self) -> str:
        return plain_table(*self._table()) if self._records else self._empty

    def _repr_html_(self) -> str:
        return html_table(*self._table()) if self._records else f"<p>{escape(self._empty)}</p>"

    def _table(self) -> tuple[list[str], list[list[str]]]:
        rows = [[str(column(record)) for column in self._columns.values()] for record in self._records]
        return list(self._columns), rows


class Note:
    """A sentence or a few lines of Piano's own, as text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


class Transcript:
    """A conversation, as it reads."""

    def __init__(
        self, title: str, messages: Sequence[Message], calls: Sequence[ToolCall], names: dict[Any, str]
    ) -> None:
        self._title, self._messages, self._calls, self._names = title, messages, calls, names

    def __repr__(self) -> str:
        told = [
            f"{speaker(message, self._names)}: {message.content}" + "".join(f"\n  {call_line(call)}" for call in calls)
            for message, calls in self._turns()
        ]
        return "\n\n".join([self._title, *told]) if told else f"{self._title}: nothing said yet"

    def _repr_html_(self) -> str:
        told = "".join(message_html(message, speaker(message, self._names), calls) for message, calls in self._turns())
        return f"<div><strong>{escape(self._title)}</strong>{told or '<p>nothing said yet</p>'}</div>"

    def _turns(self) -> list[tuple[Message, list[ToolCall]]]:
        return [
            (message, [call for call in self._calls if call.message_id == message.id]) for message in self._messages
        ]


def speaker(message: Message, names: dict[Any, str]) -> str:
    """Return who speaks, for people."""
    return (
        names.get(message.agent_id, message.role)
        if message.agent_id
        else {"user": "You"}.get(message.role, message.role)
    )


def answer_bundle(message: Message, name: str, calls: Sequence[ToolCall] = ()) -> dict[str, str]:
    """Return an answer's MIME bundle: safe HTML and the text itself."""
    plain = [*map(call_line, calls), message.content]
    return {"text/html": message_html(message, name, calls), "text/plain": "\n".join(plain)}


def message_html(message: Message, name: str, calls: Sequence[ToolCall] = ()) -> str:
    """Return a message as HTML."""
    from piano_jupyter.jupyter.markdown import render  # noqa: PLC0415  Heavy: only when something is shown.

    body = render(message.content) if message.role == "assistant" else f"<p>{_lines(message.content)}</p>"
    about = " · ".join([escape(name), *map(escape, usage_parts(message))])
    return f"<div>{''.join(map(call_html, calls))}{body if message.content else ''}<div {QUIET}>{about}</div></div>"


def usage_parts(message: Message) -> list[str]:
    """Return what an answer cost, as short phrases: the model, tokens, tokens a second."""
    usage = message.usage
    parts = [str(usage["model"])] if usage.get("model") else []
    if "completion_tokens" in usage:
        parts.append(f"{usage['completion_tokens']:,} tokens")
    if "tokens_per_second" in usage:
        parts.append(f"{usage['tokens_per_second']:g} tokens/s")
    if usage.get("cut"):
        parts.append("cut off: it reached the limit of its length")
    return parts


def call_line(call: ToolCall) -> str:
    """Return a tool call as one line of text."""
    first = (call.result or "").strip().splitlines()
    return f"[{call.name}({arguments_text(call)}) → {call.status}: {_cut(first[0]) if first else 'no output'}]"


def call_html(call: ToolCall) -> str:
    """Return a tool call as a folded line of HTML."""
    head = f"<code>{escape(call.name)}({escape(_cut(arguments_text(call)))})</code> {escape(call.status)}"
    return f"<details><summary>{head}</summary><pre>{escape(call.result or '')}</pre></details>"


def job_line(job: Job) -> str:
    """Return how a job stands, as a sentence."""
    return f"job {short(job.id)} is {job.status}"


def arguments_text(call: ToolCall) -> str:
    """Return a call's arguments as they would be written in Python."""
    return ", ".join(f"{name}={value!r}" for name, value in call.arguments.items())


def plain_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as aligned text."""
    shown = [list(columns), *([_cut(cell).replace("\n", "⏎") for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip_longest(*shown, fillvalue="")]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip() for row in shown
    )


def html_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as HTML."""
    head = "".join(f"<th{LEFT}>{escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td{LEFT}>{_lines(_cut(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"{TABLE}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def rows_plain(rows: Rows) -> str:
    """Return a query's result as text."""
    return plain_table(rows.columns, [[str(cell) for cell in row] for row in rows]) if rows else "no rows"


def rows_html(rows: Rows) -> str:
    """Return a query's result as HTML."""
    return html_table(rows.columns, [[str(cell) for cell in row] for row in rows])


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_CELL else text[: LONGEST_CELL - 1] + "…"


def _lines(text: str) -> str:
    return escape(text).replace("\n", "<br>")

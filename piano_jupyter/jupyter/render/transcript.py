"""Messages and conversations in a cell: HTML for notebooks, plain text for terminals, diffs on GitHub and nbval.

Text from a model is never trusted: only `markdown_html.py` turns it into HTML, everything else is escaped. Stored
output has no ids, times, addresses or versioned markup unless requested, so that a notebook that runs again gives the
same output.
"""

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import groupby
from typing import Any
from uuid import UUID

from IPython.display import display

from piano_jupyter.jupyter.render.attachments import attachments_html, label_lines
from piano_jupyter.jupyter.render.cost import usage_parts
from piano_jupyter.jupyter.render.tables import MAX_CELL_CHARS, NO_MATHJAX, SMALL_GREY, RecordList, capped, lines_html
from piano_jupyter.records import Inserted, Message, ToolCall, short
from piano_jupyter.text.aligned import has_aligned_block, text_blocks
from piano_jupyter.text.invisible import terminal_text
from piano_jupyter.text.markdown import as_markdown, indented
from piano_jupyter.text.truncation import HOW_MUCH, truncated

Names = Mapping[Any, str]  # of agents, by id

BLOCK_STYLE = 'style="margin:0 0 1em"'  # JupyterLab sets no margin around code
MAX_RESULT_CHARS = 100  # of a result of several lines, on one line
LINE_BREAK_SIGN = " ⏎ "
MAX_REASONING_CHARS = 20_000
BRANCH_SIGN = "⇄"
ANSWER = {"piano": "answer"}  # the metadata of an output that is an answer, for the front end
BRANCH_HINT = (
    f"{BRANCH_SIGN} marks where branches part: %piano history --ids names the others, "
    "--at ID shows one, %piano fork ID continues from it"
)


class AnswerGroup(RecordList[Message]):
    """The answers to one question, in the order in which the agents were asked.

    `answers` has the name of the agent, the message and its tool calls; `shown` are the ids of the messages that the
    running cell has displayed already.
    """

    def __init__(self, answers: Sequence[tuple[str, Message, Sequence[ToolCall]]], shown: Container[UUID] = ()) -> None:
        super().__init__(message for _, message, _ in answers)
        self._answers, self._shown = answers, shown

    def __repr__(self) -> str:
        return terminal_text("\n\n".join(f"{name}:\n{_plain(message)}" for name, message, _ in self._answers))

    def _ipython_display_(self) -> None:
        for name, message, calls in self._answers:
            if message.id not in self._shown:
                display(answer_bundle(message, name, calls, headed=True), raw=True, metadata=ANSWER)


@dataclass(eq=False, slots=True)
class Transcript:
    """A conversation, in reading order."""

    title: str
    messages: Sequence[Message]
    calls: Sequence[ToolCall]
    names: Names
    others: Mapping[UUID, Sequence[UUID]] = field(default_factory=dict)  #: the branches at a message, by its id
    ends: Mapping[UUID, Sequence[str]] = field(default_factory=dict)  #: how jobs for a message failed, by its id
    ids: bool = field(default=False, kw_only=True)

    def __repr__(self) -> str:
        if not self.messages:
            return terminal_text(f"{self.title}: nothing said yet")
        turns = map(self._turn_plain, self._turns())
        return terminal_text("\n\n".join([self.title, *turns, *self._branch_hint()]))

    def _repr_html_(self) -> str:
        turns = "".join(f'<div style="margin-bottom:1em">{self._turn_html(turn)}</div>' for turn in self._turns())
        body = turns + _small_lines(self._branch_hint()) if self.messages else "<p>nothing said yet</p>"
        title = f'<div style="margin-bottom:1em"><strong>{escape(self.title)}</strong></div>'
        return f'<div class="{NO_MATHJAX}">{title}{body}</div>'

    def _turns(self) -> Iterator[list[tuple[Message, list[ToolCall]]]]:
        """Yield the messages of one agent in one turn together, other messages alone, each with its tool calls."""
        for _, turn in groupby(
            self.messages, lambda each: each.id if self.ids else (each.job_id or each.id, each.role)
        ):
            yield [(each, [call for call in self.calls if call.message_id == each.id]) for each in turn]

    def _turn_plain(self, turn: Sequence[tuple[Message, Sequence[ToolCall]]]) -> str:
        lines: list[str] = []
        for message, calls in turn:
            lines += [
                _plain(message),
                *(f"  {line}" for line in [*map(call_line, calls), *self._lines_below(message)]),
            ]
        after_name = "\n" if has_aligned_block(lines[0]) else " "  # a name would push a frame's first line to the right
        lines[0] = f"{self._author(turn[0][0])}:{after_name}{lines[0]}".rstrip()
        return "\n".join(filter(None, lines))

    def _turn_html(self, turn: Sequence[tuple[Message, Sequence[ToolCall]]]) -> str:
        parts = [f"<div><strong>{escape(self._author(turn[0][0]))}</strong></div>"]
        for message, calls in turn:
            parts += [body_html(message), *map(call_html, calls), _small_lines(self._lines_below(message))]
        return "".join([*parts, _small_lines([" · ".join(usage_parts(turn[-1][0]))])])

    def _author(self, message: Message) -> str:
        return speaker(message, self.names) + (f" [{short(message.id)}]" if self.ids else "")

    def _lines_below(self, message: Message) -> list[str]:
        return [*self._branch_lines(message), *self.ends.get(message.id, ())]

    def _branch_lines(self, message: Message) -> list[str]:
        """Return a line that says which branch this is, if there are several."""
        branches = list(self.others.get(message.id, ()))
        if not branches:
            return []
        where = f"{BRANCH_SIGN} {branches.index(message.id) + 1} of {len(branches)}"
        others = ", ".join(short(each) for each in branches if each != message.id)
        return [f"{where}; the others are {others}" if self.ids else where]

    def _branch_hint(self) -> list[str]:
        return [BRANCH_HINT] if any(self.others.get(message.id) for message in self.messages) else []


def speaker(message: Message, names: Names) -> str:
    """Return the name to show for the author of a message."""
    if message.agent_id and message.role != "system":
        return names.get(message.agent_id, message.role)
    return {"user": "You", "system": "Note"}.get(message.role, message.role)


def answer_bundle(
    message: Message, name: str, calls: Sequence[ToolCall] = (), *, raw: bool = False, headed: bool = False
) -> dict[str, str]:
    """Return an answer's MIME bundle: safe HTML and the text itself; `raw` is the text alone.

    `headed` puts the name above the answer, if there are several.
    """
    above = [f"{name}:"] if headed else []
    if raw:
        return {"text/plain": terminal_text("\n".join([*above, capped(message.content)]))}
    plain = terminal_text("\n".join([*above, *map(call_line, calls), _plain(message)]))
    return {"text/html": message_html(message, name, calls, headed=headed), "text/plain": plain}


def message_html(message: Message, name: str, calls: Sequence[ToolCall] = (), *, headed: bool = False) -> str:
    """Return a message as HTML, with its author and its cost."""
    if message.role == "system" and not headed:
        return f'<div class="piano-answer {NO_MATHJAX}">{_small_lines([f"{name}: {message.content}"])}</div>'
    above = f"<div><strong>{escape(name)}</strong></div>" if headed else ""
    about = _small_lines([" · ".join([*([] if headed else [name]), *usage_parts(message)])])
    return f'<div class="piano-answer {NO_MATHJAX}">{above}{body_html(message, calls)}{about}</div>'


def body_html(message: Message, calls: Sequence[ToolCall] = ()) -> str:
    """Return the content of a message as HTML: reasoning and tool calls folded, and the text."""
    from piano_jupyter.jupyter.render.markdown_html import render  # noqa: PLC0415  Slow to import.

    body = render(as_markdown(message.content)) if message.role == "assistant" else _parts_html(message.parts)
    content = body if message.content else ""
    attached = attachments_html(message.attachments)
    return f"{reasoning_html(message)}{''.join(map(call_html, calls))}{content}{attached}"


def _parts_html(parts: Sequence[str | Inserted]) -> str:
    """Return a question as HTML; what was inserted is folded behind its label."""
    if all(isinstance(part, str) for part in parts):
        return _text_html(capped("".join(map(str, parts))))
    html = (lines_html(capped(part)) if isinstance(part, str) else _inserted_html(part) for part in parts)
    return f"<div {BLOCK_STYLE}>{''.join(html)}</div>"


def _inserted_html(inserted: Inserted) -> str:
    label = f"<summary><code>{escape(inserted.label)}</code></summary>"
    text = f"<pre {BLOCK_STYLE}>{escape(capped(inserted.text))}</pre>"
    return f'<details style="display:inline-block">{label}{text}</details>'


def _text_html(text: str) -> str:
    """Return plain text as HTML; a printed data frame keeps its columns."""
    if not has_aligned_block(text):
        return f"<p>{lines_html(text)}</p>"
    return "".join(
        f"<pre {BLOCK_STYLE}>{escape(block)}</pre>" if aligned else f"<p>{lines_html(block)}</p>"
        for block, aligned in text_blocks(text)
    )


def _plain(message: Message) -> str:
    data = indented(message.content) if message.role == "assistant" else None
    text = capped(message.shown.rstrip() if data is None else data)
    return "\n".join([text, *label_lines(message.attachments)])


def reasoning_html(message: Message) -> str:
    """Return the reasoning of a model as a folded line of HTML."""
    reasoning = message.reasoning.strip()
    if not reasoning:
        return ""
    shown = escape(truncated(reasoning, MAX_REASONING_CHARS, HOW_MUCH))
    return (
        f'<details {SMALL_GREY}><summary>Reasoning</summary><div style="white-space:pre-wrap">{shown}</div></details>'
    )


def call_line(call: ToolCall) -> str:
    """Return a tool call as one line of text."""
    outcome = call.outcome
    first, *rest = (call.result or "no output").strip().removeprefix(f"{outcome}: ").splitlines() or ["no output"]
    result = truncated(" ".join(first.split()), MAX_CELL_CHARS)
    for line in rest:
        if len(result) + len(line) > MAX_RESULT_CHARS:
            result += f"{LINE_BREAK_SIGN}…"
            break
        result += LINE_BREAK_SIGN + " ".join(line.split())
    return f"[{call.name}({arguments_text(call)}) → {outcome}: {result}]"


def call_html(call: ToolCall) -> str:
    """Return a tool call as a folded line of HTML, with the figures that it has shown below it."""
    head = f"<code>{escape(call.name)}({escape(truncated(arguments_text(call), MAX_CELL_CHARS))})</code> {call.outcome}"
    folded = f"<details><summary>{head}</summary><pre>{escape(call.result or '')}</pre></details>"
    return folded + attachments_html(call.attachments)


def arguments_text(call: ToolCall) -> str:
    """Return the arguments of a call as in Python."""
    return ", ".join(f"{name}={value!r}" for name, value in call.arguments.items())


def _small_lines(lines: Sequence[str]) -> str:
    return "".join(f"<div {SMALL_GREY}>{escape(line)}</div>" for line in lines if line)

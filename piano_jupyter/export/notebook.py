"""A thread as a notebook that runs again: a cell for each question, its answers as the cell's outputs."""

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

from piano_jupyter.attachments.attachment import SUFFIXES, SVG, TABLE, Attachment
from piano_jupyter.export.attached_parts import cleaned_table
from piano_jupyter.export.exchanges import Exchange, ExportedThread, escaped, heading, signature
from piano_jupyter.export.jsonl import one_line
from piano_jupyter.records import Message
from piano_jupyter.text.placeholders import escaped_placeholders

PROMPT = re.compile(r"\s*(?:>>>|\.\.\.|In \[)")
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def to_notebook(transcript: ExportedThread) -> str:
    """Return a thread as the JSON text of a notebook (nbformat 4.5). What a model wrote is plain text in it.

    https://nbformat.readthedocs.io/en/latest/format_description.html
    """
    cells = [_cell("markdown", heading(transcript.thread.title)), _code("%load_ext piano_jupyter", [])]
    for turn in transcript.turns():
        answers = [text for each in turn.answers if (text := _answer_text(each, turn, transcript))]
        if turn.question is None:
            cells += [_cell("raw", text) for text in answers]
            continue
        shown = [
            each for answer in turn.answers for call in transcript.calls_of[answer.id] for each in call.attachments
        ]
        outputs = [*map(_figure, shown), *({"text/plain": _lines(text)} for text in answers)]
        cells += map(_attachment_cell, turn.question.attachments)
        cells.append(_code(_question_source(turn.question.content, transcript.asked(turn)), outputs))
    for number, cell in enumerate(cells):
        content = f"{number} {cell['cell_type']} {''.join(cell['source'])}"
        cell["id"] = hashlib.sha256(content.encode(errors="replace")).hexdigest()[:16]
    notebook = {"cells": cells, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}
    return one_line(json.dumps(notebook, ensure_ascii=False, indent=1, sort_keys=True)) + "\n"


def _question_source(text: str, agents: Sequence[str]) -> str:
    """Return the source of a cell that asks the agents by name, so that mentions in the text stay text."""
    line = " ".join(f"@{name}" for name in agents)
    text = escaped_placeholders(text)
    if any(map(PROMPT.match, text.splitlines())):  # IPython would strip such a prompt from the cell
        return f"get_ipython().run_cell_magic('piano', {line!r}, {text!r})"
    return f"%%piano {line}".rstrip() + f"\n{text}"


def _answer_text(message: Message, turn: Exchange, transcript: ExportedThread) -> str:
    """Return an answer as text, with the name of its agent above where several have answered."""
    lines = [message.content] if message.content.strip() else []
    lines += [f"[{signature(call)}]" for call in transcript.calls_of[message.id]]
    several = len({each.agent_id for each in turn.answers}) > 1 or turn.question is None
    return "\n".join([f"{transcript.speaker(message)}:", *lines] if several and lines else lines)


def _attachment_cell(attachment: Attachment) -> dict[str, Any]:
    """Return what was sent with a question as a cell: an image as an attachment of it, a text as it is."""
    if attachment.is_image and attachment.content is not None:
        name = f"{attachment.sha256[:16]}.{SUFFIXES[attachment.mime]}"
        cell = _cell("markdown", f"![{escaped(attachment.label)}](attachment:{name})")
        return {**cell, "attachments": {name: {attachment.mime: _base64(attachment)}}}
    return _cell("raw", f"{attachment.label}\n{attachment.text}".rstrip())


def _figure(attachment: Attachment) -> dict[str, Any]:
    """Return a figure as the data of an output; an SVG as an image, in which no script runs."""
    data: dict[str, Any] = {"text/plain": f"[{attachment.label}]"}
    if attachment.content is None:
        return data
    if attachment.is_image:
        return {attachment.mime: _base64(attachment), **data}
    if attachment.mime not in {SVG, TABLE}:
        return data
    html = cleaned_table(attachment) if attachment.mime == TABLE else f'<img src="{attachment.data_uri}">'
    return {"text/html": _lines(html), **data}


def _base64(attachment: Attachment) -> str:
    return base64.b64encode(attachment.content or b"").decode("ascii")


def _code(source: str, outputs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    shown = [{"output_type": "display_data", "data": data, "metadata": {}} for data in outputs]
    return {**_cell("code", source), "execution_count": None, "outputs": shown}


def _cell(kind: str, source: str) -> dict[str, Any]:
    return {"cell_type": kind, "metadata": {}, "source": _lines(source)}


def _lines(text: str) -> list[str]:
    """Split a text into lines as notebooks store it, so that diffs are line by line."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)

"""Attachments in exported threads: they come along, come back, and nothing in them acts."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime

import nbformat
import pytest
from making import Make
from pictures import png, png_that_claims

from piano_jupyter.attachments.attachment import Attachment
from piano_jupyter.clock import Clock
from piano_jupyter.errors import PianoError
from piano_jupyter.export import ExportedThread, exported, imported
from piano_jupyter.records import Thread

PLOT = Attachment.of(png(), "image/png", name="plot.png", width=3, height=2)
NOTES = Attachment.of("héllo\n```".encode(), "text/plain", name="notes.txt")
FIGURE = Attachment.of(b"<svg width='3' height='2'><script>run()</script></svg>", "image/svg+xml", width=3, height=2)
TABLE = Attachment.of(b"<table><tbody><tr><td>tea</td></tr></tbody></table>", "text/html")
DATA = base64.b64encode(png()).decode()


@pytest.fixture
def thread():
    make = Make()
    question = make.message("look", attachments=(PLOT, NOTES))
    answer = make.message("a plot", "assistant")
    call = make.call(answer, "run_python", "drawn", attachments=(FIGURE, TABLE, PLOT))
    opened = Thread(id=question.thread_id, title="Plots", inserted_at=datetime(2026, 1, 1, tzinfo=UTC))
    return ExportedThread(opened, [question, answer], [call], {})


def back(text):
    _, messages, calls = imported(text, None, Clock(datetime(2026, 1, 1, tzinfo=UTC)), [])
    return messages, calls


def test_json_lines_bring_them_back_with_their_bytes(thread):
    text = exported("jsonl", thread)
    question, _, result = json.loads(text)["messages"]
    messages, [call] = back(text)

    assert question["content"][:2] == [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{DATA}"}},
    ]
    assert [part["type"] for part in result["content"]] == ["text", "file", "file", "image_url"]
    assert messages[0].content == "look"
    assert call.result == "drawn"
    assert messages[0].attachments == (replace(PLOT, name=""), NOTES)
    assert call.attachments == (FIGURE, TABLE, replace(PLOT, name=""))
    assert [each.content for each in call.attachments] == [FIGURE.content, TABLE.content, PLOT.content]


def test_a_notebook_has_them_as_outputs_and_as_cells_before_the_question(thread):
    notebook = nbformat.reads(exported("notebook", thread), as_version=4)
    _, _, image, text, question = notebook.cells
    svg, table, plot, answer = (output.data for output in question.outputs)
    [attached] = image.attachments.values()

    nbformat.validate(notebook)
    assert attached == {"image/png": DATA}
    assert text.source == "notes.txt, 10 bytes\nhéllo\n```"
    assert svg["text/html"].startswith('<img src="data:image/svg+xml;base64,')
    assert table["text/html"] == TABLE.text
    assert plot == {"image/png": DATA, "text/plain": "[plot.png, 3 × 2]"}
    assert answer["text/plain"].startswith("a plot")


def test_markdown_shows_images_tables_and_texts(thread):
    text = exported("markdown", thread)

    assert f"![plot.png, 3 × 2](data:image/png;base64,{DATA})" in text
    assert "notes.txt, 10 bytes:\n\n````text\nhéllo\n```\n````" in text
    assert "](data:image/svg+xml;base64," in text
    assert TABLE.text in text
    assert "<script" not in text


@pytest.mark.parametrize("form", ["markdown", "notebook"])
def test_m2_what_another_program_has_written_into_the_history_is_exported_without_what_acts(thread, form):
    evil = [
        Attachment.of(b"<table><td onclick=run()><script>run()</script>tea</td></table>", "text/html"),
        Attachment.of(b"<script>run()</script>", "text/html"),
        Attachment.of(b"<script>run()</script>", "application/javascript"),
    ]
    [call] = thread.calls

    text = exported(form, replace(thread, calls=[replace(call, attachments=tuple(evil))]))

    assert "tea" in text
    assert "run()" not in text
    assert "javascript" not in text


@pytest.mark.parametrize(
    ("part", "why"),
    [
        (
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,%%"}},
            "line 1: an attachment is not in base64",
        ),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}, "line 1: .* is no PNG, JPEG"),
        (
            {
                "type": "image_url",
                "image_url": {
                    "url": f"data:image/png;base64,{base64.b64encode(png_that_claims(60_000, 60_000)).decode()}"
                },
            },
            "line 1: .*60,000 × 60,000 pixels",
        ),
    ],
)
def test_m3_an_image_that_cannot_be_kept_is_refused_with_its_line(part, why):
    with pytest.raises(PianoError, match=why):
        back(json.dumps({"role": "user", "content": [{"type": "text", "text": "look"}, part]}))


def test_an_address_of_the_web_is_named_and_never_fetched():
    part = {"type": "image_url", "image_url": {"url": "https://evil.example/x.png"}}

    [message], _ = back(json.dumps({"role": "user", "content": [{"type": "text", "text": "look"}, part]}))

    assert (message.content, message.attachments) == ("look\n[image_url]", ())

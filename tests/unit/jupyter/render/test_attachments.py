"""Attachments in a cell: shown as images and tables, whatever is in them and wherever they come from."""

import base64
from dataclasses import replace

import pytest
from making import Make
from pictures import png, png_that_claims

from piano_jupyter.attachments.attachment import Attachment
from piano_jupyter.jupyter.render.attachments import attachment_html, attachments_html
from piano_jupyter.jupyter.render.transcript import Transcript, answer_bundle

PLOT = Attachment.of(png(), "image/png", name="plot.png", width=3, height=2)
EVIL_SVG = Attachment.of(b"<svg onload='alert(1)'><script>alert(2)</script></svg>", "image/svg+xml", name='"><b>')


def test_a_figure_is_shown_below_the_folded_call_in_a_cell_and_in_a_transcript():
    make = Make()
    question, answer = make.message("plot it", attachments=(PLOT,)), make.message("there", "assistant")
    call = make.call(answer, "run_python", "[shown to the user: image, 3 × 2]", attachments=(PLOT,))
    image = f'<img src="data:image/png;base64,{base64.b64encode(png()).decode()}"'

    cell = answer_bundle(answer, "ada", [call])
    transcript = Transcript("talk", [question, answer], [call], {})

    assert f"</pre></details>{image}" in cell["text/html"]
    assert transcript._repr_html_().count(image) == 2
    assert "You: plot it\n[plot.png, 3 × 2]" in repr(transcript)
    assert "[shown to the user: image, 3 × 2]" in cell["text/plain"]


def test_an_attachment_that_was_not_read_is_a_line_with_its_name():
    html = attachments_html([replace(PLOT, content=None), replace(PLOT, content=None, name="<b>", width=0)])

    assert html.count("<div") == 2
    assert "[plot.png, 3 × 2]" in html
    assert f"[&lt;b&gt;, {len(png())} bytes]" in html


def test_m1_an_svg_is_an_image_in_which_no_script_runs():
    html = attachment_html(EVIL_SVG)

    assert html.startswith('<img src="data:image/svg+xml;base64,')
    assert html.count("<") == 1
    assert 'alt="&quot;&gt;&lt;b&gt;, ' in html


@pytest.mark.parametrize(
    "stored",
    [
        Attachment.of(b"<table onclick=run()><td><script>run()</script></td></table>", "text/html"),
        Attachment.of(b"<script>run()</script>", "text/plain"),
        Attachment.of(b"<script>run()</script>", 'text/html"><script>run()</script>'),
        Attachment.of(b"<script>run()</script>", "image/png"),
        Attachment.of(b"<script>run()</script>", "application/javascript"),
    ],
)
def test_m2_what_another_program_has_written_into_the_history_is_cleaned_once_more(stored):
    assert "<script" not in attachment_html(stored)
    assert "onclick" not in attachment_html(stored)


def test_m3_an_image_bomb_in_the_history_is_a_line():
    html = attachment_html(Attachment.of(png_that_claims(60_000, 60_000), "image/png", name="plot.png"))

    assert "<img" not in html
    assert "60,000 × 60,000 pixels, which is too large" in html

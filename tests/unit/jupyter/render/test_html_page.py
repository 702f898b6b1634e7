"""A conversation as a page: it has everything in it, and nothing in it runs or is fetched."""

import re

from pictures import png

from piano_jupyter.attachments.attachment import Attachment
from piano_jupyter.jupyter.render.html_page import POLICY, html_page
from piano_jupyter.jupyter.render.transcript import Transcript

PLOT = Attachment.of(png(), "image/png", name="plot.png", width=3, height=2)
EVIL_SVG = Attachment.of(b"<svg onload='run()'><script>run()</script></svg>", "image/svg+xml")
EVIL_TABLE = Attachment.of(b"<table><td onclick='run()'>tea<script>run()</script></td></table>", "text/html")
EVIL = "<script>run()</script> ![](https://evil.example/x.png) <img src=x onerror=run()>"


def test_m1_m2_a_page_shows_figures_and_runs_nothing(make):
    question = make.message(EVIL, attachments=(PLOT,))
    answer = make.message(f"**fine** {EVIL}", "assistant")
    call = make.call(answer, "run_python", EVIL, attachments=(EVIL_SVG, EVIL_TABLE))

    page = html_page(Transcript("</title><script>run()</script>", [question, answer], [call], {}))

    body = page.partition("<body>")[2]
    assert "<strong>fine</strong>" in body
    assert body.count('<img src="data:image/') == 2
    assert f'content="{POLICY}"' in page
    assert not re.search(r"<script|<[^>]*\son\w+=|<[^>]*\ssrc=.https?:", page)


def test_half_of_a_character_can_be_written(make):
    page = html_page(Transcript("Talk", [make.message("half \ud800")], [], {}))

    assert page.encode()

"""What code displays becomes an attachment that is safe to show, or nothing."""

import base64
import io

import pytest
from pictures import png, png_that_claims

from piano_jupyter.attachments.displayed import displayed_attachment
from piano_jupyter.attachments.scaling import MAX_FIGURE_BYTES
from piano_jupyter.errors import PianoError

SVG = '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="120pt" height="80.4"><rect/></svg>'
HOSTILE_TABLE = """
<style>body { display: none }</style><div onclick="run()"><script>alert(1)</script>
<table class="jp-Cell" style="position:fixed;top:0" onload="run()"><caption>sales</caption>
<tr><th align="right" colspan="2" id="x" style="background:url(//evil)">item<a href="javascript:run()">go</a></th>
<td rowspan="99999999" colspan="x"><img src=x onerror=run()>tea<iframe src="//evil">inside</iframe>
<svg><script>run()</script></svg></td></tr></table>
<form action="//evil"><input name=key></form></div>
"""


@pytest.mark.parametrize("value", [png(30, 20), base64.b64encode(png(30, 20)).decode()])
def test_a_png_is_kept_with_its_size(value):
    found = displayed_attachment({"text/plain": "<Figure>", "text/html": "<table></table>", "image/png": value})

    assert (found.mime, found.width, found.height, found.content) == ("image/png", 30, 20, png(30, 20))
    assert found.label == "image, 30 × 20"


def test_an_svg_is_kept_as_it_is_with_the_size_that_it_asks_for():
    found = displayed_attachment({"image/svg+xml": SVG})

    assert (found.mime, found.width, found.height, found.text) == ("image/svg+xml", 120, 80, SVG)


@pytest.mark.parametrize(
    ("svg", "why"),
    [
        ('<!DOCTYPE svg [<!ENTITY a "&b;&b;">]><svg>&a;</svg>', "declares entities"),
        ("<svg>" + " " * 1_000_000 + "</svg>", "more than 1,000,000"),
        ("<html><script>alert(1)</script></html>", "called SVG and is none"),
    ],
)
def test_m1_an_svg_that_could_fill_memory_or_is_none_is_refused(svg, why):
    with pytest.raises(PianoError, match=why):
        displayed_attachment({"image/svg+xml": svg})


def test_m2_of_html_only_the_cells_of_tables_stay():
    found = displayed_attachment({"text/html": HOSTILE_TABLE})

    assert found.text.startswith("<table><caption>sales</caption>")
    assert found.text.endswith("</table>")
    assert '<th align="right" colspan="2">itemgo</th>' in found.text
    for gone in ("script", "style", "class", "on", "href", "img", "iframe", "svg", "evil", "99999", "form", "run"):
        assert f"<{gone}" not in found.text
        assert f" {gone}" not in found.text
    assert "alert" not in found.text
    assert "tea" in found.text


def test_html_without_a_table_is_nothing_to_show():
    assert displayed_attachment({"text/html": "<div>hello</div><script>run()</script>"}) is None
    assert displayed_attachment({"text/plain": "7", "application/json": {}}) is None
    assert displayed_attachment({}) is None


def test_m3_a_figure_of_billions_of_pixels_or_too_many_bytes_is_refused():
    with pytest.raises(PianoError, match="60,000 × 60,000 pixels"):
        displayed_attachment({"image/png": png_that_claims(60_000, 60_000)})
    with pytest.raises(PianoError):
        displayed_attachment({"image/png": "no image at all"})
    with pytest.raises(PianoError, match="more than 300,000"):
        displayed_attachment({"text/html": "<table>" + "x" * 300_001})


def test_a_figure_of_many_bytes_is_made_smaller_where_pillow_is():
    noise = pytest.importorskip("PIL.Image").effect_noise((2000, 1500), 90)
    written = io.BytesIO()
    noise.save(written, "png")

    found = displayed_attachment({"image/png": written.getvalue()})

    assert len(written.getvalue()) > MAX_FIGURE_BYTES >= found.size
    assert found.width < 2000
    assert abs(found.width / found.height - 4 / 3) < 0.01

"""What code displays as SVG or HTML, made safe to show.

An SVG is only ever shown as an image (`<img>` with a `data:` address), where no script runs and nothing is fetched. Of
HTML only tables are kept: their cells, without styles, classes, links and all that acts.
"""

import re

import nh3

from piano_jupyter.errors import PianoError
from piano_jupyter.text.words import words

MAX_SVG_CHARS = 1_000_000
MAX_HTML_CHARS = 300_000
TABLE_TAGS = words("b br caption code em i pre small strong sub sup table tbody td tfoot th thead tr")
CELL_ATTRIBUTES = {"align", "colspan", "rowspan"}
MAX_SPAN = 1_000

_TABLES = nh3.Cleaner(
    tags=TABLE_TAGS,
    attributes={"td": CELL_ATTRIBUTES, "th": CELL_ATTRIBUTES},
    attribute_filter=lambda _tag, name, value: _cell_attribute(name, value),
    clean_content_tags=words("script style title noscript template iframe object svg math"),
)


def checked_svg(text: str) -> str:
    """Return an SVG that may be shown as an image. Raises PianoError for one that is too long or declares entities."""
    if len(text) > MAX_SVG_CHARS:
        raise PianoError(f"the SVG has {len(text):,} characters, more than {MAX_SVG_CHARS:,}")
    if "<svg" not in text[:10_000].lower():
        raise PianoError("it is called SVG and is none")
    if "<!entity" in text.lower():  # a few of them can grow to gigabytes
        raise PianoError("the SVG declares entities, which can fill the memory")
    return text


def svg_size(text: str) -> tuple[int, int]:
    """Return the width and height that an SVG asks for; 0 for what it does not say in numbers."""
    head = re.search(r"<svg\b[^>]*>", text[:10_000], re.IGNORECASE)
    found = dict.fromkeys(("width", "height"), 0)
    for name in found if head else ():
        value = re.search(rf"\s{name}=[\"']\s*([0-9]{{1,6}}(?:\.[0-9]+)?)(?:px|pt)?\s*[\"']", head[0] if head else "")
        found[name] = round(float(value[1])) if value else 0
    return found["width"], found["height"]


def safe_tables(html: str) -> str:
    """Return the tables of some HTML, safe to show; "" if it has none. Raises PianoError for one that is too long."""
    if len(html) > MAX_HTML_CHARS:
        raise PianoError(f"the HTML has {len(html):,} characters, more than {MAX_HTML_CHARS:,}")
    cleaned = _TABLES.clean(html)
    starts, ends = cleaned.find("<table"), cleaned.rfind("</table>")
    return cleaned[starts : ends + len("</table>")] if 0 <= starts < ends else ""


def _cell_attribute(name: str, value: str) -> str | None:
    """Return an attribute of a cell as it may stand; None if it may not."""
    if name == "align":
        return value if value in {"left", "right", "center"} else None
    return value if re.fullmatch("[0-9]{1,4}", value) and int(value) <= MAX_SPAN else None

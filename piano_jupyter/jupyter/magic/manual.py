"""The manual: pages of Markdown in piano_jupyter/docs, one topic a file, as `%piano help TOPIC` shows them."""

import re
from pathlib import Path

from piano_jupyter.jupyter.render.tables import LEFT_ALIGNED, NO_MATHJAX, TABLE_TAG
from piano_jupyter.text.invisible import terminal_text

DOCS = Path(__file__).parents[2] / "docs"
LINK = re.compile(r"\[([^\]]+)\]\(([\w-]+)\.md\)")


def topics() -> list[str]:
    """Return the topics of the manual."""
    return sorted(path.stem for path in DOCS.glob("*.md"))


class ManualPage:
    """A page of the manual: rendered in a notebook, as text in a terminal. Links to pages name their command."""

    def __init__(self, topic: str) -> None:
        source = (DOCS / f"{topic}.md").read_text(encoding="utf-8")
        self._text = LINK.sub(r"\1 (`%piano help \2`)", source)

    def __repr__(self) -> str:
        return terminal_text(self._text)

    def _repr_html_(self) -> str:
        from piano_jupyter.jupyter.render.markdown_html import render  # noqa: PLC0415  Heavy: only when it is shown.

        html = render(self._text).replace("<table>", TABLE_TAG).replace("<th>", f"<th{LEFT_ALIGNED}>")
        return f'<div class="{NO_MATHJAX}">{html.replace("<td>", f"<td{LEFT_ALIGNED}>")}</div>'

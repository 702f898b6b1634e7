"""The manual as `%piano help TOPIC` shows it: the Markdown files in piano_jupyter/docs, one topic each."""

import re
from pathlib import Path

from piano_jupyter.jupyter.render.tables import NO_MATHJAX
from piano_jupyter.text.invisible import terminal_text

DOCS = Path(__file__).parents[2] / "docs"
LINK = re.compile(r"\[([^\]]+)\]\(([\w-]+)\.md\)")


def topics() -> list[str]:
    """Return the topics of the manual."""
    return sorted(path.stem for path in DOCS.glob("*.md"))


class ManualPage:
    """A page of the manual: rendered in a notebook, plain in a terminal. Links become `%piano help` commands."""

    def __init__(self, topic: str) -> None:
        source = (DOCS / f"{topic}.md").read_text(encoding="utf-8")
        self._text = LINK.sub(r"\1 (`%piano help \2`)", source)

    def __repr__(self) -> str:
        return terminal_text(self._text)

    def _repr_html_(self) -> str:
        from piano_jupyter.jupyter.render.markdown_html import render  # noqa: PLC0415  Slow to load.

        return f'<div class="{NO_MATHJAX}">{render(self._text)}</div>'

"""Line breaks that are written as `<br>`: in a table, Markdown has no other way to write them."""

import re

from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline

TAG = re.compile(r"<br *\/?>", re.IGNORECASE)


def add_line_breaks(parser: MarkdownIt) -> None:
    """Add the rule for line breaks to a Markdown parser."""
    parser.inline.ruler.before("link", "line_break", _inline)


def _inline(state: StateInline, silent: bool) -> bool:  # noqa: FBT001  The parser calls it so.
    tag = TAG.match(state.src, state.pos)
    if tag is None:
        return False
    if not silent:
        state.push("hardbreak", "br", 0)
    state.pos = tag.end()
    return True

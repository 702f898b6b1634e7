"""Numbered footnotes in Markdown: `[^1]`, and `[^1]: …` at the start of a line.

A reference and its note are shown where they are written, as `[1]`: each block can be rendered before the next is
known, which a streamed answer needs. A name such as `[^a-z]` is no footnote, but often part of a pattern.
"""

import re
from collections.abc import Sequence
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

LABEL = re.compile(r"\[\^(\d{1,4})\](:?)")


def add_footnotes(parser: MarkdownIt) -> None:
    """Add the rule for footnotes to a Markdown parser."""
    parser.inline.ruler.before("link", "footnote", _inline)
    parser.add_render_rule("footnote", _rendered)


def _inline(state: StateInline, silent: bool) -> bool:  # noqa: FBT001  The parser calls it so.
    label = LABEL.match(state.src, state.pos)
    if label is None:
        return False
    line = state.src[state.src.rfind("\n", 0, state.pos) + 1 : state.pos]
    is_note = bool(label[2]) and not line.strip()
    if not silent:
        token = state.push("footnote", "sup", 0)
        token.content = label[1]
        token.meta = {"begins_line": is_note and state.pos > 0}
    state.pos = label.end() if is_note else label.end(1) + 1
    return True


def _rendered(_: Any, tokens: Sequence[Token], i: int, _options: Any, _env: Any) -> str:
    return f"{'<br>' if tokens[i].meta['begins_line'] else ''}<sup>[{tokens[i].content}]</sup>"

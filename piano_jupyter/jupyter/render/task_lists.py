"""Task lists in Markdown: `- [ ]` and `- [x]` become the signs of a box, without anything that can be clicked."""

import re

from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore

BOX = re.compile(r"\[([ xX])\](?=\s)")
SIGNS = {" ": "☐", "x": "☑", "X": "☑"}
NO_BULLET = "list-style:none"  # the box is the bullet
BULLETS = "-*+"


def add_task_lists(parser: MarkdownIt) -> None:
    """Add the rule for task lists to a Markdown parser."""
    parser.core.ruler.after("inline", "task_list", _mark_items)


def _mark_items(state: StateCore) -> None:
    for item, inline in zip(state.tokens, state.tokens[2:], strict=False):
        if item.type != "list_item_open" or inline.type != "inline" or not inline.children:
            continue
        text = inline.children[0]
        if text.type == "text" and (box := BOX.match(inline.content)):
            text.content = SIGNS[box[1]] + text.content[box.end() :]
            if item.markup in BULLETS:
                item.attrs["style"] = NO_BULLET

"""The direction of blocks in scripts that are written from right to left, by the first letter in them."""

import unicodedata

from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore

RIGHT_TO_LEFT = ' dir="rtl"'  #: as an attribute of HTML
CLASSES = {"L": False, "R": True, "AL": True}  # of letters, in Unicode's words


def is_right_to_left(text: str) -> bool:
    """Return whether the first letter of a text belongs to a script that is written from right to left."""
    if text.isascii():
        return False
    classes = map(unicodedata.bidirectional, text)
    return next((CLASSES[each] for each in classes if each in CLASSES), False)


def add_direction(parser: MarkdownIt) -> None:
    """Add the rule for the direction of blocks to a Markdown parser."""
    parser.core.ruler.after("inline", "direction", _mark_blocks)


def _mark_blocks(state: StateCore) -> None:
    block, text = None, ""
    for token in state.tokens:
        if token.level == 0 and token.nesting == 1:
            block, text = token, ""
        elif token.type == "inline":
            text += token.content
        elif token.level == 0 and token.nesting == -1 and block is not None and is_right_to_left(text):
            block.attrs["dir"] = "rtl"

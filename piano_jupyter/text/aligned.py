"""Columns of text that line up only in a fixed-width font, such as a printed data frame. Pure."""

import re
from collections.abc import Sequence
from itertools import groupby, pairwise

GAP = re.compile(r"(?<! ) {2,}(?=\S)")
INNER_GAP = re.compile(r"\S {2,}\S")
BOX_DRAWING = re.compile("[\u2500-\u257f]")


def is_aligned(lines: Sequence[str]) -> bool:
    """Return whether lines are columns of text: the gaps of two neighbours line up, or a box is drawn."""
    if sum(bool(BOX_DRAWING.search(line)) for line in lines) > 1:
        return True
    gaps = [{at for gap in GAP.finditer(line) for at in range(*gap.span())} for line in lines]
    return any(a & b for a, b in pairwise(gaps)) and any(INNER_GAP.search(line) for line in lines)


def text_blocks(text: str) -> list[tuple[str, bool]]:
    """Return the blocks of a text, split at blank lines, each with whether it is aligned."""
    groups = (list(group) for blank, group in groupby(text.split("\n"), lambda line: not line.strip()) if not blank)
    return [("\n".join(lines), is_aligned(lines)) for lines in groups]


def has_aligned_block(text: str) -> bool:
    """Return whether a text has columns that line up only in a fixed-width font."""
    return any(aligned for _, aligned in text_blocks(text))

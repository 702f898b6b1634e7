"""Whether a glob of the shell can name what a pattern of a rule matches. Pure."""

import re

ANY_TEXT = "\0"  #: any text in a glob or a pattern, also with slashes
MAX_GLOB_CHARS = 500  #: what follows counts as any text
SIGN = re.compile(r"[*?\[\0]")
PIECE = re.compile(r"\[[!^]?\]?(?:\[[:.=][^\]/]*\]|[^\]/])*\]|\*+|.", re.DOTALL)


def is_glob(text: str) -> bool:
    """Return whether a text has signs that stand for others."""
    return SIGN.search(text) is not None


def fixed_folder(glob: str) -> str:
    """Return the folder in which a glob begins to vary; a text that is none as it is."""
    sign = SIGN.search(glob)
    return glob[: sign.start()].rpartition("/")[0] if sign else glob


def can_match(glob: str, pattern: str) -> bool:
    """Return whether any path is matched by both; `*`, `?` and `[…]` in the glob stand for anything but a slash.

    The places in the pattern that can be reached are the bits of a number.
    """
    start, (fixed, varies, _) = SIGN.split(glob, maxsplit=1)[0], pattern.partition(ANY_TEXT)
    if not fixed.startswith(start) and not (varies and start.startswith(fixed)):
        return False
    if len(glob) > MAX_GLOB_CHARS:
        glob = glob[:MAX_GLOB_CHARS] + ANY_TEXT
    stars = sum(1 << at for at, char in enumerate(pattern) if char == ANY_TEXT)
    names = sum(1 << at for at, char in enumerate(pattern) if char not in {ANY_TEXT, "/"})
    reached = _past_stars(1, stars)
    for piece in PIECE.findall(glob):
        if piece == ANY_TEXT:
            reached = ~((reached & -reached) - 1) & ((2 << len(pattern)) - 1) if reached else 0
        elif piece.startswith("*"):
            before = 0
            while before != reached:
                before, reached = reached, reached | _past_stars((reached & names) << 1, stars)
        else:
            same = names if piece == "?" or len(piece) > 1 else _places_of(piece, pattern)
            reached = _past_stars(((reached & same) << 1) | (reached & stars), stars)
    return bool(reached >> len(pattern))


def _past_stars(reached: int, stars: int) -> int:
    """Return the places that can be reached without a further character: any text may be empty."""
    while (more := reached | ((reached & stars) << 1)) != reached:
        reached = more
    return reached


def _places_of(char: str, pattern: str) -> int:
    return sum(1 << at for at, each in enumerate(pattern) if each == char)

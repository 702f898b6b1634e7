"""What the eye does not see in a text, or sees elsewhere: found and named, so that it can be read to the letter."""

import re
from collections.abc import Callable

# Control, format, private and blank characters, fillers, selectors, tags.
ODD = (
    "\x00-\x08\x0b-\x1f\x7f-\xa0\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u1680\u17b4\u17b5"
    "\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f\u2800\u3000\u3164\ud800-\uf8ff\ufe00-\ufe0f\ufeff\uffa0"
    "\ufff0-\ufffb\U000110bd\U000110cd\U00013430-\U0001345f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U0010ffff"
)
HIDDEN = re.compile(f"([{ODD}])\\1*| {{20,}}|\n{{5,}}|\t{{8,}}")


def spelled(text: str, name: Callable[[str], str], rest: Callable[[str], str] = str) -> str:
    """Return a text in which whatever hides, reorders or pushes out of sight is named: by `name`, what is seen `rest`.

    Of many line ends one stays.
    """
    parts, at = [], 0
    for found in HIDDEN.finditer(text):
        run = found[0]
        sign = {" ": "␣", "\n": "↵", "\t": "⇥"}.get(run[0], f"U+{ord(run[0]):04X}")
        times = f" × {len(run)}" if len(run) > 1 else ""
        parts += [rest(text[at : found.start()]), name(sign + times), "\n" if run[0] == "\n" else ""]
        at = found.end()
    return "".join([*parts, rest(text[at:])])


def to_the_letter(text: str) -> str:
    """Return a text as plain text to be read to the letter."""
    return spelled(text, "‹{}›".format)

"""Invisible and misleading characters in a text, replaced by their names.

`to_the_letter` is for code and commands that a person approves: it names whatever is not plainly visible.
`terminal_text` is for everything that goes to a terminal: it names what controls a terminal (clears the screen, sets
the clipboard, hides what follows) or misleads its reader; ordinary text in any language and emoji stay as they are.
`model_text` is the same for what a model reads: instructions can be hidden from people in such characters.
"""

import re
import unicodedata
from collections.abc import Callable

# Control, format, private and blank characters, fillers, selectors, tags.
INVISIBLE = (
    "\x00-\x08\x0b-\x1f\x7f-\xa0\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u1680\u17b4\u17b5"
    "\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f\u2800\u3000\u3164\ud800-\uf8ff\ufe00-\ufe0f\ufeff\uffa0"
    "\ufff0-\ufffb\U000110bd\U000110cd\U00013430-\U0001345f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U0010ffff"
)
#: Those named on a terminal wherever they are: control characters, direction marks, characters of no width.
STEERING_CHARS = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\u3164\ud800-\uf8ff\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e001f\U000e0080-\U000e00ff\U000e01f0-\U0010ffff"
)
JOINERS, SELECTORS, TAGS = "\u200c\u200d", "\ufe00-\ufe0f\U000e0100-\U000e01ef", "\U000e0020-\U000e007f"
NOT_JOINABLE = f"\x00-\xa0{STEERING_CHARS}{JOINERS}{TAGS}"  # after these there is nothing to join or to modify
FLAG = "\U0001f3f4"
MAX_FLAG_TAGS = 6  # the flag of Wales has five tags and an end tag
STEERING = re.compile(
    f"\r\n|[{STEERING_CHARS}]|(?:\\A|(?<=[{NOT_JOINABLE}]))[{JOINERS}]|(?<![#*0-9])(?:\\A|(?<=[{NOT_JOINABLE}{SELECTORS}]))[{SELECTORS}]|"
    + "".join(f"(?<!{FLAG}[{TAGS}]{{{many}}})" for many in range(MAX_FLAG_TAGS))
    + f"[{TAGS}]"
)
HIDDEN = re.compile(f"([{INVISIBLE}])\\1*| {{20,}}|\n{{5,}}|\t{{8,}}")


def name_invisible(text: str, name: Callable[[str], str], rest: Callable[[str], str] = str) -> str:
    """Replace what hides, reorders or pushes text out of sight by `name` of it, and map the rest with `rest`.

    One of many line ends is kept.
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
    """Return a text in which nothing is hidden: invisible characters and long gaps are named."""
    return name_invisible(text, "‹{}›".format)


def terminal_text(text: str) -> str:
    """Return a text that is safe to print: characters that control a terminal or mislead its reader are named."""
    stream = TerminalStream()
    return stream.feed(text) + stream.end()


def model_text(text: str) -> str:
    """Return a text in which characters that mislead or that nobody sees are named, like `<U+202E>`.

    Characters for private use stay: fonts show icons in their place.
    """

    def named(found: re.Match[str]) -> str:
        shown = found[0] == "\r\n" or unicodedata.category(found[0]) == "Co"
        return found[0] if shown else f"<U+{ord(found[0]):04X}>"

    return text if text.isascii() else STEERING.sub(named, text)


class TerminalStream:
    """`terminal_text` for a text that arrives in pieces; the result does not depend on where it is cut."""

    def __init__(self) -> None:
        self._before = ""  # the last characters of the text so far
        self._held = ""  # a carriage return that may be the first half of a line end

    def feed(self, piece: str) -> str:
        """Add a piece; return what can be printed now."""
        piece = self._held + piece
        self._held = "\r" if piece.endswith("\r") else ""
        return self._safe(piece.removesuffix(self._held))

    def end(self) -> str:
        """Return what was held back."""
        held, self._held = self._held, ""
        return self._safe(held)

    def _safe(self, piece: str) -> str:
        text, at, parts = self._before + piece, len(self._before), []
        for found in STEERING.finditer(text, at):
            parts += [text[at : found.start()], "\n" if found[0] == "\r\n" else f"‹U+{ord(found[0]):04X}›"]
            at = found.end()
        self._before = text[-1 - MAX_FLAG_TAGS :]
        return "".join([*parts, text[at:]])

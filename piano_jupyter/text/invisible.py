"""What the eye does not see in a text, or sees elsewhere: found and named.

`to_the_letter` is for what is judged before it runs: it names whatever is not plainly seen. `terminal_text` is for all
that goes to a terminal: it names what steers one (clears the screen, sets the clipboard, hides what follows) or
misleads its reader, and leaves ordinary text as it is, in whatever language, and emoji.
"""

import re
from collections.abc import Callable

# Control, format, private and blank characters, fillers, selectors, tags.
ODD = (
    "\x00-\x08\x0b-\x1f\x7f-\xa0\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u1680\u17b4\u17b5"
    "\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f\u2800\u3000\u3164\ud800-\uf8ff\ufe00-\ufe0f\ufeff\uffa0"
    "\ufff0-\ufffb\U000110bd\U000110cd\U00013430-\U0001345f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U0010ffff"
)
#: Of these, what is named on a terminal wherever it stands: controls, what changes the direction, what has no width.
STEERS = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\u3164\ud800-\uf8ff\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e001f\U000e0080-\U000e00ff\U000e01f0-\U0010ffff"
)
JOINERS, SELECTORS, TAGS = "\u200c\u200d", "\ufe00-\ufe0f\U000e0100-\U000e01ef", "\U000e0020-\U000e007f"
NOTHING = f"\x00-\xa0{STEERS}{JOINERS}{TAGS}"  # after which there is nothing to join, to select a form of, or to tag
FLAG = "\U0001f3f4"
LONGEST_FLAG = 6  # tags: those of Wales, and the one that ends it
STEERING = re.compile(
    f"\r\n|[{STEERS}]|(?:\\A|(?<=[{NOTHING}]))[{JOINERS}]|(?<![#*0-9])(?:\\A|(?<=[{NOTHING}{SELECTORS}]))[{SELECTORS}]|"
    + "".join(f"(?<!{FLAG}[{TAGS}]{{{many}}})" for many in range(LONGEST_FLAG))
    + f"[{TAGS}]"
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


def terminal_text(text: str) -> str:
    """Return a text for a terminal: what would steer the terminal or mislead its reader is named."""
    stream = TerminalStream()
    return stream.feed(text) + stream.end()


class TerminalStream:
    """A text for a terminal that comes in pieces: however it is cut, what comes out is the same."""

    def __init__(self) -> None:
        self._before = ""  # the last characters that came
        self._held = ""  # a carriage return: is it of a line's end?

    def feed(self, piece: str) -> str:
        """Return what can be shown now that this has come."""
        piece = self._held + piece
        self._held = "\r" if piece.endswith("\r") else ""
        return self._shown(piece.removesuffix(self._held))

    def end(self) -> str:
        """Return what was held back."""
        held, self._held = self._held, ""
        return self._shown(held)

    def _shown(self, piece: str) -> str:
        text, at, parts = self._before + piece, len(self._before), []
        for found in STEERING.finditer(text, at):
            parts += [text[at : found.start()], "\n" if found[0] == "\r\n" else f"‹U+{ord(found[0]):04X}›"]
            at = found.end()
        self._before = text[-1 - LONGEST_FLAG :]
        return "".join([*parts, text[at:]])

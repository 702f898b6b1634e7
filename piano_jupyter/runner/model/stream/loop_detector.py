"""Notices a model that repeats itself without end, while it streams. Pure.

Only exact repeats count, and only of sentences soon: rows of a table, lines of code, items of a list and numbers may
repeat for long before they are more than a user can have asked for.
"""

import re

CHECK_INTERVAL_CHARS = 200
PROBE_CHARS = 100  #: of the end, whose last occurrence before shows how long the repeated part is
MIN_REPEATS = 6
SENTENCE_LOOP_CHARS = 800  #: of repeated sentences, or of blanks
OTHER_LOOP_CHARS = 20_000  #: of repeated anything
MAX_PERIOD_CHARS = OTHER_LOOP_CHARS // MIN_REPEATS  #: of the repeated part
MIN_WORDS = 4  #: of a sentence, in a line of its own; a shorter line may be an item of a list
MIN_LETTERS = 6  #: of a sentence in a script that does not separate words
LITERALS = frozenset({"true", "false", "null", "none", "nan", "undefined"})
WORD = re.compile(r"[^\W\d_]+")
SYMBOL = re.compile(r'[{}\[\]<>=;|\t]|",')  # of code, tables and JSON
ITEM_END = re.compile(r"\n|\\n|,")


class LoopDetector:
    """Watches a text for a loop: `feed` what comes. `is_code`: it is no prose, such as the arguments of a call."""

    def __init__(self, *, is_code: bool = False) -> None:
        self._is_code = is_code
        self._tail = ""
        self._pieces: list[str] = []
        self._missing = CHECK_INTERVAL_CHARS  # characters until the next check
        self._fences = 0  # of code blocks
        self._period = 0  # how long the repeated part is, in characters, once there is a loop

    def feed(self, text: str) -> int | None:
        """Add a piece; return how many characters of it come before the loop is noticed, or None if there is none."""
        if len(text) < self._missing:
            self._pieces.append(text)
            self._missing -= len(text)
            return None
        used = 0
        while len(text) - used >= self._missing:
            self._pieces.append(text[used : used + self._missing])
            used += self._missing
            self._missing = CHECK_INTERVAL_CHARS
            if self._has_loop():
                return used
        self._pieces.append(text[used:])
        self._missing -= len(text) - used
        return None

    def without_repeats(self, text: str) -> str:
        """Return a text that ends with the loop without its repeats; any other text unchanged."""
        if not self._period or not text.endswith(self._tail[-self._period :]):
            return text
        start = len(text) - self._period
        while start > 0 and text[start - 1] == text[start - 1 + self._period]:
            start -= 1
        return text[: start + self._period]

    def _has_loop(self) -> bool:
        new = "".join(self._pieces)
        self._pieces.clear()
        backticks = len(self._tail) - len(self._tail.rstrip("`"))
        self._fences += ("`" * (backticks % 3) + new).count("```")
        self._tail = (self._tail + new)[-OTHER_LOOP_CHARS:]
        tail = self._tail
        last = len(tail) - PROBE_CHARS
        before = tail.rfind(tail[last:], max(0, last - MAX_PERIOD_CHARS), len(tail) - 1)
        if before < 0:
            return False
        period = last - before
        chars = max(self._limit(tail, period), MIN_REPEATS * period)
        if chars > len(tail) or tail[-chars:-period] != tail[period - chars :]:
            return False
        self._period = period
        return True

    def _limit(self, tail: str, period: int) -> int:
        unit = tail[-period:]
        is_code = self._is_code or (self._fences % 2 == 1 and "```" not in unit)
        is_sentence = unit.isspace() or (not is_code and _is_sentence(unit, tail[-3 * period :]))
        return SENTENCE_LOOP_CHARS if is_sentence else OTHER_LOOP_CHARS


def _is_sentence(unit: str, thrice: str) -> bool:
    """Return whether what is repeated is prose. In `thrice`, all words but the first and the last are complete."""
    words = WORD.findall(thrice)[1:-1]
    letters = sum(map(str.isalpha, unit))
    if SYMBOL.search(unit) or 2 * letters < len(unit) or LITERALS.issuperset(map(str.lower, words)):
        return False
    if max(map(len, words)) < 3 and unit.isascii():
        return False
    is_long = len(words) >= 3 * MIN_WORDS - 2 or (not unit.isascii() and letters >= MIN_LETTERS)
    return is_long or not ITEM_END.search(unit)

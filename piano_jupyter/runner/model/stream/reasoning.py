"""What a model writes, told apart while it streams: the answer, and the reasoning that some put before it in tags.

Pure. A block of reasoning stands before the answer. Some templates open it themselves, so that only its end comes: what
was taken for the answer until then turns out to be reasoning, and is told again as that.
"""

from piano_jupyter.runner.model.protocol import Delta, StreamRestarted
from piano_jupyter.runner.model.stream.tool_calls import joined, whole_characters

OPENINGS = {"<think>": "</think>", "<thinking>": "</thinking>", "[THINK]": "[/THINK]"}
END = "</think>"
MOST_LOOKS = 5  #: ends without a beginning that are looked at; more of them are the answer's own
MOST_BLANKS = 1000  #: before a block
QUOTES = ("`", '"', "'", "\u201c", "\u2018")


class ReasoningSplitter:
    """What a model has written so far: `feed` what comes, then `close`."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._rest = ""  # held back: it may be a tag's beginning
        self._block = ""  # the tag that began the block which is open
        self._begun = False  # the answer itself has begun
        self._thought = False  # a block of reasoning has ended
        self._nested = 0  # blocks within the block whose end is still to come
        self._looks = MOST_LOOKS

    @property
    def text(self) -> str:
        """The answer."""
        return joined(self._text)

    @property
    def reasoning(self) -> str:
        """The reasoning."""
        return joined(self._reasoning)

    @property
    def begun(self) -> bool:
        """Whether there is anything."""
        return bool(self._text or self._reasoning or self._rest)

    def reason(self, text: str) -> Delta:
        """Take reasoning that the server itself tells apart."""
        self._reasoning.append(text)
        return Delta(reasoning=whole_characters(text))

    def feed(self, text: str) -> list[Delta | StreamRestarted]:
        """Take a piece of what is written; return what it adds."""
        if self._begun and not self._rest and "<" not in text:
            return self._answer(text)
        self._rest += text
        return self._read(last=False)

    def close(self) -> list[Delta | StreamRestarted]:
        """Take the end; return what was held back."""
        return self._read(last=True) if self._rest else []

    def _read(self, *, last: bool) -> list[Delta | StreamRestarted]:
        added: list[Delta | StreamRestarted] = []
        while self._rest:
            before = len(self._rest), self._block, self._begun
            take = self._within if self._block else self._after if self._begun else self._before
            added += take(last=last)
            if before == (len(self._rest), self._block, self._begun):
                break
        return added

    def _before(self, *, last: bool) -> list[Delta | StreamRestarted]:
        """Look whether a block of reasoning begins, or the answer."""
        told = self._rest.lstrip()
        opening = next((each for each in OPENINGS if told.startswith(each)), "")
        if len(self._rest) > len(told) + MOST_BLANKS:
            self._begun = True
        elif opening:
            self._block, self._rest = opening, told[len(opening) :]
        elif last or (told and not any(each.startswith(told) for each in OPENINGS)):
            self._begun = True
            self._rest = told if self._thought else self._rest
        return []

    def _within(self, *, last: bool) -> list[Delta | StreamRestarted]:
        """Take what is within a block, up to its end."""
        end = OPENINGS[self._block]
        inside, found, after = self._rest.partition(end)
        held = 0 if found or last else max(_beginning(inside, end), _beginning(inside, self._block))
        inside, self._rest = inside[: len(inside) - held], after if found else inside[len(inside) - held :]
        self._nested += inside.count(self._block)
        if found:
            self._block, self._thought = "", True
        return [self.reason(inside)] if inside else []

    def _after(self, *, last: bool) -> list[Delta | StreamRestarted]:
        """Take the answer; look for the end of a block that never began."""
        before, found, after = self._rest.partition(END) if self._looks else (self._rest, "", "")
        if not found:
            held = 0 if last or not self._looks else _beginning(before, END)
            told, self._rest = before[: len(before) - held], before[len(before) - held :]
            return self._answer(told) if told else []
        whole = "".join(self._text) + before
        ends = self._ends(whole, after, last=last)
        if ends is None:  # the next character tells
            self._rest = found
            return self._answer(before) if before else []
        self._looks -= 1
        if not ends:
            self._rest = after
            return self._answer(before + found)
        was_told = bool(self._text)
        self._nested = max(0, self._nested - 1)
        self._text, self._rest, self._begun, self._thought = [], after, False, True
        added = self.reason(whole)
        return [StreamRestarted(), Delta(reasoning=whole_characters(self.reasoning))] if was_told else [added]

    def _ends(self, before: str, after: str, *, last: bool) -> bool | None:
        """Return whether a tag ends a block: it stands on a line's edge and is not quoted. None: too early to tell."""
        if before.endswith(QUOTES) or before.count("```") % 2:
            return False
        if self._nested or not before.strip() or before.endswith("\n"):
            return True
        return after.startswith(("\n", "\r")) if after or last else None

    def _answer(self, text: str) -> list[Delta | StreamRestarted]:
        self._text.append(text)
        return [Delta(text=whole_characters(text))]


def _beginning(text: str, tag: str) -> int:
    """Return how many characters at the end of the text may be a tag's beginning."""
    at = text.rfind(tag[0], -len(tag) + 1) if len(text) >= len(tag) else text.rfind(tag[0])
    return len(text) - at if at >= 0 and tag.startswith(text[at:]) else 0

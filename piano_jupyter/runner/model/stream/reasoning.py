"""Splits a streamed text into the reasoning that some models write in tags before the answer, and the answer.

Pure. Some chat templates contain the opening tag, so that only the end tag comes: the text until then was yielded as
the answer, turns out to be reasoning, and is sent again as such.
"""

from piano_jupyter.runner.model.protocol import Delta, StreamRestarted
from piano_jupyter.runner.model.stream.tool_calls import join_pieces, replace_lone_surrogates

TAGS = {"<think>": "</think>", "<thinking>": "</thinking>", "[THINK]": "[/THINK]"}
END_TAG = "</think>"
MAX_STRAY_END_TAGS = 5  #: end tags without a start tag that are examined; later ones are text
MAX_LEADING_BLANKS = 1000  #: before a block
QUOTES = ("`", '"', "'", "\u201c", "\u2018")


class ReasoningSplitter:
    """Splits what a model writes: `feed` what comes, then `close`."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._pending = ""  # held back: it may be the start of a tag
        self._block = ""  # the start tag of the open block
        self._in_answer = False  # the answer has started
        self._has_reasoned = False  # a block of reasoning has ended
        self._nested = 0  # open blocks inside the block
        self._end_tags_left = MAX_STRAY_END_TAGS

    @property
    def text(self) -> str:
        """The answer."""
        return join_pieces(self._text)

    @property
    def reasoning(self) -> str:
        """The reasoning."""
        return join_pieces(self._reasoning)

    @property
    def started(self) -> bool:
        """Whether anything was received."""
        return bool(self._text or self._reasoning or self._pending)

    def add_reasoning(self, text: str) -> Delta:
        """Add reasoning that the server sent separately."""
        self._reasoning.append(text)
        return Delta(reasoning=replace_lone_surrogates(text))

    def feed(self, text: str) -> list[Delta | StreamRestarted]:
        """Add a piece of text; return the resulting deltas."""
        if self._in_answer and not self._pending and "<" not in text:
            return self._answer(text)
        self._pending += text
        return self._read(last=False)

    def close(self) -> list[Delta | StreamRestarted]:
        """Return what was held back, at the end of the stream."""
        return self._read(last=True) if self._pending else []

    def _read(self, *, last: bool) -> list[Delta | StreamRestarted]:
        added: list[Delta | StreamRestarted] = []
        while self._pending:
            before = len(self._pending), self._block, self._in_answer
            take = self._read_block if self._block else self._read_answer if self._in_answer else self._read_start
            added += take(last=last)
            if before == (len(self._pending), self._block, self._in_answer):
                break
        return added

    def _read_start(self, *, last: bool) -> list[Delta | StreamRestarted]:
        """Find out whether a block of reasoning or the answer starts."""
        text = self._pending.lstrip()
        opening = next((each for each in TAGS if text.startswith(each)), "")
        if len(self._pending) > len(text) + MAX_LEADING_BLANKS:
            self._in_answer = True
        elif opening:
            self._block, self._pending = opening, text[len(opening) :]
        elif last or (text and not any(each.startswith(text) for each in TAGS)):
            self._in_answer = True
            self._pending = text if self._has_reasoned else self._pending
        return []

    def _read_block(self, *, last: bool) -> list[Delta | StreamRestarted]:
        """Read the inside of a block, up to its end."""
        end = TAGS[self._block]
        inside, found, after = self._pending.partition(end)
        held = 0 if found or last else max(_partial_tag_chars(inside, end), _partial_tag_chars(inside, self._block))
        inside, self._pending = inside[: len(inside) - held], after if found else inside[len(inside) - held :]
        self._nested += inside.count(self._block)
        if found:
            self._block, self._has_reasoned = "", True
        return [self.add_reasoning(inside)] if inside else []

    def _read_answer(self, *, last: bool) -> list[Delta | StreamRestarted]:
        """Read the answer; look for the end tag of a block without a start tag."""
        before, found, after = self._pending.partition(END_TAG) if self._end_tags_left else (self._pending, "", "")
        if not found:
            held = 0 if last or not self._end_tags_left else _partial_tag_chars(before, END_TAG)
            text, self._pending = before[: len(before) - held], before[len(before) - held :]
            return self._answer(text) if text else []
        whole = "".join(self._text) + before
        is_end = self._is_end_tag(whole, after, last=last)
        if is_end is None:  # the next character decides
            self._pending = found
            return self._answer(before) if before else []
        self._end_tags_left -= 1
        if not is_end:
            self._pending = after
            return self._answer(before + found)
        was_shown = bool(self._text)
        self._nested = max(0, self._nested - 1)
        self._text, self._pending, self._in_answer, self._has_reasoned = [], after, False, True
        added = self.add_reasoning(whole)
        return [StreamRestarted(), Delta(reasoning=replace_lone_surrogates(self.reasoning))] if was_shown else [added]

    def _is_end_tag(self, before: str, after: str, *, last: bool) -> bool | None:
        """Return whether an end tag counts: it is at the edge of a line and not quoted. None: too early to tell."""
        if before.endswith(QUOTES) or before.count("```") % 2:
            return False
        if self._nested or not before.strip() or before.endswith("\n"):
            return True
        return after.startswith(("\n", "\r")) if after or last else None

    def _answer(self, text: str) -> list[Delta | StreamRestarted]:
        self._text.append(text)
        return [Delta(text=replace_lone_surrogates(text))]


def _partial_tag_chars(text: str, tag: str) -> int:
    """Return how many characters at the end of the text may be the start of a tag."""
    at = text.rfind(tag[0], -len(tag) + 1) if len(text) >= len(tag) else text.rfind(tag[0])
    return len(text) - at if at >= 0 and tag.startswith(text[at:]) else 0

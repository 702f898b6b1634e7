"""Splits a streamed text into the reasoning that some models write in tags before the answer, and the answer.

Pure. Some chat templates contain the opening tag, so that only the end tag comes: the text until then was yielded as
the answer, turns out to be reasoning, and is sent again as such.
"""

import re

from piano_jupyter.runner.model.protocol import Delta, StreamRestarted
from piano_jupyter.runner.model.stream.tool_calls import join_pieces, replace_lone_surrogates

ROLE = "<|start|>assistant"  # gpt-oss writes it before each channel but the first
ANALYSIS, FINAL, COMMENTARY = (f"<|channel|>{name}<|message|>" for name in ("analysis", "final", "commentary"))
#: what starts and ends reasoning before the answer
REASONING_TAGS = {
    **{
        f"<{name}>": f"</{name}>"
        for name in ("think", "thinking", "thought", "reasoning", "reason", "seed:think", "longcat_think")
    },
    "[THINK]": "[/THINK]",  # Magistral
    "◁think▷": "◁/think▷",  # Kimi-VL
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "<|inner_prefix|>": "<|inner_suffix|>",  # Apertus
    "<|START_THINKING|>": "<|END_THINKING|>",  # Command A
    "<|channel>thought": "<channel|>",  # Gemma 4
    **dict.fromkeys((ANALYSIS, ROLE + ANALYSIS), "<|end|>"),  # gpt-oss
}
#: what starts and ends the answer, for models that mark that too
ANSWER_TAGS = {
    "<|begin_of_solution|>": "<|end_of_solution|>",
    "<|START_RESPONSE|>": "<|END_RESPONSE|>",
    **dict.fromkeys((FINAL, ROLE + FINAL), "<|return|>"),
    **dict.fromkeys((COMMENTARY, ROLE + COMMENTARY), "<|end|>"),
}
TAGS = REASONING_TAGS | ANSWER_TAGS
START_TAGS = {end: start for start, end in REASONING_TAGS.items() if end != "<|end|>"}  # it ends other things as well
END_TAG = re.compile("|".join(map(re.escape, START_TAGS)))
MAX_STRAY_END_TAGS = 5  #: end tags without a start tag that are examined; later ones are text
MAX_LEADING_BLANKS = 1000  #: before a block
QUOTES = ("`", '"', "'", "\u201c", "\u2018")
BEFORE_MENTION = "([{/|,"  #: what comes directly before a tag that is only mentioned
AFTER_MENTION = ".,;:!?)]}'\"`-/|"  #: what comes directly after it


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
        if self._in_answer and not self._pending and "<" not in text and "[" not in text and "◁" not in text:
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
        is_answer, end = self._block in ANSWER_TAGS, TAGS[self._block]
        inside, found, after = self._pending.partition(end)
        is_end = bool(found) and (is_answer or self._ends_block(inside, after, last=last))
        if found and is_end is None:  # the next character decides
            self._pending = found
        elif found and not is_end:
            inside, self._pending = inside + found, after
        else:
            held = 0 if found or last else max(_partial_tag_chars(inside, each) for each in (end, self._block))
            inside, self._pending = inside[: len(inside) - held], after if found else inside[len(inside) - held :]
        self._nested += 0 if is_answer else inside.count(self._block)
        if is_end:
            self._block, self._has_reasoned = "", True
        if is_answer:
            inside = inside if self._text else inside.lstrip()
            return self._answer(inside) if inside else []
        return [self.add_reasoning(inside)] if inside else []

    def _ends_block(self, inside: str, after: str, *, last: bool) -> bool | None:
        """Return whether the end tag of a block counts: it does unless it is code. None: too early to tell."""
        if not (inside or "".join(self._reasoning[-1:])).endswith("`"):
            return True
        if not after and not last:
            return None
        return not (after.startswith("`") and _in_code(self.reasoning + inside))

    def _read_answer(self, *, last: bool) -> list[Delta | StreamRestarted]:
        """Read the answer; look for the end tag of a block without a start tag."""
        found = END_TAG.search(self._pending) if self._end_tags_left else None
        if found is None:
            held = 0 if last or not self._end_tags_left else _partial_end_tag_chars(self._pending)
            text, self._pending = self._pending[: len(self._pending) - held], self._pending[len(self._pending) - held :]
            return self._answer(text) if text else []
        before, tag, after = self._pending[: found.start()], found[0], self._pending[found.end() :]
        whole = "".join(self._text) + before
        is_end = self._is_end_tag(whole, tag, after, last=last)
        if is_end is None:  # the next character decides
            self._pending = tag
            return self._answer(before) if before else []
        self._end_tags_left -= 1
        if not is_end:
            self._pending = after
            return self._answer(before + tag)
        was_shown = bool(self._text)
        self._nested = max(0, self._nested - 1)
        self._text, self._pending, self._in_answer, self._has_reasoned = [], after, False, True
        added = self.add_reasoning(whole)
        return [StreamRestarted(), Delta(reasoning=replace_lone_surrogates(self.reasoning))] if was_shown else [added]

    def _is_end_tag(self, before: str, tag: str, after: str, *, last: bool) -> bool | None:
        """Return whether an end tag counts: it is not code, and not only mentioned. None: too early to tell."""
        if not before.strip():
            return True
        if _opens_quote(before) or _in_code(before):
            return False
        if self._nested or before.endswith("\n"):
            return True
        if not after:
            return False if last else None
        if after[0] in "\r\n" or self._has_reasoned or START_TAGS[tag] in before:
            return after[0] in "\r\n"
        is_mentioned = before[-1] in BEFORE_MENTION or after[0] in AFTER_MENTION
        return not is_mentioned and not (before[-1].isspace() and after[0].isspace())

    def _answer(self, text: str) -> list[Delta | StreamRestarted]:
        self._text.append(text)
        return [Delta(text=replace_lone_surrogates(text))]


def _opens_quote(before: str) -> bool:
    """Return whether a text ends with a quote that starts there, not with one that ends what was quoted."""
    return before.endswith(QUOTES) and (len(before) == 1 or before[-2].isspace() or before[-2] in BEFORE_MENTION)


def _in_code(before: str) -> bool:
    """Return whether a text ends inside a code block, or inside code within a line."""
    line = before[before.rfind("\n") + 1 :]
    if before.count("```") % 2 or before.count("~~~") % 2:
        return True
    return len(re.findall("`+", line)) % 2 == 1 or (line.startswith(("    ", "\t")) and not line.strip())


def _partial_tag_chars(text: str, tag: str) -> int:
    """Return how many characters at the end of the text may be the start of a tag."""
    at = text.find(tag[0], max(len(text) - len(tag) + 1, 0))
    while at >= 0 and not tag.startswith(text[at:]):
        at = text.find(tag[0], at + 1)
    return len(text) - at if at >= 0 else 0


def _partial_end_tag_chars(text: str) -> int:
    return max(_partial_tag_chars(text, tag) for tag in START_TAGS)

"""The context window: what of a talk goes along when not all of it fits. Pure.

Sizes are bytes of what is sent. What leaves, leaves in one block down to `AFTER` of the window, and is decided again
only when the window is full once more: in between, each prompt is the beginning of the next one, and the server's
prompt cache keeps it. First the oldest turns leave, whole; a turn that is too big by itself has the middle of its long
messages left out. The newest turn always stays.
"""

import json
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from piano_jupyter.records import Message

BYTES_PER_TOKEN = 3.5  # of English, code and the JSON around them, where nothing was measured yet
SENSIBLE = (1.0, 6.0)  # bytes a token: what a server tells outside of it is not the whole prompt
AFTER = 0.6  # of the window that is filled after a cut
LARGEST_RESERVE = 4096  # tokens for an answer that has no limit
SHORTEST = 200  # bytes of a message that are left at least
HEAD = 2 / 3  # of what is left of a long message stands before the gap


@dataclass(frozen=True, slots=True)
class HistoryTrim:
    """What does not go along."""

    turns: int = 0  #: so many of the oldest turns: a user's question and all that follows it
    longest: int | None = None  #: the middle of messages that are longer, in bytes
    note: str = field(default="", compare=False)  #: what is said in the place of what has left

    def begins(self, questions: Sequence[int], left: int = 0) -> int:
        """Return where in a history that which goes along begins.

        `questions` are where its turns begin; `left` turns more were before them.
        """
        leave = self.turns - left
        return questions[min(leave, len(questions) - 1)] if leave > 0 and questions else 0

    def text(self, text: str) -> str:
        """Return a text, its middle left out if it is too long."""
        raw = text.encode("utf-8", "replace")
        if self.longest is None or len(raw) <= self.longest:
            return text
        head = int(self.longest * HEAD)
        first, last = raw[:head].decode("utf-8", "ignore"), raw[head - self.longest :].decode("utf-8", "ignore")
        return f"{first}\n[… {len(text) - len(first) - len(last):,} characters are left out here …]\n{last}"


@dataclass(frozen=True, slots=True)
class PromptBudget:
    """How many bytes a prompt may have."""

    limit: float
    after: float  #: once it was cut


def room(n_ctx: int, max_tokens: Any, bytes_per_token: float) -> PromptBudget:
    """Return how much room a window of `n_ctx` tokens has beside an answer of `max_tokens`."""
    wanted = max_tokens if isinstance(max_tokens, int) and max_tokens > 0 else min(n_ctx // 4, LARGEST_RESERVE)
    limit = n_ctx - min(wanted, n_ctx // 2)
    return PromptBudget(limit * bytes_per_token, min(AFTER * n_ctx, 0.8 * limit) * bytes_per_token)


def size(messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]) -> int:
    """Return how many bytes a prompt has; the JSON around each message stands for the template's own words."""
    return len(json.dumps([*messages, *tools], ensure_ascii=False).encode("utf-8", "replace"))


def last_cut(history: Sequence[Message], agent_id: UUID) -> HistoryTrim:
    """Return what has left of an agent's history so far: the last note on it tells."""
    for message in reversed(history):
        if message.role == "system" and message.agent_id == agent_id and "left_out" in message.usage:
            usage = message.usage
            return HistoryTrim(usage["left_out"], usage.get("longest"), message.content if usage["left_out"] else "")
    return HistoryTrim()


def measured(history: Sequence[Message], agent_id: UUID) -> float:
    """Return how many bytes a token of an agent's last prompt had."""
    for message in reversed(history):
        sent, tokens = message.usage.get("prompt_bytes"), message.usage.get("prompt_tokens")
        if message.agent_id == agent_id and message.role == "assistant" and sent and tokens:
            return min(max(float(sent / tokens), SENSIBLE[0]), SENSIBLE[1])
    return BYTES_PER_TOKEN


def smaller(n_ctx: int | None, n_prompt: int | None, sent: int, max_tokens: Any) -> PromptBudget:
    """Return the room of a window that `sent` bytes did not fit into, as far as the server tells its tokens."""
    if n_ctx is None:
        return PromptBudget(AFTER * sent, AFTER * sent)
    return room(n_ctx, max_tokens, sent / max(n_prompt or n_ctx, n_ctx))


def fitting(turns: int, cut: HistoryTrim, room: PromptBudget, size_of: Callable[[HistoryTrim], int]) -> HistoryTrim:
    """Return what of so many turns must leave so that the prompt fits: `cut` as it was, where it does."""
    if size_of(cut) <= room.limit:
        return cut
    newest = max(turns - 1, 0)
    candidates = range(cut.turns + 1, newest)
    fits = bisect_left(candidates, 1, key=lambda leave: size_of(HistoryTrim(leave)) <= room.after)
    leave = candidates[fits] if fits < len(candidates) else max(newest, cut.turns)
    if size_of(HistoryTrim(leave)) <= room.limit:
        return HistoryTrim(leave)
    longest = int(room.after / 2)
    while longest > SHORTEST and size_of(HistoryTrim(leave, longest)) > room.after:
        longest //= 2
    return HistoryTrim(leave, max(longest, SHORTEST))


def sentence(cut: HistoryTrim, name: str, n_ctx: int | None) -> str:
    """Say what an agent no longer reads, for people and for the agent."""
    window = f"the context of {n_ctx:,} tokens" if n_ctx else "the model's context"
    told = []
    if cut.turns:
        which = "The first turn no longer fits" if cut.turns == 1 else f"The first {cut.turns:,} turns no longer fit"
        told.append(f"{which} into {window}: from here on {name} answers without them.")
    if cut.longest is not None:
        told.append(
            f"Of what is longer than {cut.longest:,} bytes {name} reads the beginning and the end: {window} is full."
        )
    return " ".join(told)


def questions_in(history: Sequence[Message]) -> list[int]:
    """Return where the turns of a history begin; what stands before the first question belongs to its turn."""
    return [at for at, message in enumerate(history) if message.role == "user"]

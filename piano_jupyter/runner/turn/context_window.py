"""Trims a thread's history when it does not fit into the model's context window. Pure.

Sizes are bytes of the request. A trim shrinks the prompt to `FILL_AFTER_TRIM` of the window at once, and the next one
comes only when the window is full again: in between, each prompt is a prefix of the next one, so that the server's
prompt cache is used. The oldest turns are dropped first; if one turn is too long by itself, the middle of its long
messages is dropped. The newest turn always stays.
"""

import json
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from piano_jupyter.records import Message

BYTES_PER_TOKEN = 3.5  #: of English, code and JSON, before anything was measured
PLAUSIBLE_BYTES_PER_TOKEN = (1.0, 6.0)  #: outside of it, the server did not report the whole prompt
FILL_AFTER_TRIM = 0.6  #: share of the window that is filled after a trim
TOKENS_PER_IMAGE = 1_000  #: what models make of one; its bytes say nothing about that
MAX_RESERVED_TOKENS = 4096  #: for an answer without max_tokens
MIN_MESSAGE_BYTES = 200  #: that remain of a shortened message
HEAD_SHARE = 2 / 3  #: of a shortened message that is before the gap


@dataclass(frozen=True, slots=True)
class HistoryTrim:
    """What is left out of the history."""

    turns: int = 0  #: how many of the oldest turns (a user's message and all that follows it)
    max_message_bytes: int | None = None  #: longer messages lose their middle
    note: str = field(default="", compare=False)  #: takes the place of what is left out

    def start_index(self, questions: Sequence[int], already_trimmed: int = 0) -> int:
        """Return the index of the first message of a history to send.

        `questions` are the indexes where its turns start; `already_trimmed` earlier turns are not in it.
        """
        drop = self.turns - already_trimmed
        return questions[min(drop, len(questions) - 1)] if drop > 0 and questions else 0

    def shortened(self, text: str) -> str:
        """Return a text, without its middle if it is too long."""
        raw = text.encode("utf-8", "replace")
        if self.max_message_bytes is None or len(raw) <= self.max_message_bytes:
            return text
        head = int(self.max_message_bytes * HEAD_SHARE)
        first = raw[:head].decode("utf-8", "ignore")
        last = raw[head - self.max_message_bytes :].decode("utf-8", "ignore")
        return f"{first}\n[… {len(text) - len(first) - len(last):,} characters are left out here …]\n{last}"


@dataclass(frozen=True, slots=True)
class PromptBudget:
    """The maximum size of a prompt, in bytes."""

    limit: float
    after_trim: float  #: the size to trim to


def prompt_budget(n_ctx: int, max_tokens: Any, bytes_per_token: float) -> PromptBudget:
    """Return the budget for a prompt in a window of `n_ctx` tokens, beside an answer of `max_tokens`."""
    reserved = max_tokens if isinstance(max_tokens, int) and max_tokens > 0 else min(n_ctx // 4, MAX_RESERVED_TOKENS)
    limit = n_ctx - min(reserved, n_ctx // 2)
    return PromptBudget(limit * bytes_per_token, min(FILL_AFTER_TRIM * n_ctx, 0.8 * limit) * bytes_per_token)


def prompt_size(messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]) -> int:
    """Return a prompt's size in bytes; the JSON around each message counts for the template's own text.

    An image counts as the tokens that a model makes of it.
    """
    images = [part for message in messages for part in image_parts(message)]
    texts = [{**message, "content": text_parts(message)} if image_parts(message) else message for message in messages]
    size = len(json.dumps([*texts, *tools], ensure_ascii=False).encode("utf-8", "replace"))
    return size + round(len(images) * TOKENS_PER_IMAGE * BYTES_PER_TOKEN)


def image_parts(message: Mapping[str, Any]) -> list[Any]:
    """Return the parts of a message that are images."""
    content = message.get("content")
    return [part for part in content if part["type"] != "text"] if isinstance(content, list) else []


def text_parts(message: Mapping[str, Any]) -> list[Any]:
    """Return the parts of a message with images that are text."""
    return [part for part in message["content"] if part["type"] == "text"]


def last_trim(history: Sequence[Message], agent_id: UUID) -> HistoryTrim:
    """Return the current trim of an agent's history, from the last note on it."""
    for message in reversed(history):
        if message.role == "system" and message.agent_id == agent_id and "left_out" in message.usage:
            usage = message.usage
            return HistoryTrim(usage["left_out"], usage.get("longest"), message.content if usage["left_out"] else "")
    return HistoryTrim()


def measured_bytes_per_token(history: Sequence[Message], agent_id: UUID) -> float:
    """Return the bytes per token in an agent's last prompt."""
    for message in reversed(history):
        sent, tokens = message.usage.get("prompt_bytes"), message.usage.get("prompt_tokens")
        if message.agent_id == agent_id and message.role == "assistant" and sent and tokens:
            return min(max(float(sent / tokens), PLAUSIBLE_BYTES_PER_TOKEN[0]), PLAUSIBLE_BYTES_PER_TOKEN[1])
    return BYTES_PER_TOKEN


def budget_after_overflow(
    n_ctx: int | None, n_prompt: int | None, sent: int, max_tokens: Any, *, again: bool = False
) -> PromptBudget:
    """Return the budget after `sent` bytes did not fit, from the token counts that the server reported, if any.

    It is half of what was sent if the window is unknown, and at most that if its size did not help before (`again`).
    """
    half = PromptBudget(sent / 2, sent / 2)
    if n_ctx is None:
        return half
    at_most = PLAUSIBLE_BYTES_PER_TOKEN[1] if n_prompt is None else sent
    budget = prompt_budget(n_ctx, max_tokens, min(sent / max(n_prompt or n_ctx, n_ctx), at_most))
    return half if again and half.limit < budget.after_trim else budget


def trim_to_fit(
    turns: int, trim: HistoryTrim, budget: PromptBudget, size_of: Callable[[HistoryTrim], int]
) -> HistoryTrim:
    """Return what to leave out of `turns` turns so that the prompt fits; `trim` itself if it already does."""
    if size_of(trim) <= budget.limit:
        return trim
    newest = max(turns - 1, 0)
    candidates = range(trim.turns + 1, newest)
    fits = bisect_left(candidates, 1, key=lambda drop: size_of(HistoryTrim(drop)) <= budget.after_trim)
    drop = candidates[fits] if fits < len(candidates) else max(newest, trim.turns)
    if size_of(HistoryTrim(drop)) <= budget.limit:
        return HistoryTrim(drop)
    max_bytes = int(budget.after_trim / 2)
    while max_bytes > MIN_MESSAGE_BYTES and size_of(HistoryTrim(drop, max_bytes)) > budget.after_trim:
        max_bytes //= 2
    return HistoryTrim(drop, max(max_bytes, MIN_MESSAGE_BYTES))


def trim_note(trim: HistoryTrim, name: str, n_ctx: int | None) -> str:
    """Say what an agent no longer reads, for people and for the agent."""
    window = f"the context of {n_ctx:,} tokens" if n_ctx else "the model's context"
    sentences = []
    if trim.turns:
        which = "The first turn no longer fits" if trim.turns == 1 else f"The first {trim.turns:,} turns no longer fit"
        sentences.append(
            f"{which} into {window}: from here on, {name} answers without {'it' if trim.turns == 1 else 'them'}."
        )
    if trim.max_message_bytes is not None:
        sentences.append(
            f"{window[0].upper()}{window[1:]} is full: of messages longer than {trim.max_message_bytes:,} bytes, "
            f"{name} reads only the start and the end."
        )
    return " ".join(sentences)


def question_indexes(history: Sequence[Message]) -> list[int]:
    """Return the indexes where a history's turns start; messages before the first belong to its turn."""
    return [at for at, message in enumerate(history) if message.role == "user"]

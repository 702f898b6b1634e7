"""MaskedModel: masks secrets in the requests to a model and in its replies.

While a reply streams, each word is held back until it is complete, as only then it can be recognized as a secret. The
same goes for a line that may start or end a private key. The complete reply is masked once more, to find secrets that
contain blanks.
"""

import asyncio
import re
import string
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from os.path import commonprefix
from typing import Any

from piano_jupyter.runner.model.protocol import ChatModel, ChatRequest, Delta, Piece, Reply, StreamRestarted
from piano_jupyter.secrets.redactor import BEGIN, END, MASK, MAX_KEY_BLOCK_CHARS, MIN_SECRET_CHARS

WORD_CHARS = string.ascii_letters + string.digits + string.punctuation
LONG_WORD = re.compile(f"[!-~]{{{MIN_SECRET_CHARS}}}")
EMPTY_DELTA = Delta()
MAX_INLINE_MASK_CHARS = 1_000_000  #: longer texts are masked in a thread, not on the loop
MAX_HELD_CHARS = 1_000  #: more is not held back
KEPT_CONTEXT_CHARS = 300  #: of a long line, to recognize a secret by what is before it


class MaskedModel:
    """A model whose requests and replies contain no secrets that `mask` knows."""

    def __init__(self, model: ChatModel, mask: Callable[[Any], Any]) -> None:
        self._model, self._mask = model, mask

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Piece, None]:
        """Yield the reply's pieces as they come, and the complete reply last. Raises ModelError."""
        text, reasoning = StreamMask(self._mask), StreamMask(self._mask)
        messages = [self._masked_message(message) for message in request.messages]
        request = replace(request, messages=messages, tools=self._mask(request.tools))
        async with aclosing(self._model.stream(request)) as pieces:
            async for piece in pieces:
                shown: Piece = piece
                if isinstance(piece, Delta):
                    shown = Delta(text=text.add(piece.text), reasoning=reasoning.add(piece.reasoning))
                elif isinstance(piece, Reply):
                    held = Delta(text=text.flush(), reasoning=reasoning.flush())
                    if held != EMPTY_DELTA:
                        yield held
                    is_long = len(piece.text) + len(piece.reasoning) > MAX_INLINE_MASK_CHARS
                    shown = await asyncio.to_thread(self._mask, piece) if is_long else self._mask(piece)
                elif isinstance(piece, StreamRestarted):
                    text, reasoning = StreamMask(self._mask), StreamMask(self._mask)
                if shown != EMPTY_DELTA:
                    yield shown

    def _masked_message(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Return a message without secrets. Images stay as they are: megabytes of base64 take long to search."""
        if isinstance(message["content"], str):
            return dict(self._mask(message))
        content = [part if part["type"] == "image_url" else self._mask(part) for part in message["content"]]
        return {**self._mask({**message, "content": ""}), "content": content}


class StreamMask:
    """Masks a text that comes in pieces."""

    def __init__(self, mask: Callable[[str], str]) -> None:
        self._mask = mask
        self._raw = ""  # the text since the start of the line or private key
        self._released = 0  # how much of it was released
        self._shown = ""  # what was shown of it, masked

    def add(self, piece: str) -> str:
        """Add a piece; return what can be shown now."""
        self._raw += piece
        end, line = len(self._raw), self._raw.rfind("\n") + 1
        if end - self._released > MAX_HELD_CHARS:
            return self._release_up_to(end)
        return self._release_up_to(line if self._raw.startswith("-----", line) else len(self._raw.rstrip(WORD_CHARS)))

    def flush(self) -> str:
        """Return what was held back, as the text has ended."""
        return self._release_up_to(len(self._raw))

    def _release_up_to(self, end: int) -> str:
        if end <= self._released:
            return ""
        if LONG_WORD.search(self._raw, max(self._released - MIN_SECRET_CHARS, 0), end):
            masked = self._mask(self._raw[:end])
            shown = self._shown if masked.startswith(self._shown) else commonprefix([self._shown, masked])  # noqa: RUF071  Not paths.
            added = masked[len(shown) :]
            self._shown = masked
        else:
            added = self._raw[self._released : end]
            self._shown += added
        self._released = end
        self._drop_old_text()
        return added

    def _drop_old_text(self) -> None:
        """Drop text that no longer matters for what the next words are."""
        keys = [found.end() for found in BEGIN.finditer(self._raw)] if "PRIVATE KEY" in self._raw else []
        if (
            keys
            and not END.search(self._raw, keys[-1], self._released)
            and self._released - keys[-1] < MAX_KEY_BLOCK_CHARS
        ):
            return
        if start := self._raw.rfind("\n", 0, self._released) + 1:
            self._shown = self._shown.rpartition("\n")[2]
        elif self._released > 2 * MAX_HELD_CHARS:
            start = max(
                self._raw.rfind(" ", 0, self._released - KEPT_CONTEXT_CHARS) + 1, self._released - MAX_HELD_CHARS
            )
            kept = self._raw[start : self._released]
            self._shown = self._mask(kept) if MASK in self._shown else kept
        self._raw, self._released = self._raw[start:], self._released - start

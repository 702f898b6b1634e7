"""MaskedModel: the door between a turn and its model. No secret goes out in a request, and none comes in with a reply.

While a reply is written, a word is held back until it is whole, as only then one sees whether it is a secret; so is a
line that may begin or end a private key. The whole reply is masked as a whole: a secret that has blanks in it is found
only then.
"""

import asyncio
import re
import string
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from os.path import commonprefix
from typing import Any

from piano_jupyter.runner.model.protocol import ChatModel, ChatRequest, Delta, Piece, Reply, StreamRestarted
from piano_jupyter.secrets.redactor import BEGIN, END, MASK, MAX_KEY_BLOCK_CHARS, MIN_SECRET_CHARS

LETTERS = string.ascii_letters + string.digits + string.punctuation
LONG_WORD = re.compile(f"[!-~]{{{MIN_SECRET_CHARS}}}")
NOTHING = Delta()
LONG = 1_000_000  #: characters that take too long to mask on the loop
LONGEST = 1_000  #: characters that are held back
REMEMBERED = 300  #: characters of a long line that say what a word in it is


class MaskedModel:
    """A model whose requests and replies hold no secrets, as far as `mask` knows them."""

    def __init__(self, model: ChatModel, mask: Callable[[Any], Any]) -> None:
        self._model, self._mask = model, mask

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Piece, None]:
        """Yield the reply's pieces as they come, last the whole reply. Raises ModelError."""
        text, reasoning = StreamMask(self._mask), StreamMask(self._mask)
        request = replace(request, messages=self._mask(request.messages), tools=self._mask(request.tools))
        async with aclosing(self._model.stream(request)) as pieces:
            async for piece in pieces:
                told: Piece = piece
                if isinstance(piece, Delta):
                    told = Delta(text=text.add(piece.text), reasoning=reasoning.add(piece.reasoning))
                elif isinstance(piece, Reply):
                    rest = Delta(text=text.rest(), reasoning=reasoning.rest())
                    if rest != NOTHING:
                        yield rest
                    is_long = len(piece.text) + len(piece.reasoning) > LONG
                    told = await asyncio.to_thread(self._mask, piece) if is_long else self._mask(piece)
                elif isinstance(piece, StreamRestarted):
                    text, reasoning = StreamMask(self._mask), StreamMask(self._mask)
                if told != NOTHING:
                    yield told


class StreamMask:
    """What may be told of a text, as its pieces come."""

    def __init__(self, mask: Callable[[str], str]) -> None:
        self._mask = mask
        self._raw = ""  # the text since a line began, or since a private key did
        self._passed = 0  # how much of that was let through
        self._told = ""  # what was told of it

    def add(self, piece: str) -> str:
        """Return what may be told now that this piece has come."""
        self._raw += piece
        end, line = len(self._raw), self._raw.rfind("\n") + 1
        if end - self._passed > LONGEST:
            return self._let(end)
        return self._let(line if self._raw.startswith("-----", line) else len(self._raw.rstrip(LETTERS)))

    def rest(self) -> str:
        """Return what was held back, as the text is whole."""
        return self._let(len(self._raw))

    def _let(self, end: int) -> str:
        if end <= self._passed:
            return ""
        if LONG_WORD.search(self._raw, max(self._passed - MIN_SECRET_CHARS, 0), end):
            whole = self._mask(self._raw[:end])
            told = self._told if whole.startswith(self._told) else commonprefix([self._told, whole])  # noqa: RUF071  No paths.
            news = whole[len(told) :]
            self._told = whole
        else:
            news = self._raw[self._passed : end]
            self._told += news
        self._passed = end
        self._forget()
        return news

    def _forget(self) -> None:
        """Forget what has no say any more in what a word is."""
        keys = [found.end() for found in BEGIN.finditer(self._raw)] if "PRIVATE KEY" in self._raw else []
        if keys and not END.search(self._raw, keys[-1], self._passed) and self._passed - keys[-1] < MAX_KEY_BLOCK_CHARS:
            return
        if cut := self._raw.rfind("\n", 0, self._passed) + 1:
            self._told = self._told.rpartition("\n")[2]
        elif self._passed > 2 * LONGEST:
            cut = max(self._raw.rfind(" ", 0, self._passed - REMEMBERED) + 1, self._passed - LONGEST)
            left = self._raw[cut : self._passed]
            self._told = self._mask(left) if MASK in self._told else left
        self._raw, self._passed = self._raw[cut:], self._passed - cut

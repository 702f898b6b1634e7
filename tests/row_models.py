"""A model that answers the rows of batches as a test says, and can be held."""

import asyncio
import json

from piano_jupyter.errors import ModelError
from piano_jupyter.runner.model.protocol import Reply

MARK = "The row:\n"


def row_in(request):
    """Return the values of the row that a request asks about; None for a question of a chat."""
    _, sign, row = request.messages[-1]["content"].rpartition(MARK)
    return json.loads(row) if sign else None


class RowModel:
    """Answers each row with `answer(row)`, and each chat with "hello"; `held` holds back the answers to rows."""

    def __init__(self, answer=lambda row: f"seen {row}"):
        self.answer = answer
        self.rows, self.asked = [], []  #: the rows that were asked, and all questions: None stands for a chat
        self.systems = []  #: the system prompts of the rows
        self.in_flight = self.most_in_flight = 0
        self.free = asyncio.Event()
        self.free.set()
        self.begun = asyncio.Condition()

    def hold(self):
        """Hold back the answers to rows until `free` is set."""
        self.free.clear()

    async def until(self, count):
        """Return once so many rows were asked."""
        async with self.begun:
            await self.begun.wait_for(lambda: len(self.rows) >= count)

    async def stream(self, request):
        """Yield a reply."""
        row = row_in(request)
        self.asked.append(row)
        if row is None:
            yield Reply(text="hello", finish_reason="stop")
            return
        async with self.begun:
            self.rows.append(row)
            self.systems += [each["content"] for each in request.messages if each["role"] == "system"]
            self.begun.notify_all()
        self.in_flight += 1
        self.most_in_flight = max(self.in_flight, self.most_in_flight)
        try:
            await self.free.wait()
        finally:
            self.in_flight -= 1
        said = self.answer(row)
        if isinstance(said, Exception):
            raise said
        if isinstance(said, Reply):
            yield said
            return
        yield Reply(text=said, finish_reason="stop", usage={"prompt_tokens": 9, "completion_tokens": 2})


def refuses(row):
    """Answer nothing but errors."""
    return ModelError(f"no answer to {row}")

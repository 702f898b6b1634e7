"""What the unit tests share: records made short, and a model that says what the script says."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from piano_jupyter.records import Agent, CallStatus, Job, Message, ToolCall
from piano_jupyter.runner.chat import ChatRequest, Delta, Reply, RequestedCall

START = datetime(2026, 1, 1, tzinfo=UTC)


class Make:
    """Makes records with ids 1, 2, 3 and times a second apart."""

    def __init__(self):
        self._count = 0

    def _next(self):
        self._count += 1
        return {"id": UUID(int=self._count), "inserted_at": START + timedelta(seconds=self._count)}

    def agent(self, name="ada", **fields):
        return Agent(**self._next(), name=name, **{"model": "m", **fields})

    def message(self, content, role="user", **fields):
        made = self._next()
        return Message(**made, **{"thread_id": UUID(int=0), "seq": self._count, **fields}, role=role, content=content)

    def job(self, message, agent, **fields):
        thread = {"thread_id": message.thread_id, "model": agent.model, "seq": self._count}
        return Job(**self._next(), message_id=message.id, agent_id=agent.id, **{**thread, **fields})

    def call(self, message, name="add", result="2", **fields):
        made = self._next()
        status = CallStatus.OK if result is not None else CallStatus.STARTED
        kept = {"arguments": {}, "seq": self._count, "status": status, "result": result, **fields}
        return ToolCall(id=made["id"], started_at=made["inserted_at"], message_id=message.id, name=name, **kept)


@pytest.fixture
def make():
    return Make()


@dataclass
class ScriptedModel:
    """A ChatModel that says what the script says and remembers what it was asked.

    A step is a text, a list of calls, a list of pieces, a reply, an exception to raise, an `asyncio.Event` to wait for,
    or a function of the request that gives one of these. `usage` is told of each reply.
    """

    script: list = field(default_factory=list)
    usage: dict = field(default_factory=dict)
    asked: list[ChatRequest] = field(default_factory=list)

    async def stream(self, request):
        self.asked.append(request)
        step = self.script.pop(0)
        if callable(step):
            step = step(request)
        if hasattr(step, "wait"):
            yield Delta(text="…")
            await step.wait()
            step = self.script.pop(0)
        if isinstance(step, Exception):
            raise step
        if isinstance(step, str):
            for word in step.split(" "):
                yield Delta(text=word + " ")
            usage = {"model": request.model, "completion_tokens": 3} | self.usage
            yield Reply(text=step, finish_reason="stop", usage=usage)
        elif isinstance(step, Reply):
            yield step
        elif step and not isinstance(step[0], RequestedCall):
            for piece in step:
                yield piece
        else:
            yield Reply(calls=tuple(step), finish_reason="tool_calls", usage=self.usage)


@pytest.fixture
def scripted():
    return lambda *script: ScriptedModel(list(script))


@pytest.fixture
def asks_for():
    return lambda name, **arguments: RequestedCall(name=name, arguments=arguments)

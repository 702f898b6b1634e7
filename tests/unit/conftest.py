"""What the unit tests share: a model that says what the script says, and whether there is a sandbox."""

from dataclasses import dataclass, field

import pytest
from sandboxing import why_no_sandbox

from piano_jupyter.runner.model.protocol import ChatRequest, Delta, Reply, RequestedCall


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
    return lambda name, /, **arguments: RequestedCall(name=name, arguments=arguments)


@pytest.fixture
def sandboxed():
    """Skip where there is no sandbox, with the reason."""
    if why := why_no_sandbox():
        pytest.skip(f"no sandbox: {why}")

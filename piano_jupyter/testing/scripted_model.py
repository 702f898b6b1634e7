"""ScriptedModel: a model in this process that gives the replies of a script."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from piano_jupyter.errors import ModelError
from piano_jupyter.runner.model.protocol import ChatRequest, Delta, Piece, Reply, RequestedCall
from piano_jupyter.testing.script import EXHAUSTED, words

ModelStep = str | RequestedCall | Sequence[RequestedCall] | Sequence[Piece] | Reply | Exception | asyncio.Event


class ScriptedModel:
    """A model in this process that gives the replies of a script and records its requests.

    Pass it to `Piano` as `model`: no server is contacted, and no model is loaded. All else is real: agents, tools,
    rules, approvals, the database. Each request takes the next step of the script:

    * a `str`: the text of the answer, streamed word by word;
    * `tool_call(...)`, or a list of them: the model calls these tools, and reads their results in its next request;
    * an exception: the request fails with it (a `ModelError` is what a server's trouble becomes);
    * a `Reply`: an answer with its reasoning, usage or finish reason;
    * a list of `Delta` and `Reply`: exactly these pieces are streamed;
    * an `asyncio.Event`: the answer begins, waits for the event, and continues with the next step;
    * a function: it is called with the `ChatRequest` and returns one of the steps above.

    Args:
        script: The steps, in the order in which they are used.
        answer: A function that is called with the request when the script is used up, and returns a step.
        usage: What each reply reports as its usage, such as `{"completion_tokens": 3}`; counts are in tokens.

    Attributes:
        script: The steps that are left; may be changed at any time.
        requests: The requests so far, each a `ChatRequest` with `model`, `messages`, `tools`, `options` and `schema`.

    Raises:
        ModelError: From the question that finds the script used up, if there is no `answer`.

    Example:
        >>> model = ScriptedModel(["Paris."])
        >>> async with Piano(database=":memory:", model=model) as chat:
        ...     answer = await chat.ask("What is the capital of France?")
        >>> answer.content
        'Paris.'
        >>> model.requests[0].messages[-1]["content"]
        'What is the capital of France?'
    """

    def __init__(
        self,
        script: Iterable[ModelStep | Callable[[ChatRequest], ModelStep]] = (),
        *,
        answer: Callable[[ChatRequest], ModelStep] | None = None,
        usage: Mapping[str, Any] | None = None,
    ) -> None:
        self.script = list(script)
        self.answer = answer
        self.usage = dict(usage or {})
        self.requests: list[ChatRequest] = []

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Piece, None]:
        """Yield the pieces of the next reply; `Piano` calls this for each request."""
        self.requests.append(request)
        step = self._next(request)
        while isinstance(step, asyncio.Event):
            yield Delta(text="…")
            await step.wait()
            step = self._next(request)
        if isinstance(step, Exception):
            raise step
        for piece in self._pieces(step, request.model):
            yield piece

    def _next(self, request: ChatRequest) -> ModelStep:
        step = self.script.pop(0) if self.script else self.answer
        if step is None:
            raise ModelError(EXHAUSTED.format(number=len(self.requests)))
        return step(request) if callable(step) else step

    def _pieces(self, step: ModelStep, model: str) -> Sequence[Piece]:
        if isinstance(step, str):
            usage = {"model": model, "completion_tokens": len(words(step))} | self.usage
            return [*(Delta(text=word) for word in words(step)), Reply(text=step, finish_reason="stop", usage=usage)]
        if isinstance(step, Reply):
            return [step]
        steps: Sequence[Any] = [step] if isinstance(step, RequestedCall) else cast("Sequence[Any]", step)
        if steps and not isinstance(steps[0], RequestedCall):
            return steps
        return [Reply(calls=tuple(steps), finish_reason="tool_calls", usage=self.usage)]

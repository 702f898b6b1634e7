"""The body of a chat request, in the form of the OpenAI chat API. Pure."""

from typing import Any

from piano_jupyter.runner.model.protocol import ChatRequest
from piano_jupyter.runner.model.stream.constrained_calls import response_format


def request_body(request: ChatRequest, **fields: Any) -> dict[str, Any]:
    """Return a request as JSON; `fields` are not replaced by the agent's options of the same name."""
    body: dict[str, Any] = {**request.options, "model": request.model, "messages": list(request.messages), **fields}
    if request.tools:
        body["tools"] = list(request.tools)
        if request.answer_now:
            body["tool_choice"] = "none"
    if request.schema is not None and not request.may_call:
        body["response_format"] = response_format(request.schema, "answer")
    return body

"""The interface between a turn and a model: ChatModel, ChatRequest, and the pieces of a reply. Types only."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatRequest:
    """A request to a model: chat messages and tools in the form of the OpenAI chat API.

    Attributes:
        model: The name of the model.
        messages: The messages, each with a `role` and `content`.
        tools: The tools that the model may call.
        options: Options of the agent, such as `temperature`.
        schema: The JSON Schema that the answer has to fit, if it is to be JSON.
        answer_now: Whether the model may call no more tools.
    """

    model: str
    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    schema: Mapping[str, Any] | None = None
    answer_now: bool = False

    @property
    def may_call(self) -> bool:
        """Whether the reply may call a tool."""
        return bool(self.tools) and not self.answer_now


@dataclass(frozen=True, kw_only=True, slots=True)
class Delta:
    """A piece of a reply.

    Attributes:
        text: A piece of the answer.
        reasoning: A piece of what the model thinks before it answers.
    """

    text: str = ""
    reasoning: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadingNotice:
    """The server says that the model is loading."""

    note: str
    fraction: float | None = None  #: of the download that is done, 0 to 1
    seconds: float | None = None  #: how long it has been loading


@dataclass(frozen=True, slots=True)
class StreamRestarted:
    """The reply starts over: discard what was received of it so far."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestedCall:
    """A tool call as the model requested it; `problem` says why it cannot run, if it cannot."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    problem: str | None = None
    repaired: bool = False  #: its arguments were complete, but not valid JSON


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """A whole reply.

    Attributes:
        text: The answer.
        reasoning: What the model thought before it answered.
        calls: The tool calls that it asks for.
        finish_reason: Why it ended: "stop", "tool_calls", "length" if it was cut off, or "loop" if the model
            repeated itself.
        usage: What it cost, such as `prompt_tokens` and `completion_tokens`.
    """

    text: str = ""
    reasoning: str = ""
    calls: tuple[RequestedCall, ...] = ()
    finish_reason: str | None = None
    usage: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_cut(self) -> bool:
        """Whether it was cut off: at its length limit, or because the model repeated itself."""
        return self.finish_reason in {"length", "loop"}


Piece = Delta | LoadingNotice | StreamRestarted | Reply


class ChatModel(Protocol):
    """Anything that streams deltas and ends with a `Reply`. Raises ModelError."""

    def stream(self, request: ChatRequest) -> AsyncGenerator[Piece, None]:
        """Yield the reply's pieces as they come, and the complete reply last."""
        ...

"""What a turn asks and what it gets: ChatModel, ChatRequest, and the pieces of a reply. Types only."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatRequest:
    """One question to a model: chat messages and tools in the form of the OpenAI chat API."""

    model: str
    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    schema: Mapping[str, Any] | None = None  #: what the server is to hold the answer to
    answer_now: bool = False  #: no tool is to be called any more

    @property
    def may_call(self) -> bool:
        """Whether the reply may call a tool."""
        return bool(self.tools) and not self.answer_now


@dataclass(frozen=True, kw_only=True, slots=True)
class Delta:
    """A piece of a reply."""

    text: str = ""
    reasoning: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadingNotice:
    """The server says that the model is on its way."""

    note: str
    fraction: float | None = None  #: how much of a fetch is done, 0 to 1
    seconds: float | None = None  #: how long it has been loading


@dataclass(frozen=True, slots=True)
class StreamRestarted:
    """The reply begins anew: what was told of it so far is void."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestedCall:
    """A tool call as the model asked for it; `problem` says why it cannot be run, if it cannot."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    problem: str | None = None
    repaired: bool = False  #: its arguments were complete, but not quite JSON


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """A whole reply."""

    text: str = ""
    reasoning: str = ""
    calls: tuple[RequestedCall, ...] = ()
    finish_reason: str | None = None
    usage: Mapping[str, Any] = field(default_factory=dict)


Piece = Delta | LoadingNotice | StreamRestarted | Reply


class ChatModel(Protocol):
    """What a turn asks: anything that streams deltas and ends with a `Reply`. Raises ModelError."""

    def stream(self, request: ChatRequest) -> AsyncGenerator[Piece, None]:
        """Yield the reply's pieces as they come, last the whole reply."""
        ...

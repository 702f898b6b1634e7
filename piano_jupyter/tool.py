"""Tool and @tool: a function with a docstring becomes a tool that a model can call."""

import inspect
import json
import re
import types
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict, overload
from uuid import UUID

from piano_jupyter.errors import ToolError
from piano_jupyter.records import Mode
from piano_jupyter.text.docstrings import docstring

#: From the narrowest to the widest: read only; write beneath the workspace; anything.
MODES: tuple[Mode, ...] = get_args(Mode)

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")  # What the chat API takes.
SCALARS: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    Any: {},
}


class Verdict(StrEnum):
    """Whether a call may run."""

    ALLOW = "allow"  #: it runs
    ASK = "ask"  #: the user decides
    DENY = "deny"  #: it does not run; the model is told why


@dataclass(frozen=True, slots=True)
class ToolAssessment:
    """What a tool itself thinks of a call, before rules and people are asked."""

    verdict: Verdict
    reason: str = ""  #: why it is denied, as the model is told it, or why the user is asked


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolCallContext:
    """What a tool may know of the call that it runs for, from `calling`."""

    thread_id: UUID
    call_id: UUID
    mode: Mode  #: under which the call was allowed
    say: Callable[[str], None]  #: tells people what the call waits for, from any thread


#: The call that a tool runs for or judges; None where it is called otherwise.
calling: ContextVar[ToolCallContext | None] = ContextVar("calling", default=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tool:
    """Something that a model can ask to be run.

    `parameters` is a JSON Schema of type object. The function takes them by name and returns what the model is to
    read; it may be a coroutine function. A `ToolError` that it raises is the model's answer.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    function: Callable[..., Any | Awaitable[Any]]
    asks: bool = False  #: every call waits for the user's yes, unless a rule allows it
    judge: Callable[[Mapping[str, Any], Mode], ToolAssessment] | None = None  #: the tool's own opinion of a call
    subject: str = ""  #: the argument that a rule's pattern is about: "command", "path"
    seconds: Callable[[Mapping[str, Any]], float] | None = None  #: how long a call may take, if it is the tool's to say

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function, as if it had not become a tool."""
        return self.function(*args, **kwargs)

    def schema(self) -> dict[str, Any]:
        """Return the tool as the OpenAI chat API describes one."""
        described = {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}
        return {"type": "function", "function": described}


@overload
def tool(function: Callable[..., Any], /) -> Tool: ...
@overload
def tool(*, name: str | None = None, asks: bool = False) -> Callable[[Callable[..., Any]], Tool]: ...
def tool(
    function: Callable[..., Any] | None = None, /, *, name: str | None = None, asks: bool = False
) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Make a function a tool: its name, docstring and signature say what the model is told.

        @tool
        def rows(table: str, limit: int = 5) -> str:
            "Return the first rows of a table."

    Raises ToolError where the function has no docstring, no fitting name, or a parameter of a type that JSON lacks.
    """

    def make(function: Callable[..., Any]) -> Tool:
        if not inspect.isroutine(function):
            raise ToolError(f"{function!r} is not a function; write one with a docstring that calls it")
        title = name or function.__name__
        if not NAME.fullmatch(title):
            raise ToolError(
                f"{title!r} is no name for a tool; use @tool(name=...) with letters, digits, _ and -, 64 at most"
            )
        description = docstring(function)
        if not description:
            raise ToolError(f"{title!r} needs a docstring: it is what the model reads about the tool")
        return Tool(
            name=title, description=description, parameters=_parameters(title, function), function=function, asks=asks
        )

    return make if function is None else make(function)


def as_tool(thing: "Tool | Callable[..., Any]") -> Tool:
    """Return a tool as it is, and a function as a tool."""
    return thing if isinstance(thing, Tool) else tool(thing)


def _parameters(title: str, function: Callable[..., Any]) -> dict[str, Any]:
    try:
        hints = get_type_hints(function)
    except NameError as error:
        raise ToolError(f"{title!r} has an annotation that cannot be looked up: {error}") from error
    properties: dict[str, Any] = {}
    required: list[str] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY}:
            raise ToolError(f"{title!r} takes {parameter}: a model can only name its arguments; spell them out")
        record = partial(_record, title, parameter.name)
        properties[parameter.name] = json_schema(hints.get(parameter.name, str), record)
        if parameter.default is parameter.empty:
            required.append(parameter.name)
        elif parameter.default is not None and is_json(parameter.default):
            properties[parameter.name]["default"] = parameter.default
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def json_schema(hint: Any, otherwise: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    """Return a type as a JSON Schema; `otherwise` is asked for one that is not made of JSON's own types.

    A text beside an annotated type (`Annotated[int, "in years"]`) is its description.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        told = [each for each in inner[1:] if isinstance(each, str)]
        return json_schema(inner[0], otherwise) | ({"description": told[0]} if told else {})
    if hint in SCALARS:
        return dict(SCALARS[hint])
    if origin is Literal:
        return {"enum": list(inner)}
    if origin in {Union, types.UnionType}:
        return {"anyOf": [json_schema(each, otherwise) for each in inner]}
    if origin is tuple and inner and Ellipsis not in inner:
        each = [json_schema(one, otherwise) for one in inner]
        return {"type": "array", "prefixItems": each, "minItems": len(each), "maxItems": len(each)}
    if hint in {list, tuple, Sequence} or origin in {list, tuple, Sequence}:
        return {"type": "array", "items": json_schema(inner[0], otherwise) if inner else {}}
    if hint in {dict, Mapping} or (origin in {dict, Mapping} and inner[0] in {str, Any}):
        return {"type": "object", "additionalProperties": json_schema(inner[1], otherwise) if inner else True}
    return otherwise(hint)


def _record(title: str, name: str, hint: Any) -> dict[str, Any]:
    if is_typeddict(hint):
        fields = get_type_hints(hint)
        properties = {each: json_schema(fields[each], partial(_record, title, f"{name}.{each}")) for each in fields}
        required = [each for each in fields if each in hint.__required_keys__]
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    raise ToolError(
        f"{title!r} takes {name!r} as {hint!r}, which JSON cannot carry; "
        "use str, int, float, bool, list, dict or a TypedDict"
    )


def is_json(value: Any) -> bool:
    """Return whether JSON carries a value."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True

"""Tool and @tool: a function with a docstring becomes a tool that a model can call."""

import hashlib
import inspect
import json
import re
import types
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict, overload
from uuid import UUID

from piano_jupyter.attachments.attachment import Attachment
from piano_jupyter.errors import ToolError
from piano_jupyter.records import Mode
from piano_jupyter.text.docstrings import docstring

#: From the narrowest to the widest: only read; write in the workspace; anything.
MODES: tuple[Mode, ...] = get_args(Mode)

MAX_NAME_CHARS = 64  #: of a tool's name in the chat API
TOOL_NAME = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_NAME_CHARS}}}")  # What the chat API accepts.
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
    DENY = "deny"  #: it does not run; the model learns why


@dataclass(frozen=True, slots=True)
class ToolAssessment:
    """A tool's own assessment of a call, before rules and people decide."""

    verdict: Verdict
    reason: str = ""  #: why it is denied, for the model, or why the user is asked
    #: Where the call's paths lead, links resolved. If that changes before the call runs, the user is asked again.
    target: str = field(default="", kw_only=True)
    overrides_rules: bool = field(default=False, kw_only=True)  #: whether it asks even if a rule allows the call


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolCallContext:
    """What a tool may know about the current call, from `current_call`."""

    thread_id: UUID
    call_id: UUID
    mode: Mode  #: in which the call was allowed
    say: Callable[[str], None]  #: tells people what the call is waiting for; works in any thread
    rules: tuple[str, ...] = ()  #: those that were in force when the message was sent
    target: str = ""  #: where its paths led when it was allowed, as its `judge` said


@dataclass(frozen=True, kw_only=True, slots=True)
class NeedsApproval:
    """What a tool returns that has done something and may do more if the user approves.

    One of the two coroutine functions is called afterwards; what it returns is added to what the model reads.
    """

    text: str  #: what the model reads about what was done
    question: str  #: what the user is asked, as the end of "ADA has run TOOL; …"
    reason: str  #: what it is about, and why it needs approval
    accept: Callable[[], Coroutine[Any, Any, str]]
    refuse: Callable[[], Coroutine[Any, Any, str]]
    ok: bool = True  #: whether what was done succeeded


@dataclass(frozen=True, kw_only=True, slots=True)
class ResultWithAttachments:
    """What a tool returns that has shown something: people see it, the model reads the text."""

    text: str  #: what the model reads
    attachments: tuple[Attachment, ...]
    ok: bool = True  #: whether the tool succeeded


#: The call that a tool is running for or judging; None outside a call.
current_call: ContextVar[ToolCallContext | None] = ContextVar("current_call", default=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tool:
    """A function that a model can call, with what the model is told about it. `tool` makes one of a function.

    Attributes:
        name: Its name: up to 64 letters, digits, `_` and `-`; of a tool of an MCP server `server.tool`.
        description: What the model is told that it does.
        parameters: The parameters, as a JSON Schema of type object.
        function: The function, or coroutine function. It is called with the arguments by name, and returns what the
            model is to read. If it raises a `ToolError`, the model reads its sentence.
        asks: Whether every call needs the user's approval, unless a rule allows it.
        judge: A function of the arguments and the mode that decides whether a call runs, asks or is denied.
        subject: The argument that the pattern of a rule is about, such as "command" or "path".
        seconds: A function of the arguments that returns how many seconds a call may take; by default `tool_timeout`.

    Example:
        >>> def price(item: str) -> float:
        ...     "Return today's price of an item, in euros."
        ...     return {"tea": 2.5, "bread": 3.2}[item]
        >>> made = tool(price)
        >>> made.name, made.parameters["required"]
        ('price', ['item'])
        >>> made("tea")
        2.5
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    function: Callable[..., Any | Awaitable[Any]]
    asks: bool = False
    judge: Callable[[Mapping[str, Any], Mode], ToolAssessment] | None = None
    subject: str = ""
    seconds: Callable[[Mapping[str, Any]], float] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function itself."""
        return self.function(*args, **kwargs)

    def schema(self) -> dict[str, Any]:
        """Return the tool's description for the OpenAI chat API."""
        function = {
            "name": name_for_model(self.name),
            "description": self.description,
            "parameters": dict(self.parameters),
        }
        return {"type": "function", "function": function}


def name_for_model(name: str) -> str:
    """Return a tool's name as the chat API accepts it: `github.search` becomes `github__search`."""
    plain = name.replace(".", "__")
    if len(plain) <= MAX_NAME_CHARS:
        return plain
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{plain[: MAX_NAME_CHARS - 9]}_{digest}"


@overload
def tool(function: Callable[..., Any], /) -> Tool: ...
@overload
def tool(*, name: str | None = None, asks: bool = False) -> Callable[[Callable[..., Any]], Tool]: ...
def tool(
    function: Callable[..., Any] | None = None, /, *, name: str | None = None, asks: bool = False
) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Make a function a tool that agents can be given.

    The model is told the function's name, its docstring, and its parameters with their types. In a cell of a notebook
    the tool is added to the kernel's Piano; elsewhere, pass it to `Piano(tools=...)` or `Piano.add_tool`.

    Args:
        function: The function, or coroutine function. Parameters may be of JSON's types, `Literal`, `list`, `dict` and
            `TypedDict`; `Annotated[int, "in years"]` describes one.
        name: The name of the tool; by default that of the function.
        asks: Whether every call needs the user's approval, unless a rule allows it.

    Returns:
        The tool, which can still be called like the function; without `function` a decorator that returns it.

    Raises:
        ToolError: The function has no docstring or no fitting name, or a parameter has a type that JSON lacks.

    Example:
        >>> @tool
        ... def rows(table: str, limit: int = 5) -> str:
        ...     "Return the first rows of a table."
        ...     return f"{limit} rows of {table}"
        >>> rows("sales")
        '5 rows of sales'
        >>> rows.description
        'Return the first rows of a table.'
    """

    def make(function: Callable[..., Any]) -> Tool:
        if not inspect.isroutine(function):
            raise ToolError(f"{function!r} is not a function; write one with a docstring that calls it")
        title = name or function.__name__
        if not TOOL_NAME.fullmatch(title):
            raise ToolError(
                f"{title!r} is not a valid tool name; use @tool(name=...) with at most 64 letters, digits, _ and -"
            )
        description = docstring(function)
        if not description:
            raise ToolError(f"{title!r} needs a docstring, which is what the model reads about the tool")
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
        raise ToolError(f"{title!r} has an annotation that cannot be resolved: {error}") from error
    properties: dict[str, Any] = {}
    required: list[str] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY}:
            raise ToolError(f"{title!r} takes {parameter}, but a model can only pass named arguments; list them")
        typed_dict_schema = partial(_typed_dict_schema, title, parameter.name)
        properties[parameter.name] = json_schema(hints.get(parameter.name, str), typed_dict_schema)
        if parameter.default is parameter.empty:
            required.append(parameter.name)
        elif parameter.default is not None and is_json(parameter.default):
            properties[parameter.name]["default"] = parameter.default
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def json_schema(hint: Any, fallback: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    """Return a type as a JSON Schema; `fallback` handles types that are not made of JSON's own.

    The text in an annotated type (`Annotated[int, "in years"]`) becomes its description.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        texts = [each for each in arguments[1:] if isinstance(each, str)]
        return json_schema(arguments[0], fallback) | ({"description": texts[0]} if texts else {})
    if hint in SCALARS:
        return dict(SCALARS[hint])
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in {Union, types.UnionType}:
        return {"anyOf": [json_schema(each, fallback) for each in arguments]}
    if origin is tuple and arguments and Ellipsis not in arguments:
        each = [json_schema(item, fallback) for item in arguments]
        return {"type": "array", "prefixItems": each, "minItems": len(each), "maxItems": len(each)}
    if hint in {list, tuple, Sequence} or origin in {list, tuple, Sequence}:
        return {"type": "array", "items": json_schema(arguments[0], fallback) if arguments else {}}
    if hint in {dict, Mapping} or (origin in {dict, Mapping} and arguments[0] in {str, Any}):
        return {"type": "object", "additionalProperties": json_schema(arguments[1], fallback) if arguments else True}
    return fallback(hint)


def _typed_dict_schema(title: str, name: str, hint: Any) -> dict[str, Any]:
    if is_typeddict(hint):
        fields = get_type_hints(hint)
        properties = {
            each: json_schema(fields[each], partial(_typed_dict_schema, title, f"{name}.{each}")) for each in fields
        }
        required = [each for each in fields if each in hint.__required_keys__]
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    raise ToolError(
        f"{title!r} takes {name!r} as {hint!r}, which JSON does not support; "
        "use str, int, float, bool, list, dict or a TypedDict"
    )


def is_json(value: Any) -> bool:
    """Return whether a value can be written as JSON."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


_RENAMED = {"Calling": "ToolCallContext", "Opinion": "ToolAssessment", "calling": "current_call"}


def __getattr__(name: str) -> Any:
    """Give what was renamed under its old name, with a warning."""
    if name not in _RENAMED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(f"{__name__}.{name} is now {_RENAMED[name]}", DeprecationWarning, stacklevel=2)
    return globals()[_RENAMED[name]]

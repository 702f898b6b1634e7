"""The few methods of frames and series that `{{…}}` calls, with literal arguments; no library is imported."""

import ast
import io
from collections.abc import Callable, Mapping
from typing import Any

from piano_jupyter.errors import PianoError
from piano_jupyter.variables.data_frames import kind_among
from piano_jupyter.variables.frame_parts import PARTS, FrameParts, frame_parts
from piano_jupyter.variables.variable_access import evaluate

METHODS = ("head", "tail", "sample", "describe", "info", "value_counts")
ATTRIBUTES = ("dtypes", "shape", "columns")
ONLY_THESE = (
    f"nothing is called but {', '.join(METHODS)} of data frames and series, with numbers and texts as arguments; "
    "put the result into a variable and use that"
)


class SpecialFunction:
    """A function that `{{…}}` calls by its name, with literal arguments.

    Among the variables its name ends in "(", so that none of the user's takes its place.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function


def evaluate_call(call: ast.Call, variables: Mapping[str, Any]) -> Any:
    """Return the result of a call. Raises PianoError for any but a method of a frame, or a `SpecialFunction`."""
    match call.func:
        case ast.Name(id=name) if isinstance(special := variables.get(f"{name}("), SpecialFunction):
            return special.function(*_literals(call.args), **_named_literals(call))
        case ast.Attribute(value=inner, attr=name) if name in METHODS:
            owner = evaluate(inner, variables, evaluate_call)
            if is_frame(owner):
                return call_method(owner, name, *_literals(call.args), **_named_literals(call))
    raise PianoError(ONLY_THESE)


def is_frame(value: Any) -> bool:
    """Return whether a value is a frame or a series, whose methods may be called."""
    return kind_among(value, PARTS) not in {"", "numpy.ndarray"}


def has_method(frame: Any, name: str) -> bool:
    """Return whether `call_method` can call a method of a frame."""
    return name in {"head", "tail", "info"} or hasattr(type(frame), name)


def call_method(frame: Any, name: str, *arguments: Any, **named: Any) -> Any:
    """Return the result of a method of a frame; where its library has none of that name, what it would be."""
    kind = kind_among(frame, PARTS)
    if name == "info" and kind.startswith("pandas."):
        written = io.StringIO()
        frame.info(*arguments, buf=written, **named)
        return written.getvalue()
    if callable(own := getattr(frame, name, None)):  # in DuckDB, a column of that name is none
        return own(*arguments, **named)
    if parts := frame_parts(frame):
        if name == "info":
            return _info(kind, parts)
        if name in {"head", "tail"}:
            return _slice(frame, parts, name, *arguments, **named)
    raise PianoError(f"a {kind} has no {name}")


def _info(kind: str, parts: FrameParts) -> str:
    columns = (f"{name}: {each}" for name, each in zip(parts.names, parts.types, strict=True))
    return "\n".join([f"{kind}, {parts.size}", *columns])


def _slice(frame: Any, parts: FrameParts, name: str, n: int = 5) -> Any:
    """Return the first or last rows of a frame of a library without `head` and `tail`: pyarrow, DuckDB."""
    if parts.rows is not None:
        return frame.slice(0 if name == "head" else max(parts.rows - n, 0), n)
    if name == "head":
        return frame.limit(n)
    raise PianoError("the rows of a relation have no end until they are computed; use head")


def _literals(nodes: list[ast.expr]) -> list[Any]:
    try:
        return [ast.literal_eval(node) for node in nodes]
    except (ValueError, TypeError):
        raise PianoError(ONLY_THESE) from None


def _named_literals(call: ast.Call) -> dict[str, Any]:
    names = [each.arg for each in call.keywords]
    if None in names:
        raise PianoError(ONLY_THESE)
    return dict(zip(map(str, names), _literals([each.value for each in call.keywords]), strict=True))

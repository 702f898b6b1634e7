"""Look up variables of the user's namespace and their parts, by dots and indexes; nothing else is called.

Only the user's data can be read, not the environment, the internals of modules and functions, stack frames, or objects
of IPython, ipykernel and Piano, which hold the keys of the session. Every step of a lookup is checked.
"""

import ast
import gc
import os
from collections import ChainMap, UserDict
from collections.abc import Callable, Mapping
from types import BuiltinMethodType, FrameType, MappingProxyType, MethodType, ModuleType
from typing import Any

from piano_jupyter.errors import NotFoundError, PianoError
from piano_jupyter.text.expressions import parse_expression
from piano_jupyter.text.truncation import truncated
from piano_jupyter.variables.data_frames import kind_among
from piano_jupyter.variables.frame_parts import PARTS, frame_parts

CallEvaluator = Callable[[ast.Call, Mapping[str, Any]], Any]

ENVIRONMENT = type(os.environ)
NO_ITEMS: dict[str, str] = {}
VIEWS = (type(NO_ITEMS.values()), type(NO_ITEMS.items()))
#: How Python and IPython print an environment.
ENVIRONMENT_TEXT = ("environ({", "environ{")
HINT = "; put the part you need into a variable"
#: Libraries whose objects lead to the kernel and its keys, with the name shown to people.
INTERNAL_LIBRARIES = {
    "IPython": "IPython",
    "ipykernel": "ipykernel",
    "jupyter_client": "jupyter_client",
    "piano_jupyter": "Piano",
    "zmq": "ZeroMQ",
}
#: Their modules whose objects are data for the user.
DATA_MODULES = (
    "IPython.core.display",
    "IPython.core.display_functions",
    "IPython.core.magics.execution",  # the result of %timeit
    "IPython.lib.display",
    "IPython.utils",  # the lines of `!ls`, the output of %%capture
    "piano_jupyter.attachments.attachment",
    "piano_jupyter.errors",
    "piano_jupyter.events",
    "piano_jupyter.jupyter.context",
    "piano_jupyter.jupyter.render",
    "piano_jupyter.records",
    "piano_jupyter.tool",
)


def look_up(expression: str, variables: Mapping[str, Any]) -> Any:
    """Return the value of a name with dots and indexes, as in `{{name}}`; nothing is called.

    Raises PianoError for any other expression, an unknown name, or a value that is not the user's data. Errors that the
    variables themselves raise are passed on.
    """
    try:
        node = parse_expression(expression)
    except ValueError as error:
        raise PianoError(f"{truncated(expression, 200)!r} is not a name: {error}") from error
    return evaluate(node, variables)


def evaluate(node: ast.expr, variables: Mapping[str, Any], call: CallEvaluator | None = None) -> Any:
    """Return the value of a parsed name, as `look_up` does; `call` returns that of a call, where one is allowed."""
    match node:
        case ast.Name(id=name):
            if name not in variables:
                raise NotFoundError.among("variable", name, [each for each in variables if not each.startswith("_")])
            value = variables[name]
        case ast.Attribute(value=inner, attr=attribute):
            value = _attribute(ast.unparse(node), evaluate(inner, variables, call), attribute)
        case ast.Subscript(value=inner, slice=index):
            value = _item(evaluate(inner, variables, call), _literal(index))
        case ast.Call() if call is not None:
            value = call(node, variables)
        case _:
            raise PianoError("only names, dots and indexes are allowed; put the result into a variable and use that")
    if whose := _owner(value):
        raise PianoError(f"{ast.unparse(node)} is {whose}, which is not read{HINT}")
    return value


def _literal(index: ast.expr) -> Any:
    """Return the value of an index of numbers and texts, slices included."""
    match index:
        case ast.Slice(lower=lower, upper=upper, step=step):
            return slice(*(None if each is None else _literal(each) for each in (lower, upper, step)))
        case ast.Tuple(elts=parts):
            return tuple(map(_literal, parts))
    try:
        return ast.literal_eval(index)
    except ValueError:
        written = truncated(ast.unparse(index), 100)
        raise PianoError(f"the index {written} is no number or text{HINT}") from None


def is_environment(value: Any) -> bool:
    """Return whether a value is the environment, a dict with most of it, or a wrapper or view of one of these."""
    kind = type(value)
    if issubclass(kind, ChainMap):
        return any(is_environment(each) for each in value.maps)
    if issubclass(kind, UserDict):
        return is_environment(vars(value).get("data"))
    if kind is MappingProxyType:
        return any(map(is_environment, gc.get_referents(value)))  # the mapping behind it, without calling its methods
    if kind in VIEWS:
        return is_environment(value.mapping)
    if issubclass(kind, dict):
        return any(_has_most_of(value, its) for its in (os.environ, os.environb))
    return issubclass(kind, ENVIRONMENT)


def _has_most_of(value: dict[Any, Any], environment: Mapping[Any, Any]) -> bool:
    same = sum(type(own := dict.get(value, name)) is type(its) and own == its for name, its in environment.items())
    return bool(same > len(environment) / 2)


def shows_environment(text: str) -> bool:
    """Return whether the text of a value contains an environment, for example one in a list."""
    return any(each in text for each in ENVIRONMENT_TEXT)


def _attribute(written: str, owner: Any, attribute: str) -> Any:
    in_module = issubclass(type(owner), ModuleType)
    if attribute.startswith("__") or (in_module and attribute.startswith("_")):
        raise PianoError(f"{written} is an internal of Python or of a module, which is not read{HINT}")
    try:
        value = getattr(owner, attribute)
    except AttributeError:
        if not _is_column(owner, attribute):
            raise
        value = _item(owner, attribute)
    if issubclass(type(value), MethodType | BuiltinMethodType) and _is_column(owner, attribute):
        value = _item(owner, attribute)
    if in_module and not (issubclass(type(value), ModuleType) or callable(value)):
        raise PianoError(f"{written} is data inside a module, which is not read{HINT}")
    return value


def _item(owner: Any, index: Any) -> Any:
    """Return a part of a value by its index; of a lazy frame, which has none, a column."""
    is_lazy = isinstance(index, str) and kind_among(owner, {"polars.LazyFrame", "daft.DataFrame"})
    return owner.select(index) if is_lazy else owner[index]


def _is_column(owner: Any, name: str) -> bool:
    """Return whether a value is a frame that has a column of this name."""
    if not kind_among(owner, PARTS) or (parts := frame_parts(owner)) is None or parts.is_series:
        return False
    return any(isinstance(each, str) and each == name for each in parts.names[parts.index :])


def _owner(value: Any) -> str:
    """Return what a forbidden value is and whose, or "" for one that may be read."""
    if is_environment(value):
        return "the environment of the process"
    for kind in type(value).__mro__:  # its real type, whatever its `__class__` says
        if kind is FrameType:
            return "a stack frame"
        module = kind.__module__ if isinstance(kind.__module__, str) else ""
        whose = INTERNAL_LIBRARIES.get(module.partition(".")[0])
        if whose and not any(module == each or module.startswith(f"{each}.") for each in DATA_MODULES):
            return f"an object of {whose}"
    return ""


def type_name(value: Any) -> str:
    """Return the name of a value's type, with its library."""
    kind = type(value)
    library = str(kind.__module__).partition(".")[0].lstrip("_")
    return kind.__qualname__ if library in {"builtins", "main", ""} else f"{library}.{kind.__qualname__}"

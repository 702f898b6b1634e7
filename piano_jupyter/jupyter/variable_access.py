"""What a name of the user's namespace stands for, and parts of it: dotted or indexed, nothing is called.

The names and their data are read. What lies behind them is not: the environment, the insides of modules and functions,
stack frames, and the objects of IPython, ipykernel and Piano, which hold the keys of the session. Each step is looked
at, so that no way leads there.
"""

import ast
import gc
import os
from collections import ChainMap, UserDict
from collections.abc import Mapping
from types import FrameType, MappingProxyType, ModuleType
from typing import Any

from piano_jupyter.errors import NotFoundError, PianoError

ENVIRONMENT = type(os.environ)
NO_ITEMS: dict[str, str] = {}
VIEWS = (type(NO_ITEMS.values()), type(NO_ITEMS.items()))
#: How the text of an environment begins, wherever it stands: as Python and as IPython write it.
ENVIRONMENT_TEXT = ("environ({", "environ{")
WAY_OUT = "; what is wanted of it can be put into a variable of its own"
#: Libraries whose objects lead to the kernel and its keys, with whose they are.
MACHINERY = {
    "IPython": "IPython",
    "ipykernel": "ipykernel",
    "jupyter_client": "jupyter_client",
    "piano_jupyter": "Piano",
    "zmq": "ZeroMQ",
}
#: Their modules whose objects are data that the user has got from them.
DATA = (
    "IPython.core.display",
    "IPython.core.display_functions",
    "IPython.core.magics.execution",  # the result of %timeit
    "IPython.lib.display",
    "IPython.utils",  # the lines of `!ls`, what %%capture has captured
    "piano_jupyter.errors",
    "piano_jupyter.events",
    "piano_jupyter.jupyter.render",
    "piano_jupyter.records",
    "piano_jupyter.tool",
)


def looked_up(expression: str, variables: Mapping[str, Any]) -> Any:
    """Return what a name stands for, dotted or indexed as in `{{name}}`; nothing is called.

    Raises PianoError where it is anything else, does not exist, or is no data of the user's. What the variables
    themselves raise goes through.
    """
    try:
        node = ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise PianoError(f"{expression!r} is no name") from error
    return evaluated(node, variables)


def evaluated(node: ast.expr, variables: Mapping[str, Any]) -> Any:
    """Return what a parsed name stands for, as `looked_up` does."""
    match node:
        case ast.Name(id=name):
            if name not in variables:
                raise NotFoundError.among("variable", name, [each for each in variables if not each.startswith("_")])
            value = variables[name]
        case ast.Attribute(value=inner, attr=attribute):
            value = _attribute(ast.unparse(node), evaluated(inner, variables), attribute)
        case ast.Subscript(value=inner, slice=index):
            value = evaluated(inner, variables)[ast.literal_eval(index)]
        case _:
            raise PianoError("only names, dots and indexes are read; put the result into a variable and use that")
    if whose := _whose(value):
        raise PianoError(f"{ast.unparse(node)} is {whose}, which is not read{WAY_OUT}")
    return value


def is_environment(value: Any) -> bool:
    """Return whether a value is the environment, a dict with most of it, or a wrapper or view of one of these."""
    kind = type(value)
    if issubclass(kind, ChainMap):
        return any(is_environment(each) for each in value.maps)
    if issubclass(kind, UserDict):
        return is_environment(vars(value).get("data"))
    if kind is MappingProxyType:
        return any(map(is_environment, gc.get_referents(value)))  # what it stands for, without asking it
    if kind in VIEWS:
        return is_environment(value.mapping)
    if issubclass(kind, dict):
        return any(_has_most_of(value, its) for its in (os.environ, os.environb))
    return issubclass(kind, ENVIRONMENT)


def _has_most_of(value: dict[Any, Any], environment: Mapping[Any, Any]) -> bool:
    same = sum(type(own := dict.get(value, name)) is type(its) and own == its for name, its in environment.items())
    return bool(same > len(environment) / 2)


def shows_environment(text: str) -> bool:
    """Return whether the text of a value has an environment in it: of a list of one, say."""
    return any(each in text for each in ENVIRONMENT_TEXT)


def _attribute(written: str, owner: Any, attribute: str) -> Any:
    in_module = issubclass(type(owner), ModuleType)
    if attribute.startswith("__") or (in_module and attribute.startswith("_")):
        raise PianoError(f"{written} is an internal of Python or of a module, which is not read{WAY_OUT}")
    value = getattr(owner, attribute)
    if in_module and not (issubclass(type(value), ModuleType) or callable(value)):
        raise PianoError(f"{written} is data inside a module, which is not read{WAY_OUT}")
    return value


def _whose(value: Any) -> str:
    """Return what a value is and whose, "" where it may be read."""
    if is_environment(value):
        return "the environment of the process"
    for kind in type(value).__mro__:  # what it is, whatever its `__class__` says
        if kind is FrameType:
            return "a stack frame"
        module = kind.__module__ if isinstance(kind.__module__, str) else ""
        whose = MACHINERY.get(module.partition(".")[0])
        if whose and not any(module == each or module.startswith(f"{each}.") for each in DATA):
            return f"an object of {whose}"
    return ""

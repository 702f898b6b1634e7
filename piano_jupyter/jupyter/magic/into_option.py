"""The value of --into: the name of a variable of the user's, new or not."""

import builtins
import inspect
import keyword
import re
from collections.abc import Mapping
from typing import Any

from piano_jupyter.errors import PianoError
from piano_jupyter.jupyter.context.special_names import SPECIAL_NAMES

IPYTHON_NAMES = re.compile(r"_+|_i+|_i?[0-9]+")  # its last inputs and results


def check_variable_name(name: str, shell: Any) -> None:
    """Raise PianoError if a variable of the user's cannot, or should not, have this name."""
    if not name.isidentifier() or keyword.iskeyword(name):
        raise PianoError(f"--into {name!r}: a variable cannot have this name; write for example --into answer")
    is_hidden = name in shell.user_ns_hidden or name.startswith("__") or IPYTHON_NAMES.fullmatch(name)
    if is_hidden or name in SPECIAL_NAMES or hasattr(builtins, name):
        raise PianoError(f"--into {name}: Python, IPython or Piano uses this name; choose another, such as my_{name}")


def data_in(variables: Mapping[str, Any]) -> list[str]:
    """Return the names of the variables that hold data: no modules, functions or classes."""
    return sorted(
        name
        for name, value in variables.items()
        if not (name.startswith("_") or inspect.ismodule(value) or inspect.isroutine(value) or isinstance(value, type))
    )

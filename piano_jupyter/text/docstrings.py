"""Docstrings, also where Python drops them (`python -OO`, `PYTHONOPTIMIZE=2`): the model and %piano help need them."""

import ast
import inspect
import textwrap
from typing import Any


def docstring(thing: Any) -> str:
    """Return the docstring of a function or a class, from its source if need be; "" if there is none."""
    return inspect.getdoc(thing) or ("" if __debug__ else _from_source(thing))


def _from_source(thing: Any) -> str:
    try:
        return ast.get_docstring(ast.parse(textwrap.dedent(inspect.getsource(thing))).body[0]) or ""  # type: ignore[arg-type]
    except (OSError, SyntaxError, TypeError):  # no source, or none of a function's or a class's
        return ""

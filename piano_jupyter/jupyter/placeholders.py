"""`{{name}}` in a prompt: the user's variables, dotted or indexed; nothing is called. Pure."""

import ast
import re
from collections.abc import Mapping
from typing import Any

from piano_jupyter.errors import NotFoundError, PianoError
from piano_jupyter.jupyter.variable_access import evaluated, shows_environment

PLACEHOLDER = re.compile(r"(?<!\{)(\{{2,})([^{}]+)(\}{2,})")
ESCAPED = 4  # braces
LONGEST_VALUE = 50_000  # characters


def fill_in(text: str, variables: Mapping[str, Any]) -> str:
    """Put the user's variables where `{{name}}` stands, dotted or indexed (`{{df.shape}}`, `{{rows[0]}}`).

    Nothing is called. Braces that hold no name stay as they are. `{{{{name}}}}` says `{{name}}`, and nothing is filled
    in. Raises PianoError for a name that does not exist, and for what is no data of the user's.
    """
    return PLACEHOLDER.sub(lambda match: _filled(match, variables), text)


def _filled(match: re.Match[str], variables: Mapping[str, Any]) -> str:
    before, expression, after = match.groups()
    if len(before) >= ESCAPED and len(after) >= ESCAPED:
        return match[0][2:-2]
    return before[2:] + _value(f"{{{{{expression}}}}}", expression.strip(), variables) + after[2:]


def _value(written: str, expression: str, variables: Mapping[str, Any]) -> str:
    try:
        node = ast.parse(expression, mode="eval").body
    except (SyntaxError, ValueError):
        return written
    root: ast.expr = node
    while isinstance(root, ast.Attribute | ast.Subscript | ast.Call):
        root = root.func if isinstance(root, ast.Call) else root.value
    if not isinstance(root, ast.Name):
        return written
    try:
        value = str(evaluated(node, variables))
    except NotFoundError:
        raise
    except PianoError as error:
        raise PianoError(f"{written}: {error}") from error
    except Exception as error:
        raise PianoError(f"{written} cannot be read: {type(error).__name__}: {error}") from error
    if shows_environment(value):
        raise PianoError(f"{written} shows the environment of the process; put the part that you want into a variable")
    if len(value) > LONGEST_VALUE:
        raise PianoError(f"{written} is {len(value):,} characters long; put a part of it into a variable and use that")
    return value

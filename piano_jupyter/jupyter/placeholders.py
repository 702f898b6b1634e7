"""Insert variables into prompts: `{{name}}`, with dots and indexes; nothing is called. Pure."""

import ast
import re
from collections.abc import Mapping
from typing import Any

from piano_jupyter.errors import NotFoundError, PianoError
from piano_jupyter.jupyter.variable_access import evaluate, shows_environment
from piano_jupyter.text.expressions import parse_expression

PLACEHOLDER = re.compile(r"(?<!\{)(\{{2,})([^{}]+)(\}{2,})")
ESCAPED_BRACES = 4
MAX_VALUE_CHARS = 50_000


def fill_in(text: str, variables: Mapping[str, Any]) -> str:
    """Replace `{{name}}` by the value of the user's variable; names may have dots and indexes (`{{rows[0].id}}`).

    Nothing is called. Braces around anything but a name stay as they are; `{{{{name}}}}` becomes the text `{{name}}`.
    Raises PianoError for an unknown name, and for values that are not the user's data.
    """
    return PLACEHOLDER.sub(lambda match: _filled(match, variables), text)


def _filled(match: re.Match[str], variables: Mapping[str, Any]) -> str:
    before, expression, after = match.groups()
    if len(before) >= ESCAPED_BRACES and len(after) >= ESCAPED_BRACES:
        return match[0][2:-2]
    return before[2:] + _value(f"{{{{{expression}}}}}", expression.strip(), variables) + after[2:]


def _value(written: str, expression: str, variables: Mapping[str, Any]) -> str:
    try:
        node = parse_expression(expression)
    except ValueError:
        return written
    root: ast.expr = node
    while isinstance(root, ast.Attribute | ast.Subscript | ast.Call):
        root = root.func if isinstance(root, ast.Call) else root.value
    if not isinstance(root, ast.Name):
        return written
    try:
        value = str(evaluate(node, variables))
    except NotFoundError:
        raise
    except PianoError as error:
        raise PianoError(f"{written}: {error}") from error
    except Exception as error:
        raise PianoError(f"{written} cannot be read: {type(error).__name__}: {error}") from error
    if shows_environment(value):
        raise PianoError(f"{written} shows the environment of the process; put the part you want into a variable")
    if len(value) > MAX_VALUE_CHARS:
        raise PianoError(f"{written} is {len(value):,} characters long; put a part of it into a variable and use that")
    return value

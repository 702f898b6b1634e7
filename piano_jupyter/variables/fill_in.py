"""Insert variables into questions: `{{name}}`, with dots and indexes, and a few methods of frames.

One pass: what is inserted is text, also where it has braces in it.
"""

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from piano_jupyter.errors import NotFoundError, PianoError
from piano_jupyter.records import Inserted, shown_parts
from piano_jupyter.text.expressions import parse_expression
from piano_jupyter.text.placeholders import Placeholder, split_placeholders
from piano_jupyter.text.truncation import truncated
from piano_jupyter.variables.frame_methods import METHODS, call_method, evaluate_call, is_frame
from piano_jupyter.variables.value_text import DEFAULT_FRAME_CHARS, inserted_value
from piano_jupyter.variables.variable_access import evaluate

#: What turns a value into something other than text, such as an image; it returns None for values that it leaves alone.
Attach = Callable[[str, Any], Inserted | None]
MAX_WRITTEN_CHARS = 60
WHAT_CAN_STAND = (
    'a name can stand there, with dots and indexes: {{sales}}, {{rows[0].id}}, {{sales["price"].head(20)}}; '
    "{{{{…}}}} says {{…}}"
)


@dataclass(frozen=True, slots=True)
class FilledText:
    """A question as it was typed, as it is sent, and what was inserted into it, in order."""

    typed: str
    sent: str
    inserted: tuple[Inserted, ...] = ()

    @property
    def shown(self) -> str:
        """The text for people, with labels instead of what was inserted."""
        found = shown_parts(self.typed, self.inserted) if self.inserted else [self.sent]
        return "".join(part if isinstance(part, str) else part.label for part in found)


def fill_in(
    text: str,
    variables: Mapping[str, Any],
    *,
    frame_chars: int = DEFAULT_FRAME_CHARS,
    attach: Attach = lambda _expression, _value: None,
) -> FilledText:
    """Insert the values of variables for their names in double braces; `{{{{name}}}}` becomes the text `{{name}}`.

    A frame takes `frame_chars` characters at most. Raises PianoError for an unknown name, for values that are not the
    user's data, and for anything in double braces that is no name.
    """
    sent, inserted = [], []
    for part in split_placeholders(text):
        if isinstance(part, Placeholder):
            inserted.append(_insert(part, variables, frame_chars, attach))
            sent.append(inserted[-1].text)
        else:
            sent.append(part)
    return FilledText(text, "".join(sent), tuple(inserted))


def _insert(place: Placeholder, variables: Mapping[str, Any], frame_chars: int, attach: Attach) -> Inserted:
    written = truncated(place.written, MAX_WRITTEN_CHARS, "…}}}}")
    try:
        node = parse_expression(place.expression)
    except ValueError:
        raise PianoError(f"{written}: {WHAT_CAN_STAND}") from None
    if not isinstance(_root(node), ast.Name):
        raise PianoError(f"{written}: {WHAT_CAN_STAND}")
    try:
        value = _evaluate(node, variables)
        return attach(place.expression, value) or inserted_value(place.expression, value, frame_chars)
    except NotFoundError:
        raise
    except PianoError as error:
        raise PianoError(f"{written}: {error}") from error
    except Exception as error:
        raise PianoError(f"{written} cannot be read: {type(error).__name__}: {truncated(str(error), 300)}") from error


def _root(node: ast.expr) -> ast.expr:
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node


def _evaluate(node: ast.expr, variables: Mapping[str, Any]) -> Any:
    """Return the value of an expression; `{{sales.head}}` is `{{sales.head()}}`."""
    if isinstance(node, ast.Attribute) and node.attr in METHODS:
        owner = evaluate(node.value, variables, evaluate_call)
        if is_frame(owner):
            return call_method(owner, node.attr)
    return evaluate(node, variables, evaluate_call)

"""Insert variables into questions: `{{name}}`, with dots and indexes, and a few methods of frames.

One pass: what is inserted is text, also where it has braces in it.
"""

import ast
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import BuiltinMethodType, MethodType, MethodWrapperType
from typing import Any

from piano_jupyter.attachments.attachment import Attachment
from piano_jupyter.errors import NotFoundError, PianoError
from piano_jupyter.records import Inserted, shown_parts
from piano_jupyter.text.expressions import parse_expression
from piano_jupyter.text.placeholders import Placeholder, split_placeholders
from piano_jupyter.text.truncation import truncated
from piano_jupyter.variables.data_frames import is_failure
from piano_jupyter.variables.frame_methods import METHODS, ONLY_THESE, call_method, evaluate_call, is_frame
from piano_jupyter.variables.value_text import DEFAULT_FRAME_CHARS, inserted_value
from piano_jupyter.variables.variable_access import evaluate

MAX_WRITTEN_CHARS = 60
AS_TEXT = "{{{{…}}}} says {{…}}, and text in a variable is sent as it is"
WHAT_CAN_STAND = (
    'a name can stand there, with dots and indexes: {{sales}}, {{rows[0].id}}, {{sales["price"].head(20)}}; ' + AS_TEXT
)
METHODS_OF_ANYTHING = MethodType | BuiltinMethodType | MethodWrapperType


@dataclass(frozen=True, slots=True)
class FilledText:
    """A question as it was typed, as it is sent, and what was inserted into it, in order."""

    typed: str
    sent: str
    inserted: tuple[Inserted, ...] = ()
    attachments: tuple[Attachment, ...] = ()  #: the figures and images among them, each once

    @property
    def shown(self) -> str:
        """The text for people, with labels instead of what was inserted."""
        found = shown_parts(self.typed, self.inserted) if self.inserted else [self.sent]
        return "".join(part if isinstance(part, str) else part.label for part in found)


def fill_in(text: str, variables: Mapping[str, Any], *, frame_chars: int = DEFAULT_FRAME_CHARS) -> FilledText:
    """Insert the values of variables for their names in double braces; `{{{{name}}}}` becomes the text `{{name}}`.

    A frame takes `frame_chars` characters at most; of a figure or an image its name is inserted, and it is attached.
    Raises PianoError for an unknown name, for values that are not the user's data, and for anything in double braces
    that is no name.
    """
    sent: list[str] = []
    inserted: list[Inserted] = []
    attachments: list[Attachment] = []
    for part in split_placeholders(text):
        if not isinstance(part, Placeholder):
            sent.append(part)
            continue
        value = _value(part, variables, frame_chars)
        if isinstance(value, Attachment):
            attachments.append(value)
            value = _attached(value)
        inserted.append(value)
        sent.append(value.text)
    return FilledText(text, "".join(sent), tuple(inserted), tuple(dict.fromkeys(attachments)))


def _value(place: Placeholder, variables: Mapping[str, Any], frame_chars: int) -> Inserted | Attachment:
    """Return what stands for a placeholder: a text, or an image with its name."""
    from piano_jupyter.attachments.given import as_attachment  # noqa: PLC0415  Not wanted by plain questions.

    written = truncated(" ".join(place.written.split()), MAX_WRITTEN_CHARS, "…}}}}")
    try:
        node = parse_expression(place.expression)
    except ValueError:
        raise PianoError(f"{written}: {WHAT_CAN_STAND}") from None
    if not isinstance(root := _root(node), ast.Name):
        raise PianoError(f"{written}: {WHAT_CAN_STAND}")
    try:
        value = _evaluate(node, variables)
        if (image := as_attachment(value)) is None:
            return inserted_value(place.expression, value, frame_chars)
        return image if image.name else replace(image, name=" ".join(written[2:-2].split()))
    except PianoError as error:
        is_known = root.id in variables or f"{root.id}(" in variables
        hint = "" if is_known else f"; {AS_TEXT}"  # the braces may be those of a template or a program
        kind = NotFoundError if isinstance(error, NotFoundError) else PianoError
        raise kind(f"{written}: {error}{hint}") from error
    except BaseException as error:
        if not is_failure(error):
            raise
        raise PianoError(f"{written} cannot be read: {type(error).__name__}: {truncated(str(error), 300)}") from error


def _attached(attachment: Attachment) -> Inserted:
    """Return what is inserted for an attachment: its label, by which the model finds it."""
    return Inserted(f"{attachment.name} · {attachment.size_text}", attachment.reference)


def _root(node: ast.expr) -> ast.expr:
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node


def _evaluate(node: ast.expr, variables: Mapping[str, Any]) -> Any:
    """Return the value of an expression; `{{sales.head}}` is `{{sales.head()}}`. Raises PianoError for a method."""
    if isinstance(node, ast.Attribute) and node.attr in METHODS:
        owner = evaluate(node.value, variables, evaluate_call)
        if is_frame(owner):
            return call_method(owner, node.attr)
    value = evaluate(node, variables, evaluate_call)
    if issubclass(type(value), METHODS_OF_ANYTHING):
        raise PianoError(ONLY_THESE)
    return value

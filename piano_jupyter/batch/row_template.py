"""RowTemplate: the question that each row of a table is asked, with `{{column}}` for the row's values.

What is the same for all rows comes first, so that the server's prompt cache keeps it: the system prompt, the template
with the names of its columns, the schema. The row's values come last, as one line of JSON: a value ends where its
quotes do, and nothing in it is expanded or taken for another field.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from piano_jupyter.batch.cell_value import JSON_TYPES, json_value, to_json, too_long
from piano_jupyter.errors import PianoError
from piano_jupyter.runner.schema.response_format import response_format_of
from piano_jupyter.runner.turn.control_tokens import escape
from piano_jupyter.runner.turn.structured_output import SCHEMA_PROMPT
from piano_jupyter.text.invisible import model_text
from piano_jupyter.text.placeholders import Placeholder, split_placeholders
from piano_jupyter.text.truncation import truncated
from piano_jupyter.variables.value_text import MAX_VALUE_CHARS

NAMES_PROMPT = "Each name in double braces stands for the value of that name in the row, which follows as JSON."
ROW_PROMPT = "The row:\n"
MAX_NAMED = 30  #: columns that an error lists


class RowTemplate:
    """A template, with what else is the same for all rows.

    Args:
        text: The question; `{{column}}` is the row's value of that column, `{{{{column}}}}` the text `{{column}}`.
        system: The system prompt.
        schema: The type or JSON Schema of an answer; without it, an answer is a text.

    Attributes:
        columns: The names of the columns that the template uses, in order.
        schema: The JSON Schema, if there is one.

    Raises:
        PianoError: It names no column, or the schema is wrong.

    Example:
        >>> template = RowTemplate("Is this review positive? {{review}}", schema=bool)
        >>> template.columns
        ('review',)
    """

    def __init__(self, text: str, *, system: str = "", schema: Any = None) -> None:
        text = text.strip()
        parts = list(split_placeholders(text))
        names = [part.expression for part in parts if isinstance(part, Placeholder)]
        if not names:
            raise PianoError("the template names no column; write {{column}} where the value of a row belongs")
        self.text, self.system = text, system
        self.columns = tuple(dict.fromkeys(names))
        self.schema = None if schema is None else response_format_of(schema).schema
        written = "".join(part.written if isinstance(part, Placeholder) else part for part in parts)
        demand = [] if self.schema is None else [SCHEMA_PROMPT + json.dumps(self.schema, ensure_ascii=False)]
        self._start = escape("\n\n".join([written, NAMES_PROMPT, *demand, ROW_PROMPT]))
        self._system = [{"role": "system", "content": system}] if system.strip() else []

    def check(self, columns: Iterable[str]) -> None:
        """Raise PianoError if the template uses a column that there is not; it names those that there are."""
        known = list(columns)
        unknown = [name for name in self.columns if name not in known]
        if not unknown:
            return
        listed = ", ".join(truncated(name if _can_be_written(name) else repr(name), 60) for name in known[:MAX_NAMED])
        more = f" and {len(known) - MAX_NAMED:,} more" if len(known) > MAX_NAMED else ""
        missing = ", ".join(f"{{{{{truncated(name, 60)}}}}}" for name in unknown)
        rename = "" if all(map(_can_be_written, known)) else "; rename those with blanks around them, or with braces"
        raise PianoError(
            f"{missing}: no such column; there are: {listed or 'none'}{more}. "
            f"Only columns can stand in double braces{rename}"
        )

    def messages(self, row: Mapping[str, Any]) -> list[dict[str, str]]:
        """Return the chat messages for a row. Raises PianoError for a value that is too long or cannot be read."""
        return [*self._system, {"role": "user", "content": self._start + escape(model_text(self.fields(row)))}]

    def fields(self, row: Mapping[str, Any]) -> str:
        """Return the values that a row is asked with, as one line of JSON. Raises PianoError like `messages`."""
        values = {}
        for name in self.columns:
            value = row.get(name)
            if type(value) is str:
                if len(value) > MAX_VALUE_CHARS:
                    raise _in_column(name, too_long(len(value)))
            elif type(value) not in JSON_TYPES:
                try:
                    value = json_value(value)
                except PianoError as error:
                    raise _in_column(name, error) from error
            values[name] = value
        try:
            return to_json(values)
        except ValueError as error:  # Python does not write a number of more than 4,300 digits
            raise PianoError(f"the row cannot be written: {error}") from error


def _can_be_written(name: str) -> bool:
    """Return whether a name can stand in double braces."""
    return Placeholder(name) in split_placeholders(Placeholder(name).written)


def _in_column(name: str, error: PianoError) -> PianoError:
    return PianoError(f"{{{{{truncated(name, 60)}}}}}: {error}")

"""The key of a row: a digest of everything that is asked, by which an answer is found again."""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from piano_jupyter.batch.row_template import RowTemplate
from piano_jupyter.errors import PianoError

KEY_BYTES = 16
FORMAT = 1  #: changes with the way a prompt is written


def row_key(
    template: RowTemplate, model: str, options: Mapping[str, Any] | None = None
) -> Callable[[Mapping[str, Any]], bytes]:
    """Return a function that returns the key of a row: `KEY_BYTES` bytes, the same in each kernel and Python.

    The key depends on the template, its system prompt and schema, the model, its options, and the values of the row
    that the template uses: 1 and "1" have different keys, the same value in frames of different kinds has the same one.
    A row that cannot be asked has a key too.

    Example:
        >>> key_of = row_key(RowTemplate("Rate this: {{review}}"), "qwen3:32b")
        >>> key_of({"review": "Good."}) == key_of({"review": "Good.", "id": 7})
        True
    """
    schema = json.dumps(template.schema)  # not sorted: the order of its fields is part of what is asked
    same_for_all = [FORMAT, template.text, template.system, schema, model, dict(options or {})]
    start = hashlib.blake2b(json.dumps(same_for_all, sort_keys=True, default=str).encode(), digest_size=KEY_BYTES)
    copy, fields = start.copy, template.fields

    def key_of(row: Mapping[str, Any]) -> bytes:
        try:
            asked = fields(row)
        except PianoError as error:
            asked = f"cannot be asked: {error}"
        digest = copy()
        digest.update(asked.encode("utf-8", "replace"))
        return digest.digest()

    return key_of

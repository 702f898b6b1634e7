"""RowAnswer: what became of one row."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class RowAnswer:
    """The answer to one row, or why there is none.

    Attributes:
        text: The answer as the model wrote it, without its reasoning.
        value: The answer as a JSON value that matches the schema; without a schema, the text.
        error: Why there is no answer, in one sentence; None if there is one.
        usage: The tokens of all requests for this row, as far as the server counts them: `prompt_tokens`,
            `cached_tokens`, `completion_tokens`; and `cut` if the answer hit its length limit.
        tries: How many requests it took.
        unavailable: Whether there is none because no server answered, has the model or takes the API key: that is no
            fault of the row.
    """

    text: str = ""
    value: Any = None
    error: str | None = None
    usage: Mapping[str, Any] = field(default_factory=dict)
    tries: int = 0
    unavailable: bool = False

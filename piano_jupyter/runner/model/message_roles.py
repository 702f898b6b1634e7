"""Chat messages whose roles alternate, as templates want them. Pure."""

from collections.abc import Sequence
from typing import Any

NO_ANSWER = "(no answer was given)"


def merged(told: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join neighbours of one role and leave out what is empty; a result stands alone, and an answer follows it."""
    joined: list[dict[str, Any]] = []
    for message in told:
        calls = "tool_calls" in message
        if not calls and message["role"] != "tool" and not message["content"].strip():
            continue
        last = joined[-1] if joined else {"role": ""}
        if last["role"] == "tool" and message["role"] == "user":  # a turn that was cut off; some templates count roles
            joined.append({"role": "assistant", "content": NO_ANSWER})
        if last["role"] == message["role"] != "tool" and "tool_calls" not in last:
            text = "\n\n".join(filter(None, (last["content"], message["content"])))
            joined[-1] = {**last, **message, "content": text}
        else:
            joined.append(message)
    return joined

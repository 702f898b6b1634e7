"""Makes the roles of chat messages alternate, as chat templates require. Pure."""

from collections.abc import Sequence
from typing import Any

NO_ANSWER = "(no answer was given)"


def merge_same_role(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join adjacent messages of one role, drop empty ones, and add an answer after a tool result without one."""
    result: list[dict[str, Any]] = []
    for message in messages:
        has_calls = "tool_calls" in message
        if not has_calls and message["role"] != "tool" and not message["content"].strip():
            continue
        last = result[-1] if result else {"role": ""}
        if last["role"] == "tool" and message["role"] == "user":  # an interrupted turn; some templates need alternation
            result.append({"role": "assistant", "content": NO_ANSWER})
        if last["role"] == message["role"] != "tool" and "tool_calls" not in last:
            text = "\n\n".join(filter(None, (last["content"], message["content"])))
            result[-1] = {**last, **message, "content": text}
        else:
            result.append(message)
    return result

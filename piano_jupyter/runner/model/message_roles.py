"""Makes the roles of chat messages alternate, as chat templates require. Pure.

The content of a message is a text; of one with images it is a list of parts, as in the OpenAI chat API.
"""

from collections.abc import Sequence
from typing import Any

NO_ANSWER = "(no answer was given)"
#: What an agent says before it sees the images that its calls have shown: roles must alternate.
BEFORE_FIGURES = "(looking at what was shown)"

Content = str | list[dict[str, Any]]


def merge_same_role(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join adjacent messages of one role, drop empty ones, and add an answer after a tool result without one."""
    result: list[dict[str, Any]] = []
    for message in messages:
        has_calls = "tool_calls" in message
        if not has_calls and message["role"] != "tool" and is_blank(message["content"]):
            continue
        last = result[-1] if result else {"role": ""}
        if last["role"] == "tool" and message["role"] == "user":  # an interrupted turn; some templates need alternation
            result.append({"role": "assistant", "content": NO_ANSWER})
        if last["role"] == message["role"] != "tool" and "tool_calls" not in last:
            result[-1] = {**last, **message, "content": joined(last["content"], message["content"])}
        else:
            result.append(message)
    return result


def joined(first: Content, second: Content) -> Content:
    """Return two contents as one: texts with an empty line between, parts one after the other."""
    if isinstance(first, str) and isinstance(second, str):
        return "\n\n".join(filter(None, (first, second)))
    before, after = parts(first), parts(second)
    if before and after and before[-1]["type"] == after[0]["type"] == "text":
        text = f"{before.pop()['text']}\n\n{after.pop(0)['text']}"
        before.append({"type": "text", "text": text})
    return before + after


def parts(content: Content) -> list[dict[str, Any]]:
    """Return content as parts."""
    if isinstance(content, list):
        return list(content)
    return [{"type": "text", "text": content}] if content else []


def image_part(data_uri: str) -> dict[str, Any]:
    """Return an image as a part of content."""
    return {"type": "image_url", "image_url": {"url": data_uri}}


def is_blank(content: Content) -> bool:
    """Return whether content says and shows nothing."""
    return not (content.strip() if isinstance(content, str) else content)

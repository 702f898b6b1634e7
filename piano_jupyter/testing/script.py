"""What the script of a model and that of a server have in common."""

import re
from collections.abc import Mapping
from typing import Any

from piano_jupyter.runner.model.protocol import ChatRequest, RequestedCall

EXHAUSTED = "the script has no reply left for request {number}; add one, or pass answer=FUNCTION"


def tool_call(name: str, /, **arguments: Any) -> RequestedCall:
    """Return a tool call for a script: the model asks for it instead of writing text.

    Args:
        name: The tool's name.
        **arguments: The arguments of the call; values that JSON can carry.

    Returns:
        The call, to be put into the script of a `ScriptedModel` or a `ScriptedServer`, alone or in a list of calls
        that the model makes at once.

    Example:
        >>> tool_call("price", item="tea").arguments
        {'item': 'tea'}
    """
    return RequestedCall(name=name, arguments=arguments)


def echo(request: ChatRequest | Mapping[str, Any]) -> str:
    """Return an answer that repeats the last message: `answer=echo` makes a model or server that never runs out.

    Args:
        request: What the model was asked, as a `ScriptedModel` or a `ScriptedServer` records it.

    Returns:
        The text of the answer.

    Example:
        >>> async with Piano(database=":memory:", model=ScriptedModel(answer=echo)) as chat:
        ...     (await chat.ask("Hello!")).content
        'You said: Hello!'
    """
    messages = request.messages if isinstance(request, ChatRequest) else request["messages"]
    content = messages[-1]["content"]
    if not isinstance(content, str):  # with images
        content = "\n\n".join(part["text"] if part["type"] == "text" else "[image]" for part in content)
    return f"You said: {content}"


def words(text: str) -> list[str]:
    """Return the pieces in which a text is streamed: each word with the blanks after it."""
    return re.findall(r"\s*\S+\s*|\s+", text)

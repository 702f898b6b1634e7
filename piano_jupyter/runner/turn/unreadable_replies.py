"""Replies that the server could not read: the model is told so and asked again, in the end without tools.

Servers parse the tool calls that a model writes, and answer with an error if they cannot. That is the model's mistake
and not a fault of the request, so that the same question can succeed.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from piano_jupyter.errors import ContextOverflowError, ModelError, UnreadableReplyError
from piano_jupyter.runner.model.message_roles import merge_same_role
from piano_jupyter.runner.model.protocol import ChatModel, ChatRequest, Delta, LoadingNotice, Piece, StreamRestarted
from piano_jupyter.runner.turn.control_tokens import escape
from piano_jupyter.text.truncation import truncated

MAX_REPEATS = 2  #: with the tools; after that, once without them
MAX_QUOTED_CHARS = 300  #: of the server's words: it may quote the whole reply
TRY_AGAIN = "Your last reply was discarded: {reason}. Write it again, with tool calls and JSON complete and valid."
NO_TOOLS = "Your last reply was discarded: {reason}. No tool can be called now: answer without one."


async def readable_reply(model: ChatModel, request: ChatRequest) -> AsyncGenerator[Piece, None]:
    """Yield the pieces of the first reply that the server could read. Raises ModelError.

    What was already yielded of a discarded reply is taken back by `StreamRestarted`.
    """
    current, shown, last = request, False, None
    for failures in range(1, MAX_REPEATS + 3):
        try:
            async with aclosing(model.stream(current)) as pieces:
                async for piece in pieces:
                    shown = isinstance(piece, Delta) or (shown and not isinstance(piece, StreamRestarted))
                    yield piece
        except ContextOverflowError as error:
            if last is None:
                raise
            raise _given_up(last, failures - 1, had_tools=False) from error  # the sentence to the model was too much
        except UnreadableReplyError as error:
            if failures == MAX_REPEATS + 2:
                raise _given_up(error, failures, had_tools=bool(request.tools)) from error
            last = error
            current = _next_request(request, str(error), with_tools=failures <= MAX_REPEATS)
        else:
            return
        if shown:
            yield StreamRestarted()
            shown = False
        yield LoadingNotice(note="the server could not read what the model wrote; asking again")


def _next_request(request: ChatRequest, reason: str, *, with_tools: bool) -> ChatRequest:
    """Return the request with what went wrong, and without tools and the server's schema at the end."""
    instruction = (TRY_AGAIN if with_tools else NO_TOOLS).format(reason=truncated(reason, MAX_QUOTED_CHARS))
    messages = [*map(dict, request.messages), {"role": "user", "content": escape(instruction)}]
    current = replace(request, messages=merge_same_role(messages))
    return current if with_tools else replace(current, tools=(), schema=request.schema if request.may_call else None)


def _given_up(error: UnreadableReplyError, times: int, *, had_tools: bool) -> ModelError:
    asked = "once" if times == 1 else f"{times} times"
    end = ", in the end without tools" if had_tools else ""
    return UnreadableReplyError(
        f"{truncated(str(error), MAX_QUOTED_CHARS)}, and it was asked {asked}{end}; "
        f"rephrase the question, or use a model that is better at tool calls"
    )

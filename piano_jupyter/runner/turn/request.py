"""Asking within the model's window: a request that fits, and once more with less where the server says it does not.

What is left out is told (`HistoryTrimmed`) and kept as a note of the thread, which says so to people and from then on
to the agent. The requests that follow read the note and leave out the same (`context_window.py`).
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from piano_jupyter.clock import Clock
from piano_jupyter.errors import ContextOverflowError, ModelError
from piano_jupyter.events import HistoryTrimmed, MessageAdded
from piano_jupyter.records import Message, ToolCall
from piano_jupyter.runner.model.protocol import ChatModel, ChatRequest, Delta, Piece, Reply
from piano_jupyter.runner.turn import context_window
from piano_jupyter.runner.turn.context_window import HistoryTrim
from piano_jupyter.runner.turn.control_tokens import unescaped, within
from piano_jupyter.runner.turn.prompt import chat_messages
from piano_jupyter.runner.turn.structured_output import fitting_reply, with_schema
from piano_jupyter.runner.turn.turn_input import TurnInput

SMALL = 4000  # bytes that fit into any window: how large it is, is not asked
SUMMARY = (
    "Sum up our conversation so far in at most 150 words, for yourself to go on from: what was asked, found, decided "
    "and left open, with the names and numbers that matter. Write nothing else."
)
SUMMARY_TOKENS = 300

Asked = Piece | HistoryTrimmed | MessageAdded


async def ask(
    turn: TurnInput, model: ChatModel, history: Sequence[Message], calls: Sequence[ToolCall], clock: Clock
) -> AsyncGenerator[Asked, None]:
    """Yield the pieces of a reply, last the whole one; before them what no longer fits, and the note on it.

    Raises ModelError; ContextOverflowError where nothing more can be left out.
    """
    options, job = turn.agent.options, turn.job
    told, questions, left = list(history), context_window.questions_in(history), turn.turns_left
    tools = [tool.schema() for tool in turn.tools]

    def messages(cut: HistoryTrim) -> list[dict[str, Any]]:
        said = chat_messages(
            turn.agent,
            turn.skills,
            told,
            calls,
            turn.names,
            job.id,
            cut,
            begins=cut.begins(questions, left),
            calls_left=turn.calls_left,
        )
        return with_schema(said, job.schema)

    def bytes_of(cut: HistoryTrim) -> int:
        return context_window.size(messages(cut), tools)

    cut = context_window.last_cut(told, turn.agent.id)
    n_ctx = await turn.context(job.model) if bytes_of(cut) > SMALL else None
    density = context_window.measured(told, turn.agent.id)
    space = context_window.room(n_ctx, options.get("max_tokens"), density) if n_ctx else None
    overflow: ContextOverflowError | None = None
    while True:
        fits = context_window.fitting(left + len(questions), cut, space, bytes_of) if space is not None else cut
        if fits != cut:
            note = context_window.sentence(fits, turn.agent.name, n_ctx)
            yield HistoryTrimmed(thread_id=job.thread_id, job_id=job.id, turns=fits.turns, note=note)
            kept = turn.message(clock, told, "system", note, left_out=fits.turns, longest=fits.longest)
            if turn.summarize and fits.turns > cut.turns:
                kept = await _summed_up(turn, model, told[: fits.begins(questions, left)], calls, cut, kept)
            yield MessageAdded(thread_id=job.thread_id, message=kept)
            told.append(kept)
            cut = context_window.last_cut(told, turn.agent.id)
        elif overflow is not None:
            raise _too_much(overflow)
        request = ChatRequest(model=job.model, messages=messages(cut), tools=tools, options=options, schema=job.schema)
        sent, begun = context_window.size(request.messages, tools), False
        try:
            async with aclosing(fitting_reply(model, request)) as pieces:
                async for piece in pieces:
                    begun = begun or isinstance(piece, Delta)
                    yield _read(piece, sent) if isinstance(piece, Reply) else piece
        except ContextOverflowError as error:
            if begun or overflow is not None:
                raise _too_much(error) from error
            overflow, n_ctx = error, error.n_ctx or n_ctx
            space = context_window.smaller(n_ctx, error.n_prompt, sent, options.get("max_tokens"))
        else:
            return


def _read(reply: Reply, sent: int) -> Reply:
    """Return a reply with its calls as they are meant, and with the size of what was asked, to measure tokens by."""
    calls = (replace(call, arguments=within(dict(call.arguments), unescaped)) for call in reply.calls)
    return replace(reply, calls=tuple(calls), usage={"prompt_bytes": sent, **reply.usage})


async def _summed_up(
    turn: TurnInput,
    model: ChatModel,
    leaving: Sequence[Message],
    calls: Sequence[ToolCall],
    cut: HistoryTrim,
    note: Message,
) -> Message:
    """Return the note with what the model says of the turns that leave; as it is, where not even they fit."""
    question = replace(note, role="user", content=SUMMARY)
    messages = chat_messages(
        turn.agent, "", [*leaving, question], calls, turn.names, None, cut, calls_left=turn.calls_left
    )
    limits = {"max_tokens": SUMMARY_TOKENS, "response_format": {"type": "text"}}
    request = ChatRequest(model=turn.job.model, messages=messages, options={**turn.agent.options, **limits})
    reply = Reply()
    try:
        async with aclosing(model.stream(request)) as pieces:
            async for piece in pieces:
                reply = piece if isinstance(piece, Reply) else reply
    except ModelError as error:  # the question itself is still to be asked
        why = "they do not fit by themselves" if isinstance(error, ContextOverflowError) else error
        return replace(note, content=f"{note.content} They could not be summed up: {why}.")
    if not reply.text.strip():
        return note
    text = f"{note.content} What was said in them, in short:\n\n{reply.text.strip()}"
    return replace(note, content=text, usage={**reply.usage, **note.usage})


def _too_much(error: ContextOverflowError) -> ContextOverflowError:
    window = f" of {error.n_ctx:,} tokens" if error.n_ctx else ""
    return ContextOverflowError(
        f"this does not fit in the model's context{window}, even without what was said before; ask for less at once, "
        f"give the agent fewer tools and skills, or have the server give its model a larger context",
        n_ctx=error.n_ctx,
        n_prompt=error.n_prompt,
    )

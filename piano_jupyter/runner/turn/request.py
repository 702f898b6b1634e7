"""Requests that fit into the model's context window: trims the history, and trims more if the server rejects it.

A trim is published (`HistoryTrimmed`) and stored as a note in the thread, for people and, from then on, for the agent.
Later requests read the note and apply the same trim (`context_window.py`).
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from piano_jupyter.clock import Clock
from piano_jupyter.errors import ContextOverflowError, ModelError
from piano_jupyter.events import HistoryTrimmed, MessageAdded
from piano_jupyter.records import Agent, Message, ToolCall
from piano_jupyter.runner.model.protocol import ChatModel, ChatRequest, Delta, Piece, Reply, StreamRestarted
from piano_jupyter.runner.turn import context_window
from piano_jupyter.runner.turn.context_window import HistoryTrim
from piano_jupyter.runner.turn.control_tokens import escape, map_strings, unescape
from piano_jupyter.runner.turn.prompt import chat_messages
from piano_jupyter.runner.turn.structured_output import reply_matching_schema, with_schema
from piano_jupyter.runner.turn.turn_input import TurnInput
from piano_jupyter.tool import name_for_model

MAX_OVERFLOWS = 4  #: after which more is left out; each time at least half, once the server's numbers did not help
SMALL_PROMPT_BYTES = 4000  #: fits into any window, so that its size is not requested
SUMMARY_PROMPT = (
    "Summarize our conversation so far in at most 150 words, for yourself to continue from: what was asked, found, "
    "decided and left open, with the names and numbers that matter. Write nothing else."
)
SUMMARY_TOKENS = 300

RequestPiece = Piece | HistoryTrimmed | MessageAdded


async def ask_within_window(
    turn: TurnInput, model: ChatModel, history: Sequence[Message], calls: Sequence[ToolCall], clock: Clock
) -> AsyncGenerator[RequestPiece, None]:
    """Yield a reply's pieces and the complete reply last; before them, any trim of the history and the note on it.

    Raises ModelError; ContextOverflowError if nothing more can be left out.
    """
    options, job = turn.agent.options, turn.job
    history = list(history)
    questions = context_window.question_indexes(history)
    tools = [map_strings(tool.schema(), escape) for tool in turn.tools]
    names = {name_for_model(tool.name): tool.name for tool in turn.tools}

    has_figures = any(each.is_image for call in calls for each in call.attachments)
    sees_figures = has_figures and await turn.sees_images(job.model) is True

    def messages(trim: HistoryTrim) -> list[dict[str, Any]]:
        prompt = chat_messages(
            turn.agent,
            turn.skills,
            history,
            calls,
            turn.names,
            job.id,
            trim,
            start_index=trim.start_index(questions, turn.trimmed_turns),
            trimmed_calls=turn.trimmed_calls,
            unanswered=turn.unanswered,
            attached=turn.attached,
            sees_figures=sees_figures,
        )
        return with_schema(prompt, job.schema)

    def size_with(trim: HistoryTrim) -> int:
        return context_window.prompt_size(messages(trim), tools)

    trim = context_window.last_trim(history, turn.agent.id)
    n_ctx = await turn.context(job.model) if size_with(trim) > SMALL_PROMPT_BYTES else None
    bytes_per_token = context_window.measured_bytes_per_token(history, turn.agent.id)
    budget = context_window.prompt_budget(n_ctx, options.get("max_tokens"), bytes_per_token) if n_ctx else None
    turns, overflows = turn.trimmed_turns + len(questions), 0
    overflow: ContextOverflowError | None = None
    while True:
        new_trim = trim
        if budget is not None:
            new_trim = context_window.trim_to_fit(turns, trim, budget, size_with)
        if new_trim != trim:
            text = context_window.trim_note(new_trim, turn.agent.name, n_ctx)
            yield HistoryTrimmed(thread_id=job.thread_id, job_id=job.id, turns=new_trim.turns, note=text)
            left_out = {"left_out": new_trim.turns, "longest": new_trim.max_message_bytes}
            note = turn.message(clock, history, "system", text, **left_out)
            if turn.summarize and new_trim.turns > trim.turns:
                trimmed = history[: new_trim.start_index(questions, turn.trimmed_turns)]
                note = await _with_summary(turn, model, trimmed, calls, trim, note)
            yield MessageAdded(thread_id=job.thread_id, message=note)
            history.append(note)
            trim = context_window.last_trim(history, turn.agent.id)
        elif overflow is not None:
            raise _cannot_fit_error(overflow, trim, turns)
        request = ChatRequest(model=job.model, messages=messages(trim), tools=tools, options=options, schema=job.schema)
        sent_bytes, started = context_window.prompt_size(request.messages, tools), False
        try:
            async with aclosing(reply_matching_schema(model, request)) as pieces:
                async for piece in pieces:
                    started = isinstance(piece, Delta) or (started and not isinstance(piece, StreamRestarted))
                    yield _finish_reply(piece, names, sent_bytes) if isinstance(piece, Reply) else piece
        except ContextOverflowError as error:
            overflows += 1
            _check_room(turn.agent, error, sent_bytes)
            if started or overflows > MAX_OVERFLOWS:
                raise _cannot_fit_error(error, trim, turns) from error
            overflow, n_ctx = error, error.n_ctx or n_ctx
            budget = context_window.budget_after_overflow(
                n_ctx, error.n_prompt, sent_bytes, options.get("max_tokens"), again=overflows > 1
            )
        else:
            return


def _finish_reply(reply: Reply, names: Mapping[str, str], sent_bytes: int) -> Reply:
    """Restore tools' names and control tokens in a reply's calls, and add the prompt's size, for bytes per token."""
    calls = (
        replace(call, name=names.get(call.name, call.name), arguments=map_strings(dict(call.arguments), unescape))
        for call in reply.calls
    )
    return replace(reply, calls=tuple(calls), usage={"prompt_bytes": sent_bytes, **reply.usage})


async def _with_summary(
    turn: TurnInput,
    model: ChatModel,
    trimmed: Sequence[Message],
    calls: Sequence[ToolCall],
    trim: HistoryTrim,
    note: Message,
) -> Message:
    """Return the note with the model's summary of the trimmed turns, or with why there is none."""
    question = replace(note, role="user", content=SUMMARY_PROMPT)
    messages = chat_messages(
        turn.agent, "", [*trimmed, question], calls, turn.names, None, trim, trimmed_calls=turn.trimmed_calls
    )
    limits = {"max_tokens": SUMMARY_TOKENS, "response_format": {"type": "text"}}
    request = ChatRequest(model=turn.job.model, messages=messages, options={**turn.agent.options, **limits})
    reply = Reply()
    try:
        async with aclosing(model.stream(request)) as pieces:
            async for piece in pieces:
                reply = piece if isinstance(piece, Reply) else reply
    except ModelError as error:  # a missing summary must not fail the turn
        reason = "they do not fit into the context by themselves" if isinstance(error, ContextOverflowError) else error
        return replace(note, content=f"{note.content} They could not be summarized: {reason}.")
    if not reply.text.strip():
        return note
    text = f"{note.content} Summary of these turns:\n\n{reply.text.strip()}"
    return replace(note, content=text, usage={**reply.usage, **note.usage})


def _check_room(agent: Agent, error: ContextOverflowError, sent_bytes: int) -> None:
    """Raise ContextOverflowError if an answer may fill the whole window, so that the history is not at fault."""
    n_ctx, longest = error.n_ctx or 0, agent.options.get("max_tokens")
    if sent_bytes < n_ctx * context_window.BYTES_PER_TOKEN and isinstance(longest, int) and longest >= n_ctx:
        raise ContextOverflowError(
            f"{agent.name} has max_tokens={longest:,}, which leaves no room for a question in the model's context of "
            f"{n_ctx:,} tokens; lower it: %piano agent {agent.name} --option max_tokens={n_ctx // 4}",
            n_ctx=n_ctx,
            n_prompt=error.n_prompt,
        ) from error


def _cannot_fit_error(error: ContextOverflowError, trim: HistoryTrim, turns: int) -> ContextOverflowError:
    """Return the error for a prompt that does not fit; it says only what was tried."""
    window = f" of {error.n_ctx:,} tokens" if error.n_ctx else ""
    tried = ", even without the earlier turns" if 0 < turns - 1 <= trim.turns else ""
    return ContextOverflowError(
        f"this does not fit in the model's context{window}{tried}; ask for less at once, give the agent fewer tools "
        f"and skills, open a new thread, or have the server give its model a larger context",
        n_ctx=error.n_ctx,
        n_prompt=error.n_prompt,
    )

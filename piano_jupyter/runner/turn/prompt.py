"""The prompt: an agent, its skills and the thread's history as chat messages.

Pure and stable: no clock and no random id goes in, the same history gives the same bytes, and a prompt is a prefix of
the thread's next one, so that the server's prompt cache keeps it. The shape is what every chat template can render:
one system message and only first, then the user's, neighbours of one role merged, content always a string, one call an
assistant message, its result right behind it. (Measured over the templates that llama.cpp ships: parallel calls in one
message fail three.) Only the agent's own system prompt may hold control tokens.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from piano_jupyter.records import Agent, Message, ToolCall
from piano_jupyter.runner.model.message_roles import merged
from piano_jupyter.runner.turn.context_window import HistoryTrim
from piano_jupyter.runner.turn.control_tokens import escaped, within

UNFINISHED = "outcome unknown: it did not finish"
NOTHING = HistoryTrim()


def chat_messages(
    agent: Agent,
    skills: str,
    history: Sequence[Message],
    calls: Sequence[ToolCall],
    names: Mapping[UUID, str],
    job_id: UUID | None = None,
    cut: HistoryTrim = NOTHING,
    *,
    begins: int = 0,
    calls_left: int = 0,
) -> list[dict[str, Any]]:
    """Return the messages to send.

    `history` and `calls` are the thread's, in order, and go along from `begins` on; `calls_left` of the agent's calls
    were before them. `names` gives each agent's name by id; `cut` is what does not go along. An agent sees its own
    messages as the assistant's and those of others as labelled text of the user. Reasoning goes along only within the
    job `job_id`.
    """
    asked: dict[UUID, list[ToolCall]] = {}
    for call in sorted(calls, key=lambda each: each.seq):
        asked.setdefault(call.message_id, []).append(call)
    mine = [each for message in history if asked and message.agent_id == agent.id for each in asked.get(message.id, ())]
    numbered = {call.id: f"call{number:05d}" for number, call in enumerate(mine, calls_left + 1)}

    def written(text: str) -> str:
        return escaped(cut.text(text))

    told: list[dict[str, Any]] = [{"role": "user", "content": f"[note] {escaped(cut.note)}" if cut.note else ""}]
    for message in history[begins:]:
        content = written(message.content)
        if message.role == "user":
            told.append({"role": "user", "content": content})
        elif message.role == "system":  # a note for people
            continue
        elif message.role != "assistant":
            told.append({"role": "user", "content": f"[{message.role}] {content}"})
        elif message.agent_id != agent.id:
            name = names.get(message.agent_id, "another agent") if message.agent_id else "another agent"
            told.append({"role": "user", "content": f"[{name}] {content}" if message.content else ""})
        else:
            told += _own(message, asked.get(message.id, ()), numbered, job_id, written)
    system = "\n\n".join(part for part in (agent.system_prompt.strip(), escaped(skills.strip())) if part)
    messages = merged(told)
    while messages and messages[-1]["role"] == "assistant" and "tool_calls" not in messages[-1]:
        messages.pop()  # said before a call that was never made; a template would take it for the answer's beginning
    if not messages or messages[0]["role"] != "user":
        messages.insert(0, {"role": "user", "content": "(the conversation so far)"})
    return [{"role": "system", "content": system}, *messages] if system else messages


def _own(
    message: Message,
    calls: Sequence[ToolCall],
    numbered: Mapping[UUID, str],
    job_id: UUID | None,
    written: Callable[[str], str],
) -> list[dict[str, Any]]:
    said: dict[str, Any] = {"role": "assistant", "content": written(message.content)}
    if message.reasoning and job_id is not None and message.job_id == job_id:
        said["reasoning_content"] = written(message.reasoning)
    if not calls:
        return [said]
    told = []
    for call in calls:
        arguments = json.dumps(within(dict(call.arguments), written), ensure_ascii=False)
        function = {"name": written(call.name), "arguments": arguments}
        told.append({**said, "tool_calls": [{"id": numbered[call.id], "type": "function", "function": function}]})
        result = UNFINISHED if call.result is None else written(call.result) or "(no output)"
        told.append({"role": "tool", "tool_call_id": numbered[call.id], "content": result})
        said = {"role": "assistant", "content": ""}
    return told

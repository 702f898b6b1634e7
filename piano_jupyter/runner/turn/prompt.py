"""Builds the prompt: an agent's system prompt, its skills and the thread's history as chat messages.

Pure and stable: without clock and random ids, the same history gives the same bytes, and each prompt is a prefix of the
thread's next one, so that the server's prompt cache is used. The shape is one that every chat template can render: one
system message, which is first, then a user's; adjacent messages of one role are merged; content is a string, but for a
user's message with images, which has parts; one
call per assistant message, directly followed by its result. (Three of the templates that llama.cpp ships fail with
parallel calls in one message.) Only the agent's own system prompt may contain control tokens. Within a
user's message, each line of another agent or of a note starts with its author in brackets, so that it cannot pass for
somebody else's.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any
from uuid import UUID

from piano_jupyter.records import Agent, Message, ToolCall
from piano_jupyter.runner.model.message_roles import BEFORE_FIGURES, Content, image_part, merge_same_role, parts
from piano_jupyter.runner.turn.context_window import HistoryTrim
from piano_jupyter.runner.turn.control_tokens import escape, map_strings
from piano_jupyter.text.invisible import model_text
from piano_jupyter.tool import name_for_model

OTHER_AGENT = "another agent"  #: one that was deleted
UNFINISHED = "outcome unknown: it did not finish"
MAX_SEEN_FIGURES = 4  #: of the calls of one message
MAX_SEEN_BYTES = 2**20  #: of such an image
SEEN_MIMES = frozenset({"image/png", "image/jpeg"})  #: what every server reads
NO_TRIM = HistoryTrim()
NOTHING: Mapping[UUID, str] = MappingProxyType({})
NO_BYTES: Mapping[str, bytes] = MappingProxyType({})


def chat_messages(
    agent: Agent,
    skills: str,
    history: Sequence[Message],
    calls: Sequence[ToolCall],
    names: Mapping[UUID, str],
    job_id: UUID | None = None,
    trim: HistoryTrim = NO_TRIM,
    *,
    start_index: int = 0,
    trimmed_calls: int = 0,
    unanswered: Mapping[UUID, str] = NOTHING,
    attached: Mapping[str, bytes] = NO_BYTES,
    sees_figures: bool = False,
) -> list[dict[str, Any]]:
    """Return the messages to send.

    `history` and `calls` are the thread's, in order; messages before `start_index` are left out, and `trimmed_calls` of
    the agent's calls came before `calls`. `names` maps agent ids to names; `trim` is what is left out. The agent's own
    messages have the assistant's role; those of other agents are `quoted` user messages. Reasoning is sent only within
    the job `job_id`. `unanswered` says in the agent's words of earlier questions why they have no answer: without it,
    such a question would be read as part of the next one. `attached` has what the agent reads and sees of attachments,
    by hash; of others it reads the names. With `sees_figures` it sees the images that its own calls have shown.
    """
    calls_by_message: dict[UUID, list[ToolCall]] = {}
    for call in sorted(calls, key=lambda each: each.seq):
        calls_by_message.setdefault(call.message_id, []).append(call)
    own_calls = [
        each
        for message in history
        if calls_by_message and message.agent_id == agent.id
        for each in calls_by_message.get(message.id, ())
    ]
    call_ids = {call.id: f"call{number:05d}" for number, call in enumerate(own_calls, trimmed_calls + 1)}

    def prepared(text: str) -> str:
        return escape(trim.shortened(text))

    prompt: list[dict[str, Any]] = [{"role": "user", "content": escape(quoted("note", trim.note))}]
    left_open = ""
    for message in history[start_index:]:
        if message.role == "user":
            asked = {"role": "user", "content": _with_attachments(message, prepared, attached)}
            prompt += [{"role": "assistant", "content": left_open}, asked]
            left_open = unanswered.get(message.id, "")
        elif message.role == "system":  # a note for people
            continue
        elif message.role != "assistant" or message.agent_id != agent.id:
            author: str = message.role
            if author == "assistant":
                author = names.get(message.agent_id, OTHER_AGENT) if message.agent_id else OTHER_AGENT
            prompt.append({"role": "user", "content": escape(quoted(author, trim.shortened(message.content)))})
        else:
            own = calls_by_message.get(message.id, ())
            prompt += _own_message(message, own, call_ids, job_id, prepared)
            prompt += _seen_figures(own, attached) if sees_figures else []
    system = system_text(agent.system_prompt, skills)
    messages = merge_same_role(prompt)
    while messages and messages[-1]["role"] == "assistant" and "tool_calls" not in messages[-1]:
        messages.pop()  # its call was never made; a template would take it for the start of the answer
    if not messages or messages[0]["role"] != "user":
        messages.insert(0, {"role": "user", "content": "(the conversation so far)"})
    return [{"role": "system", "content": system}, *messages] if system else messages


def system_text(system_prompt: str, skills: str) -> str:
    """Return an agent's system prompt followed by the texts of its skills."""
    return "\n\n".join(part for part in (system_prompt.strip(), escape(model_text(skills.strip()))) if part)


def quoted(author: str, text: str) -> str:
    """Return a text with its author before each line; "" if there is no text."""
    return "\n".join(f"[{author}] {line}" for line in text.splitlines()) if text.strip() else ""


def _with_attachments(message: Message, prepared: Callable[[str], str], attached: Mapping[str, bytes]) -> Content:
    """Return the content of a user's message: its text, then its text files and the names of its images, the images."""
    texts, images = [prepared(message.content)], []
    for each in message.attachments:
        found = replace(each, content=attached.get(each.sha256))
        name = model_text(each.label)
        if found.content is None:
            texts.append(escape(f"[attached: {name}; you cannot see it]"))
        elif each.is_image:
            images.append(image_part(found.data_uri))
            texts.append(escape(f"[attached: {name}]"))
        else:
            texts.append(prepared(f"[attached: {name}]\n{quoted('file', model_text(found.text))}"))
    content = "\n\n".join(filter(None, texts))
    return [*parts(content), *images] if images else content


def _seen_figures(calls: Sequence[ToolCall], attached: Mapping[str, bytes]) -> list[dict[str, Any]]:
    """Return the first images that calls have shown, as a message of the user: results of tools are texts."""
    shown = [(call.name, each) for call in calls for each in call.attachments if each.mime in SEEN_MIMES]
    content: list[dict[str, Any]] = []
    for name, each in shown[:MAX_SEEN_FIGURES]:
        seen = each if each.content is not None else replace(each, content=attached.get(each.sha256))
        if seen.content is not None and each.size <= MAX_SEEN_BYTES:
            content += [*parts(escape(f"[shown by {name}: {model_text(each.label)}]")), image_part(seen.data_uri)]
    return [{"role": "assistant", "content": BEFORE_FIGURES}, {"role": "user", "content": content}] if content else []


def _own_message(
    message: Message,
    calls: Sequence[ToolCall],
    call_ids: Mapping[UUID, str],
    job_id: UUID | None,
    prepared: Callable[[str], str],
) -> list[dict[str, Any]]:
    assistant_message: dict[str, Any] = {"role": "assistant", "content": prepared(message.content)}
    if message.reasoning and job_id is not None and message.job_id == job_id:
        assistant_message["reasoning_content"] = prepared(message.reasoning)
    if not calls:
        return [assistant_message]
    prompt = []
    for call in calls:
        arguments = json.dumps(map_strings(dict(call.arguments), prepared), ensure_ascii=False)
        function = {"name": prepared(name_for_model(call.name)), "arguments": arguments}
        prompt.append(
            {**assistant_message, "tool_calls": [{"id": call_ids[call.id], "type": "function", "function": function}]}
        )
        result = UNFINISHED if call.result is None else prepared(call.result) or "(no output)"
        prompt.append({"role": "tool", "tool_call_id": call_ids[call.id], "content": result})
        assistant_message = {"role": "assistant", "content": ""}
    return prompt

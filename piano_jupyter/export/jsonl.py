"""A conversation as JSON Lines in the form of the OpenAI chat API, as files for fine-tuning have it, and back.

A line is a conversation: `{"messages": [{"role": "user", "content": "…"}, …]}`. An agent's name is the `name` of its
messages; the result of a tool's call is a message of the role `tool`, directly after the one that made the call.
Attachments are parts of the content. What was typed for a message, where that is not what was sent, is in the list
`typed` beside `messages`. Read as well: a message a line, content in parts, calls without text.

https://platform.openai.com/docs/api-reference/chat/create
"""

import itertools
import json
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from piano_jupyter.attachments.attachment import Attachment
from piano_jupyter.errors import PianoError
from piano_jupyter.export.attached_parts import attachment_in, content_with
from piano_jupyter.export.exchanges import ExportedThread
from piano_jupyter.records import Inserted, Role, ToolCall
from piano_jupyter.text.json_text import parse_json

MAX_FILE_CHARS = 50_000_000  # characters of a file
UNFINISHED = "outcome unknown: the conversation holds no result"
ROLES: Mapping[str, Role] = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}


@dataclass(slots=True)
class ToolCallLine:
    """A tool call in a file."""

    name: str
    arguments: Mapping[str, Any]
    result: str | None = None
    attachments: list[Attachment] = field(default_factory=list)


@dataclass(slots=True)
class MessageLine:
    """A message in a file."""

    role: Role
    content: str
    name: str | None = None
    calls: list[ToolCallLine] = field(default_factory=list)
    attachments: list[Attachment] = field(default_factory=list)
    typed: str = ""
    inserted: tuple[Inserted, ...] = ()


def to_jsonl(transcript: ExportedThread) -> str:
    """Return a thread as one line. Notes, reasoning and the agents' system prompts are left out."""
    numbers = itertools.count(1)
    entries: list[dict[str, Any]] = []
    typed: list[dict[str, Any]] = []
    for message in transcript.messages:
        if message.role not in {"user", "assistant"}:
            continue
        content = content_with(message.content, message.attachments)
        entry: dict[str, Any] = {"role": message.role, "content": content}
        if name := transcript.author(message):
            entry["name"] = name
        if message.typed:
            typed.append({"message": len(entries), "text": message.typed, "inserted": [*map(list, message.inserted)]})
        calls = transcript.calls_of[message.id]
        requests = [_call_entry(call, f"call{next(numbers):05d}") for call in calls]
        entries += [entry | ({"tool_calls": requests} if requests else {})]
        for call, request in zip(calls, requests, strict=True):
            result = content_with(UNFINISHED if call.result is None else call.result, call.attachments)
            entries.append({"role": "tool", "tool_call_id": request["id"], "content": result})
    line = {"messages": entries} | ({"typed": typed} if typed else {})
    return one_line(json.dumps(line, ensure_ascii=False)) + "\n"


def one_line(text: str) -> str:
    """Escape what UTF-8 cannot encode, and the line separators that some readers of JSON Lines split at."""
    return re.sub("[\x85\u2028\u2029\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text)


def from_jsonl(text: str) -> list[list[MessageLine]]:
    """Parse the conversations in a file. Raises PianoError, which names the line, for a file in another format."""
    if len(text) > MAX_FILE_CHARS:
        raise PianoError(
            f"the file is too long: {len(text):,} characters, at most {MAX_FILE_CHARS:,} are read; split it"
        )
    conversations: list[list[MessageLine]] = []
    single = ImportedThread()
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        if not line.strip():
            continue
        entry = _json_object(line, f"line {number}")
        if isinstance(entry.get("messages"), list):
            thread = ImportedThread()
            for at, message in enumerate(entry["messages"], 1):
                thread.add(message, f"line {number}, message {at}")
            thread.add_typed(entry.get("typed"), f"line {number}")
            conversations.append(thread.messages)
        elif "role" in entry:
            single.add(entry, f"line {number}")
        else:
            raise PianoError(f"line {number} is neither a conversation (a list of 'messages') nor a message (a 'role')")
    if single.messages:
        conversations.append(single.messages)
    if not any(conversations):
        raise PianoError('there is no conversation in the file: write one as a line {"messages": [...]}')
    return conversations


class ImportedThread:
    """Collects the messages of one conversation; a tool result is attached to its call."""

    def __init__(self) -> None:
        self.messages: list[MessageLine] = []
        self._places: list[MessageLine | None] = []  # what each entry added; None for the result of a tool
        self._open: dict[str, deque[ToolCallLine]] = {}  # calls without a result, by id

    def add(self, entry: Any, where: str) -> None:
        """Add the next message. Raises PianoError, which says `where` it is in the file."""
        if not isinstance(entry, dict):
            raise PianoError(f"{where} is not an object with a 'role' and 'content'")
        role, name = entry.get("role"), entry.get("name")
        content, attachments = _content(entry.get("content"), where)
        if role == "tool":
            self._add_result(entry.get("tool_call_id"), content or "", attachments, where)
            self._places.append(None)
            return
        if not isinstance(role, str) or role not in ROLES:
            raise PianoError(f"{where} has the role {role!r:.50}; known: {', '.join(ROLES)}, tool")
        if name is not None and not isinstance(name, str):
            raise PianoError(f"{where} has a 'name' that is not a string")
        calls = self._calls(entry.get("tool_calls") or [], where) if role == "assistant" else []
        if content is None and not calls:
            raise PianoError(f"{where} has no 'content'")
        self.messages.append(MessageLine(ROLES[role], content or "", name, calls, attachments))
        self._places.append(self.messages[-1])

    def add_typed(self, entries: Any, where: str) -> None:
        """Add what was typed for messages, as `to_jsonl` writes it. Raises PianoError for another form."""
        try:
            for entry in entries or ():
                line = self._places[entry["message"]]
                inserted = tuple(Inserted(str(label), str(text)) for label, text in entry["inserted"])
                if line is not None and line.role == "user":
                    line.typed, line.inserted = str(entry["text"]), inserted
                    line.attachments = list(_named(line.attachments, inserted))
        except (TypeError, ValueError, LookupError):
            raise PianoError(f"{where} has a 'typed' that is not as %piano export writes it") from None

    def _calls(self, entries: Any, where: str) -> list[ToolCallLine]:
        calls = []
        opened: dict[str, deque[ToolCallLine]] = {}
        for entry in entries if isinstance(entries, list) else [entries]:
            function = entry.get("function") if isinstance(entry, dict) else None
            if not isinstance(function, dict) or not isinstance(function.get("name"), str):
                raise PianoError(f"{where} has a tool call without a 'function' and its 'name'")
            arguments = function.get("arguments") or {}
            if not isinstance(arguments, dict):
                arguments = _json_object(arguments, f"the arguments of a tool call in {where}")
            calls.append(ToolCallLine(function["name"], arguments))
            opened.setdefault(str(entry.get("id")), deque()).append(calls[-1])
        self._open |= opened
        return calls

    def _add_result(self, call_id: Any, content: str, attachments: list[Attachment], where: str) -> None:
        waiting = self._open.get(str(call_id))
        if not waiting:
            raise PianoError(f"{where} is the result of a tool call {call_id!r:.50} that no message before it makes")
        call = waiting.popleft()
        call.result, call.attachments = content, attachments


def _named(attachments: Sequence[Attachment], inserted: Sequence[Inserted]) -> Iterator[Attachment]:
    """Return images with the names that stand for them in the text: a part of the content has no name."""
    references = [each.text for each in inserted]
    for each in attachments:
        ending = f", {each.size_text}]"
        found = next((text for text in references if text.startswith("[") and text.endswith(ending)), "")
        if each.name or not each.is_image or not found:
            yield each
        else:
            references.remove(found)
            yield replace(each, name=found[1 : -len(ending)])


def _call_entry(call: ToolCall, call_id: str) -> dict[str, Any]:
    arguments = json.dumps(dict(call.arguments), ensure_ascii=False)
    return {"id": call_id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _content(content: Any, where: str) -> tuple[str | None, list[Attachment]]:
    """Return content as text, and what is attached: parts of text are joined, those of other types are named."""
    if content is None or isinstance(content, str):
        return content, []
    if not isinstance(content, list):
        raise PianoError(f"{where} has 'content' that is neither a string nor a list of parts")
    texts: list[str] = []
    attachments: list[Attachment] = []
    for part in content:
        try:
            if isinstance(part, dict) and (attachment := attachment_in(part)) is not None:
                attachments.append(attachment)
                continue
        except PianoError as error:
            raise PianoError(f"{where}: {error}") from error
        kind = part.get("type") if isinstance(part, dict) else None
        text = part if isinstance(part, str) else part.get(kind) if kind in ("text", "refusal") else f"[{kind!s:.50}]"
        if not isinstance(text, str):
            raise PianoError(f"{where} has a part of its 'content' without its {kind!r}")
        texts.append(text)
    return "\n".join(texts), attachments


def _json_object(text: Any, where: str) -> dict[str, Any]:
    try:
        entry = parse_json(text)
        json.dumps(entry, allow_nan=False)  # no server accepts NaN or Infinity, not even as 1e999
        if "\\ud" in text.lower():  # half of a surrogate pair, which no database stores
            entry = parse_json(json.dumps(entry, ensure_ascii=False).encode(errors="replace"))
    except json.JSONDecodeError as error:
        raise PianoError(f"{where}, column {error.colno}: not JSON ({error.msg.lower()})") from None
    except (TypeError, ValueError) as error:
        raise PianoError(f"{where}: not JSON that can be read ({error})") from None
    if not isinstance(entry, dict):
        raise PianoError(f"{where}: not a JSON object")
    return cast("dict[str, Any]", entry)

"""From the bytes of a streamed chat completion to a reply. Every server's oddities end here.

Pure: bytes in, pieces out. Nothing here knows HTTP, time or a turn. A call is handed on as runnable only if its
arguments arrived whole; cut or broken ones are marked with the problem, and nothing is repaired.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from piano_jupyter.errors import ModelError
from piano_jupyter.runner.chat import Delta, Loading, Reply, RequestedCall
from piano_jupyter.runner.refusal import code_of, error_from, parsed

CUT = "the call was cut off before its end; send it again, shorter"


class SseDecoder:
    """Bytes to the `data` of server-sent events: any line end, comments, a byte order mark, and bare JSON lines."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[str] = []
        self._begun = False

    def feed(self, piece: bytes) -> list[str]:
        """Return the data of each event that is now complete."""
        self._rest += piece
        if not self._begun and len(self._rest) >= 3:
            self._rest, self._begun = self._rest.removeprefix(b"\xef\xbb\xbf"), True
        *lines, self._rest = self._rest.replace(b"\r\n", b"\n").split(b"\n")
        return self._read(lines)

    def close(self) -> list[str]:
        """Return what the end of the stream completes."""
        rest, self._rest = self._rest, b""
        return self._read([rest, b""])

    def _read(self, lines: list[bytes]) -> list[str]:
        complete = []
        for raw in lines:
            line = raw.decode("utf-8", "replace").rstrip("\r")
            if line.startswith("data:"):
                self._data.append(line[5:].removeprefix(" "))
            elif line.startswith("{"):  # a proxy whose upstream failed answers with plain JSON in the middle
                complete.append(line)
            elif not line and self._data:
                complete.append("\n".join(self._data))
                self._data = []
        return complete


@dataclass(slots=True)
class _PartialCall:
    id: str = ""
    index: Any = None
    name: str = ""
    arguments: str = ""

    def whole(self) -> bool:
        return parsed(self.arguments or "{}") is not None

    def requested(self) -> RequestedCall:
        arguments = parsed(self.arguments.strip() or "{}")
        if arguments is None:
            return RequestedCall(
                name=self.name, problem=CUT if _is_cut(self.arguments) else "its arguments are not JSON"
            )
        if not isinstance(arguments, dict):
            return RequestedCall(name=self.name, problem="its arguments must be a JSON object")
        return RequestedCall(name=self.name, arguments=arguments)


@dataclass(slots=True)
class ReplyBuilder:
    """Chunks of a chat completion to deltas, and at the end to a `Reply`."""

    _text: list[str] = field(default_factory=list)
    _reasoning: list[str] = field(default_factory=list)
    _calls: list[_PartialCall] = field(default_factory=list)
    _finish_reason: str | None = None
    _usage: dict[str, Any] = field(default_factory=dict)
    done: bool = False  #: the server has said its last word

    @property
    def begun(self) -> bool:
        """Whether anything of the reply itself is there: text, reasoning or a call."""
        return bool(self._calls) or any(self._text) or any(self._reasoning)

    def feed(self, data: str) -> list[Delta | Loading]:
        """Take the data of one event; return what it adds. Raises ModelError for an error inside the stream."""
        if data.strip() == "[DONE]":
            self.done = True
            return []
        try:
            return self._add(parsed(data), data)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ModelError(f"the server sent what is not a chat completion: {data[:200]!r}") from error

    def _add(self, chunk: Any, data: str) -> list[Delta | Loading]:
        if not isinstance(chunk, dict):
            raise ModelError(f"the server sent what is not a chat completion: {data[:200]!r}")
        if chunk.get("error"):
            raise error_from(int(code_of(chunk["error"]) or 500), data)
        self._note_usage(chunk)
        added: list[Delta | Loading] = []
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or choice.get("message") or {}
            text = _as_text(delta.get("content"))
            reasoning = _as_text(delta.get("reasoning_content") or delta.get("reasoning"))
            if reasoning and not (chunk.get("id") or chunk.get("model") or text or delta.get("tool_calls")):
                added.append(Loading(note=reasoning.strip() or "loading"))
                continue
            self._text.append(text)
            self._reasoning.append(reasoning)
            for piece in delta.get("tool_calls") or ():
                self._add_call(piece)
            self._finish_reason = choice.get("finish_reason") or self._finish_reason
            if text or reasoning:
                added.append(Delta(text=_showable(text), reasoning=_showable(reasoning)))
        return added

    def reply(self) -> Reply:
        """Return the whole reply. Raises ModelError where the stream ended in the middle."""
        if self._finish_reason is None and not self.done:
            raise ModelError("the server broke off in the middle of its answer; retry, or look at the server's log")
        calls = [call.requested() for call in self._calls]
        if self._finish_reason == "length":
            self._usage["cut"] = True
            if calls and not self._calls[-1].arguments:
                calls[-1] = RequestedCall(name=calls[-1].name, problem=CUT)
        return Reply(
            text=_joined(self._text),
            reasoning=_joined(self._reasoning),
            calls=tuple(calls),
            finish_reason=self._finish_reason,
            usage=self._usage,
        )

    def _note_usage(self, chunk: Mapping[str, Any]) -> None:
        if chunk.get("model"):
            self._usage["model"] = str(chunk["model"])
        usage, timings = chunk.get("usage") or {}, chunk.get("timings") or {}
        if not usage and not timings:
            return
        for name in ("prompt_tokens", "completion_tokens"):
            if isinstance(usage.get(name), int):
                self._usage[name] = usage[name]
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", timings.get("cache_n"))
        if isinstance(cached, int):
            self._usage["cached_tokens"] = cached
        if isinstance(timings.get("predicted_per_second"), int | float):
            self._usage["tokens_per_second"] = round(timings["predicted_per_second"], 1)

    def _add_call(self, piece: Mapping[str, Any]) -> None:
        function = piece.get("function") or {}
        name, arguments = function.get("name") or "", function.get("arguments")
        call = self._call_of(piece.get("index"), piece.get("id") or "", name, has_arguments=bool(arguments))
        call.id = call.id or piece.get("id") or ""
        if name and name != call.name and not call.arguments:
            call.name += name
        if isinstance(arguments, str):
            call.arguments += arguments
        elif arguments is not None:
            call.arguments = json.dumps(arguments, ensure_ascii=False)

    def _call_of(self, index: Any, identity: str, name: str, *, has_arguments: bool) -> _PartialCall:
        """Find the call of a piece: by index, else by id; else a name after a whole call begins a new one."""
        known = [call for call in self._calls if index is not None and call.index == index]
        if not known and identity:
            known = [call for call in self._calls if call.id == identity and index is None]
        if not known and index is None and not identity:
            known = self._calls[-1:]
        is_whole = known and known[-1].name and known[-1].arguments and known[-1].whole()
        begins_another = is_whole and name and (has_arguments or name != known[-1].name)
        if known and not (begins_another and (index is None or identity not in {"", known[-1].id})):
            return known[-1]
        self._calls.append(_PartialCall(index=index, id=identity))
        return self._calls[-1]


def _is_cut(arguments: str) -> bool:
    try:
        json.loads(arguments)
    except json.JSONDecodeError as error:
        return error.pos >= len(arguments.rstrip()) or "Unterminated string" in error.msg
    except (ValueError, RecursionError):
        return False
    return False


def _joined(pieces: list[str]) -> str:
    """Join pieces; a character of two surrogates may have been cut between two of them."""
    return "".join(pieces).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _showable(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _as_text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""

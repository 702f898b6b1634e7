"""Reads a streamed chat completion into a reply, and evens out the differences between servers.

Pure: bytes in, pieces out; it does not know about HTTP, time or turns. A call can be run only if its arguments arrived
completely; otherwise it carries the problem.

Its parts: `sse` (bytes to events), `tool_calls` (pieces to calls), `lenient_json` (their arguments), `text_tool_calls`
(calls written as text), `tool_names` (the tools they mean), `reasoning` (in tags), `usage` (tokens and speed),
`loop_detector` (a model that repeats itself).
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from piano_jupyter.errors import ModelError, ModelUnavailableError, UnreadableReplyError
from piano_jupyter.runner.model.protocol import Delta, LoadingNotice, Reply, RequestedCall, StreamRestarted
from piano_jupyter.runner.model.server.error_responses import (
    error_from,
    error_in,
    error_message,
    is_transient,
    status_of,
)
from piano_jupyter.runner.model.stream.constrained_calls import AnswerStream, read_constrained_reply
from piano_jupyter.runner.model.stream.loop_detector import LoopDetector
from piano_jupyter.runner.model.stream.reasoning import ReasoningSplitter
from piano_jupyter.runner.model.stream.sse import SseDecoder
from piano_jupyter.runner.model.stream.text_tool_calls import TextToolCallBuffer, parse_text_calls
from piano_jupyter.runner.model.stream.tool_calls import ToolCallAssembler
from piano_jupyter.runner.model.stream.tool_names import tool_named
from piano_jupyter.runner.model.stream.usage import USAGE_KEYS, parse_usage
from piano_jupyter.text.json_text import json_or_none, mapping
from piano_jupyter.text.truncation import truncated
from piano_jupyter.text.words import words

#: finish reasons of an answer that the server did not finish
FAILED_REASONS = words(
    "abort aborted cancelled error error_limit insufficient_system_resource internal_error network_error not_finished "
    "server_error time_limit timeout"
)
#: other names for a finish reason: some gateways pass on those of the server behind them
REASON_ALIASES = {
    **dict.fromkeys(
        words("max_tokens max_output_tokens max_length token_limit model_length model_context_window_exceeded"),
        "length",
    ),
    **dict.fromkeys(
        words(
            "sensitive safety content_filtered guardrail_intervened error_toxic blocklist prohibited_content "
            "recitation spii refusal"
        ),
        "content_filter",
    ),
}
#: finish reasons of an answer whose end may be missing, and how its usage says so
INCOMPLETE_REASONS = {"length": {"cut": True}, "content_filter": {"withheld": True}, "loop": {"looped": True}}
EMPTY_DELTA = Delta()


class ReplyReader:
    """Turns the bytes of a streamed answer into pieces: `feed` the bytes, then b"" at the end, then get the `reply`.

    `names` are the tools that may be called; `text_calls` accepts calls of them written as text. `constrained`: the
    answer is inside JSON (see `constrained_calls`); `as_json`: the answer is itself JSON. `stop_loops`: a model that
    repeats itself without end ends the answer, with the finish reason "loop".
    """

    def __init__(
        self,
        names: Collection[str] = (),
        *,
        text_calls: bool = True,
        constrained: bool = False,
        as_json: bool = False,
        stop_loops: bool = True,
    ) -> None:
        self._tool_names = () if constrained else names
        self._text_calls = text_calls and bool(self._tool_names)
        self._answer, self._as_json = AnswerStream() if constrained else None, as_json
        self._decoder, self._splitter = SseDecoder(), ReasoningSplitter()
        self._calls = ToolCallAssembler(self._tool_names)
        self._call_buffer = self._new_call_buffer()
        self._text_loop, self._reasoning_loop = LoopDetector(), LoopDetector()
        self._arguments_loop = LoopDetector(is_code=True)
        self._stop_loops = stop_loops
        self._choice: Any = None  # the index of the choice that is read, if there are several
        self._finish_reason: str | None = None
        self._usage: dict[str, Any] = {}
        self._unexpected = ""  # the first data that is not part of an answer
        self._done = False  # [DONE] was received, or the model repeats itself
        self.looped = False  #: the model repeats itself
        self.got_event = False  #: the last bytes completed an event
        self.ended = False  #: the stream has ended, or [DONE] was received
        self.is_transient = False  #: a retry may help after the error that was raised

    @property
    def started(self) -> bool:
        """Whether any text, reasoning or call has arrived."""
        return self._splitter.started or bool(self._calls)

    @property
    def finished(self) -> bool:
        """Whether the finish reason has arrived: the reply is complete, though the stream may go on."""
        return self._finish_reason is not None

    def feed(self, piece: bytes) -> list[Delta | LoadingNotice | StreamRestarted]:
        """Read the next bytes; return the pieces in them. Raises ModelError."""
        events = self._decoder.feed(piece) if piece else self._decoder.close()
        self.got_event = bool(events)
        self.ended = not piece
        pieces: list[Delta | LoadingNotice | StreamRestarted] = []
        for data in events:
            if not self._done:  # ignore what follows [DONE]
                pieces += self._read_event(data)
        self.ended = self.ended or self._done
        if self.ended:
            pieces += self._flush()
        if self._answer is None:
            return pieces
        inside = [self._answer.feed(each) if isinstance(each, Delta) else each for each in pieces]
        return [each for each in inside if each != EMPTY_DELTA]

    def reply(self) -> Reply:
        """Return the complete reply. Raises ModelError if the stream ended in the middle."""
        self._flush()
        ended = self.finished or self._done
        if self._finish_reason in FAILED_REASONS or not (ended or self._calls):
            if self._unexpected and isinstance(error := error_from(500, self._unexpected), UnreadableReplyError):
                raise error
            if self._unexpected and not self.started:
                raise _unexpected_data(self._unexpected)
            raise self._broken_off()
        calls = self._calls.requested(cut_off=self._finish_reason in INCOMPLETE_REASONS or not ended)
        calls = tuple(replace(call, name=tool_named(call.name, self._tool_names)) for call in calls)
        written = self._calls_in_text()
        reply = Reply(
            text="" if written else self._text_loop.without_repeats(self._splitter.text),
            reasoning=self._without_repeats(self._splitter.reasoning),
            calls=calls or written,
            finish_reason=self._finish_reason,
            usage={**self._usage, **INCOMPLETE_REASONS.get(self._finish_reason or "", {})},
        )
        return reply if self._answer is None else read_constrained_reply(reply, as_json=self._as_json)

    def _read_event(self, data: str) -> list[Delta | LoadingNotice | StreamRestarted]:
        """Read the data of one event; return its pieces. Raises ModelError for an error inside the stream."""
        chunk = json_or_none(data)
        if not isinstance(chunk, dict):
            text = data.strip()
            self._done = text == "[DONE]"
            if self._done or self.finished or text in {"", "null"}:  # an empty event only keeps the connection alive
                return []  # after a complete answer, unexpected data is ignored
            if self.ended and chunk is None and text.startswith(("{", "[")):  # the last event is incomplete
                raise self._broken_off()
            raise _unexpected_data(data)
        if (failure := error_in(chunk)) is not None:
            body = data if chunk.get("error") else json.dumps({"error": failure})
            status = status_of(failure, chunk) or 500
            self.is_transient = is_transient(status, body)
            raise error_from(status, body)
        try:
            return self._read_chunk(chunk)
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise _unexpected_data(data) from error

    def _without_repeats(self, reasoning: str) -> str:
        in_tags = not self._splitter.text
        return self._reasoning_loop.without_repeats(
            self._text_loop.without_repeats(reasoning) if in_tags else reasoning
        )

    def _broken_off(self) -> ModelUnavailableError:
        """Return the error for a stream that ended in the middle of the answer."""
        self.is_transient = True
        said = f" ({error_message(self._unexpected)})" if self._unexpected else ""
        return ModelUnavailableError(
            f"the server stopped in the middle of its answer{said}; retry, or see the server's log"
        )

    def _flush(self) -> list[Delta | StreamRestarted]:
        """Return what was held back, at the end of the stream."""
        pieces = self._hold_back_calls(self._splitter.close())
        if self._call_buffer.holding and not self._calls_in_text():
            self._call_buffer.holding = False
            pieces += [Delta(text=text)] if (text := self._splitter.text) else []
        return pieces

    def _read_chunk(self, chunk: Mapping[str, Any]) -> list[Delta | LoadingNotice | StreamRestarted]:
        if "choices" not in chunk and chunk.get("type") != "ping" and USAGE_KEYS.isdisjoint(chunk):
            self._unexpected = self._unexpected or json.dumps(chunk, ensure_ascii=False)
        if not self._usage or not USAGE_KEYS.isdisjoint(chunk):
            self._usage.update(parse_usage(chunk))
        pieces: list[Delta | LoadingNotice | StreamRestarted] = []
        for choice in chunk.get("choices") or ():
            self._choice = choice.get("index") if self._choice is None else self._choice
            if (index := choice.get("index")) is not None and index != self._choice:
                continue
            is_whole = "delta" in choice or chunk.get("object") == "chat.completion"
            repeats = is_whole and self.started  # the full message, beside or after its deltas
            delta = choice.get("delta") or (not repeats and choice.get("message")) or {}
            content = delta.get("content")
            text = _as_text(content) or _as_text(delta.get("refusal"))
            thought = delta.get("reasoning_content") or delta.get("reasoning") or delta.get("thinking")
            reasoning = _as_text(thought) if thought else ""
            calls = delta.get("tool_calls")
            calls = [calls] if isinstance(calls, dict) else calls  # older TGI
            if reasoning and not (text or calls or "index" in choice or chunk.get("id") or chunk.get("model")):
                pieces.append(LoadingNotice(note=reasoning.strip() or "loading"))  # from llama-swap, not the model
                continue
            if reasoning or isinstance(content, list):
                reasoning += _reasoning_in(content)
                reasoning = self._until_loop(self._reasoning_loop, reasoning)
                pieces += [self._splitter.add_reasoning(reasoning)] if reasoning else []
            if text:
                text = self._until_loop(self._text_loop, text)
                pieces += self._hold_back_calls(self._splitter.feed(text))
            for piece in calls or ():
                self._calls.add(piece)
                arguments = mapping(piece.get("function")).get("arguments")
                self._until_loop(self._arguments_loop, arguments if isinstance(arguments, str) else "")
            if delta.get("function_call"):  # the older form, for a single call
                self._calls.add({"function": delta["function_call"], "index": 0, "id": "function_call"})
            if finish_reason := choice.get("finish_reason"):
                word = str(mapping(finish_reason).get("type", finish_reason)).lower()  # an object in older SGLang
                self._finish_reason = REASON_ALIASES.get(word, word)
                self._usage.update(parse_usage({**chunk, **choice}))  # some servers have it in the last choice
        if self.looped:
            self._finish_reason, self._done = "loop", True
        return pieces

    def _until_loop(self, detector: LoopDetector, text: str) -> str:
        """Return a piece up to where the model is seen to repeat itself."""
        if not self._stop_loops or (end := detector.feed(text)) is None:
            return text
        self.looped = True
        return text[:end]

    def _new_call_buffer(self) -> TextToolCallBuffer:
        return TextToolCallBuffer(holding=self._text_calls, names=self._tool_names)

    def _hold_back_calls(self, pieces: list[Delta | StreamRestarted]) -> list[Delta | StreamRestarted]:
        """Hold back text that starts like a call."""
        if not self._text_calls:
            return pieces
        shown: list[Delta | StreamRestarted] = []
        for piece in pieces:
            if isinstance(piece, StreamRestarted):
                shown.append(piece)
                self._call_buffer = self._new_call_buffer()
            elif not piece.text:
                shown.append(piece)
            elif text := self._call_buffer.feed(piece.text):
                shown.append(Delta(text=text))
        return shown

    def _calls_in_text(self) -> tuple[RequestedCall, ...]:
        ended = self.finished or self._done
        if not self._call_buffer.holding or self._calls or not ended or self._finish_reason in INCOMPLETE_REASONS:
            return ()
        return parse_text_calls(self._splitter.text, self._tool_names)


def _unexpected_data(data: str) -> ModelError:
    return ModelError(f"the server sent something that is not a chat completion: {truncated(data, 200)!r}")


def _as_text(content: Any) -> str:
    match content:
        case str():
            return content
        case list():
            return "".join(map(_as_text, content))
        case dict():
            return _as_text(content.get("text"))
        case _:
            return ""


def _reasoning_in(content: Any) -> str:
    """Return the reasoning among a content's parts."""
    if not isinstance(content, list):
        return ""
    return "".join(_as_text(part.get("thinking")) for part in content if isinstance(part, dict))

"""From the chunks of a streamed chat completion to a reply. Every server's oddities end here.

Pure: the data of events in, pieces out. Nothing here knows HTTP, time or a turn. A call is handed on as runnable only
if its arguments arrived whole; cut or broken ones are marked with the problem.

Its parts: `sse` (bytes to events), `tool_calls` (pieces to calls), `lenient_json` (their arguments), `text_tool_calls`
(calls written as text), `reasoning` (in tags), `usage` (what it cost).
"""

import json
from collections.abc import Collection, Mapping
from typing import Any

from piano_jupyter.errors import ModelError, ModelUnavailableError
from piano_jupyter.runner.model.protocol import Delta, LoadingNotice, Reply, RequestedCall, StreamRestarted
from piano_jupyter.runner.model.server.error_responses import code_of, error_from, passes
from piano_jupyter.runner.model.stream.constrained_calls import AnswerStream, unconstrained
from piano_jupyter.runner.model.stream.reasoning import ReasoningSplitter
from piano_jupyter.runner.model.stream.sse import SseDecoder
from piano_jupyter.runner.model.stream.text_tool_calls import TextToolCallBuffer, written_calls
from piano_jupyter.runner.model.stream.tool_calls import ToolCallAssembler
from piano_jupyter.runner.model.stream.usage import TELLS_USAGE, usage_of
from piano_jupyter.text.json_text import json_or_none
from piano_jupyter.text.truncation import truncated

#: servers' own words for an answer that they did not finish
BROKEN = frozenset({"abort", "aborted", "cancelled", "error", "insufficient_system_resource", "network_error"})
#: and for what others call so
SAME = {
    "max_tokens": "length",
    "model_length": "length",
    "model_context_window_exceeded": "length",
    "sensitive": "content_filter",
    "safety": "content_filter",
}
#: after which the end of an answer, or of its last call, may be missing; and how its usage tells that
CUTS = {"length": {"cut": True}, "content_filter": {"withheld": True}}
NOTHING = Delta()


class ReplyReader:
    """The bytes of a streamed answer to its pieces: `feed` what comes, nothing at the end, then take the `reply`.

    `names` are those of the tools that may be called; `text_calls`: a call of one that is written as text counts.
    `held`: the model was held to a schema (`constrained`), so its answer is within JSON; `as_json`: and is JSON itself.
    """

    def __init__(
        self, names: Collection[str] = (), *, text_calls: bool = True, held: bool = False, as_json: bool = False
    ) -> None:
        self._names = () if held else names
        self._text_calls = text_calls and bool(self._names)
        self._answer, self._as_json = AnswerStream() if held else None, as_json
        self._decoder, self._written, self._calls = SseDecoder(), ReasoningSplitter(), ToolCallAssembler(self._names)
        self._gate = TextToolCallBuffer(closed=self._text_calls)
        self._choice: Any = None  # the index of the one that is read; a request may ask for several
        self._finish_reason: str | None = None
        self._usage: dict[str, Any] = {}
        self._other = ""  # what came first that is no part of an answer
        self._done = False  # the server has said its last word
        self.heard = False  #: the last bytes told something
        self.ended = False  #: the stream has ended, or the server has said its last word
        self.passes = False  #: the error that was raised may pass: to ask again may help

    @property
    def begun(self) -> bool:
        """Whether anything of the reply itself is there: text, reasoning or a call."""
        return self._written.begun or bool(self._calls)

    @property
    def finished(self) -> bool:
        """Whether the server has said why the reply ended: it is whole, though the stream may go on."""
        return self._finish_reason is not None

    def feed(self, piece: bytes) -> list[Delta | LoadingNotice | StreamRestarted]:
        """Take the next bytes; return what they add. Raises ModelError."""
        events = self._decoder.feed(piece) if piece else self._decoder.close()
        self.heard = bool(events)
        told: list[Delta | LoadingNotice | StreamRestarted] = []
        for data in events:
            if not self._done:  # what follows the last word is nobody's
                told += self._take(data)
        self.ended = self._done or not piece
        if self.ended:
            told += self._close()
        if self._answer is None:
            return told
        inside = [self._answer.feed(each) if isinstance(each, Delta) else each for each in told]
        return [each for each in inside if each != NOTHING]

    def reply(self) -> Reply:
        """Return the whole reply. Raises ModelError where the stream ended in the middle."""
        self._close()
        ended = self.finished or self._done
        if self._finish_reason in BROKEN or not (ended or self._calls):
            if self._other and not self.begun:
                raise _strange(self._other)
            self.passes = True
            raise ModelUnavailableError(
                "the server broke off in the middle of its answer; retry, or look at the server's log"
            )
        calls = self._calls.requested(cut=self._finish_reason in CUTS or not ended)
        written = self._written_calls()
        reply = Reply(
            text="" if written else self._written.text,
            reasoning=self._written.reasoning,
            calls=calls or written,
            finish_reason=self._finish_reason,
            usage={**self._usage, **CUTS.get(self._finish_reason or "", {})},
        )
        return reply if self._answer is None else unconstrained(reply, as_json=self._as_json)

    def _take(self, data: str) -> list[Delta | LoadingNotice | StreamRestarted]:
        """Take the data of one event; return what it adds. Raises ModelError for an error inside the stream."""
        chunk = json_or_none(data)
        if not isinstance(chunk, dict):
            said = data.strip()
            self._done = said == "[DONE]"
            if self._done or self.finished or said in {"", "null"}:  # an empty event only says that the server lives
                return []  # what is strange behind a whole answer is no reason to lose that
            raise _strange(data)
        if chunk.get("error") or chunk.get("object") == "error":
            status = code_of(chunk.get("error") or chunk) or 500
            self.passes = passes(status, data)
            raise error_from(status, data)
        try:
            return self._add(chunk)
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise _strange(data) from error

    def _close(self) -> list[Delta | StreamRestarted]:
        """Take the end of the stream; return what was held back until now."""
        told = self._shown(self._written.close())
        if self._gate.closed and not self._written_calls():
            self._gate.closed = False
            told += [Delta(text=text)] if (text := self._written.text) else []
        return told

    def _add(self, chunk: Mapping[str, Any]) -> list[Delta | LoadingNotice | StreamRestarted]:
        if "choices" not in chunk and chunk.get("type") != "ping" and TELLS_USAGE.isdisjoint(chunk):
            self._other = self._other or json.dumps(chunk, ensure_ascii=False)
        if not self._usage or not TELLS_USAGE.isdisjoint(chunk):
            self._usage.update(usage_of(chunk))
        added: list[Delta | LoadingNotice | StreamRestarted] = []
        for choice in chunk.get("choices") or ():
            self._choice = choice.get("index") if self._choice is None else self._choice
            if choice.get("index", self._choice) not in {self._choice, None}:
                continue
            repeats = self.begun and chunk.get("object") == "chat.completion"  # the whole, behind its pieces
            delta = choice.get("delta") or (not repeats and choice.get("message")) or {}
            text = _as_text(delta.get("content")) or _as_text(delta.get("refusal"))
            reasoning = _as_text(delta.get("reasoning_content") or delta.get("reasoning") or delta.get("thinking"))
            calls = delta.get("tool_calls")
            if reasoning and not (text or calls or "index" in choice or chunk.get("id") or chunk.get("model")):
                added.append(LoadingNotice(note=reasoning.strip() or "loading"))  # llama-swap's word, not the model's
                continue
            if reasoning or not isinstance(delta.get("content"), str | None):
                reasoning += _thought(delta.get("content"))
                added += [self._written.reason(reasoning)] if reasoning else []
            if text:
                added += self._shown(self._written.feed(text))
            for piece in calls or ():
                self._calls.add(piece)
            if delta.get("function_call"):  # the older form, of one call
                self._calls.add({"function": delta["function_call"], "index": 0})
            if finish_reason := choice.get("finish_reason"):
                word = str(finish_reason).lower()
                self._finish_reason = SAME.get(word, word)
                self._usage.update(usage_of({**chunk, **choice}))  # some tell it in the last choice
        return added

    def _shown(self, told: list[Delta | StreamRestarted]) -> list[Delta | StreamRestarted]:
        """Hold back what begins like a call."""
        if not self._text_calls:
            return told
        shown: list[Delta | StreamRestarted] = []
        for piece in told:
            if isinstance(piece, StreamRestarted):
                shown.append(piece)
                self._gate = TextToolCallBuffer(closed=True)
            elif not piece.text:
                shown.append(piece)
            elif text := self._gate.feed(piece.text):
                shown.append(Delta(text=text))
        return shown

    def _written_calls(self) -> tuple[RequestedCall, ...]:
        if not self._gate.closed or self._calls or self._finish_reason != "stop":
            return ()
        return written_calls(self._written.text, self._names)


def _strange(data: str) -> ModelError:
    return ModelError(f"the server sent what is not a chat completion: {truncated(data, 200)!r}")


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


def _thought(content: Any) -> str:
    """Return the reasoning among the parts of a content."""
    if not isinstance(content, list):
        return ""
    return "".join(_as_text(part.get("thinking")) for part in content if isinstance(part, dict))

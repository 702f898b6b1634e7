"""Record and replay, as an httpx transport: a notebook's exchanges with the model, in a file beside it.

A cassette is JSON Lines: a first line with the time of the recording, then one line per exchange. A request is
identified by its method, path and canonical body, never by its host or position. Hosts and API keys are not in it:
`ServerTransport` adds them later.

Timings differ between runs, so they are saved with the exchange: while recording, the reader of the response writes
them into the dict in its `extensions["measure"]`; in a replay it finds them in `extensions["measured"]`.
"""

import difflib
import json
import os
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from piano_jupyter.clock import Clock
from piano_jupyter.errors import ModelError, PianoError
from piano_jupyter.safe_files import read_file, write_file
from piano_jupyter.secrets.redactor import redact
from piano_jupyter.text.json_text import MAX_DEPTH, mapping, parse_json

FORMAT_VERSION = 1
MAX_CASSETTE_BYTES = 1 << 30
BODY_LEVELS = 2  #: objects in a line around the body of a request


class Cassette:
    """The recorded exchanges of one file: it either records new ones (`recording`) or replays them.

    `mask` removes secrets from requests and responses; requests are looked up in their masked form. Links that lead out
    of the `workspace` are not followed.
    """

    def __init__(
        self,
        path: Path,
        *,
        recording: bool,
        mask: Callable[[Any], Any] = redact,
        workspace: Callable[[], Path] = Path.cwd,
    ) -> None:
        self.path, self.recording, self.mask = path, recording, mask
        self._workspace = workspace
        self._recorded_at = datetime.now(UTC).replace(microsecond=0)
        self._exchanges: list[dict[str, Any]] = []
        self._lines: list[bytes] = []  #: the file's lines
        self._replay_counts: dict[str, int] = {}
        if recording:
            self._save({"piano_cassette": FORMAT_VERSION, "recorded_at": self._recorded_at.isoformat()})
        else:
            self._load()

    def clock(self) -> Clock:
        """Return a clock that gives a recording and its replays the same times and ids."""
        return Clock(self._recorded_at)

    def wrap(self, inner: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
        """Return a transport that records the responses of `inner`, or replays them instead."""
        return CassetteTransport(self, inner)

    def find(self, key: dict[str, Any]) -> dict[str, Any] | None:
        """Return the response to a request: the nth recorded one for the nth request, the last one after that."""
        known: list[dict[str, Any]] = [each["response"] for each in self._exchanges if each["request"] == key]
        if not known:
            path, query, _ = key["path"].partition("?")
            return self.find({**key, "path": path}) if query else None  # older cassettes have no query strings
        written = json.dumps(key, sort_keys=True)
        times = self._replay_counts[written] = self._replay_counts.get(written, 0) + 1
        return known[min(times, len(known)) - 1]

    def add(self, key: dict[str, Any], response: dict[str, Any]) -> None:
        """Record one exchange."""
        self._save({"request": key, "response": response})

    def not_recorded_error(self, key: dict[str, Any]) -> ModelError:
        """Return the error for a request that was never recorded, with a diff against the closest recorded one."""
        asked = _lines(key)
        recorded = [_lines(each["request"]) for each in self._exchanges]
        closest = max(recorded, key=lambda each: difflib.SequenceMatcher(None, each, asked).ratio(), default=[])
        changed = [line for line in difflib.unified_diff(closest, asked, lineterm="", n=0) if line[:1] in "+-"][2:14]
        return ModelError(
            f"{self.path.name} has no answer to this request; record the notebook again with %piano record. "
            f"Differences from the closest recorded request:\n" + "\n".join(changed)
        )

    def _load(self) -> None:
        try:
            data = read_file(self.path, workspace=self._workspace(), max_bytes=MAX_CASSETTE_BYTES)
        except PianoError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                message = f"there is no cassette at {self.path}; record one with %piano record {self.path}"
                raise PianoError(message) from error
            raise
        try:
            lines = data.decode("utf-8").split("\n")  # not splitlines(): JSON does not escape the other line separators
            head, *rest = (parse_json(line, MAX_DEPTH + BODY_LEVELS) for line in lines if line.strip())
            version = head["piano_cassette"]
            if version == FORMAT_VERSION:
                self._recorded_at = datetime.fromisoformat(head["recorded_at"])
                self._exchanges = [{"request": each["request"], "response": each["response"]} for each in rest]
        except (ValueError, KeyError, TypeError) as error:
            raise PianoError(f"{self.path} is not a cassette ({error}); record it again with %piano record") from error
        if version != FORMAT_VERSION:
            raise PianoError(f"{self.path} is a cassette of another version ({version}); record it again")

    def _save(self, line: dict[str, Any]) -> None:
        """Rewrite the file with one more line, atomically, so that a concurrent reader sees a complete file."""
        self._lines.append(json.dumps(line, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")
        data, workspace = b"".join(self._lines), self._workspace()
        write_file(self.path, data, workspace=workspace, replace=True, make_folders=True, sync=False)


class CassetteTransport(httpx.AsyncBaseTransport):
    """Answers from a cassette, or records into it."""

    def __init__(self, cassette: Cassette, inner: httpx.AsyncBaseTransport) -> None:
        self._cassette, self._inner = cassette, inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer the request. One that was not recorded goes to the model, or raises under PIANO_REPLAY=strict."""
        key = self._cassette.mask(_request_key(request))
        if not self._cassette.recording:
            if found := self._cassette.find(key):
                return httpx.Response(
                    found["status"],
                    headers=found["headers"],
                    text=found["body"],
                    extensions={"measured": found.get("measured", {})},
                    request=request,
                )
            if os.environ.get("PIANO_REPLAY") == "strict":
                raise self._cassette.not_recorded_error(key)
            if request.extensions.get("only_recorded"):  # optional: not worth looking for a server
                return httpx.Response(404, extensions={"not_recorded": True}, request=request)
            return await self._inner.handle_async_request(request)
        response = await self._inner.handle_async_request(request)
        measure: dict[str, float] = {}
        return httpx.Response(
            response.status_code,
            headers=response.headers,
            stream=_RecordingStream(self._cassette, key, response, measure),
            extensions={**response.extensions, "measure": measure},
            request=request,
        )

    async def aclose(self) -> None:
        """Close the wrapped transport."""
        await self._inner.aclose()


class _RecordingStream(httpx.AsyncByteStream):
    """Passes a response's bytes through and records the exchange when they are complete."""

    def __init__(
        self, cassette: Cassette, key: dict[str, Any], response: httpx.Response, measure: dict[str, float]
    ) -> None:
        self._cassette, self._request_key, self._response, self._measure = cassette, key, response, measure
        self._body = b""
        self._saved = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._response.stream:  # type: ignore[union-attr]  # an async transport's stream is async
            self._body += piece
            yield piece
        self._save()

    async def aclose(self) -> None:
        if b"data: [DONE]" in self._body or "looped" in self._measure:  # complete, even if the server would go on
            self._save()
        await self._response.aclose()

    def _save(self) -> None:
        if self._saved:
            return
        self._saved = True
        packed = {"content-encoding": self._response.headers.get("content-encoding", "identity")}
        body = httpx.Response(200, headers=packed, content=self._body).content.decode("utf-8", "replace")
        if self._request_key["path"].startswith("/props"):
            body = _used_props(body)
        headers = {"content-type": self._response.headers.get("content-type", "application/json")}
        answer = {"status": self._response.status_code, "headers": headers, "body": self._cassette.mask(body)}
        if self._measure:
            answer["measured"] = dict(self._measure)
        self._cassette.add(self._request_key, answer)


def _request_key(request: httpx.Request) -> dict[str, Any]:
    try:
        body = parse_json(request.content) if request.content else None
    except ValueError:
        body = request.content.decode("utf-8", "replace")
    query = request.url.query.decode()
    return {"method": request.method, "path": request.url.path + (f"?{query}" if query else ""), "body": body}


def _used_props(body: str) -> str:
    """Return only the properties that Piano reads: the others hold paths of the server's machine."""
    try:
        props = parse_json(body)
        settings = {"n_ctx": (props.get("default_generation_settings") or {}).get("n_ctx")}
        used = {"chat_template_caps": props.get("chat_template_caps"), "default_generation_settings": settings}
        if "modalities" in props:  # whether the model sees images
            used["modalities"] = {"vision": mapping(props["modalities"]).get("vision")}
        return json.dumps(used)
    except (ValueError, AttributeError):
        return "{}"


def _lines(key: dict[str, Any]) -> list[str]:
    return json.dumps(key, indent=1, sort_keys=True, ensure_ascii=False).splitlines()

"""Record and replay, as an httpx transport: a notebook's exchanges with the model, in a file beside it.

A cassette is JSON Lines: one line that says when it was recorded, then one line an exchange. A request is known by its
method, path and canonical body, never by host or position; hosts and keys are not in it (they are put on later, by
`ServerTransport`).

How long an answer took is not the same twice, so it is kept with the exchange: who records finds a dict to write it
into in the response's `extensions["measure"]`, who replays finds it again in `extensions["measured"]`.
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

FORMAT = 1
LARGEST = 1 << 30  #: bytes of a cassette


class Cassette:
    """The recorded exchanges of one file, to add to (`recording`) or to answer from.

    `mask` takes the secrets out of both sides; what is asked is known without them. In the `workspace`, no link is
    followed that leads out of it.
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
        self._lines: list[bytes] = []  #: of the file
        self._played: dict[str, int] = {}
        if recording:
            self._save({"piano_cassette": FORMAT, "recorded_at": self._recorded_at.isoformat()})
        else:
            self._load()

    def clock(self) -> Clock:
        """Return the clock that makes a recording and its replays alike."""
        return Clock(self._recorded_at)

    def wrap(self, inner: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
        """Return a transport that records what `inner` answers, or answers in its place."""
        return CassetteTransport(self, inner)

    def find(self, key: dict[str, Any]) -> dict[str, Any] | None:
        """Return the answer to a request: asked the second time, the second one recorded; then the last again."""
        known: list[dict[str, Any]] = [each["response"] for each in self._exchanges if each["request"] == key]
        if not known:
            path, query, _ = key["path"].partition("?")
            return self.find({**key, "path": path}) if query else None  # an older cassette keeps no queries
        written = json.dumps(key, sort_keys=True)
        times = self._played[written] = self._played.get(written, 0) + 1
        return known[min(times, len(known)) - 1]

    def add(self, key: dict[str, Any], response: dict[str, Any]) -> None:
        """Keep one exchange."""
        self._save({"request": key, "response": response})

    def miss(self, key: dict[str, Any]) -> ModelError:
        """Return the error for a request that was never recorded, with what differs from the nearest one."""
        asked = _lines(key)
        recorded = [_lines(each["request"]) for each in self._exchanges]
        nearest = max(recorded, key=lambda each: difflib.SequenceMatcher(None, each, asked).ratio(), default=[])
        changed = [line for line in difflib.unified_diff(nearest, asked, lineterm="", n=0) if line[:1] in "+-"][2:14]
        return ModelError(
            f"{self.path.name} has no answer to this request; record the notebook again with %piano record. "
            f"What differs from the nearest recorded one:\n" + "\n".join(changed)
        )

    def _load(self) -> None:
        try:
            data = read_file(self.path, workspace=self._workspace(), max_bytes=LARGEST)
        except PianoError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                why = f"there is no cassette at {self.path}; record one with %piano record {self.path}"
                raise PianoError(why) from error
            raise
        try:
            lines = data.decode("utf-8").split("\n")  # JSON leaves all other line ends bare
            head, *rest = (json.loads(line) for line in lines if line.strip())
            version = head["piano_cassette"]
            if version == FORMAT:
                self._recorded_at = datetime.fromisoformat(head["recorded_at"])
                self._exchanges = [{"request": each["request"], "response": each["response"]} for each in rest]
        except (ValueError, KeyError, TypeError) as error:
            raise PianoError(f"{self.path} is not a cassette ({error}); record it again with %piano record") from error
        if version != FORMAT:
            raise PianoError(f"{self.path} is a cassette of another version ({version}); record it again")

    def _save(self, line: dict[str, Any]) -> None:
        """Write the file again with one line more: whoever reads it meanwhile finds it whole."""
        self._lines.append(json.dumps(line, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")
        data, workspace = b"".join(self._lines), self._workspace()
        write_file(self.path, data, workspace=workspace, replace=True, make_folders=True, sync=False)


class CassetteTransport(httpx.AsyncBaseTransport):
    """Answers from a cassette, or records into it."""

    def __init__(self, cassette: Cassette, inner: httpx.AsyncBaseTransport) -> None:
        self._cassette, self._inner = cassette, inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer the request. What was not recorded is asked of the model, or under PIANO_REPLAY=strict an error."""
        key = self._cassette.mask(_key(request))
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
                raise self._cassette.miss(key)
            if request.extensions.get("only_recorded"):  # nice to know, and not worth to look for a server
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
        """Close what it wraps."""
        await self._inner.aclose()


class _RecordingStream(httpx.AsyncByteStream):
    """Passes a response's bytes on; once they came whole, keeps the exchange."""

    def __init__(
        self, cassette: Cassette, key: dict[str, Any], response: httpx.Response, measure: dict[str, float]
    ) -> None:
        self._cassette, self._key, self._response, self._measure = cassette, key, response, measure
        self._whole = b""
        self._kept = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._response.stream:  # type: ignore[union-attr]  # an async transport's stream is async
            self._whole += piece
            yield piece
        self._keep()

    async def aclose(self) -> None:
        if b"data: [DONE]" in self._whole:  # the last word came, though the server held the connection
            self._keep()
        await self._response.aclose()

    def _keep(self) -> None:
        if self._kept:
            return
        self._kept = True
        packed = {"content-encoding": self._response.headers.get("content-encoding", "identity")}
        body = httpx.Response(200, headers=packed, content=self._whole).content.decode("utf-8", "replace")
        if self._key["path"].startswith("/props"):
            body = _what_is_asked_of_props(body)
        headers = {"content-type": self._response.headers.get("content-type", "application/json")}
        answer = {"status": self._response.status_code, "headers": headers, "body": self._cassette.mask(body)}
        if self._measure:
            answer["measured"] = dict(self._measure)
        self._cassette.add(self._key, answer)


def _key(request: httpx.Request) -> dict[str, Any]:
    try:
        body = json.loads(request.content) if request.content else None
    except ValueError:
        body = request.content.decode("utf-8", "replace")
    query = request.url.query.decode()
    return {"method": request.method, "path": request.url.path + (f"?{query}" if query else ""), "body": body}


def _what_is_asked_of_props(body: str) -> str:
    """The rest of a server's properties holds paths of its machine, and no business of a reader's."""
    try:
        told = json.loads(body)
        settings = {"n_ctx": (told.get("default_generation_settings") or {}).get("n_ctx")}
        return json.dumps(
            {"chat_template_caps": told.get("chat_template_caps"), "default_generation_settings": settings}
        )
    except (ValueError, AttributeError):
        return "{}"


def _lines(key: dict[str, Any]) -> list[str]:
    return json.dumps(key, indent=1, sort_keys=True, ensure_ascii=False).splitlines()

"""ScriptedServer: an OpenAI-compatible server on 127.0.0.1 that streams the replies of a script over real HTTP."""

import json
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from piano_jupyter.runner.model.protocol import RequestedCall
from piano_jupyter.testing.script import EXHAUSTED, words

KEEP_ALIVE_S = 0.05  # between the comments that a reply sends while it is held


@dataclass(frozen=True, slots=True)
class ServerReply:
    """A reply of a `ScriptedServer` that is more than a text or tool calls.

    Attributes:
        text: The text of the answer; with another `status` than 200, the message of the error.
        calls: The tool calls that the answer makes, all at once.
        reasoning: What the model thinks before it answers.
        status: The HTTP status. Any other than 200 is an error, such as 500 or 429.
        held: Whether the reply stops after its first piece until `server.release` is set.
        breaks_off: Whether the connection ends after the first piece, as when a server crashes.
        pieces: The text as it is cut for the stream; by default into words.

    Example:
        >>> ServerReply("the GPU is out of memory", status=500).status
        500
    """

    text: str = ""
    calls: Sequence[RequestedCall] = ()
    reasoning: str = ""
    status: int = 200
    held: bool = False
    breaks_off: bool = False
    pieces: Sequence[str] = ()


ServerStep = str | RequestedCall | Sequence[RequestedCall] | ServerReply


class ScriptedServer:
    """A server with the OpenAI chat API on 127.0.0.1 that streams the replies of a script and records its requests.

    Use it where a `ScriptedModel` cannot go: in another process, such as a notebook's kernel or a terminal, and to
    test what happens when a server fails. It listens from `with` or `start` on, on a free port. Each request takes
    the next step of the script:

    * a `str`: the text of the answer, streamed word by word;
    * `tool_call(...)`, or a list of them: the model calls these tools;
    * a `ServerReply`: an error status, a reply that is held or breaks off, reasoning;
    * a function: it is called with the JSON of the request, a dict, and returns one of the steps above.

    Args:
        script: The steps, in the order in which they are used.
        answer: A function that is called with the request when the script is used up, and returns a step. Without
            it such a request gets an HTTP error 400 that says so.
        models: The names that the server lists at `/v1/models`; it answers for any name.
        serves: What it answers at other paths: JSON by path, such as `{"/running": {"running": []}}`; a path without
            a query answers for all of its queries.

    Attributes:
        url: The address, with `/v1`, for `base_url`; "" before it is started.
        script: The steps that are left; may be changed at any time.
        requests: The JSON of the requests so far, each a dict with `model`, `messages` and so on.
        release: A `threading.Event`; set it to let held replies continue.
        disconnected: A `threading.Event`; it is set when a client leaves in the middle of a reply.

    Example:
        >>> with ScriptedServer(["Paris."]) as server:
        ...     async with Piano(database=":memory:", base_url=server.url) as chat:
        ...         answer = await chat.ask("What is the capital of France?")
        >>> answer.content
        'Paris.'
        >>> server.requests[0]["messages"][-1]["content"]
        'What is the capital of France?'
    """

    def __init__(
        self,
        script: Iterable[ServerStep | Callable[[dict[str, Any]], ServerStep]] = (),
        *,
        answer: Callable[[dict[str, Any]], ServerStep] | None = None,
        models: Sequence[str] = ("qwen3:32b",),
        serves: Mapping[str, Any] | None = None,
    ) -> None:
        self.url = ""
        self.script = deque(script)
        self.answer = self._first_answer = answer
        self.models, self._first_models = list(models), tuple(models)
        self.serves = dict(serves or {})
        self.requests: list[dict[str, Any]] = []
        self.release = threading.Event()
        self.disconnected = threading.Event()
        self._http: _ScriptHTTPServer | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen on a free port of 127.0.0.1, on a thread; `url` is the address.

        Raises:
            OSError: No port is free.

        Example:
            >>> server = ScriptedServer(["Paris."])
            >>> server.start()
            >>> server.url.startswith("http://127.0.0.1:")
            True
            >>> server.stop()
        """
        self._http = _ScriptHTTPServer(self)
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(KEEP_ALIVE_S,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Release held replies and stop listening. May be called twice.

        Example:
            >>> server = ScriptedServer()
            >>> server.start()
            >>> server.stop()
        """
        self.release.set()
        if self._http is not None and self._thread is not None:
            self._http.shutdown()
            self._thread.join()
            self._http.server_close()
            self._http = None

    def says(self, *steps: ServerStep | Callable[[dict[str, Any]], ServerStep]) -> None:
        """Add steps to the end of the script.

        Args:
            *steps: What the next requests get, as in the constructor's `script`.

        Example:
            >>> server = ScriptedServer()
            >>> server.says("Paris.", tool_call("price", item="tea"))
            >>> len(server.script)
            2
        """
        self.script.extend(steps)

    def reset(self) -> None:
        """Forget script and requests, and have `answer` and `models` as they were given: for the next test.

        Replies that are held are released.

        Example:
            >>> server = ScriptedServer(["Paris."])
            >>> server.reset()
            >>> len(server.script)
            0
        """
        self.release.set()
        self.release = threading.Event()
        self.disconnected.clear()
        self.script.clear()
        self.requests.clear()
        self.answer, self.models = self._first_answer, list(self._first_models)

    def next_reply(self, request: dict[str, Any]) -> ServerReply:
        """Record a request and return the reply that the script has for it."""
        self.requests.append(request)
        step = self.script.popleft() if self.script else self.answer
        if step is None:
            return ServerReply(EXHAUSTED.format(number=len(self.requests)), status=HTTPStatus.BAD_REQUEST)
        given = step(request) if callable(step) else step
        if isinstance(given, ServerReply):
            return given
        if isinstance(given, str):
            return ServerReply(given)
        return ServerReply(calls=[given] if isinstance(given, RequestedCall) else given)


class _ScriptHTTPServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, scripted: ScriptedServer) -> None:
        self.scripted = scripted
        super().__init__(("127.0.0.1", 0), _ScriptHandler)


class _ScriptHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _ScriptHTTPServer

    def log_message(self, *_: object) -> None:
        """Log nothing: the requests are recorded."""

    def do_GET(self) -> None:
        models = [{"id": name, "object": "model"} for name in self.server.scripted.models]
        pages = {"/v1/models": {"data": models}, **self.server.scripted.serves}
        found = next((path for path in (self.path, self.path.partition("?")[0]) if path in pages), None)
        if found is not None:
            self._send(HTTPStatus.OK, pages[found])
        else:
            self._send(HTTPStatus.NOT_FOUND, {"error": {"message": f"no such path: {self.path}"}})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path != "/v1/chat/completions":
            self.do_GET()
            return
        request = json.loads(body)
        reply = self.server.scripted.next_reply(request)
        if reply.status != HTTPStatus.OK:
            self._send(reply.status, {"error": {"message": reply.text}})
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            self._stream(reply, request.get("model"))
        except OSError:
            self.server.scripted.disconnected.set()

    def _stream(self, reply: ServerReply, model: object) -> None:
        release = self.server.scripted.release
        if reply.reasoning:
            self._chunk(model, {"reasoning_content": reply.reasoning})
        for place, piece in enumerate(reply.pieces or words(reply.text)):
            self._chunk(model, {"content": piece})
            if reply.breaks_off:
                return
            while place == 0 and reply.held and not release.wait(KEEP_ALIVE_S):
                self.wfile.write(b": still here\n\n")
        for index, call in enumerate(reply.calls):
            function = {"name": call.name, "arguments": json.dumps(dict(call.arguments))}
            entry = {"index": index, "id": f"call{index + 1:05}", "type": "function", "function": function}
            self._chunk(model, {"tool_calls": [entry]})
        self._chunk(model, {}, "tool_calls" if reply.calls else "stop")
        self.wfile.write(b"data: [DONE]\n\n")

    def _chunk(self, model: object, delta: Mapping[str, Any], finish_reason: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        chunk = {"id": "c1", "object": "chat.completion.chunk", "model": model, "choices": [choice]}
        self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")

    def _send(self, status: int, body: Mapping[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

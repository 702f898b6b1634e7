"""An OpenAI-compatible server of the tests' own: it streams its script word by word, over real HTTP."""

import json
import re
import threading
from collections import deque
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Say:
    """What the stub model answers to one request."""

    text: str = ""
    call: tuple[str, dict] | None = None  # a tool's name and arguments
    calls: tuple[tuple[str, dict], ...] = ()  # several at once
    held: bool = False  # stop after the first word until `stub_model.release` is set
    status: int = 200
    reasoning: str = ""
    breaks: bool = False  # the stream ends after the first word
    pieces: tuple[str, ...] = ()  # the text as it is cut for the stream; else into words


@dataclass
class StubModel:
    """An OpenAI-compatible server that streams its script word by word, then echoes."""

    url: str = ""
    models: list[str] = field(default_factory=lambda: ["qwen3:32b"])
    script: deque[Say] = field(default_factory=deque)
    answer: Callable[[dict], Say] | None = None  # what to say when the script is empty; else it echoes
    asked: list[dict] = field(default_factory=list)
    gone: threading.Event = field(default_factory=threading.Event)  # a client left in the middle of an answer
    release: threading.Event = field(default_factory=threading.Event)

    def says(self, *answers):
        self.script.extend(Say(answer) if isinstance(answer, str) else answer for answer in answers)

    def reset(self):
        self.release.set()
        self.script.clear()
        self.models = ["qwen3:32b"]
        self.asked.clear()
        self.answer = None
        self.release = threading.Event()
        self.gone.clear()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        found = self.path.endswith("/models")
        models = [{"id": name, "object": "model"} for name in self.server.stub.models]
        self._send(200 if found else 404, {"data": models} if found else {"error": "no"})

    def do_POST(self):
        model = self.server.stub
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        model.asked.append(asked)
        echo = model.answer or (lambda asked: Say("You said: " + asked["messages"][-1]["content"]))
        say = model.script.popleft() if model.script else echo(asked)
        if say.status != 200:
            self._send(say.status, {"error": {"message": say.text}})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            self._stream(model, say)
        except OSError:
            model.gone.set()

    def _stream(self, model, say):
        release = model.release
        if say.reasoning:
            self._chunk({"reasoning_content": say.reasoning})
        for i, word in enumerate(say.pieces or re.findall(r"\S*\s*", say.text)):
            self._chunk({"content": word})
            if say.breaks:
                return
            while i == 0 and say.held and not release.wait(0.05):
                self.wfile.write(b": still here\n\n")
        calls = (say.call,) if say.call else say.calls
        for index, (name, arguments) in enumerate(calls):
            call = {"index": index, "id": f"call{index + 1:05}", "type": "function"}
            self._chunk({"tool_calls": [{**call, "function": {"name": name, "arguments": json.dumps(arguments)}}]})
        self._chunk({}, finish="tool_calls" if calls else "stop")
        self.wfile.write(b"data: [DONE]\n\n")

    def _chunk(self, delta, finish=None):
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        chunk = {"id": "c1", "object": "chat.completion.chunk", "model": "qwen3:32b", "choices": [choice]}
        self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")

    def _send(self, status, body):
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


@contextmanager
def serving():
    """Yield a StubModel that listens on loopback."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.stub = StubModel(url=f"http://127.0.0.1:{server.server_port}/v1")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.stub
    finally:
        server.stub.release.set()
        server.shutdown()
        thread.join()
        server.server_close()

"""A stand-in for llama-swap, where that cannot be had.

python stand_in_swap.py --config FILE --listen HOST:PORT

It reads the part of llama-swap's configuration that the tests write, starts and stops the real servers that it names,
one at a time, and answers in llama-swap's forms. What it does not have: groups, time to live, peers, its page.
"""

import argparse
import contextlib
import http.client
import json
import os
import queue
import select
import shlex
import signal
import socket
import sys
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml
from stand_in_models import Gone, Refusal, Swapper


class Handler(BaseHTTPRequestHandler):
    """llama-swap's paths."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    swap: Swapper

    def log_message(self, *_):
        pass

    def do_GET(self):
        self._answer("GET")

    def do_POST(self):
        self._answer("POST")

    def _answer(self, method):
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.begun = False
        path = urllib.parse.unquote(self.path.partition("?")[0])
        try:
            self._route(method, path)
        except Refusal as refusal:
            if self.begun:  # a stream of loading chunks: the error is one more
                with contextlib.suppress(OSError):
                    self._chunk(b"data: " + refusal.body + b"\n\ndata: [DONE]\n\n")
                    self._chunk(b"")
            else:
                self._send(refusal.status, refusal.body, **refusal.headers)
        except (Gone, OSError):
            self.close_connection = True

    def _route(self, method, path):
        swap = self.swap
        if path == "/health":
            self._send(200, b"OK", kind="text/plain")
            return
        if swap.keys and self.headers.get("Authorization", "").removeprefix("Bearer ") not in swap.keys:
            raise Refusal(401, "unauthorized: invalid or missing API key")
        match method, path.strip("/").split("/"):
            case "GET", ["v1", "models"]:
                self._json({"object": "list", "data": [self._record(model) for model in swap.models.values()]})
            case "GET", ["running"]:
                self._json({"running": [self._process(model) for model in swap.running()]})
            case "GET", ["api", "events"]:
                self._events()
            case "POST", ["api", "models", "unload"]:
                swap.unload(list(swap.models.values()))
                self._json({"msg": "ok"})
            case "POST", ["api", "models", "unload", *name]:
                swap.unload([swap.named("/".join(name), "model not found")])
                self._send(200, b"OK", kind="text/plain")
            case _, ["upstream", *rest]:
                names = ["/".join(rest[: end + 1]) for end in range(len(rest))]
                known = [name for name in names if name in swap.names]
                model = swap.named(known[-1] if known else "", "model not found")
                self._pass_on(method, model, "/" + "/".join(rest[known[-1].count("/") + 1 :]))
            case "POST", ["v1", *_]:
                try:
                    asked = json.loads(self.body)
                except ValueError:
                    asked = {}
                if not asked.get("model"):
                    raise Refusal(404, "no model id could be identified")
                model = swap.named(asked["model"])
                tells = swap.tells_loading and asked.get("stream") and path.startswith("/v1/chat/completions")
                self._pass_on(method, model, path, tells_loading=tells)
            case _:
                self._send(404, b"404 page not found\n", kind="text/plain")

    def _record(self, model):
        return {
            "id": model.name,
            "object": "model",
            "created": int(time.time()),
            "owned_by": "llama-swap",
            **({"description": model.description} if model.description else {}),
            **({"context_length": model.context} if model.context else {}),
            "status": {"value": "unloaded" if model.state == "stopped" else "loaded"},
        }

    def _process(self, model):
        return {
            "model": model.name,
            "state": model.state,
            "cmd": shlex.join(model.command),
            "proxy": f"http://127.0.0.1:{model.port}",
            "ttl": 0,
            "name": "",
            "description": model.description,
        }

    def _events(self):
        self._begin(200, {"Content-Type": "text/event-stream"})
        events = self.swap.listen()
        try:
            while not self._is_gone():
                with contextlib.suppress(queue.Empty):
                    data = json.dumps(events.get(timeout=0.05)).encode()
                    self._chunk(b"event:message\ndata:" + data + b"\n\n")
        finally:
            with self.swap.changed:
                self.swap.listeners.remove(events)

    def _pass_on(self, method, model, path, *, tells_loading=False):
        if tells_loading and model.state != "ready":
            self._begin(200, {"Content-Type": "text/event-stream"})
            self._loading_chunks(f"━━━━━\nllama-swap loading model: {model.name}\n")
        with self.swap.lent(model, self._is_gone):
            if self.begun:
                self._loading_chunks("\nDone!\n━━━━━\n \n")
            upstream = http.client.HTTPConnection("127.0.0.1", model.port)
            try:
                self._relay(upstream, method, path)
            finally:
                upstream.close()

    def _relay(self, upstream, method, path):
        try:
            upstream.request(method, path, self.body or None, {"Content-Type": "application/json"})
            answer = upstream.getresponse()
        except (OSError, http.client.HTTPException):
            self._send(502, b"")
            return
        if not self.begun:
            self._begin(answer.status, {"Content-Type": answer.headers["Content-Type"] or "text/plain"})
        with contextlib.suppress(
            http.client.HTTPException, ConnectionResetError
        ):  # it was stopped: the stream just ends
            while piece := answer.read1():
                self._chunk(piece)
        self._chunk(b"")

    def _loading_chunks(self, text):
        for start in range(0, len(text), 5):
            delta = {"choices": [{"delta": {"reasoning_content": text[start : start + 5]}}]}
            self._chunk(b"data: " + json.dumps(delta).encode() + b"\n\n")

    def _is_gone(self):
        """Whether the client has closed the connection."""
        with contextlib.suppress(OSError):
            readable = select.select([self.connection], [], [], 0)[0]
            return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)
        return True

    def _begin(self, status, headers):
        self.begun = True
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _chunk(self, data):
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def _json(self, value):
        self._send(200, json.dumps(value).encode())

    def _send(self, status, body, kind="application/json", **headers):
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Serve until somebody ends it; then end what it has started."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--listen", required=True)
    asked = parser.parse_args()
    host, _, port = asked.listen.rpartition(":")
    Handler.swap = swap = Swapper(yaml.safe_load(asked.config.read_text()))
    server = ThreadingHTTPServer((host, int(port)), Handler)
    server.daemon_threads = True

    def end(*_):
        for model in swap.models.values():
            if model.process is not None:
                model.process.kill()
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server.serve_forever()


if __name__ == "__main__":
    sys.exit(main())

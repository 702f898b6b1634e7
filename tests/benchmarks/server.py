"""A server in a process of its own that streams as many tokens as the prompt asks for, at the rate it asks for."""

import json
import subprocess
import sys
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WINDOW = int(sys.argv[1]) if __name__ == "__main__" else 0  # tokens


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_GET(self):
        told = {"data": [{"id": "m"}]}
        if self.path.startswith("/props") and WINDOW:
            told = {"default_generation_settings": {"n_ctx": WINDOW}}
        self._send(json.dumps(told).encode(), "application/json")

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        question = asked["messages"][-1]["content"].strip().splitlines()[-1]
        count, rate = (int(word) for word in question.split()[:2])
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        begun = time.perf_counter()
        for number in range(count):
            if rate:
                time.sleep(max(0.0, begun + number / rate - time.perf_counter()))
            self._piece({"content": f"{number:04} "})  # not the same word again and again: that would be stopped
        self._piece({}, "stop")
        self._write(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def _piece(self, delta, finish=None):
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
        self._write(b"data: " + json.dumps(chunk).encode() + b"\n\n")

    def _write(self, data):
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def _send(self, body, kind):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def streaming_server(window=0):
    """Yield the address of the server; its model has a context window of so many tokens, if that is to be known."""
    process = subprocess.Popen([sys.executable, __file__, str(window)], stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_port}/v1", flush=True)
    server.serve_forever()

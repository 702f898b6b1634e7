"""A server in a process of its own that answers each question with the same JSON after a while, cheaply."""

import asyncio
import json
import subprocess
import sys
from contextlib import contextmanager

ANSWER = json.dumps({"stars": 4, "why": "it is good"})
CHOICE = {"index": 0, "message": {"role": "assistant", "content": ANSWER}, "finish_reason": "stop"}
USAGE = {"prompt_tokens": 120, "completion_tokens": 12, "prompt_tokens_details": {"cached_tokens": 100}}
BODY = json.dumps(
    {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [CHOICE], "usage": USAGE}
).encode()
HEAD = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n"
PROPS = json.dumps({"total_slots": 64}).encode()


class Answering(asyncio.Protocol):
    """One connection: a request at a time, answered after `seconds`."""

    def __init__(self, seconds):
        self.seconds, self.received = seconds, b""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.received += data
        while b"\r\n\r\n" in self.received:
            head, _, rest = self.received.partition(b"\r\n\r\n")
            lines = head.lower().split(b"\r\n")
            length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
            if len(rest) < length:
                return
            self.received = rest[length:]
            if head.startswith(b"POST"):
                asyncio.get_running_loop().call_later(self.seconds, self.send, BODY)
            else:
                self.send(PROPS)

    def send(self, body):
        self.transport.write(HEAD.format(len(body)).encode() + body)


async def serve(seconds):
    server = await asyncio.get_running_loop().create_server(lambda: Answering(seconds), "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


@contextmanager
def rows_server(seconds=0.05):
    """Yield the address of a server that takes so many seconds for each answer."""
    process = subprocess.Popen([sys.executable, __file__, str(seconds)], stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1])))

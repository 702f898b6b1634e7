"""MCP servers at addresses that redirect, refuse, do not answer, or send too much."""

import contextlib
import gzip
import http.server
import json
import threading
import time

import pytest
from tiny_mcp import results, server

from piano_jupyter import Piano, PianoError
from piano_jupyter.runner.tools.mcp.message_limits import MAX_STREAMS_A_SECOND

KEY = "k3y-of-the-server-94716"
ADD = {"name": "add", "inputSchema": {"type": "object"}}


class Server(http.server.ThreadingHTTPServer):
    """A server that answers each request as `answer` says; it notes the requests."""

    def __init__(self, answer):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer, self.seen = answer, []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/mcp"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((self.path, dict(self.headers), message))
        status, headers, body = self.server.answer(message)
        self.send_response(status)
        for name, value in {
            "Connection": "close",
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body)

    def do_GET(self):
        self.server.seen.append((self.path, dict(self.headers), "GET"))
        body = b"retry: 0\n\n"
        self.send_response(200)
        for name, value in {"Content-Type": "text/event-stream", "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_DELETE(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def serve():
    """`serve(answer)` starts a server."""
    servers = []

    def start(answer):
        servers.append(Server(answer))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return servers[-1]

    yield start
    for each in servers:
        each.shutdown()
        each.server_close()


def plain(message, call=None):
    """Answer as a server should, a call by `call`."""
    if "id" not in message:
        return 202, {}, b""
    method = message["method"]
    if method == "tools/call" and call is not None:
        return call(message)
    result = {
        "initialize": {
            "protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "a", "version": "1"}
        },
        "tools/list": {"tools": [ADD]},
    }.get(method, {"content": []})  # fmt: skip
    return 200, {}, json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}).encode()


async def problem_of(settings):
    async with Piano(database=":memory:", mcp_servers={"web": settings}, mcp_timeout=20.0) as piano:
        await piano.mcp_servers(start_within=20)
        return (await server(piano, "web")).problem


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        (401, "the MCP server 'web': it answers 401 Unauthorized"),
        (404, "the MCP server 'web': it answers 404 Not Found"),
        (503, "the MCP server 'web': it answers 503 Service Unavailable"),
    ],
)
async def test_s1_a_refusal_is_said_by_its_status(serve, status, problem):
    assert await problem_of({"url": serve(lambda _: (status, {}, b"{}")).url}) == problem


async def test_s1_an_address_where_nothing_answers_is_said():
    assert await problem_of({"url": "http://127.0.0.1:9/mcp"}) == "the MCP server 'web': it cannot be reached"


@pytest.mark.parametrize("url", ["http://169.254.169.254/mcp", "http://0xA9FEA9FE/mcp", "http://[fd00:ec2::254]/mcp"])
async def test_s12_an_address_that_gives_out_the_keys_of_a_machine_is_refused(url):
    assert (await problem_of({"url": url})).endswith("its url is where a cloud gives out the keys of a machine")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_s12_a_redirect_to_another_host_is_not_followed_and_gets_no_key(serve, status):
    other = serve(plain)
    first = serve(lambda _: (status, {"Location": other.url}, b""))
    problem = await problem_of({"url": f"{first.url}?token={KEY}", "headers": {"X-Key": KEY}})

    assert problem == "the MCP server 'web': it redirects elsewhere, which is not followed"
    assert other.seen == []
    assert first.seen[0][0] == f"/mcp?token={KEY}"
    assert first.seen[0][1]["X-Key"] == KEY


async def test_s3_bodies_that_are_huge_or_unpack_to_huge_ones_end_in_a_sentence(serve, piano_with, asks_for):
    huge = serve(lambda message: plain(message, lambda _: (200, {}, b" " * 20 * 2**20)))
    packed = serve(lambda message: plain(message, lambda _: (200, {"Content-Encoding": "gzip"}, gzip.compress(b"x"))))
    servers = {"huge": {"url": huge.url}, "packed": {"url": packed.url}}
    calls = [asks_for("huge__add"), asks_for("packed__add"), asks_for("huge__add"), "done"]
    async with piano_with(servers, *calls) as (piano, _):
        await piano.ask("?")
        first, second, third = await results(piano)

        assert first.startswith("the MCP server 'huge': it sent more than 16 MB")
        assert second.startswith("the MCP server 'packed': it answers in a compressed form that was not asked for")
        assert third.startswith("the MCP server 'huge': it sent more than 16 MB")


async def test_s2_a_server_that_forgot_the_session_or_was_gone_is_connected_again(serve, piano_with, asks_for):
    forgotten = [404]

    def call(message):
        if forgotten:
            return forgotten.pop(), {}, b""
        return plain(message)

    def answer(message):
        status, headers, body = plain(message, call)
        return status, {**headers, "Mcp-Session-Id": "one"}, body

    first = serve(answer)
    calls = [asks_for("web__add"), "no.", asks_for("web__add"), "done", asks_for("web__add"), "no."]
    async with piano_with({"web": {"url": first.url}}, *calls) as (piano, _):
        await piano.ask("?")
        await piano.ask("again?")
        first.shutdown()
        first.server_close()
        await piano.ask("and now?")
        forgot, again, gone = await results(piano)

        assert forgot.startswith("the MCP server 'web': it answers 404 Not Found during the call, so its outcome")
        assert again == "it ran and returned nothing"
        assert gone.startswith("the MCP server 'web': it cannot be reached")


async def test_s3_a_stream_that_wants_to_be_opened_again_at_once_is_opened_now_and_then(serve, piano_with, asks_for):
    def answer(message):
        status, headers, body = plain(message)
        return status, {**headers, "Mcp-Session-Id": "one"}, body

    web, other = serve(answer), serve(plain)
    calls = [asks_for("tiny__add", number=number) for number in range(40)]
    started = time.monotonic()
    async with piano_with({"web": {"url": web.url}, "tiny": {"url": other.url}}, calls, "done") as (piano, _):
        await piano.ask("?")

        assert len(await results(piano)) == 40
        most = MAX_STREAMS_A_SECOND * (time.monotonic() - started + 1)
        assert 0 < sum(message == "GET" for _, _, message in web.seen) <= most


async def test_a_proxy_of_the_environment_is_used(serve, monkeypatch):
    proxy = serve(plain)
    monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/mcp"))
    monkeypatch.setenv("no_proxy", "")

    assert await problem_of({"url": "http://docs.example/mcp", "headers": {"X-Key": KEY}}) == ""
    assert {path for path, _, _ in proxy.seen} == {"http://docs.example/mcp"}


async def test_s10_an_error_does_not_quote_the_key(serve):
    failing = serve(lambda _: (500, {}, b"{}"))
    async with Piano(database=":memory:", mcp_servers={"web": {"url": f"{failing.url}?token={KEY}"}}) as piano:
        with pytest.raises(PianoError) as error:
            await piano.restart_mcp_server("web")

        assert "500" in str(error.value)
        assert KEY not in str(error.value)

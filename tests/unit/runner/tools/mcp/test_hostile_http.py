"""MCP servers at addresses that redirect, refuse, do not answer, or send too much."""

import asyncio
import contextlib
import gzip
import http.server
import json
import ssl
import threading
import time

import pytest
from tiny_mcp import results, server, told
from waiting import until

from piano_jupyter import Piano, PianoError
from piano_jupyter.runner.tools.mcp import http_transport
from piano_jupyter.runner.tools.mcp.message_limits import MAX_STREAMS_A_SECOND

KEY = "k3y-of-the-server-94716"
HALF = b'{"jsonrpc": "2.0", "id": 7, "result": {"content": [{"type": "text", "text": "cut \\ud83d"}]}}'
ADD = {"name": "add", "inputSchema": {"type": "object"}}


class Server(http.server.ThreadingHTTPServer):
    """A server that answers each request as `answer` says; it notes the requests."""

    def __init__(self, answer, certificate=None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer, self.seen = answer, []
        self.origin = f"http://127.0.0.1:{self.server_port}"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True)
            self.origin = f"https://localhost:{self.server_port}"

    @property
    def url(self):
        return f"{self.origin}/mcp"

    def handle_error(self, *_):
        pass


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

    def start(answer, certificate=None):
        servers.append(Server(answer, certificate))
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
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


async def problem_of(settings, **config):
    config = {"database": ":memory:", "mcp_servers": {"web": settings}, "mcp_timeout": 20.0} | config
    async with Piano(**config) as piano:
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


async def test_a_redirect_within_the_address_is_followed(serve):
    web = serve(lambda message: (307, {"Location": "/mcp/"}, b"") if web.seen[-1][0] == "/mcp" else plain(message))

    assert await problem_of({"url": web.url, "headers": {"X-Key": KEY}}) == ""
    assert {(path, headers["X-Key"]) for path, headers, _ in web.seen} == {("/mcp", KEY), ("/mcp/", KEY)}


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ((200, {}, b""), "it sent what does not fit the protocol"),
        ((200, {"Content-Type": "text/event-stream"}, b"data: {\n\n"), "it sent what does not fit the protocol"),
        ((200, {"Content-Length": "9"}, b"{"), "its answer broke off, or is not HTTP during the call, so its outcome"),
        ((400, {}, b'{"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": "too old"}}'), "it answers 400 Bad"),
    ],
    ids=["empty", "stream", "broken", "status"],
)
async def test_s3_an_answer_that_is_none_is_a_sentence(serve, piano_with, asks_for, answer, problem):
    web = serve(lambda message: plain(message, lambda _: answer))
    async with piano_with({"web": {"url": web.url}}, asks_for("web__add"), "no.") as (piano, _):
        await piano.ask("?")

        [result] = await results(piano)
        assert result.startswith(f"the MCP server 'web': {problem}")
        assert ("too old" in result) == (answer[0] == 400)


async def test_s3_bodies_that_are_huge_or_unpack_to_huge_ones_end_in_a_sentence(serve, piano_with, asks_for):
    huge = serve(lambda message: plain(message, lambda _: (200, {}, b" " * 20 * 2**20)))
    packed = serve(lambda message: plain(message, lambda _: (200, {"Content-Encoding": "gzip"}, gzip.compress(b"x"))))
    values = b'{"result": [' + b"{}," * 300_000 + b'","]}'
    many = serve(lambda message: plain(message, lambda _: (200, {}, values)))
    text = json.dumps({"jsonrpc": "2.0", "id": 4, "result": {"content": [{"type": "text", "text": "," * 300_000}]}})
    stream = {"Content-Type": "text/event-stream"}
    table = serve(lambda message: plain(message, lambda _: (200, stream, f"data: {text}\n\n".encode())))
    servers = {name: {"url": each.url} for name, each in (("huge", huge), ("packed", packed), ("many", many))}
    servers["table"] = {"url": table.url}
    calls = [asks_for(f"{name}__add") for name in ("huge", "packed", "huge", "many", "table")]
    async with piano_with(servers, *calls, "done") as (piano, _):
        await piano.ask("?")
        first, second, third, fourth, fifth = await results(piano)

        assert first.startswith("the MCP server 'huge': it sent a message of more than 16 MB")
        assert second.startswith("the MCP server 'packed': it answers in a compressed form that was not asked for")
        assert third == first
        assert fourth.startswith("the MCP server 'many': it sent a message of more than 200,000 values")
        assert fifth.startswith(",,,,")


@pytest.mark.parametrize(
    ("status", "said"),
    [(404, "it answers 404 Not Found during the call, so its outcome"), (400, "it answers 400 Bad Request")],
)
async def test_s2_a_server_that_forgot_the_session_or_was_gone_is_connected_again(
    serve, piano_with, asks_for, status, said
):
    forgotten = [status]

    def call(message):
        if forgotten:
            return forgotten.pop(), {}, b""
        return 200, {}, HALF.replace(b"7", str(message["id"]).encode())

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

        assert forgot.startswith(f"the MCP server 'web': {said}")
        assert again == "cut \ufffd"
        assert [message["method"] for _, _, message in first.seen if message != "GET"].count("initialize") == 2
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


@pytest.mark.parametrize("where", ["environment", "settings"])
async def test_a_proxy_is_used_but_not_for_this_machine(serve, monkeypatch, where):
    proxy, near = serve(plain), serve(plain)
    address = proxy.url.removesuffix("/mcp")
    monkeypatch.setenv("no_proxy", "")
    if where == "environment":
        monkeypatch.setenv("http_proxy", address)
    config = {"proxy": address} if where == "settings" else {}

    assert await problem_of({"url": "http://docs.example/mcp", "headers": {"X-Key": KEY}}, **config) == ""
    assert await problem_of({"url": near.url}, **config) == ""
    assert {path for path, _, _ in proxy.seen} == {"http://docs.example/mcp"}
    problem = await problem_of({"url": "http://docs.example/mcp"}, proxy="http://127.0.0.1:9")
    assert problem == "the MCP server 'web': it cannot be reached through the proxy 127.0.0.1:9"


async def test_certificates_are_checked_as_those_of_the_model_server(serve, certificate):
    web = serve(plain, certificate)

    assert (await problem_of({"url": web.url, "headers": {"X-Key": KEY}})).startswith(
        f"the MCP server 'web': the certificate of the server at {web.origin} is not trusted (self"
    )
    assert web.seen == []
    assert await problem_of({"url": web.url}, verify=str(certificate[0])) == ""
    async with Piano(database=":memory:", mcp_servers={"web": {"url": web.url}}, verify=False) as piano:
        assert (await server(piano, "web")).runs == f"{web.url} (its certificate is not checked: verify=False)"
        await piano.restart_mcp_server("web")
    missing = await problem_of({"url": web.url}, verify="/no/such.pem")
    assert missing.endswith("PianoConfig.verify names '/no/such.pem', which does not exist; correct it, or remove it")
    strange = await problem_of({"url": "http://docs.example/mcp"}, proxy="ftp://p")
    assert "the proxy 'ftp://p' cannot be used" in strange


async def test_a_call_that_is_cancelled_or_takes_too_long_is_cancelled_at_the_server(serve, piano_with, asks_for):
    left = threading.Event()

    def cancelled(web):
        return sum(message.get("method") == "notifications/cancelled" for _, _, message in web.seen)

    def answer(message):
        if message.get("method") == "notifications/cancelled":
            left.set()
        return plain(message, lambda call: plain(message) if left.wait(30) else call)

    web = serve(answer)
    calls = [asks_for("web__add"), asks_for("web__add"), asks_for("web__add"), "done"]
    async with piano_with({"web": {"url": web.url}}, *calls) as (piano, _):
        job = await piano.send("?")
        await asyncio.to_thread(until, lambda: web.seen[-1][2].get("method") == "tools/call")
        await piano.cancel(job)
        await asyncio.to_thread(until, lambda: cancelled(web) == 1)
        left.clear()
        piano.config.tool_timeout = 0.5
        await piano.ask("again?")

        assert (await results(piano))[-2:] == [
            "timeout: web.add did not finish within 0.5 s",
            "it ran and returned nothing",
        ]
        await asyncio.to_thread(until, lambda: cancelled(web) == 2)


async def test_s14_a_notification_that_is_never_answered_does_not_block_what_comes_next(
    serve, piano_with, asks_for, monkeypatch
):
    monkeypatch.setattr(http_transport, "NOTICE_TIMEOUT_S", 0.2)
    hangs, end = [True, True], threading.Event()

    def answer(message):
        if message.get("method") in {"tools/call", "notifications/cancelled"} and hangs:
            hangs.pop()
            end.wait(30)
        return plain(message)

    web = serve(answer)
    async with piano_with({"web": {"url": web.url}}, asks_for("web__add"), "no.", tool_timeout=0.5) as (piano, _):
        await piano.ask("?")
        assert await told(piano, "web") == (
            "the MCP server 'web': it does not answer; it is started again at the next use"
        )
        await piano.restart_mcp_server("web")
        end.set()

        assert await results(piano) == ["timeout: web.add did not finish within 0.5 s"]


async def test_s3_a_stream_of_empty_messages_is_read_slowly_and_others_are_answered(
    serve, piano_with, asks_for, monkeypatch
):
    monkeypatch.setattr(http_transport, "MAX_LINES_A_SECOND", 10)
    note = json.dumps({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": ""}})

    def flood(message):
        result = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": {"content": []}})
        body = "".join(f"data: {each}\n\n" for each in (*[note] * 100, result))
        return 200, {"Content-Type": "text/event-stream"}, body.encode()

    web, other = serve(lambda message: plain(message, flood)), serve(plain)
    calls = [asks_for("web__add"), asks_for("other__add"), "done"]
    servers = {"web": {"url": web.url}, "other": {"url": other.url}}
    async with piano_with(servers, *calls, tool_timeout=1.0) as (piano, _):
        await piano.ask("?")

        assert await results(piano) == ["timeout: web.add did not finish within 1 s", "it ran and returned nothing"]


@pytest.mark.parametrize(
    ("headers", "problem"),
    [
        ({"X-Key": f"{KEY}\r\nHost: evil"}, "the header 'X-Key' holds characters that an HTTP header cannot carry"),
        ({"X-Key": "schl\u00fcssel"}, "the header 'X-Key' holds characters that an HTTP header cannot carry"),
        ({"X Key": "1"}, "the header 'X Key' holds characters that an HTTP header cannot carry"),
        ({"X-Key": f" {KEY}\n"}, ""),
    ],
    ids=["lines", "letters", "name", "blanks"],
)
async def test_a_header_that_cannot_be_sent_is_named_without_its_value(serve, headers, problem):
    web = serve(plain)
    told_problem = await problem_of({"url": web.url, "headers": headers})

    assert told_problem.removeprefix("the MCP server 'web': ") == problem
    assert [each["X-Key"] for _, each, _ in web.seen[:1]] == ([] if problem else [KEY])


async def test_s10_an_error_does_not_quote_the_key(serve):
    failing = serve(lambda _: (500, {}, b"{}"))
    async with Piano(database=":memory:", mcp_servers={"web": {"url": f"{failing.url}?token={KEY}"}}) as piano:
        with pytest.raises(PianoError) as error:
            await piano.restart_mcp_server("web")

        assert "500" in str(error.value)
        assert KEY not in str(error.value)

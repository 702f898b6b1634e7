"""ChatClient over real HTTP."""

import asyncio
import json
from contextlib import aclosing

import pytest

from piano_jupyter.config import PianoConfig
from piano_jupyter.errors import (
    ContextOverflowError,
    ModelError,
    ModelNotServedError,
    ModelTimeoutError,
    ModelUnavailableError,
)
from piano_jupyter.runner.chat import ChatRequest, Delta, Reply
from piano_jupyter.runner.llm import ChatClient, trouble_at
from piano_jupyter.runner.local_server import Endpoint
from piano_jupyter.tool import tool

REQUEST = ChatRequest(model="m", messages=[{"role": "user", "content": "hi"}], options={"temperature": 0})
DEADLINE = 10


@pytest.fixture
async def client_of(stub):
    clients = []

    def make(url=None, key="", **knobs):
        async def connect():
            return Endpoint(url=url or stub.url, api_key=key)

        clients.append(ChatClient(connect, PianoConfig(**{"request_retries": 0, **knobs})))
        return clients[-1]

    yield make
    for client in clients:
        await client.aclose()


async def pieces(client, request=REQUEST):
    async with asyncio.timeout(DEADLINE), aclosing(client.stream(request)) as stream:
        return [piece async for piece in stream]


async def test_the_answer_streams_and_ends_with_the_reply(stub, speak, client_of):
    stub.answers(*speak("Pa", "ris"))

    *deltas, reply = await pieces(client_of(key="secret"))

    assert deltas == [Delta(text="Pa"), Delta(text="ris")]
    assert isinstance(reply, Reply)
    assert reply.text == "Paris"
    [(path, headers, body)] = stub.asked
    assert path == "/v1/chat/completions"
    assert headers["authorization"] == "Bearer secret"
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


@pytest.mark.parametrize("status", [429, 502, 503])
async def test_a_busy_server_is_asked_again(stub, speak, client_of, status):
    stub.answers('{"error": "busy"}', status=status, headers={"retry-after": "0.01"})
    stub.answers(*speak("ok"))

    assert (await pieces(client_of(request_retries=1)))[-1].text == "ok"
    assert len(stub.asked) == 2


async def test_a_connection_that_breaks_before_the_answer_is_tried_again(stub, speak, client_of):
    stub.answers(status=None)
    stub.answers(*speak("ok"))

    assert (await pieces(client_of(request_retries=1)))[-1].text == "ok"


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, '{"error": {"type": "exceed_context_size_error", "n_ctx": 10}}', ContextOverflowError),
        (401, '{"error": {"message": "Invalid API Key"}}', ModelError),
        (404, '{"error": "no router for requested model"}', ModelNotServedError),
        (500, '{"error": {"message": "template"}}', ModelError),
    ],
)
async def test_a_refusal_is_not_tried_again(stub, client_of, status, body, kind):
    stub.answers(body, status=status)

    with pytest.raises(kind):
        await pieces(client_of(request_retries=3))
    assert len(stub.asked) == 1


async def test_a_server_that_stays_busy_is_given_up_after_the_retries(stub, client_of):
    for _ in range(3):
        stub.answers("{}", status=503, headers={"retry-after": "0.01"})

    with pytest.raises(ModelUnavailableError):
        await pieces(client_of(request_retries=2))
    assert len(stub.asked) == 3


async def test_nothing_at_the_address_is_a_sentence_with_the_address(client_of):
    with pytest.raises(ModelUnavailableError, match=r"http://127\.0\.0\.1:9/v1 does not answer"):
        await pieces(client_of(url="http://127.0.0.1:9/v1"))


async def test_a_stream_that_breaks_in_the_middle_is_an_error(stub, speak, client_of):
    stub.answers(speak("Pa")[0], None)

    with pytest.raises(ModelUnavailableError, match="in the middle"):
        await pieces(client_of())


async def test_a_stream_that_ends_without_a_finish_is_an_error(stub, speak, client_of):
    stub.answers(speak("Pa")[0])

    with pytest.raises(ModelError, match="broke off"):
        await pieces(client_of())


async def test_silence_in_the_middle_is_a_timeout(stub, speak, client_of):
    stub.answers(speak("Pa")[0], asyncio.Event())

    with pytest.raises(ModelTimeoutError, match="fell silent"):
        await pieces(client_of(idle_timeout=0.2))


@pytest.mark.parametrize("headers_come", [True, False])
async def test_an_answer_that_never_begins_is_a_timeout_of_its_own(stub, client_of, headers_come):
    stub.answers(asyncio.Event(), status=200 if headers_come else 0)

    with pytest.raises(ModelTimeoutError, match=r"did not begin to answer within 0\.2 s"):
        await pieces(client_of(first_byte_timeout=0.2))


async def test_who_stops_listening_frees_the_server_at_once(stub, speak, client_of):
    stub.answers(speak("Pa")[0], asyncio.Event())

    async with asyncio.timeout(DEADLINE):
        async with aclosing(client_of().stream(REQUEST)) as stream:
            async for _ in stream:
                break
        await stub.closed.wait()


async def test_redirects_are_not_followed(stub, client_of):
    stub.answers("", status=302, headers={"location": "http://127.0.0.1:9/steal"})

    with pytest.raises(ModelError, match="302"):
        await pieces(client_of(key="secret"))
    assert len(stub.asked) == 1


async def test_a_model_whose_template_has_no_tools_is_held_to_a_schema(stub, speak, client_of):
    @tool
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    stub.caps = {"supports_tools": False}
    stub.answers(*speak('{"answer": "fo', 'ur"}'))
    stub.answers(*speak(json.dumps({"tool": "add", "arguments": {"a": 1, "b": 2}})))
    client, request = client_of(), ChatRequest(model="m", messages=REQUEST.messages, tools=[add.schema()])

    said, called = await pieces(client, request), await pieces(client, request)

    assert said[:2] == [Delta(text="fo"), Delta(text="ur")]
    assert said[-1].text == "four"
    assert [dict(call.arguments) for call in called[-1].calls] == [{"a": 1, "b": 2}]
    assert "response_format" in stub.asked[0][2]
    assert "tools" not in stub.asked[0][2]


async def test_a_model_with_tools_gets_them_as_they_are(stub, speak, client_of):
    stub.caps = {"supports_tools": True}
    stub.answers(*speak("ok"))

    await pieces(client_of(), ChatRequest(model="m", messages=REQUEST.messages, tools=[{"type": "function"}]))

    assert stub.asked[0][2]["tools"] == [{"type": "function"}]
    assert "response_format" not in stub.asked[0][2]


async def test_an_answer_is_whole_with_its_last_word_though_the_server_holds_the_connection(stub, speak, client_of):
    stub.answers(*speak("Paris"), asyncio.Event())

    assert (await pieces(client_of(idle_timeout=30)))[-1].text == "Paris"


async def test_no_error_shows_the_key(stub, client_of):
    stub.answers('{"error": {"message": "Invalid key sk-secret"}}', status=401)

    with pytest.raises(ModelError) as caught:
        await pieces(client_of(key="sk-secret", api_key="sk-secret"))
    assert "sk-secret" not in str(caught.value)


async def test_only_what_speaks_like_a_model_server_counts_as_one(stub):
    stub.answers('{"data": []}', headers={"content-type": "application/json"})
    stub.answers("no key", status=401)
    stub.answers("<html>", headers={"content-type": "text/html"})

    assert await trouble_at(stub.url, 2) is None
    assert await trouble_at(stub.url, 2) is None
    assert await trouble_at(stub.url, 2) == f"what answers at {stub.url} is no model server (is /v1 missing?)"
    assert await trouble_at("http://127.0.0.1:9/v1", 2) == "nothing answers at http://127.0.0.1:9/v1"

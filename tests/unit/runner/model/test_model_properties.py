"""A model's context window, as far as its server reports it."""

import asyncio
import itertools

import pytest

from piano_jupyter.config import PianoConfig
from piano_jupyter.errors import ContextOverflowError
from piano_jupyter.runner.model import model_properties
from piano_jupyter.runner.model.client import ChatClient
from piano_jupyter.runner.model.embedded.local_server import Endpoint
from piano_jupyter.runner.model.llama_swap.swap_client import SwapClient
from piano_jupyter.runner.model.protocol import ChatRequest
from piano_jupyter.runner.model.server.error_responses import error_from

PROPS = "/props?model=m"


@pytest.fixture
def config(stub):
    return PianoConfig(request_retries=0, base_url=stub.url)


@pytest.fixture
async def client(stub, config):
    async def connect():
        return Endpoint(url=stub.url)

    seconds = itertools.count()  # each look at the time is a second later: the cache has expired
    swap = SwapClient(connect, config, now=lambda: next(seconds))
    client = ChatClient(connect, config, None, swap)
    yield client
    await client.aclose()
    await swap.aclose()


async def test_llama_cpp_is_asked_once_for_its_window_and_its_tools(client, stub):
    stub.serves[PROPS] = {
        "default_generation_settings": {"n_ctx": 4096},
        "chat_template_caps": {"supports_tools": False},
    }

    assert [await client.context("m") for _ in range(3)] == [4096] * 3
    assert await client.lacks_tools("m")
    assert stub.looked.count(PROPS) == 1


@pytest.mark.parametrize(
    ("told", "n_ctx"),
    [
        ({"id": "m", "context_length": 8192}, 8192),
        ({"id": "m", "max_model_len": 16_384}, 16_384),
        ({"id": "m", "meta": {"n_ctx": 2048}}, 2048),
        ({"id": "m", "context_window": 1024}, 1024),
        ({"id": "m", "max_context_length": 512}, 512),
        ({"id": "m", "context_length": True, "max_model_len": "8192"}, None),
        ({"id": "m", "context_length": 10**400}, None),
        ({"id": "m"}, None),
        ({"id": "other", "context_length": 9}, None),
    ],
)
async def test_without_properties_the_window_comes_from_the_list_of_models(client, stub, told, n_ctx):
    stub.serves["/v1/models"] = {"data": [told]}

    assert await client.context("m") == n_ctx
    asked = len(stub.looked)
    assert await client.context("m") == n_ctx
    assert "/props" not in "".join(stub.looked[asked:])


async def test_a_list_of_models_may_be_nothing_but_the_list(client, stub):
    stub.serves["/v1/models"] = ['[{"id": "m", "context_length": 8192}]']

    assert await client.context("m") == 8192


@pytest.mark.parametrize("n_ctx", ["4096", 0, None, True, -1, 10**400])
async def test_a_window_of_a_strange_size_is_not_known(client, stub, n_ctx):
    stub.serves[PROPS] = {"default_generation_settings": {"n_ctx": n_ctx}}
    stub.serves["/v1/models"] = {"data": [{"id": "m"}]}

    assert await client.context("m") is None


async def test_properties_that_are_nested_too_deeply_to_be_read_tell_nothing(client, stub):
    stub.serves[PROPS] = ["[" * 100_000]

    assert await client.context("m") is None
    assert not await client.lacks_tools("m")


async def test_properties_that_never_end_are_not_waited_for(client, config, stub):
    config.first_byte_timeout = 0.2
    stub.serves[PROPS] = ["{", asyncio.Event()]

    async with asyncio.timeout(10):
        assert not await client.lacks_tools("m")


async def test_ollama_names_the_window_of_a_model_that_it_has_loaded(client, stub):
    stub.serves["/v1/models"] = {"data": [{"id": "m:latest", "owned_by": "library"}]}
    stub.serves["/api/ps"] = {"models": []}

    unloaded = await client.context("m")
    stub.serves["/api/ps"] = {"models": [None, {"name": "other:8b"}, {"name": "m:latest", "context_length": 4096}]}

    assert (unloaded, await client.context("m"), await client.context("m")) == (None, 4096, 4096)
    assert stub.looked.count("/api/ps") == 2


async def test_a_model_that_is_not_loaded_is_not_loaded_for_that(client, stub):
    stub.serves["/running"] = {"running": []}
    stub.serves[PROPS] = {"default_generation_settings": {"n_ctx": 4096}}

    unloaded = await client.context("m")
    stub.serves["/running"] = {"running": [{"model": "m", "state": "ready"}]}
    assert (unloaded, await client.context("m")) == (None, 4096)


async def test_the_window_that_an_overflow_names_is_remembered(client, stub):
    said = (
        '{"error": {"type": "exceed_context_size_error", "message": "too long", "n_ctx": 512, "n_prompt_tokens": 900}}'
    )
    stub.answers(said, status=400)

    with pytest.raises(ContextOverflowError) as caught:
        _ = [piece async for piece in client.stream(ChatRequest(model="m", messages=[]))]

    assert (caught.value.n_ctx, caught.value.n_prompt) == (512, 900)
    assert await client.context("m") == 512


@pytest.mark.parametrize(
    ("body", "n_ctx"),
    [
        (
            '{"error": {"message": "This model\'s maximum context length is 8192 tokens. You requested 9000"}}',
            8192,
        ),
        ('{"error": {"type": "exceed_context_size_error", "message": "x", "n_ctx": "odd"}}', None),
        ('{"error": {"type": "exceed_context_size_error", "message": "x", "n_ctx": true}}', None),
        (f'{{"error": {{"type": "exceed_context_size_error", "message": "x", "n_ctx": {10**400}}}}}', None),
        ('{"error": "the request exceeds the available context size"}', None),
        ('{"error": {"code": 500, "message": "Context size has been exceeded.", "type": "server_error"}}', None),
        ('{"error": {"code": "context_length_exceeded", "message": "Please reduce the length."}}', None),
        ('{"error": {"message": "The prompt (length 50) is longer than the maximum model length of 40."}}', 40),
        ('{"error": {"message": "Requested tokens (600) exceed context window of 512"}}', 512),
        ('{"error": {"message": "prompt is too long: 210000 tokens > 200000 maximum"}}', 200_000),
        (
            '[{"error": {"message": "The token count (99) exceeds the maximum number of tokens allowed (64)."}}]',
            64,
        ),
        ('{"error": "However, the model is loaded with context length of only 4096 tokens"}', 4096),
        ('{"error": {"message": "the maximum context length is 8,192 tokens"}}', 8192),
    ],
)
def test_the_window_is_read_from_an_overflow_message_if_it_is_there(body, n_ctx):
    error = error_from(400, body)

    assert isinstance(error, ContextOverflowError)
    assert error.n_ctx == n_ctx


async def test_properties_that_hang_are_given_up_at_once_and_not_asked_for_again(client, stub, speak, monkeypatch):
    monkeypatch.setattr(model_properties, "PROPS_TIMEOUT_S", 0.05)
    hangs = asyncio.Event()
    stub.serves[PROPS] = [hangs]
    for _ in range(2):
        stub.answers(*speak("ok"))
    tools = [{"type": "function", "function": {"name": "f"}}]

    async with asyncio.timeout(10):  # first_byte_timeout is 600 s
        for _ in range(2):
            question = ChatRequest(model="m", messages=[{"role": "user", "content": "hi"}], tools=tools)
            assert [piece async for piece in client.stream(question)][-1].text == "ok"

    assert stub.looked.count(PROPS) == 1


async def test_properties_of_a_model_that_llama_swap_loads_are_waited_for(client, stub, monkeypatch):
    monkeypatch.setattr(model_properties, "PROPS_TIMEOUT_S", 0.02)
    loaded = asyncio.Event()
    stub.serves["/running"] = {"running": [{"model": "m", "state": "starting"}]}
    stub.serves[PROPS] = [loaded, '{"chat_template_caps": {"supports_tools": false}}']
    asked = asyncio.create_task(client.lacks_tools("m"))

    await asyncio.wait([asked], timeout=0.2)
    loaded.set()

    assert await asked


async def test_while_the_server_is_started_its_properties_are_waited_for(stub, config, monkeypatch):
    monkeypatch.setattr(model_properties, "PROPS_TIMEOUT_S", 0.02)
    stub.serves[PROPS] = {"chat_template_caps": {"supports_tools": False}}
    started = asyncio.Event()

    async def connect():
        await started.wait()
        return Endpoint(url=stub.url)

    swap = SwapClient(connect, config)
    client = ChatClient(connect, config, None, swap)
    asked = asyncio.create_task(client.lacks_tools("m"))
    await asyncio.wait([asked], timeout=0.8)  # longer than `loading_note` waits
    started.set()

    assert await asked
    await client.aclose()
    await swap.aclose()

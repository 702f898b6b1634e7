"""How large a model's window is, as far as its server tells."""

import pytest

from piano_jupyter.config import PianoConfig
from piano_jupyter.errors import ContextOverflowError
from piano_jupyter.runner.chat import ChatRequest
from piano_jupyter.runner.llm import ChatClient
from piano_jupyter.runner.local_server import Endpoint
from piano_jupyter.runner.refusal import error_from
from piano_jupyter.runner.swap import SwapClient

PROPS = "/props?model=m"


@pytest.fixture
async def client(stub):
    async def connect():
        return Endpoint(url=stub.url)

    config = PianoConfig(request_retries=0, base_url=stub.url)
    swap = SwapClient(connect, config)
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
    assert await client._properties.lacks_tools("m")
    assert stub.looked.count(PROPS) == 1


@pytest.mark.parametrize(
    ("told", "n_ctx"),
    [
        ({"id": "m", "context_length": 8192}, 8192),
        ({"id": "m", "max_model_len": 16_384}, 16_384),
        ({"id": "m", "meta": {"n_ctx": 2048}}, 2048),
        ({"id": "m"}, None),
        ({"id": "other", "context_length": 9}, None),
    ],
)
async def test_where_there_are_no_properties_the_list_of_models_tells(client, stub, told, n_ctx):
    stub.serves["/v1/models"] = {"data": [told]}

    assert await client.context("m") == n_ctx
    asked = len(stub.looked)
    assert await client.context("m") == n_ctx
    assert "/props" not in "".join(stub.looked[asked:])


async def test_a_model_that_is_not_loaded_is_not_loaded_for_that(client, stub):
    stub.serves["/running"] = {"running": []}
    stub.serves[PROPS] = {"default_generation_settings": {"n_ctx": 4096}}

    unloaded = await client.context("m")
    stub.serves["/running"] = {"running": [{"model": "m", "state": "ready"}]}
    client._properties._swap._heard.good_until = 0

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
        ('{"error": "the request exceeds the available context size"}', None),
    ],
)
def test_an_overflow_names_the_window_in_its_words_or_not_at_all(body, n_ctx):
    error = error_from(400, body)

    assert isinstance(error, ContextOverflowError)
    assert error.n_ctx == n_ctx

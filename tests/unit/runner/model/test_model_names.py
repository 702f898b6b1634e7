"""What the server's models are called, for completions and for agents that are given one."""

import asyncio

import pytest

from piano_jupyter import Piano, piano
from piano_jupyter.testing import ScriptedModel

MODELS = {"data": [{"id": "qwen3:8b"}, {"id": "qwen3:32b"}]}


@pytest.fixture
async def chat(stub, tmp_path):
    stub.serves["/v1/models"] = MODELS
    async with Piano(database=":memory:", workspace=tmp_path, base_url=stub.url, embedded="never") as chat:
        yield chat


async def test_the_server_is_asked_for_its_names_and_not_again_for_a_while(chat, stub):
    assert await chat.model_names() == ["qwen3:8b", "qwen3:32b"]
    asked = len(stub.looked)

    assert await chat.model_names() == ["qwen3:8b", "qwen3:32b"]
    assert len(stub.looked) == asked


async def test_a_slow_server_is_not_waited_for(chat, stub, monkeypatch):
    monkeypatch.setattr(piano, "MODEL_NAMES_TIMEOUT_S", 0.05)
    stub.serves["/v1/models"] = [asyncio.Event()]

    assert await chat.model_names() == []


@pytest.mark.parametrize("verb", ["add_agent", "update_agent"])
async def test_a_model_that_the_server_does_not_have_is_told_with_near_names(chat, verb):
    agent = await getattr(chat, verb)("Assistant" if verb == "update_agent" else "ada", model="qwen3:9b")

    assert agent.model == "qwen3:9b"
    (notice,) = chat.notices()
    assert notice.startswith("the server does not serve 'qwen3:9b'; known: qwen3:8b, qwen3:32b. Give the agent one")


@pytest.mark.parametrize(("listed", "name"), [("llama3:latest", "llama3"), ("models/gemini-flash", "gemini-flash")])
async def test_a_model_may_be_named_without_what_its_server_adds_to_the_name(chat, stub, listed, name):
    stub.serves["/v1/models"] = {"data": [{"id": listed}]}

    await chat.update_agent("Assistant", model=name)

    assert chat.notices() == []
    assert await chat.model_names() == [listed, name]


async def test_a_model_that_it_has_and_other_changes_are_not_told(chat):
    await chat.update_agent("Assistant", model="qwen3:8b")
    await chat.update_agent("Assistant", system_prompt="Be brief.")

    assert chat.notices() == []


async def test_a_model_in_this_process_has_no_names(tmp_path):
    async with Piano(database=":memory:", workspace=tmp_path, model=ScriptedModel()) as chat:
        await chat.update_agent("Assistant", model="any")

        assert (await chat.model_names(), chat.notices()) == ([], [])

"""A llama-swap that really swaps: two tiny models behind the stand-in, and behind the real one where it is there."""

import asyncio
from contextlib import aclosing

import pytest
from swap_servers import KINDS, SAYS, model_command

from piano_jupyter import Piano
from piano_jupyter.config import PianoConfig
from piano_jupyter.errors import ModelError, ModelNotServedError, ModelUnavailableError
from piano_jupyter.events import MessageDelta, ModelLoading
from piano_jupyter.records import JobStatus, ModelState
from piano_jupyter.runner.model.client import ChatClient
from piano_jupyter.runner.model.embedded.local_server import Endpoint
from piano_jupyter.runner.model.llama_swap.swap_client import SwapClient
from piano_jupyter.runner.model.protocol import ChatRequest, Delta, LoadingNotice

pytestmark = pytest.mark.model
DEADLINE = 120
ONE, OTHER = SAYS


@pytest.fixture
def swap(swap_server):
    """The two models, none of them loaded."""
    swap_server.reset()
    return swap_server


@pytest.fixture
async def clients():
    """Make a ChatClient and a SwapClient of a server."""
    opened = []

    def make(server, key="", **settings):
        async def connect():
            return Endpoint(url=server.url, api_key=key or server.key)

        config = PianoConfig(base_url=server.url, api_key=key or server.key, **settings)
        models = SwapClient(connect, config)
        opened.extend([ChatClient(connect, config, None, models), models])
        return opened[-2:]

    yield make
    for each in opened:
        await each.aclose()


@pytest.fixture
def piano_at(tmp_path):
    def make(server, **settings):
        place = {"database": ":memory:", "workspace": tmp_path, "embedded": "never"}
        return Piano(**{**place, "base_url": server.url, "api_key": server.key, "default_model": ONE, **settings})

    return make


@pytest.fixture(scope="module", params=KINDS)
def odd_swap(request, start_swap, tiny, tmp_path_factory):
    """Models that misbehave: `held` loads until `odd_swap.gate` is there, `broken` never, `endless` never stops."""
    folder = tmp_path_factory.mktemp("odd")
    gguf = tiny.write_tiny_gguf(folder / "plain.gguf", says="Here at last.")
    noise = tiny.write_tiny_gguf(folder / "noise.gguf", context=32_768)
    models = {
        "held": {"cmd": model_command(gguf, "held", "--wait-for", folder / "gate")},
        "broken": {"cmd": model_command(folder / "missing.gguf", "broken")},
        "endless": {"cmd": model_command(noise, "endless"), "concurrencyLimit": 1},
    }
    server = start_swap(request.param, models, apiKeys=["sk-tests"], sendLoadingState=False)
    server.gate = folder / "gate"
    return server


@pytest.fixture
def odd(odd_swap):
    odd_swap.gate.unlink(missing_ok=True)
    odd_swap.reset()
    return odd_swap


def question(model, text="hi", **more):
    return ChatRequest(model=model, messages=[{"role": "user", "content": text}], **more)


async def pieces(chat, request):
    async with asyncio.timeout(DEADLINE), aclosing(chat.stream(request)) as stream:
        return [piece async for piece in stream]


async def state_of(models, name):
    return next(model.state for model in await models.models() if model.name == name)


async def test_models_are_listed_with_state_alias_and_after_the_first_load_their_context(swap, clients):
    chat, models = clients(swap)

    assert {model.name: model.state for model in await models.models()} == dict.fromkeys(
        (ONE, OTHER), ModelState.UNLOADED
    )
    await pieces(chat, question(ONE))
    await pieces(chat, question(OTHER))
    one, other = await models.models()

    assert (one.name, one.state) == (ONE, ModelState.UNLOADED)
    assert (other.name, other.state) == (OTHER, ModelState.LOADED)
    assert (other.aliases, other.description) == (("tiny-bee",), "the second one")
    assert one.context in {2048, None}  # llama-swap asks a model for it once it is ready, and tells it when it knows
    assert models.known() == [ONE, OTHER, "tiny-bee"]


async def test_a_model_is_loaded_and_unloaded_by_name_or_alias(swap, clients):
    _, models = clients(swap)

    await models.load("tiny-bee")
    loaded = await state_of(models, OTHER)
    await models.unload("tiny-bee")

    assert loaded is ModelState.LOADED
    assert await state_of(models, OTHER) is ModelState.UNLOADED


async def test_all_are_unloaded_where_none_is_named(swap, clients):
    _, models = clients(swap)
    await models.load(ONE)

    await models.unload()

    assert {model.state for model in await models.models()} == {ModelState.UNLOADED}


async def test_what_is_loaded_follows_the_swaps(swap, clients):
    _, models = clients(swap)

    await models.load(ONE)
    first = await models.loaded()
    await models.load(OTHER)

    assert first == {ONE}
    assert await models.loaded() == {OTHER, "tiny-bee"}
    assert swap.swaps() == 1


async def test_an_unknown_model_is_an_error_that_lists_the_served_ones(swap, clients):
    chat, models = clients(swap)

    for asking in (pieces(chat, question("tiny-c")), models.load("tiny-c"), models.unload("tiny-c")):
        with pytest.raises(ModelNotServedError, match="does not serve 'tiny-c'; known: tiny-b, tiny-a, tiny-bee"):
            await asking


async def test_loading_a_model_is_reported_with_its_seconds_and_measured(odd, clients):
    chat, _ = clients(odd)

    async with asyncio.timeout(DEADLINE), aclosing(chat.stream(question("held"))) as stream:
        first = await anext(stream)
        odd.gate.touch()
        *_, reply = [piece async for piece in stream]

    assert isinstance(first, LoadingNotice)
    assert first.note in {"held is loading", "held is about to be loaded"}
    assert first.seconds > 0
    assert reply.text == "Here at last."
    assert 0 < reply.usage["load_s"] <= reply.usage["first_token_s"]


async def test_llama_swaps_own_loading_chunks_are_status_and_never_content(start_swap, swap_models, clients, swap):
    server = start_swap(swap.kind, swap_models, sendLoadingState=True)
    chat, _ = clients(server)

    early = await pieces(chat, question(ONE))
    reply = early[-1]

    assert "".join(piece.text for piece in early if isinstance(piece, Delta)) == reply.text == SAYS[ONE]
    assert reply.reasoning == ""
    assert {piece.note for piece in early if isinstance(piece, LoadingNotice)} == {f"{ONE} is loading"}
    assert reply.usage["load_s"] > 0


@pytest.mark.parametrize("verb", ["ask", "load"])
async def test_a_model_that_fails_to_start_is_an_error_with_the_servers_message(odd, clients, verb):
    chat, models = clients(odd)
    asking = pieces(chat, question("broken")) if verb == "ask" else models.load("broken")

    with pytest.raises(
        ModelUnavailableError, match=r"broken could not be loaded \(.*prematurely.*/logs.*%piano models"
    ):
        await asking


async def test_a_wrong_key_is_a_sentence_everywhere(odd, clients):
    chat, models = clients(odd, key="sk-wrong")

    for asking in (pieces(chat, question("held")), models.models()):
        with pytest.raises(ModelError, match="the server rejected the API key"):
            await asking
    assert await models.loaded() is None


async def test_a_model_that_has_too_many_requests_is_asked_again_when_it_says(odd, clients):
    chat, _ = clients(odd)
    brief = question("endless", options={"max_tokens": 3})

    async with asyncio.timeout(DEADLINE), aclosing(chat.stream(question("endless"))) as stream:
        async for piece in stream:
            if isinstance(piece, Delta):
                break
        refused, _ = clients(odd, request_retries=0)
        with pytest.raises(ModelUnavailableError, match="the server is busy"):
            await pieces(refused, brief)
        again = asyncio.create_task(pieces(chat, brief))
        await stream.aclose()
        reply = (await again)[-1]

    assert reply.usage["completion_tokens"] == 3


async def test_a_model_that_is_unloaded_in_mid_answer_is_a_sentence_and_the_job_can_be_retried(odd, piano_at):
    async with asyncio.timeout(DEADLINE), piano_at(odd, default_model="endless") as piano:
        events = piano.events()
        job = await piano.send("go on")
        async for event in events:
            if isinstance(event, MessageDelta):
                break
        answering = asyncio.create_task(piano.wait(job))
        await piano.unload_model("endless")  # it is not loaded again for what was being said
        with pytest.raises(ModelError, match=r"in the middle of (its|the) answer.*retry"):
            await answering
        await piano.update_agent("Assistant", options={"max_tokens": 3})

        answer = await piano.wait(await piano.retry(job))

    assert answer.usage["completion_tokens"] == 3


async def test_the_tools_of_a_models_template_are_asked_of_that_model(start_swap, swap_server, tiny, tmp_path, clients):
    with_tools = tiny.write_tiny_gguf(tmp_path / "t.gguf", says="Fine with tools.", chat_template=tiny.TOOLS)
    without = tiny.write_tiny_gguf(tmp_path / "p.gguf", says="Plain as it is.")
    models = {"with": {"cmd": model_command(with_tools, "with")}, "plain": {"cmd": model_command(without, "plain")}}
    chat, _ = clients(start_swap(swap_server.kind, models))

    lacks = [await chat.lacks_tools(name) for name in ("with", "plain")]

    assert lacks == [False, True]


async def test_twenty_jobs_that_alternate_between_two_models_cause_one_swap(swap, piano_at):
    async with asyncio.timeout(DEADLINE), piano_at(swap) as piano:
        await piano.add_agent("ada", model=ONE)
        await piano.add_agent("bob", model="tiny-bee")
        jobs = []
        for number in range(20):
            thread = await piano.open_thread(f"thread {number}")
            jobs.append(await piano.send("How are you?", agent="ada" if number % 2 == 0 else "bob", thread=thread))
        await piano.drain()
        answers = [await piano.wait(job) for job in jobs]
        states = {(await piano.find_job(job)).status for job in jobs}

    assert [answer.content for answer in answers] == [SAYS[ONE], SAYS[OTHER]] * 10
    assert states == {JobStatus.DONE}
    assert swap.swaps() <= 2


async def test_the_user_sees_that_a_model_loads(odd, piano_at):
    async with asyncio.timeout(DEADLINE), piano_at(odd, default_model="held") as piano:
        events = piano.events()
        job = await piano.send("Are you there?")
        async for event in events:
            if isinstance(event, ModelLoading):
                break
        odd.gate.touch()
        answer = await piano.wait(job)

    assert event.job_id == job.id
    assert event.seconds is not None
    assert answer.content == "Here at last."
    assert answer.usage["load_s"] > 0

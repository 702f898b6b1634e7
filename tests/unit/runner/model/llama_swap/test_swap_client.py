"""SwapClient over real HTTP: with llama-swap, and with any other server."""

import asyncio
import json
from contextlib import suppress

import pytest

from piano_jupyter.config import PianoConfig
from piano_jupyter.errors import ModelError, ModelNotServedError, ModelUnavailableError, PianoError
from piano_jupyter.records import Model, ModelState
from piano_jupyter.runner.model.cassette import Cassette
from piano_jupyter.runner.model.embedded.local_server import Endpoint
from piano_jupyter.runner.model.llama_swap.swap_client import RETRY_INTERVAL_S, SwapClient

DEADLINE = 10
TROUBLES = [(None, {}, []), (500, {}, ["x"]), (401, {}, ["x"]), (0, {}, [])]
LOADED, LOADING, UNLOADING, UNLOADED = (
    ModelState.LOADED,
    ModelState.LOADING,
    ModelState.UNLOADING,
    ModelState.UNLOADED,
)


class Elapsed:
    """A clock whose time goes by when the test says so."""

    seconds = 1_000.0

    def __call__(self):
        return self.seconds


def states_event(**states):
    """Return llama-swap's event of all its models' states; `b` has an alias."""
    models = [{"id": name, "state": state, "aliases": ["bee"] if name == "b" else []} for name, state in states.items()]
    return f"event:message\ndata:{json.dumps({'type': 'modelStatus', 'data': json.dumps(models)})}\n\n"


def log_event(text):
    data = json.dumps({"source": "proxy", "data": text})
    return f"event:message\ndata:{json.dumps({'type': 'logData', 'data': data})}\n\n"


@pytest.fixture
def elapsed():
    """The seconds that have gone by, as the test says."""
    return Elapsed()


@pytest.fixture
async def swap_of(stub, elapsed):
    clients = []

    def make(url=None, wrap=None, now=elapsed, **settings):
        async def connect():
            return Endpoint(url=url or stub.url)

        config = PianoConfig(**{"base_url": url or stub.url, "connect_timeout": 1.0, **settings})
        clients.append(SwapClient(connect, config, wrap, now=now))
        return clients[-1]

    yield make
    for each in clients:
        await each.aclose()


@pytest.fixture
def llama_swap(stub):
    """The stub speaks as llama-swap does: a is ready, b is not loaded."""
    stub.serves = {
        "/v1/models": {
            "data": [
                {"id": "a", "owned_by": "llama-swap", "status": {"value": "loaded"}, "context_length": 4096},
                {"id": "b", "owned_by": "llama-swap", "status": {"value": "unloaded"}, "description": "the big one"},
            ]
        },
        "/running": {"running": [{"model": "a", "state": "ready", "cmd": "llama-server"}]},
        "/api/events": [log_event("started"), states_event(a="ready", b="stopped")],
    }
    return stub


async def test_models_come_with_state_context_and_aliases(llama_swap, swap_of):
    swap = swap_of()

    assert await swap.models() == [
        Model(name="a", state=LOADED, context=4096),
        Model(name="b", state=UNLOADED, aliases=("bee",), description="the big one"),
    ]
    assert swap.known() == ["a", "b", "bee"]


@pytest.mark.parametrize(
    ("word", "state"), [("ready", LOADED), ("starting", LOADING), ("stopping", UNLOADING), ("stopped", UNLOADED)]
)
async def test_the_state_is_that_of_the_running_process(llama_swap, swap_of, word, state):
    llama_swap.serves["/running"] = {"running": [{"model": "b", "state": word}]}

    assert [model.state for model in await swap_of().models() if model.name == "b"] == [state]


@pytest.mark.parametrize(
    ("listed", "only"),
    [
        ([{"id": "tiny.gguf", "owned_by": "llamacpp"}], "tiny.gguf"),
        ([{"id": "koboldcpp/tiny", "owned_by": "koboldcpp"}], "koboldcpp/tiny"),
        ([{"id": "tiny.gguf", "owned_by": "llamacpp", "status": {"value": "loaded"}}], ""),  # a router
        ([{"id": "a", "owned_by": "vllm"}], ""),  # refuses other names
        ([{"id": "a", "owned_by": "llamacpp"}, {"id": "b", "owned_by": "llamacpp"}], ""),
        (["a"], ""),
        ([], ""),
        ("a", ""),
    ],
)
async def test_the_only_model_of_a_server_answers_by_any_name(stub, swap_of, listed, only):
    stub.serves = {"/v1/models": {"data": listed}}
    swap = swap_of()
    assert swap.only_model == ""

    with suppress(ModelError):
        await swap.models()

    assert swap.only_model == only


async def test_an_alias_that_is_listed_separately_is_not_a_model(llama_swap, swap_of):
    llama_swap.serves["/v1/models"]["data"].append({"id": "bee", "status": {"value": "unloaded"}})

    assert [model.name for model in await swap_of().models()] == ["a", "b"]


async def test_a_model_on_another_host_answers_without_a_swap(llama_swap, swap_of):
    far = {"id": "far", "status": {"value": "unloaded"}, "meta": {"llamaswap": {"peerID": "host"}}}
    llama_swap.serves["/v1/models"]["data"].append(far)

    assert (await swap_of().models())[-1].state is LOADED


async def test_an_older_llama_swap_without_status_is_supported(llama_swap, swap_of):
    llama_swap.serves["/v1/models"] = {"data": [{"id": "a"}, {"id": "b"}]}

    assert [model.state for model in await swap_of().models()] == [LOADED, UNLOADED]


@pytest.mark.parametrize(
    ("record", "context"),
    [
        ({"id": "m", "meta": {"n_ctx": 2048, "n_ctx_train": 8192}, "aliases": ["m"]}, 2048),
        ({"id": "m", "max_model_len": 1024}, 1024),
        ({"id": "m", "context_length": 512}, 512),
        ({"id": "m"}, None),
    ],
)
async def test_models_of_any_other_server_are_all_loaded(stub, swap_of, record, context):
    stub.serves["/v1/models"] = {"object": "list", "data": [record]}

    assert await swap_of().models() == [Model(name="m", state=LOADED, context=context)]


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        ((401, {}, ['{"error": "no key"}']), ModelError, "the server rejected the API key"),
        ((200, {}, ["<html>"]), ModelError, "is /v1 missing"),
        ((404, {}, ["404 page not found"]), ModelError, "the server does not list its models; name one"),
        ((None, {}, []), ModelUnavailableError, "does not answer"),
    ],
)
async def test_a_server_that_lists_no_models_is_a_one_sentence_error(stub, swap_of, answer, kind, says):
    stub.script.append(answer)

    with pytest.raises(kind, match=says):
        await swap_of().models()


async def test_loaded_models_are_returned_by_name_and_by_alias(llama_swap, swap_of, elapsed):
    swap = swap_of()

    assert await swap.loaded() == {"a"}

    llama_swap.serves["/running"] = {"running": [{"model": "b", "state": "starting"}]}
    elapsed.seconds += 1  # the cache has expired
    assert await swap.loaded() == {"b", "bee"}


async def test_aliases_resolve_to_their_model_once_they_are_known(llama_swap, swap_of):
    swap = swap_of()
    before = dict(swap.aliases)
    await swap.loaded()

    assert before == {}
    assert swap.aliases == {"bee": "b"}
    assert llama_swap.looked == ["/running", "/api/events"]


@pytest.mark.parametrize("trouble", [[None], [asyncio.Event()]], ids=["broken off", "slow"])
async def test_aliases_that_could_not_be_fetched_are_requested_again_later(llama_swap, swap_of, trouble, elapsed):
    llama_swap.serves["/running"] = {"running": [{"model": "b", "state": "ready"}]}
    llama_swap.serves["/api/events"] = trouble
    swap = swap_of()
    first = [await swap.loaded() for _ in range(2)]
    asked_at_once = llama_swap.looked.count("/api/events")
    llama_swap.serves["/api/events"] = [states_event(a="stopped", b="ready")]

    elapsed.seconds += RETRY_INTERVAL_S
    later = await swap.loaded()

    assert (first, asked_at_once) == ([{"b"}, {"b"}], 1)
    assert later == {"bee", "b"}


async def test_a_server_without_events_is_asked_for_them_once(llama_swap, swap_of, monkeypatch):
    monkeypatch.setattr("piano_jupyter.runner.model.llama_swap.swap_client.RETRY_INTERVAL_S", 0)
    del llama_swap.serves["/api/events"]
    swap = swap_of()

    assert [await swap.loaded() for _ in range(3)] == [{"a"}] * 3
    assert llama_swap.looked.count("/api/events") == 1


async def test_the_states_are_cached_for_a_while(llama_swap, swap_of, monkeypatch):
    monkeypatch.setattr("piano_jupyter.runner.model.llama_swap.swap_client.STATES_MAX_AGE_S", 60)
    swap = swap_of()

    for _ in range(3):
        await swap.loaded()

    assert llama_swap.looked.count("/running") == 1
    assert llama_swap.looked.count("/api/events") == 1


async def test_a_server_other_than_llama_swap_has_no_loaded_states(stub, swap_of, monkeypatch):
    monkeypatch.setattr("piano_jupyter.runner.model.llama_swap.swap_client.STATES_MAX_AGE_S", 0)
    swap = swap_of()

    assert [await swap.loaded() for _ in range(3)] == [None, None, None]
    assert stub.looked == ["/running"]


@pytest.mark.parametrize("answer", [*TROUBLES, (200, {}, ["<html>"])])
async def test_a_failing_server_does_not_stop_scheduling(stub, swap_of, answer):
    del stub.serves["/running"]
    stub.script.append(answer)

    assert await swap_of().loaded() is None


@pytest.mark.parametrize("answer", TROUBLES)
async def test_the_last_known_states_are_used_while_llama_swap_fails(llama_swap, swap_of, answer, elapsed):
    swap = swap_of()
    before = await swap.loaded()
    fine = llama_swap.serves.pop("/running")
    elapsed.seconds += 1  # the cache has expired
    llama_swap.script.append(answer)

    assert await swap.loaded() == before == {"a"}

    llama_swap.serves["/running"] = fine | {"running": [{"model": "b", "state": "ready"}]}
    elapsed.seconds += 1  # the cache has expired
    assert await swap.loaded() == {"b", "bee"}


@pytest.mark.parametrize("answer", TROUBLES)
async def test_a_list_of_models_without_the_running_ones_does_not_forget_that_the_server_swaps(
    llama_swap, swap_of, answer
):
    llama_swap.serves["/v1/models"] = {"data": [{"id": "a"}, {"id": "b"}]}  # as an older version sends it
    swap = swap_of(idle_timeout=0.5)
    await swap.models()
    del llama_swap.serves["/running"]
    llama_swap.script.append(answer)

    assert [model.state for model in await swap.models()] == [LOADED, UNLOADED]
    assert await swap.loaded() == {"a"}


async def test_a_server_that_is_no_longer_llama_swap_is_recognized(llama_swap, swap_of, elapsed):
    swap = swap_of()
    await swap.loaded()
    llama_swap.serves["/running"] = None
    elapsed.seconds += 1  # the cache has expired

    assert await swap.loaded() is None


async def test_an_unexpected_error_is_logged_and_does_not_stop_scheduling(caplog):
    async def connect():
        raise LookupError("odd")

    swap = SwapClient(connect, PianoConfig())
    said = await swap.loaded(), await swap.loading_note("a")
    await swap.aclose()

    assert said == (None, None)
    assert [record.exc_info[0] for record in caplog.records] == [LookupError, LookupError]


async def test_an_answer_that_is_nested_too_deeply_is_ignored(llama_swap, swap_of, elapsed):
    deep = json.dumps({"type": "modelStatus", "data": "[" * 200_000})
    llama_swap.serves["/api/events"] = [
        f"data:{deep}\n\ndata:{'[' * 200_000}\n\n",
        states_event(a="ready", b="stopped"),
        asyncio.Event(),
    ]
    running = llama_swap.serves["/running"]
    llama_swap.serves["/running"] = ["[" * 200_000]
    swap = swap_of()

    assert [model.name for model in await swap.models()] == ["a", "b"]
    assert await swap.loaded() is None
    llama_swap.serves["/running"] = running
    elapsed.seconds += RETRY_INTERVAL_S
    assert await swap.loaded() == {"a"}
    assert swap.aliases["bee"] == "b"


async def test_a_missing_server_has_no_states(swap_of):
    assert await swap_of(url="http://127.0.0.1:9/v1").loaded() is None


async def test_load_and_unload_requests_name_the_model(llama_swap, swap_of):
    swap = swap_of()
    llama_swap.serves["/upstream/b/health"] = {"status": "ok"}
    await swap.load("bee")
    llama_swap.answers("OK")
    llama_swap.answers("OK")
    await swap.unload("bee")
    await swap.unload()

    assert "/upstream/b/health" in llama_swap.looked
    assert [path for path, _, _ in llama_swap.asked] == ["/api/models/unload/b", "/api/models/unload"]


async def test_a_model_whose_own_server_has_no_health_is_loaded_all_the_same(llama_swap, swap_of):
    llama_swap.serves["/running"] = {"running": [{"model": "b", "state": "ready"}]}

    await swap_of().load("b")

    assert "/upstream/b/health" in llama_swap.looked


async def test_a_selector_or_peer_that_cannot_be_loaded_is_an_error(llama_swap, swap_of):
    llama_swap.serves["/v1/models"]["data"].append({"id": "pick", "status": {"value": "unloaded"}})
    swap = swap_of()

    with pytest.raises(ModelError, match=r"llama-swap cannot load pick \(no reason given|null\): it may be a selector"):
        await swap.load("pick")


@pytest.mark.parametrize("name", ["pick", None])
async def test_an_unload_that_finds_nothing_is_an_error(llama_swap, swap_of, name):
    llama_swap.serves["/v1/models"]["data"].append({"id": "pick", "status": {"value": "unloaded"}})
    llama_swap.answers('{"src": "llama-swap", "error": {"message": "model not found"}}', status=404)
    swap = swap_of()

    with pytest.raises(ModelError, match=rf"cannot unload {name or 'the models'} \(model not found\)"):
        await swap.unload(name)


async def test_known_models_have_names_and_not_only_aliases(llama_swap, swap_of):
    models = [{"id": "big", "state": "stopped", "aliases": ["b2"], "unlisted": True}]
    event = json.dumps({"type": "modelStatus", "data": json.dumps(models)})
    llama_swap.serves["/api/events"] = [f"data:{event}\n\n"]
    swap = swap_of()

    await swap.models()

    assert swap.known() == ["a", "b", "big", "b2"]


@pytest.mark.parametrize("verb", ["load", "unload"])
async def test_an_unknown_model_is_an_error_that_lists_the_served_ones(llama_swap, swap_of, verb):
    with pytest.raises(ModelNotServedError, match="does not serve 'bees'; known: bee, a, b"):
        await getattr(swap_of(), verb)("bees")


@pytest.mark.parametrize("verb", ["load", "unload"])
async def test_a_server_that_does_not_swap_cannot_load_or_unload(stub, swap_of, verb):
    stub.serves["/v1/models"] = {"data": [{"id": "m"}]}

    with pytest.raises(PianoError, match="is not llama-swap"):
        await getattr(swap_of(), verb)("m")


async def test_a_model_that_fails_to_start_is_an_error_with_the_servers_message(llama_swap, swap_of):
    swap = swap_of()
    await swap.models()
    said = {"src": "llama-swap", "error": {"message": "unspecific error: upstream command exited prematurely"}}
    llama_swap.answers('{"data": [{"id": "b"}]}')
    llama_swap.answers(json.dumps(said), status=500)
    del llama_swap.serves["/v1/models"]

    with pytest.raises(ModelUnavailableError, match=r"b could not be loaded \(upstream command exited .*/logs"):
        await swap.load("b")


async def test_when_the_address_changes_the_cache_is_cleared(llama_swap):
    places = [llama_swap.url]

    async def connect():
        return Endpoint(url=places[-1])

    swap = SwapClient(connect, PianoConfig(base_url=llama_swap.url, connect_timeout=1.0))
    assert await swap.loaded() == {"a"}
    places.append("http://127.0.0.1:9/v1")

    assert await swap.loaded() is None
    assert swap.known() == []
    await swap.aclose()


async def test_a_replay_lists_the_models_without_a_server(llama_swap, swap_of, tmp_path):
    path = tmp_path / "talk.jsonl"
    recorded = await swap_of(wrap=Cassette(path, recording=True).wrap).models()
    replay = swap_of(url="http://127.0.0.1:9/v1", wrap=Cassette(path, recording=False).wrap)

    assert await replay.models() == recorded
    assert [model.state for model in recorded] == [LOADED, UNLOADED]
    assert await replay.loaded() is None
    with pytest.raises(PianoError, match="while a cassette records or replays"):
        await replay.load("a")
    assert "/api/events" not in llama_swap.looked

"""ChatClient over real HTTP."""

import asyncio
import gzip
import itertools
import json
import logging
import random
from contextlib import aclosing
from dataclasses import replace

import httpx
import pytest

from piano_jupyter.config import PianoConfig
from piano_jupyter.errors import (
    ContextOverflowError,
    ModelError,
    ModelNotServedError,
    ModelRefusedError,
    ModelTimeoutError,
    ModelUnavailableError,
    ToolsRefusedError,
    UnreadableReplyError,
)
from piano_jupyter.runner.model.cassette import Cassette
from piano_jupyter.runner.model.client import ChatClient
from piano_jupyter.runner.model.embedded.local_server import Endpoint
from piano_jupyter.runner.model.llama_swap.swap_client import SwapClient
from piano_jupyter.runner.model.protocol import ChatRequest, Delta, LoadingNotice, Reply, StreamRestarted
from piano_jupyter.runner.model.server import retries
from piano_jupyter.runner.model.server.transport import connection_problem
from piano_jupyter.runner.model.stream.latency import Stopwatch
from piano_jupyter.tool import tool

REQUEST = ChatRequest(model="m", messages=[{"role": "user", "content": "hi"}], options={"temperature": 0})


def sse(chunk):
    return f"data: {json.dumps(chunk)}\n\n"


def event(finish=None, **delta):
    return sse({"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


TOOLS = [{"type": "function", "function": {"name": "f"}}]
TOOLS_WITH_PARAMETERS = [{"type": "function", "function": {"name": "f", "description": "Do.", "parameters": {}}}]
DEADLINE = 10


@pytest.fixture
async def client_of(stub):
    clients = []

    def make(url=None, key="", wrap=None, model=None, **settings):
        async def connect():
            return Endpoint(url=url or stub.url, api_key=key, model=model)

        config = PianoConfig(**{"request_retries": 0, **settings})
        swap = SwapClient(connect, config, wrap)
        clients.extend([swap, ChatClient(connect, config, wrap, swap)])
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


async def test_an_answer_of_the_embedded_model_is_named_after_it(stub, speak, client_of):
    stub.answers(*speak("Paris"))
    stub.answers(*speak("Paris"))

    assert (await pieces(client_of(model="SmolLM2")))[-1].usage["model"] == "SmolLM2"
    assert (await pieces(client_of()))[-1].usage["model"] == "m"


async def test_the_model_that_the_server_named_last_answers_for_the_one_that_was_asked(stub, speak, client_of):
    stub.answers(*(each.replace('"model": "m"', '"model": "m-q4.gguf"') for each in speak("Paris")))
    client = client_of()
    before = client.answered_by("m")

    await pieces(client)

    assert (before, client.answered_by("m"), client.answered_by("other")) == ("", "m-q4.gguf", "")


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504, 522, 529])
async def test_h14_a_busy_server_is_asked_again(stub, speak, client_of, status):
    stub.answers('{"error": "busy"}', status=status, headers={"retry-after": "0.01"})
    stub.answers(*speak("ok"))

    assert (await pieces(client_of(request_retries=1)))[-1].text == "ok"
    assert len(stub.asked) == 2


async def test_h14_a_connection_that_breaks_before_the_answer_is_tried_again(stub, speak, client_of):
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
async def test_h14_a_rejection_is_not_retried(stub, client_of, status, body, kind):
    stub.answers(body, status=status)

    with pytest.raises(kind):
        await pieces(client_of(request_retries=3))
    assert len(stub.asked) == 1


async def test_an_empty_400_while_a_model_is_swapped_is_sent_again(stub, speak, client_of):
    stub.answers(status=400)
    stub.answers(*speak("ok"))

    assert (await pieces(client_of(request_retries=1)))[-1].text == "ok"


async def test_a_plain_server_that_loads_its_model_is_waited_for_like_any_loading_model(
    stub, speak, client_of, monkeypatch
):
    monkeypatch.setattr(retries, "WAIT_PAUSE_S", 0.01)
    loading = {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}
    for _ in range(9):
        stub.answers(json.dumps(loading), status=503)
    stub.answers(*speak("ok"))

    *told, reply = await pieces(client_of(request_retries=1))

    assert reply.text == "ok"
    assert told[0].note == "m is loading"
    assert reply.usage["load_s"] > 0


async def test_a_server_that_loads_its_model_for_too_long_is_an_error(stub, client_of, monkeypatch):
    monkeypatch.setattr(retries, "WAIT_PAUSE_S", 0.01)
    for _ in range(99):
        stub.answers('{"error": {"message": "Loading model"}}', status=503)

    with pytest.raises(ModelUnavailableError, match=r"down or still starting \(Loading model\)"):
        await pieces(client_of(request_retries=1, first_byte_timeout=0.1))


IN_A_LOOP = replace(
    REQUEST, messages=[*REQUEST.messages, {"role": "assistant", "tool_calls": []}, {"role": "tool", "content": "4"}]
)


async def test_a_server_that_restarts_between_the_rounds_of_a_turn_is_waited_for(stub, speak, client_of, monkeypatch):
    monkeypatch.setattr(retries, "WAIT_PAUSE_S", 0.01)
    for _ in range(9):
        stub.answers(status=None)
    stub.answers(*speak("ok"))

    told = await pieces(client_of(request_retries=1), IN_A_LOOP)

    assert told[-1].text == "ok"
    assert told[0].note == "the server does not answer any more; waiting for it to restart"


async def test_it_is_not_waited_for_at_the_start_of_a_turn(stub, client_of):
    for _ in range(2):
        stub.answers(status=None)

    with pytest.raises(ModelUnavailableError, match="does not answer"):
        await pieces(client_of(request_retries=1))


UNREADABLE_EVENT = sse({"error": {"code": 500, "message": "error parsing tool call: raw='{', err=unexpected EOF"}})


def cuts(text, kind):
    raw = text.encode()
    if kind == "whole":
        return [text]
    if kind == "byte by byte":
        return [raw[at : at + 1] for at in range(len(raw))]
    places = sorted(random.Random(kind).sample(range(1, len(raw)), 9))
    return [raw[start:end] for start, end in itertools.pairwise([0, *places, len(raw)])]


@pytest.mark.parametrize("kind", ["whole", "byte by byte", 1, 2, 3])
async def test_an_error_in_mid_stream_says_that_the_reply_could_not_be_read(stub, client_of, kind):
    stub.answers(*cuts(event(content="I look. ") + UNREADABLE_EVENT, kind))

    with pytest.raises(UnreadableReplyError, match="could not read what the model wrote"):
        await pieces(client_of(request_retries=3))
    assert len(stub.asked) == 1


async def test_a_finish_reason_that_says_so_is_the_same(stub, client_of):
    stub.answers(event("function_call_filter: MALFORMED_FUNCTION_CALL"), "data: [DONE]\n\n")

    with pytest.raises(UnreadableReplyError):
        await pieces(client_of(request_retries=3))


async def test_h14_an_empty_502_is_a_sentence(stub, client_of):
    stub.answers("", status=502)

    with pytest.raises(ModelUnavailableError, match=r"down or still starting \(no reason given\)"):
        await pieces(client_of())


@pytest.mark.parametrize("begun", [[], [": still here\n\n"], [event(role="assistant")]])
async def test_h14_a_connection_that_breaks_before_the_first_word_is_tried_again(stub, speak, client_of, begun):
    stub.answers(*begun, None)
    stub.answers(*begun, None)
    stub.answers(*speak("ok"))

    told = await pieces(client_of(request_retries=2))

    assert [piece for piece in told if not isinstance(piece, LoadingNotice)][:-1] == [Delta(text="ok")]
    assert len(stub.asked) == 3


BREAKS = {
    "a reset": lambda: (None,),
    "a clean end": lambda: (),
    "a clean end inside an event": lambda: (event(content="ris")[:40],),
    "an error that passes": lambda: (sse({"error": {"code": 503, "message": "overloaded"}}),),
    "silence": lambda: (asyncio.Event(),),
    "nothing but comments": lambda: (...,),  # the stub's word for comments without end
}


@pytest.mark.parametrize("breaks", BREAKS)
async def test_h14_an_answer_that_breaks_in_the_middle_restarts_once(stub, speak, client_of, breaks):
    stub.answers(speak("Pa")[0], *BREAKS[breaks]())
    stub.answers(*speak("Par", "is"))

    *told, reply = await pieces(client_of(request_retries=1, idle_timeout=0.3))

    assert told == [Delta(text="Pa"), StreamRestarted(), Delta(text="Par"), Delta(text="is")]
    assert reply.text == "Paris"
    assert stub.asked[0] == stub.asked[1]


@pytest.mark.parametrize("breaks", BREAKS)
async def test_h14_an_answer_that_breaks_in_the_middle_twice_is_an_error(stub, speak, client_of, breaks):
    for _ in range(2):
        stub.answers(speak("Pa")[0], *BREAKS[breaks]())

    with pytest.raises(ModelError, match=r"in the middle|down or still starting"):
        await pieces(client_of(request_retries=9, idle_timeout=0.3))
    assert len(stub.asked) == 2


async def test_h14_an_error_in_the_middle_that_does_not_pass_is_not_tried_again(stub, speak, client_of):
    stub.answers(speak("Pa")[0], sse({"error": {"code": 500, "message": "template"}}))

    with pytest.raises(ModelError, match="template"):
        await pieces(client_of(request_retries=3))
    assert len(stub.asked) == 1


async def test_h15_comments_alone_are_no_answer(stub, client_of):
    stub.answers(...)

    with pytest.raises(ModelTimeoutError, match=r"did not start to answer within 0\.3 s"):
        await pieces(client_of(first_byte_timeout=0.3, idle_timeout=60))


async def test_h15_a_first_word_that_takes_longer_than_the_idle_limit_is_waited_for(stub, speak, client_of):
    ready = asyncio.Event()
    asyncio.get_running_loop().call_later(0.3, ready.set)
    stub.answers(event(role="assistant"), ready, *speak("Paris"))

    assert (await pieces(client_of(idle_timeout=0.1)))[-1].text == "Paris"


@pytest.mark.parametrize("nothing", [{"content": ""}, {"reasoning_content": "hm"}, {"content": "<think>hm"}])
async def test_h17_an_empty_answer_is_asked_for_once_more_with_the_same_request(stub, speak, client_of, nothing):
    stub.answers(event(**nothing, finish="stop"))
    stub.answers(*speak("Paris"))

    assert (await pieces(client_of(request_retries=1)))[-1].text == "Paris"
    assert stub.asked[0] == stub.asked[1]


async def test_h17_an_answer_that_stays_empty_is_asked_for_twice_and_no_more(stub, client_of):
    for _ in range(2):
        stub.answers(event(content="", finish="stop"))

    assert (await pieces(client_of(request_retries=3)))[-1].text == ""
    assert len(stub.asked) == 2


async def test_h17_reasoning_that_hit_the_length_limit_is_not_retried(stub, client_of):
    stub.answers(event(reasoning_content="hm", finish="length"))

    assert (await pieces(client_of(request_retries=3)))[-1].finish_reason == "length"
    assert len(stub.asked) == 1


@pytest.mark.parametrize("counts", [True, False])
async def test_h12_a_call_as_text_counts_unless_it_is_turned_off(stub, speak, client_of, counts):
    said = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'
    stub.caps = {"supports_tools": True}
    stub.answers(*speak(said))

    *_, reply = await pieces(
        client_of(text_calls=counts), ChatRequest(model="m", messages=REQUEST.messages, tools=TOOLS)
    )

    assert (reply.text, len(reply.calls)) == (("", 1) if counts else (said, 0))


async def test_a_noticeable_pause_is_announced_and_logged(stub, speak, client_of, caplog):
    caplog.set_level(logging.DEBUG, "piano_jupyter.runner.model.client")
    stub.answers("{}", status=429, headers={"retry-after": "1.2"})
    stub.answers(*speak("ok"))

    notes = [piece.note for piece in await pieces(client_of(request_retries=1)) if isinstance(piece, LoadingNotice)]

    assert notes == ["the server did not answer; retrying in 1 s"]
    assert [record.message.partition(" in ")[0] for record in caplog.records] == ["model=m retry"]


async def test_the_speed_is_measured_where_the_server_does_not_tell_it(stub, speak, client_of, monkeypatch):
    monkeypatch.setattr("piano_jupyter.runner.model.stream.latency.MIN_MEASURED_S", 0)
    usage = sse({"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 31}})
    first, *rest = speak("Pa", "ris")
    stub.answers(first, rest[0], usage, rest[1])

    usage = (await pieces(client_of()))[-1].usage

    assert usage["tokens_per_second"] > 0


def test_the_speed_counts_from_the_first_word_and_only_over_a_time_that_is_long_enough():
    seconds = iter([0.0, 2.0, 2.05, 5.0])  # sent, first word, and two ends
    stopwatch = Stopwatch(lambda: next(seconds))

    waited = stopwatch.first_token()
    early, late = (stopwatch.speed({"completion_tokens": 31}) for _ in range(2))

    assert (waited, early, late) == ({"first_token_s": 2.0}, {}, {"tokens_per_second": 10.0})


@pytest.mark.parametrize(
    ("told", "thought"),
    [
        ([Delta(reasoning="hm"), Delta(reasoning="hm"), Delta(text="Pa"), Delta(text="ris")], {"thought_s": 10.0}),
        ([Delta(reasoning="hm"), Delta(reasoning="hm")], {"thought_s": 10.0}),  # then it calls a tool
        ([Delta(text="hm"), StreamRestarted(), Delta(reasoning="hm"), Delta(text="Paris")], {"thought_s": 20.0}),
        ([Delta(text="Pa"), Delta(reasoning="hm")], {}),
        ([], {}),
    ],
)
def test_a_model_has_thought_until_its_first_text(told, thought):
    seconds = iter(range(0, 100, 10))
    stopwatch = Stopwatch(lambda: next(seconds))

    for piece in told:
        stopwatch.take(piece)

    assert stopwatch.thought() == thought


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

    with pytest.raises(ModelError, match="stopped in the middle"):
        await pieces(client_of())


async def test_h15_silence_in_the_middle_is_a_timeout(stub, speak, client_of):
    stub.answers(speak("Pa")[0], asyncio.Event())

    with pytest.raises(ModelTimeoutError, match="sent nothing for"):
        await pieces(client_of(idle_timeout=0.2))


HELD_BACK = [replace(REQUEST, tools=TOOLS), replace(REQUEST, schema={"type": "object"})]


@pytest.mark.parametrize("request_", HELD_BACK)
@pytest.mark.parametrize("comments", [0, 30])
async def test_a_server_that_holds_back_a_call_is_waited_for(stub, client_of, request_, comments):
    stub.caps = {"supports_tools": True}
    ready = asyncio.Event()
    asyncio.get_running_loop().call_later(0.6, ready.set)
    held = [": still here\n\n", 0.02] * comments or [ready]
    whole = {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}
    stub.answers(event(content="Well."), *held, event(tool_calls=[whole]), event("tool_calls"))

    reply = (await pieces(client_of(idle_timeout=0.1, tool_idle_timeout=0.2 if comments else 5), request_))[-1]

    assert [call.name for call in reply.calls] == ["f"]


@pytest.mark.parametrize("request_", HELD_BACK)
async def test_comments_extend_the_silence_up_to_the_limit_of_the_first_word(stub, client_of, request_):
    stub.caps = {"supports_tools": True}
    stub.answers(event(content="Well."), ...)

    with pytest.raises(ModelTimeoutError, match=r"nothing for 0\.5 s in the middle"):
        await pieces(client_of(idle_timeout=0.1, tool_idle_timeout=0.2, first_byte_timeout=0.5), request_)


@pytest.mark.parametrize("request_", HELD_BACK)
async def test_silence_without_comments_ends_where_a_call_may_be_held_back(stub, client_of, request_):
    stub.caps = {"supports_tools": True}
    stub.answers(event(content="Well."), asyncio.Event())

    with pytest.raises(ModelTimeoutError, match=r"nothing for 0\.2 s in the middle"):
        await pieces(client_of(idle_timeout=0.1, tool_idle_timeout=0.2), request_)


async def test_an_answer_without_tools_may_be_silent_for_the_shorter_time_only(stub, client_of):
    stub.answers(event(content="Well."), ...)

    with pytest.raises(ModelTimeoutError, match=r"nothing for 0\.1 s in the middle"):
        await pieces(client_of(idle_timeout=0.1, tool_idle_timeout=60))


@pytest.mark.parametrize("headers_come", [True, False])
async def test_h15_an_answer_that_never_begins_is_a_timeout_of_its_own(stub, client_of, headers_come):
    stub.answers(asyncio.Event(), status=200 if headers_come else 0)

    with pytest.raises(ModelTimeoutError, match=r"did not start to answer within 0\.2 s"):
        await pieces(client_of(first_byte_timeout=0.2))


async def test_who_stops_listening_frees_the_server_at_once(stub, speak, client_of):
    stub.answers(speak("Pa")[0], asyncio.Event())

    async with asyncio.timeout(DEADLINE):
        async with aclosing(client_of().stream(REQUEST)) as stream:
            async for _ in stream:
                break
        await stub.closed.wait()


LINE = "The capital of France is Paris.\n"


async def test_a_model_that_repeats_itself_is_stopped_at_once(stub, speak, client_of):
    stub.answers(*speak(*[LINE] * 100)[:-1], asyncio.Event())

    reply = (await pieces(client_of()))[-1]

    assert (reply.text, reply.usage["looped"]) == (LINE, True)
    async with asyncio.timeout(DEADLINE):
        await stub.closed.wait()


async def test_a_model_may_repeat_itself_if_that_is_wanted(stub, speak, client_of):
    stub.answers(*speak(*[LINE] * 100))

    assert (await pieces(client_of(stop_loops=False)))[-1].text == LINE * 100


async def test_an_answer_that_was_stopped_is_replayed_the_same(stub, speak, client_of, tmp_path):
    stub.answers(*speak(*[LINE] * 100)[:-1], asyncio.Event())
    recorded = (await pieces(client_of(wrap=Cassette(tmp_path / "c.jsonl", recording=True).wrap)))[-1]

    replayed = (await pieces(client_of(wrap=Cassette(tmp_path / "c.jsonl", recording=False).wrap)))[-1]

    assert replayed == recorded


@pytest.mark.parametrize("end", [None, asyncio.Event()], ids=["broken off", "held open"])
async def test_a_complete_answer_is_accepted_though_its_stream_does_not_end(stub, client_of, end):
    stub.answers(event(content="Paris"), event(finish="stop"), end)

    reply = (await pieces(client_of(request_retries=2, idle_timeout=0.3)))[-1]

    assert (reply.text, len(stub.asked)) == ("Paris", 1)


async def test_an_answer_with_another_good_status_is_one(stub, speak, client_of):
    stub.answers(*speak("Paris"), status=201)

    assert (await pieces(client_of()))[-1].text == "Paris"


async def test_an_answer_is_read_though_the_server_packs_what_it_was_asked_not_to(stub, speak, client_of):
    packed = gzip.compress("".join(speak("Paris")).encode())
    stub.answers(packed[:20], packed[20:], headers={"content-encoding": "gzip"})
    stub.answers(*speak("Paris"), headers={"content-encoding": "gzip"})  # a lie

    assert (await pieces(client_of()))[-1].text == "Paris"
    with pytest.raises(ModelUnavailableError, match="the connection broke"):
        await pieces(client_of())


FORBIDDEN = {
    "stream_options": '{"detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options", "include_usage"]}]}',
    "reasoning_content": '{"error": {"message": "property \'reasoning_content\' is unsupported"}}',
    "tool_choice": '{"error": "tool_choice is not supported"}',
}


@pytest.mark.parametrize("name", FORBIDDEN)
async def test_an_optional_field_that_a_server_rejects_is_left_out_from_then_on(stub, speak, client_of, name):
    said = {"role": "assistant", "reasoning_content": "reasoning_content"}
    request = replace(REQUEST, messages=[*REQUEST.messages, said], tools=TOOLS, answer_now=True)
    stub.caps = {"supports_tools": True}
    stub.answers(FORBIDDEN[name], status=422)
    for _ in range(3):
        stub.answers(*speak("Paris"))
    client = client_of()

    replies = [(await pieces(client, each))[-1].text for each in (request, request, replace(request, model="other"))]

    assert replies == ["Paris"] * 3
    assert [f'"{name}":' in json.dumps(body) for _, _, body in stub.asked] == [True, False, False, True]


@pytest.mark.parametrize(
    "message",
    [
        "The `reasoning_content` in the thinking mode must be passed back to the API.",
        "thinking is enabled but reasoning_content is missing in assistant tool call message at index 1",
        "Missing `reasoning_content` field in the assistant message at message index 2.",
    ],
)
async def test_reasoning_that_a_server_demands_is_sent_from_then_on(stub, speak, client_of, message):
    said = [{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b", "reasoning_content": "why"}]
    request = replace(REQUEST, messages=[*REQUEST.messages, *said])
    stub.answers(json.dumps({"error": {"message": message}}), status=400)
    for _ in range(2):
        stub.answers(*speak("Paris"))
    client = client_of()

    replies = [(await pieces(client, request))[-1].text for _ in range(2)]

    assert replies == ["Paris"] * 2
    sent = [[each.get("reasoning_content") for each in body["messages"]] for _, _, body in stub.asked]
    assert sent == [[None, None, "why"], *[[None, " ", "why"]] * 2]


async def test_the_limit_of_an_answer_is_named_as_newer_models_name_it(stub, speak, client_of):
    said = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    stub.answers(json.dumps({"error": {"message": said, "code": "unsupported_parameter"}}), status=400)
    for _ in range(2):
        stub.answers(*speak("Paris"))
    client, request = client_of(), replace(REQUEST, options={"max_tokens": 9})

    replies = [(await pieces(client, request))[-1].text for _ in range(2)]

    assert replies == ["Paris"] * 2
    sent = [(body.get("max_tokens"), body.get("max_completion_tokens")) for _, _, body in stub.asked]
    assert sent == [(9, None), (None, 9), (None, 9)]


@pytest.mark.parametrize(
    "said",
    [
        "Function call is missing a thought_signature in functionCall parts.",
        "Unable to submit request because function call `f` in the 2. content block is missing a `thought_signature`.",
    ],
)
async def test_a_signature_that_a_server_demands_with_calls_is_sent_from_then_on(stub, speak, client_of, said):
    call = {"id": "call00001", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    exchange = [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call00001", "content": "7"},
    ]
    request = replace(REQUEST, messages=[*REQUEST.messages, *exchange], tools=TOOLS)
    stub.caps = {"supports_tools": True}
    stub.answers(json.dumps([{"error": {"code": 400, "message": said, "status": "INVALID_ARGUMENT"}}]), status=400)
    for _ in range(2):
        stub.answers(*speak("Paris"))
    client = client_of()

    replies = [(await pieces(client, request))[-1].text for _ in range(2)]

    assert replies == ["Paris"] * 2
    sent = [body["messages"][1]["tool_calls"][0].pop("extra_content", None) for _, _, body in stub.asked]
    assert sent == [None, *[{"google": {"thought_signature": "skip_thought_signature_validator"}}] * 2]
    assert all(body["messages"] == request.messages for _, _, body in stub.asked)


@pytest.mark.parametrize("status", [400, 500])
async def test_a_template_without_a_system_prompt_gets_it_with_the_question(stub, speak, client_of, status):
    request = replace(REQUEST, messages=[{"role": "system", "content": "Be brief."}, *REQUEST.messages])
    stub.answers('{"object": "error", "message": "System role not supported"}', status=status)
    for _ in range(2):
        stub.answers(*speak("Paris"))
    client = client_of()

    replies = [(await pieces(client, request))[-1].text for _ in range(2)]

    assert replies == ["Paris"] * 2
    sent = [[(each["role"], each["content"]) for each in body["messages"]] for _, _, body in stub.asked]
    assert sent == [[("system", "Be brief."), ("user", "hi")], *[[("user", "Be brief.\n\nhi")]] * 2]


async def test_reasoning_that_is_demanded_again_is_an_error(stub, client_of):
    for _ in range(2):
        stub.answers('{"error": "reasoning_content must be passed back"}', status=400)

    with pytest.raises(ModelRefusedError, match="must be passed back"):
        await pieces(client_of(request_retries=5))
    assert len(stub.asked) == 2


async def test_a_model_that_is_refused_tools_gets_them_in_its_prompt_from_then_on(stub, speak, client_of):
    @tool
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    stub.caps = {"supports_tools": True}  # so it says
    stub.answers('{"error": {"message": "registry.ollama.ai/library/m does not support tools"}}', status=400)
    stub.answers(*speak(json.dumps({"tool": "add", "arguments": {"a": 1, "b": 2}})))
    stub.answers(*speak('{"answer": "four"}'))
    client, request = client_of(), ChatRequest(model="m", messages=REQUEST.messages, tools=[add.schema()])

    called, answered = [(await pieces(client, request))[-1] for _ in range(2)]

    assert [(call.name, call.arguments) for call in called.calls] == [("add", {"a": 1, "b": 2})]
    assert answered.text == "four"
    assert ["tools" in body for _, _, body in stub.asked] == [True, False, False]


async def test_a_model_that_is_refused_even_that_is_an_error(stub, client_of):
    stub.caps = {"supports_tools": True}
    for _ in range(2):
        stub.answers('{"error": "m does not support tools"}', status=400)

    with pytest.raises(ToolsRefusedError, match=r"m cannot be given tools .*; ask an agent without tools"):
        await pieces(client_of(request_retries=5), replace(REQUEST, tools=TOOLS_WITH_PARAMETERS))
    assert len(stub.asked) == 2


@pytest.mark.parametrize("reason", ["malformed_function_call", "MALFORMED_RESPONSE", "UNEXPECTED_TOOL_CALL"])
async def test_a_finish_reason_for_a_call_that_was_not_read_is_the_models_mistake(stub, client_of, reason):
    stub.answers(event(content="I look."), event(finish=reason), "data: [DONE]\n\n")

    with pytest.raises(UnreadableReplyError, match=reason.lower()):
        await pieces(client_of())


async def test_a_rejection_after_that_is_an_error(stub, client_of):
    for _ in range(2):
        stub.answers(FORBIDDEN["stream_options"], status=422)

    with pytest.raises(ModelRefusedError, match="stream_options"):
        await pieces(client_of(request_retries=5))
    assert len(stub.asked) == 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_g8_redirects_are_not_followed_and_so_no_key_goes_elsewhere(stub, client_of, status):
    async def take(_reader, writer):
        visitors.append(writer)
        writer.close()

    visitors = []
    async with await asyncio.start_server(take, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        stub.answers("", status=status, headers={"location": f"http://127.0.0.1:{port}/steal"})

        with pytest.raises(ModelError, match=str(status)):
            await pieces(client_of(key="secret"))
    assert len(stub.asked) == 1
    assert visitors == []


async def test_a_model_whose_template_has_no_tools_is_constrained_to_a_schema(stub, speak, client_of):
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

    await pieces(
        client_of(),
        ChatRequest(model="m", messages=REQUEST.messages, tools=TOOLS),
    )

    assert stub.asked[0][2]["tools"] == [{"type": "function", "function": {"name": "f"}}]
    assert "response_format" not in stub.asked[0][2]


SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
FORMAT = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA}}


async def test_a_schema_goes_along_but_not_while_tools_may_be_called(stub, speak, client_of):
    stub.caps = {"supports_tools": True}
    tools = [{"type": "function", "function": {"name": "look", "description": "Look.", "parameters": {}}}]
    client, asked = client_of(), ChatRequest(model="m", messages=REQUEST.messages, schema=SCHEMA)
    for request in (asked, replace(asked, tools=tools), replace(asked, tools=tools, answer_now=True)):
        stub.answers(*speak('{"n": 1}'))
        assert (await pieces(client, request))[-1].text == '{"n": 1}'

    sent = [{key: body.get(key) for key in ("response_format", "tools", "tool_choice")} for _, _, body in stub.asked]
    assert sent == [
        {"response_format": FORMAT, "tools": None, "tool_choice": None},
        {"response_format": None, "tools": tools, "tool_choice": None},
        {"response_format": FORMAT, "tools": tools, "tool_choice": "none"},
    ]


async def test_a_model_without_tools_is_constrained_to_the_schema_or_a_call(stub, speak, client_of):
    stub.caps = {"supports_tools": False}
    tools = [{"type": "function", "function": {"name": "look", "description": "Look.", "parameters": {}}}]
    client, asked = client_of(), ChatRequest(model="m", messages=REQUEST.messages, tools=tools, schema=SCHEMA)
    stub.answers(*speak('{"answer": {"n"', ": 1}}"))
    stub.answers(*speak('{"answer": {"n": 2}}'))

    first, second = await pieces(client, asked), await pieces(client, replace(asked, answer_now=True))

    assert [each[-1].text for each in (first, second)] == ['{"n": 1}', '{"n": 2}']
    held = [body["response_format"]["json_schema"]["schema"] for _, _, body in stub.asked]
    assert held[0]["$defs"] == held[1]["$defs"] == {"answer": SCHEMA}
    assert [len(each["anyOf"]) for each in held] == [2, 1]


async def test_a_schema_that_the_server_does_not_take_is_an_error_of_its_own(stub, client_of):
    stub.answers('{"error": {"message": "response_format is not supported"}}', status=400)

    with pytest.raises(ModelRefusedError, match="the server answered 400: response_format is not supported"):
        await pieces(client_of(), ChatRequest(model="m", messages=REQUEST.messages, schema=SCHEMA))


async def test_an_answer_is_complete_with_done_though_the_server_keeps_the_connection_open(stub, speak, client_of):
    stub.answers(*speak("Paris"), asyncio.Event())

    assert (await pieces(client_of(idle_timeout=30)))[-1].text == "Paris"


async def test_loading_by_llama_swap_is_reported_and_measured(stub, speak, client_of):
    ready = asyncio.Event()
    stub.serves["/running"] = {"running": [{"model": "m", "state": "starting"}]}
    stub.answers(ready, *speak("Paris"))

    async with asyncio.timeout(DEADLINE), aclosing(client_of().stream(REQUEST)) as stream:
        first = await anext(stream)
        ready.set()
        *_, reply = [piece async for piece in stream]

    assert first.note == "m is loading"
    assert first.seconds > 0
    assert reply.text == "Paris"
    assert 0 < reply.usage["load_s"] <= reply.usage["first_token_s"] < DEADLINE


@pytest.mark.parametrize(
    ("running", "says"),
    [
        ([{"model": "old", "state": "stopping"}], "m is loading; unloading old first"),
        ([{"model": "old", "state": "ready"}], "m waits for old"),
        ([], "m is about to be loaded"),
    ],
)
async def test_what_the_model_waits_for_is_reported(stub, client_of, running, says):
    stub.serves["/running"] = {"running": running}
    stub.answers(asyncio.Event())

    async with asyncio.timeout(DEADLINE), aclosing(client_of().stream(REQUEST)) as stream:
        assert (await anext(stream)).note == says


@pytest.mark.parametrize("running", [{"running": [{"model": "m", "state": "ready"}]}, None])
async def test_a_model_that_is_thinking_is_not_reported_as_loading(stub, speak, client_of, running):
    stub.serves["/running"] = running
    stub.opens["/running"] = asked = asyncio.Event()
    stub.answers(asked, *speak("Paris"))

    *early, reply = await pieces(client_of())

    assert early == [Delta(text="Paris")]
    assert "load_s" not in reply.usage


async def test_who_stops_listening_while_the_model_loads_frees_the_request_at_once(stub, client_of):
    stub.serves["/running"] = {"running": [{"model": "m", "state": "starting"}]}
    stub.answers(asyncio.Event())

    async with asyncio.timeout(DEADLINE):
        async with aclosing(client_of().stream(REQUEST)) as stream:
            await anext(stream)
        await stub.closed.wait()


async def test_llama_swaps_own_loading_chunks_are_status_and_count_as_loading(stub, speak, client_of):
    chunks = [sse({"choices": [{"delta": {"reasoning_content": text}}]}) for text in ("━━━━━", "llama", "-swap", "\n")]
    stub.answers(*chunks, *speak("Paris"))

    *early, reply = await pieces(client_of())

    assert [piece.note for piece in early if isinstance(piece, LoadingNotice)] == ["m is loading"]
    assert reply.text == "Paris"
    assert reply.reasoning == ""
    assert reply.usage["load_s"] <= reply.usage["first_token_s"]


async def test_a_load_that_fails_in_the_stream_is_a_sentence(stub, client_of):
    failed = {"src": "llama-swap", "error": {"message": "health check timed out after 2m0s", "code": "internal_error"}}
    stub.answers(sse({"choices": [{"delta": {"reasoning_content": "loading"}}]}), sse(failed), "data: [DONE]\n\n")

    with pytest.raises(ModelUnavailableError, match=r"could not be loaded \(health check timed out after 2m0s\)"):
        await pieces(client_of())


async def test_a_model_that_fails_to_start_is_reported_once_with_what_to_do(stub, client_of):
    said = {"src": "llama-swap", "error": {"message": "unspecific error: upstream command exited prematurely"}}
    stub.answers(json.dumps(said), status=500)

    with pytest.raises(ModelUnavailableError, match=r"m could not be loaded \(upstream command exited prematurely\);"):
        await pieces(client_of(request_retries=3))
    assert len(stub.asked) == 1


async def test_an_older_llama_swap_is_not_made_to_load_a_failing_model_again(stub, client_of):
    stub.answers('{"error": "unable to start process: exit status 1"}', status=502)

    with pytest.raises(ModelUnavailableError, match=r"m could not be loaded \(exit status 1\)"):
        await pieces(client_of(request_retries=3))
    assert len(stub.asked) == 1


async def test_a_model_that_is_not_served_is_an_error_that_lists_the_served_ones(stub, client_of):
    stub.answers('{"error": {"message": "no router for requested model"}}', status=404)
    stub.answers('{"data": [{"id": "qwen3:8b"}, {"id": "m2"}]}', headers={"content-type": "application/json"})

    with pytest.raises(ModelNotServedError, match="does not serve 'm'; known: m2, qwen3:8b"):
        await pieces(client_of())


async def test_how_long_the_first_word_took_is_measured(stub, speak, client_of):
    stub.answers(*speak("Paris"))

    usage = (await pieces(client_of()))[-1].usage

    assert 0 < usage["first_token_s"] < DEADLINE
    assert usage["first_token_s"] == round(usage["first_token_s"], 3)


async def test_a_replay_has_the_times_of_the_recording(stub, speak, client_of, tmp_path):
    path = tmp_path / "talk.jsonl"
    stub.answers(event(reasoning_content="hm"), *speak("Paris"))
    recorded = (await pieces(client_of(wrap=Cassette(path, recording=True).wrap)))[-1].usage

    replay = client_of(url="http://127.0.0.1:9/v1", wrap=Cassette(path, recording=False).wrap)

    assert recorded["first_token_s"] > 0
    assert recorded["thought_s"] >= 0
    assert (await pieces(replay))[-1].usage == recorded


async def test_a_replay_of_an_older_cassette_has_no_times(stub, speak, client_of, tmp_path):
    path = tmp_path / "talk.jsonl"
    stub.answers(*speak("Paris"))
    await pieces(client_of(wrap=Cassette(path, recording=True).wrap))
    head, exchange = map(json.loads, path.read_text().splitlines())
    del exchange["response"]["measured"]
    path.write_text(f"{json.dumps(head)}\n{json.dumps(exchange)}\n")

    replay = client_of(url="http://127.0.0.1:9/v1", wrap=Cassette(path, recording=False).wrap)

    assert "first_token_s" not in (await pieces(replay))[-1].usage


async def test_a_replay_looks_for_no_server_though_it_takes_its_time(monkeypatch):
    monkeypatch.setattr("piano_jupyter.runner.model.client.LOADING_POLL_S", 0)
    asked = []

    async def connect():
        asked.append("connect")
        return Endpoint(url="http://127.0.0.1:9/v1")

    class Slow(httpx.AsyncBaseTransport):
        async def handle_async_request(self, _):
            for _ in range(20):
                await asyncio.sleep(0)
            return httpx.Response(200, text=sse({"choices": [{"delta": {"content": "x"}, "finish_reason": "stop"}]}))

    config, swap = PianoConfig(), SwapClient(connect, PianoConfig())
    client = ChatClient(connect, config, lambda _: Slow(), swap)
    reply = (await pieces(client))[-1]
    await client.aclose()
    await swap.aclose()

    assert reply.text == "x"
    assert asked == []


WITH_TOOLS = ChatRequest(
    model="a/m:8b", messages=REQUEST.messages, tools=[{"type": "function", "function": {"name": "f"}}]
)


async def test_on_llama_swap_the_models_own_properties_are_asked_for(stub, speak, client_of):
    stub.serves["/props?model=a%2Fm%3A8b"] = None
    stub.serves["/upstream/a/m%3A8b/props"] = {"chat_template_caps": {"supports_tools": True}}
    for _ in range(2):
        stub.answers(*speak("ok"))
    client = client_of()

    for _ in range(2):
        await pieces(client, WITH_TOOLS)

    assert stub.looked.count("/upstream/a/m%3A8b/props") == 1
    assert all("tools" in body for _, _, body in stub.asked)


async def test_properties_that_a_server_cannot_tell_now_are_asked_for_again(stub, speak, client_of):
    client = client_of()
    stub.answers("{}", status=500)
    stub.answers(*speak("ok"))
    await pieces(client, WITH_TOOLS)
    stub.serves["/props?model=a%2Fm%3A8b"] = {"chat_template_caps": {"supports_tools": True}}
    stub.answers(*speak("ok"))

    await pieces(client, WITH_TOOLS)

    assert stub.looked == ["/props?model=a%2Fm%3A8b"]


async def test_no_error_shows_the_key(stub, client_of):
    stub.answers('{"error": {"message": "Invalid key sk-secret"}}', status=401)

    with pytest.raises(ModelError) as caught:
        await pieces(client_of(key="sk-secret", api_key="sk-secret"))
    assert "sk-secret" not in str(caught.value)


def at(url, **settings):
    return PianoConfig(base_url=url, **{"connect_timeout": 2, **settings})


async def test_only_what_speaks_like_a_model_server_counts_as_one(stub):
    stub.answers('{"data": []}', headers={"content-type": "application/json"})
    stub.answers("no key", status=401)
    stub.answers("<html>", headers={"content-type": "text/html"})

    assert await connection_problem(at(stub.url)) is None
    assert await connection_problem(at(stub.url)) is None
    assert await connection_problem(at(stub.url)) == f"the server at {stub.url} is not a model server (is /v1 missing?)"
    stub.answers("[]", headers={"content-type": "text/plain"})
    assert await connection_problem(at(stub.url)) is None
    assert await connection_problem(at("http://127.0.0.1:9/v1")) == "nothing answers at http://127.0.0.1:9/v1"


@pytest.mark.parametrize(("status", "counts"), [(405, True), (401, True), (404, False)])
async def test_a_server_without_a_list_of_models_counts_where_it_has_a_chat(stub, status, counts):
    stub.answers("404 page not found", status=404, headers={"content-type": "text/plain"})
    stub.answers("no", status=status, headers={"content-type": "text/plain"})

    assert (await connection_problem(at(stub.url)) is None) is counts
    assert [path for path, _, _ in stub.asked] == ["/v1/models", "/v1/chat/completions"]


async def test_a_server_whose_response_cannot_be_decompressed_is_not_a_model_server(stub):
    stub.answers("{}", headers={"content-encoding": "gzip"})

    assert await connection_problem(at(stub.url)) == f"nothing answers at {stub.url}"

"""Asker: bounded, each row by itself, checked; what a server does wrong costs a row at most, or stops the batch."""

import asyncio
import json
import os
import socket
from contextlib import aclosing
from dataclasses import dataclass

import httpx
import pytest

from piano_jupyter.batch import Asker, RowTemplate
from piano_jupyter.batch.asker import MAX_FAILURES, MAX_SLOTS
from piano_jupyter.config import PianoConfig
from piano_jupyter.errors import PianoError
from piano_jupyter.runner.model.embedded.local_server import Endpoint
from piano_jupyter.runner.model.whole_replies import MAX_REPLY_BYTES
from piano_jupyter.testing import ScriptedServer, ServerReply, tool_call

URL = "http://model.test/v1"
TEMPLATE = RowTemplate("Rate {{review}}")
ROWS = [{"review": f"number {number}"} for number in range(12)]


@dataclass
class Rating:
    stars: int


RATED = RowTemplate("Rate {{review}}", schema=Rating)


def completion(text, **fields):
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop", **fields}
    return httpx.Response(200, json={"object": "chat.completion", "model": "m", "choices": [choice]})


def row_in(request):
    """Return the row that a request is about."""
    return json.loads(json.loads(request.content)["messages"][-1]["content"].splitlines()[-1])["review"]


def asker(answer, servers=URL, **settings):
    """Return an Asker whose servers answer with what a function returns for a request, or raises."""

    async def handle(request):
        if request.url.path == "/props":
            return httpx.Response(404)
        return answer(request)

    config = PianoConfig(request_retries=1, **settings.pop("config", {}))
    return Asker(servers, "m", config=config, wrap=lambda _: httpx.MockTransport(handle), **settings)


async def all_answers(asking, template=TEMPLATE, rows=ROWS):
    found = {}
    async with asking, aclosing(asking.answers(template, rows)) as answers:
        async for number, answer in answers:
            assert number not in found
            found[number] = answer
    return [found[number] for number in range(len(found))]


async def test_each_row_has_its_answer_over_http(stub_model):
    stub_model.answer = lambda request: f"<think>hm</think>{request['messages'][-1]['content'].splitlines()[-1]}"
    found = await all_answers(Asker(stub_model.url, "m", options={"temperature": 0}))

    assert [answer.text for answer in found] == [json.dumps(row) for row in ROWS]
    assert all(answer.value == answer.text and answer.error is None and answer.tries == 1 for answer in found)
    assert all(
        (request["temperature"], request["stream"], "tools" in request) == (0, False, False)
        for request in stub_model.requests
    )


async def test_usage_is_summed_over_the_tries_of_a_row():
    usage = {"prompt_tokens": 10, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 8}}
    replies = iter(["nonsense", '{"stars": "4"}'])

    def answer(_):
        response = completion(next(replies))
        return httpx.Response(200, json={**response.json(), "usage": usage})

    async with asker(answer, schema=Rating) as asking:
        found = await asking.ask(RATED.messages(ROWS[0]))

    assert found.value == {"stars": 4}
    assert (found.tries, found.error) == (2, None)
    assert found.usage == {"prompt_tokens": 20, "cached_tokens": 16, "completion_tokens": 4}


async def test_an_answer_that_does_not_match_is_asked_again_twice_with_the_problem():
    asked = []

    def answer(request):
        asked.append(json.loads(request.content))
        return completion('{"stars": "many"}')

    async with asker(answer, schema=Rating) as asking:
        found = await asking.ask(RATED.messages(ROWS[0]))

    assert (found.value, found.tries) == (None, 3)
    assert found.error.startswith("the answer did not match the schema 3 times; the last one: 'stars' must be a whole")
    assert asked[0]["response_format"]["json_schema"]["schema"]["title"] == "Rating"
    assert [len(each["messages"]) for each in asked] == [1, 3, 5]
    assert "'stars' must be a whole number" in asked[1]["messages"][-1]["content"]


async def test_the_schema_of_a_template_counts_also_if_the_asker_has_none():
    asked = []

    def answer(request):
        asked.append(json.loads(request.content))
        return completion('{"stars": "4"}')

    (found,) = await all_answers(asker(answer), RATED, ROWS[:1])

    assert found.value == {"stars": 4}
    assert "response_format" in asked[0]


async def test_no_more_than_max_in_flight_are_asked_at_once_and_all_of_them_are():
    inside, most, together = 0, 0, asyncio.Event()

    async def handle(_):
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        if inside == 5:
            together.set()
        await together.wait()
        await asyncio.sleep(0)
        inside -= 1
        return completion("fine")

    asking = Asker(URL, "m", max_in_flight=5, wrap=lambda _: httpx.MockTransport(handle))
    found = await all_answers(asking)

    assert (len(found), most) == (12, 5)


@pytest.mark.parametrize(
    ("props", "expected"),
    [
        ({"total_slots": 3}, 3),
        ({}, 4),
        (None, 4),
        *(({"total_slots": odd}, 4) for odd in (0, -1, True, "9", 1.5, None)),
    ],
)
async def test_by_default_as_many_as_the_server_has_slots(props, expected):
    async def handle(request):
        assert (request.url.path, request.url.params["model"]) == ("/props", "m")
        return httpx.Response(200, json=props) if props is not None else httpx.Response(404, text="no such path")

    async with Asker(URL, "m", wrap=lambda _: httpx.MockTransport(handle)) as asking:
        assert await asking.capacity() == expected


async def test_rows_are_read_as_they_are_needed():
    read = []

    def rows():
        for number in range(1000):
            read.append(number)
            yield {"review": "x"}

    async with asker(lambda _: completion("fine"), max_in_flight=2) as asking:
        answers = asking.answers(TEMPLATE, rows())
        await anext(answers)
        assert len(read) < 20
        await answers.aclose()


async def test_closing_the_answers_ends_the_requests_in_flight():
    cancelled = []

    async def handle(request):
        if row_in(request) == "number 0":
            return completion("fine")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(row_in(request))
            raise

    async with Asker(URL, "m", max_in_flight=3, wrap=lambda _: httpx.MockTransport(handle)) as asking:
        answers = asking.answers(TEMPLATE, ROWS)
        assert (await anext(answers))[0] == 0
        await asyncio.sleep(0)
        await answers.aclose()

    assert set(cancelled) >= {"number 1", "number 2"}


async def test_a_worker_can_be_driven_by_another_runner():
    async with asker(lambda request: completion(row_in(request))) as asking, asking.worker() as worker:
        assert (await worker.ask_row(TEMPLATE, {"review": "a"})).text == "a"
        assert (await worker.ask([{"role": "user", "content": '{"review": "b"}'}])).text == "b"


async def test_a_server_may_be_found_when_it_is_needed(stub_model):
    async def connect():
        return Endpoint(url=stub_model.url, api_key="secret", model="tiny")

    stub_model.says("fine")
    async with Asker(connect, "m", max_in_flight=1) as asking:
        assert (await asking.ask([{"role": "user", "content": "Well?"}])).text == "fine"


async def test_a_row_that_fails_does_not_touch_the_others():
    def answer(request):
        if row_in(request) == "number 3":
            return httpx.Response(400, json={"error": {"message": "I do not like this one"}})
        return completion("fine")

    found = await all_answers(asker(answer))

    assert [answer.error is None for answer in found].count(False) == 1
    assert found[3].error == "the server answered 400: I do not like this one"


async def test_a_row_is_asked_again_by_itself_after_a_broken_connection():
    failed = set()

    def answer(request):
        row = row_in(request)
        if row in {"number 1", "number 2"} and row not in failed:
            failed.add(row)
            raise httpx.ReadError("reset", request=request)
        return completion("fine")

    found = await all_answers(asker(answer))

    assert [answer.tries for answer in found] == [1, 2, 2] + [1] * 9
    assert {answer.error for answer in found} == {None}


async def test_what_a_server_does_not_take_in_a_request_is_adapted_for_a_row_as_for_a_chat():
    said = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    asked = []

    def answer(request):
        asked.append(json.loads(request.content))
        return completion("yes") if "max_completion_tokens" in asked[-1] else httpx.Response(400, json={"error": said})

    found = await all_answers(asker(answer, options={"max_tokens": 9}, max_in_flight=1), rows=ROWS[:2])

    assert [(each.text, each.error) for each in found] == [("yes", None)] * 2
    assert ["max_tokens" in each for each in asked] == [True, False, False]


async def test_after_twenty_failures_in_a_row_it_stops_with_a_sentence():
    asked = []

    def answer(request):
        asked.append(row_in(request))
        return httpx.Response(401, json={"error": {"message": "no"}})

    async with asker(answer) as asking:
        with pytest.raises(PianoError, match=r"stopped, as 20 rows in a row failed; the last one: the server rejected"):
            async for _ in asking.answers(TEMPLATE, ({"review": str(number)} for number in range(1000))):
                pass
        with pytest.raises(PianoError, match="stopped"):
            await asking.ask(TEMPLATE.messages(ROWS[0]))

    assert MAX_FAILURES <= len(asked) < MAX_FAILURES + 4


async def test_failures_between_answers_do_not_stop_it():
    rows = [{"review": str(number)} for number in range(200)]

    def answer(request):
        return completion("fine") if int(row_in(request)) % 10 == 0 else httpx.Response(400, text="no")

    found = await all_answers(asker(answer, max_in_flight=1), rows=rows)

    assert sum(answer.error is None for answer in found) == 20


async def test_a_row_goes_to_the_server_with_room(stub_model):
    with ScriptedServer(answer=lambda _: ServerReply("late", held=True)) as slow:
        slow_ones = []
        asking = Asker([slow.url, stub_model.url], "m", max_in_flight=4)
        async with asking, aclosing(asking.answers(TEMPLATE, ROWS)) as answers:
            async for _, answer in answers:
                slow_ones += [answer] if answer.text == "late" else []
                if len(stub_model.requests) == 10:
                    slow.release.set()

    assert (len(slow.requests), len(stub_model.requests), len(slow_ones)) == (2, 10, 2)


async def test_a_server_that_is_down_costs_no_row(stub_model, closed_port):
    config = PianoConfig(request_retries=0)
    found = await all_answers(Asker([closed_port, stub_model.url], "m", max_in_flight=4, config=config))

    assert [answer.error for answer in found] == [None] * 12
    assert sum(answer.tries - 1 for answer in found) <= 2  # then it is left alone for a while


async def test_no_server_is_a_sentence(closed_port):
    async with Asker(closed_port, "m", config=PianoConfig(request_retries=0), max_in_flight=1) as asking:
        found = await asking.ask(TEMPLATE.messages(ROWS[0]))

    assert found.error.startswith(f"the server at {closed_port} does not answer")
    with pytest.raises(PianoError, match="no server to ask"):
        Asker([], "m")
    with pytest.raises(PianoError, match="max_in_flight must be a whole number of at least 1, not 0"):
        Asker(URL, "m", max_in_flight=0)


async def test_an_empty_answer_is_asked_again_once_and_then_is_a_failure():
    async with asker(lambda _: completion(" ")) as asking:
        found = await asking.ask(TEMPLATE.messages(ROWS[0]))

    assert (found.error, found.tries) == ("the model gave an empty answer", 2)


async def test_an_answer_that_was_cut_off_says_so():
    async with asker(lambda _: completion("This is", finish_reason="length")) as asking:
        found = await asking.ask(TEMPLATE.messages(ROWS[0]))

    assert (found.text, found.usage, found.error) == ("This is", {"cut": True}, None)


async def test_r4_a_row_that_cannot_be_asked_is_not_sent_and_does_not_stop_the_batch():
    rows = [{"review": "x" * 60_000}] * 50 + [{"review": "fine"}]
    found = await all_answers(asker(lambda request: completion(row_in(request))), rows=rows)

    assert found[-1].text == "fine"
    assert {(answer.error[:35], answer.tries) for answer in found[:-1]} == {("{{review}}: it is 60,000 characters", 0)}


@pytest.mark.parametrize("status", [429, 503, 529])
async def test_r15_a_busy_server_is_left_alone_for_as_long_as_it_asks_and_no_row_is_lost(status):
    refused = []

    def answer(request):
        if len(refused) < 15:
            refused.append(row_in(request))
            return httpx.Response(status, headers={"retry-after": "0.01"}, json={"error": {"message": "busy"}})
        return completion("fine")

    found = await all_answers(asker(answer, max_in_flight=6))

    assert {answer.error for answer in found} == {None}
    assert sum(answer.tries for answer in found) == 12 + 15


async def test_r16_a_server_with_a_billion_slots_is_not_asked_a_billion_times():
    async def handle(_):
        return httpx.Response(200, json={"total_slots": 10**9})

    async with Asker(URL, "m", wrap=lambda _: httpx.MockTransport(handle)) as asking:
        assert await asking.capacity() == MAX_SLOTS


class Endless(httpx.AsyncByteStream):
    sent = 0

    async def __aiter__(self):
        while True:
            self.sent += 1 << 20
            yield b" " * (1 << 20)


async def test_r12_an_endless_answer_is_cut_off():
    stream = Endless()
    async with asker(lambda _: httpx.Response(200, stream=stream)) as asking:
        found = await asking.ask(TEMPLATE.messages(ROWS[0]))

    assert found.error == "the server's answer is larger than 8 MiB, and the rest was not read; see the server's log"
    assert stream.sent <= MAX_REPLY_BYTES + (1 << 20)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"null",
        b"[]",
        b"{}",
        b'{"choices": 5}',
        b'{"choices": [{}]}',
        b'{"error": "out of memory"}',
        b"\xff",
    ],
)
async def test_r12_what_is_no_answer_is_a_failure_of_the_row(body):
    async with asker(lambda _: httpx.Response(200, content=body)) as asking:
        found = await asking.ask(TEMPLATE.messages(ROWS[0]))

    assert found.error
    assert len(found.error) < 500


async def test_r12_a_row_that_is_too_long_for_the_model_is_named_as_a_row():
    body = {"error": {"type": "exceed_context_size_error", "message": "too long", "n_ctx": 4096}}
    async with asker(lambda _: httpx.Response(400, json=body)) as asking:
        found = await asking.ask(TEMPLATE.messages(ROWS[0]))

    assert found.error == (
        "the row does not fit in the model's context of 4,096 tokens; shorten the column, "
        "or have the server give its model a larger context"
    )


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"stars": NaN}',
        '{"stars": 1e999}',
        '{"stars": ' + "9" * 5_000 + "}",
        '{"stars": 1, "more": 2}',
        '{"stars": 1} {"stars": 2}',
        '{"stars": true}',
    ],
)
async def test_r14_answers_that_are_hard_to_read_are_failures_of_the_row(text):
    async with asker(lambda _: completion(text), schema=Rating) as asking:
        found = await asking.ask(RATED.messages(ROWS[0]))

    assert found.value is None
    assert found.error.startswith("the answer did not match the schema 3 times")


async def test_r14_half_a_surrogate_pair_in_an_answer_is_replaced():
    async with asker(lambda _: completion('{"why": "a\\ud800b"}'), schema={"type": "object"}) as asking:
        found = await asking.ask(RATED.messages(ROWS[0]))

    assert found.value == {"why": "a?b"}


async def test_r17_a_call_in_an_answer_is_never_run_and_reasoning_is_no_answer(stub_model):
    stub_model.says(
        [tool_call("bash", command="rm -rf /")],
        ServerReply("It is good.", reasoning="Let me see."),
        "<think>It may be bad.</think>It is good.",
    )
    async with Asker(stub_model.url, "m", config=PianoConfig(request_retries=0)) as asking:
        called, apart, in_tags = [await asking.ask(TEMPLATE.messages(ROWS[0])) for _ in range(3)]

    assert called.error == "the model gave an empty answer"
    assert apart.text == in_tags.text == "It is good."


async def test_r18_a_server_that_says_nothing_is_a_failure_of_the_row():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        config = PianoConfig(first_byte_timeout=0.2, request_retries=0)
        async with Asker(url, "m", config=config, max_in_flight=1) as asking:
            found = await asking.ask(TEMPLATE.messages(ROWS[0]))

    assert found.error.startswith("the server did not start to answer within 0.2 s")


async def test_r19_secrets_in_a_row_do_not_leave_and_those_in_an_answer_do_not_stay(monkeypatch):
    monkeypatch.setenv("SHOP_API_KEY", "abracadabra-4711")
    sent = []

    def answer(request):
        sent.append(request.content.decode())
        return completion("The key is abracadabra-4711 and ghp_" + "a1B2" * 9)

    async with asker(answer) as asking:
        found = await asking.ask(TEMPLATE.messages({"review": "use ghp_" + "a1B2" * 9 + " or abracadabra-4711"}))

    assert "abracadabra-4711" not in sent[0] + found.text
    assert "ghp_a1B2" not in sent[0] + found.text
    assert os.environ["SHOP_API_KEY"] == "abracadabra-4711"

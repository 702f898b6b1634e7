"""What stops a runaway turn, that its thread is valid afterwards, and what a turn logs."""

import logging

import pytest

from piano_jupyter import Piano
from piano_jupyter.errors import ModelError, TurnLimitError
from piano_jupyter.events import MessageDelta
from piano_jupyter.records import CallStatus, JobStatus
from piano_jupyter.runner.model.protocol import Delta, Reply, RequestedCall, StreamRestarted
from piano_jupyter.runner.model.stream.lenient_json import CUT_OFF
from piano_jupyter.runner.turn.limits import TurnLimits
from piano_jupyter.tool import tool


@tool
def look(where: str, times: int = 1) -> str:
    """Look somewhere."""
    return f"a lake at {where}, {times} times"


@pytest.fixture
async def chat(tmp_path, scripted):
    opened = []

    async def make(*script, tools=("look",), **settings):
        model = scripted(*script)
        piano = Piano(database=":memory:", workspace=tmp_path, model=model, tools=[look], **settings)
        opened.append(await piano.__aenter__())
        await piano.update_agent("Assistant", enabled_tools=list(tools))
        return piano, model

    yield make
    for piano in opened:
        await piano.close()


def asks(name="look", arguments=None, **more):
    return RequestedCall(name=name, arguments={} if arguments is None else arguments, **more)


WRONG = {
    "an argument missing": (asks(), "look did not run: 'where' is missing; it must be a string"),
    "an argument of another kind": (
        asks(arguments={"where": "here", "times": "many"}),
        "look did not run: 'times' must be a whole number, not \"many\"",
    ),
    "an argument too many": (
        asks(arguments={"where": "here", "why": "so"}),
        "look did not run: it takes no 'why', only where, times",
    ),
    "a tool that is not there": (asks("peek"), "no tool named 'peek'; known: look"),
    "a tool that is not enabled": (asks("bash", {"command": "ls"}), "no tool named 'bash'; known: look"),
    "another case": (asks("Look", {"where": "here"}), "no tool named 'Look'; known: look"),
    "a blank behind the name": (asks("look ", {"where": "here"}), "no tool named 'look '; known: look"),
    "a call that was cut": (asks(problem=CUT_OFF), CUT_OFF),
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_h11_an_invalid_call_is_not_run_and_returns_one_sentence(chat, wrong):
    call, sentence = WRONG[wrong]
    piano, model = await chat([call], "Well.")

    await piano.ask("go")

    [kept] = await piano.tool_calls(piano.thread)
    assert (kept.status, kept.result) == (CallStatus.FAILED, sentence)
    assert model.requests[1].messages[-1]["content"] == sentence


async def test_each_model_request_and_each_tool_call_of_a_turn_is_a_line_in_the_log(chat, caplog):
    piano, _ = await chat([asks(arguments={"where": "here"})], "Well.")

    with caplog.at_level(logging.DEBUG, "piano_jupyter.runner.turn"):
        await piano.ask("go")

    [job] = await piano.jobs()
    [call] = await piano.tool_calls(piano.thread)
    assert [record.message for record in caplog.records] == [
        f"job={job.id} agent=Assistant model={job.model} round=1 asks the model",
        f"job={job.id} agent=Assistant tool=look call={call.id} ok",
        f"job={job.id} agent=Assistant model={job.model} round=2 asks the model",
    ]


async def test_three_wrong_calls_in_a_row_end_the_turn_with_the_last_ones_sentence(chat):
    piano, model = await chat([asks("peek"), asks()], [asks(problem=CUT_OFF), asks()], "never asked for")

    with pytest.raises(TurnLimitError, match=r"stopped after 3 tool calls in a row that could not be run.*cut off"):
        await piano.ask("go")

    assert len(model.requests) == 2
    calls = await piano.tool_calls(piano.thread)
    assert [call.status for call in calls] == [CallStatus.FAILED] * 3


async def test_a_call_that_runs_resets_the_count_of_failed_calls(chat):
    wrong, right = [asks("peek")], [asks(arguments={"where": "here"})]
    piano, _ = await chat(wrong, wrong, right, wrong, wrong, "Well.")

    assert (await piano.ask("go")).content == "Well."


async def test_h18_the_same_call_five_times_in_a_row_is_stopped_and_the_thread_goes_on(chat):
    same = [asks(arguments={"where": "here"})]
    piano, model = await chat(*[same] * 5, "And now?", max_iterations=9)

    with pytest.raises(TurnLimitError, match="called look with the same arguments 5 times in a row"):
        await piano.ask("go")
    answer = await piano.ask("go on")

    calls = await piano.tool_calls(piano.thread)
    assert [call.status for call in calls] == [CallStatus.OK] * 4 + [CallStatus.FAILED]
    assert calls[-1].result == "not run: the same call for the 5th time in a row"
    assert answer.content == "And now?"
    told = model.requests[-1].messages
    results = [message["tool_call_id"] for message in told if message["role"] == "tool"]
    assert results == [call["id"] for message in told for call in message.get("tool_calls", ())]


async def test_the_same_tool_with_other_arguments_is_not_stopped(chat):
    rounds = [[asks(arguments={"where": "here", "times": number})] for number in range(6)]
    piano, _ = await chat(*rounds, "Well.")

    assert (await piano.ask("go")).content == "Well."


async def test_a_turn_that_has_used_its_tokens_runs_no_more_tools(chat):
    def spends(_):
        return [asks(arguments={"where": "here"})]

    piano, model = await chat(spends, "never asked for", max_turn_tokens=100)
    model.usage = {"prompt_tokens": 90, "completion_tokens": 20}

    with pytest.raises(TurnLimitError, match=r"stopped after 110 tokens.*max_turn_tokens"):
        await piano.ask("go")
    assert await piano.tool_calls(piano.thread) == []


async def test_an_answer_that_is_there_is_given_though_it_used_all_tokens(chat):
    piano, model = await chat("Well.", max_turn_tokens=1)
    model.usage = {"prompt_tokens": 90, "completion_tokens": 20}

    assert (await piano.ask("go")).content == "Well."


async def test_a_turn_that_has_taken_its_time_is_stopped_while_it_writes(chat):
    piano, _ = await chat(lambda _: "a " * 100_000, max_turn_s=0.1)

    with pytest.raises(TurnLimitError, match=r"stopped after 0\.1 s.*max_turn_s"):
        await piano.ask("go")
    assert [job.status for job in await piano.jobs()] == [JobStatus.FAILED]


def test_the_limit_of_seconds_is_kept_by_the_clock():
    time = [0.0]
    limits = TurnLimits(max_tokens=0, max_seconds=10, now=lambda: time[0])

    limits.check()
    time[0] = 10.5

    with pytest.raises(TurnLimitError, match="stopped after 10 s"):
        limits.check()


async def test_the_answers_usage_has_the_total_of_its_turn(chat):
    piano, model = await chat([asks(arguments={"where": "here"})], "Well.")
    model.usage = {"prompt_tokens": 90, "completion_tokens": 20, "cached_tokens": 50}

    answer = await piano.ask("go")

    assert answer.usage["prompt_tokens"] == 90
    assert answer.usage["turn"] == {"rounds": 2, "prompt_tokens": 180, "cached_tokens": 100, "completion_tokens": 40}


async def test_h8_a_repaired_call_says_so_in_its_result(chat):
    piano, _ = await chat([asks(arguments={"where": "here"}, repaired=True)], "Well.")

    await piano.ask("go")

    [call] = await piano.tool_calls(piano.thread)
    assert call.result == (
        "a lake at here, 1 times\n(its arguments were not valid JSON and were repaired; send valid JSON)"
    )


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (Reply(), "the model gave an empty answer; retry"),
        (Reply(text=" \n"), "the model gave an empty answer; retry"),
        (Reply(reasoning="hm"), "the model reasoned but gave no answer; retry"),
        (Reply(reasoning="hm", finish_reason="length"), "while the model was reasoning; raise the agent's max_tokens"),
        (
            Reply(reasoning="hm", finish_reason="loop"),
            "the model repeated itself without end and gave no answer; retry",
        ),
        (Reply(finish_reason="length"), "before its first word; raise the agent's max_tokens"),
        (Reply(finish_reason="content_filter"), "the server withheld the answer"),
    ],
)
async def test_h17_an_answer_that_says_nothing_is_an_error_that_says_why(chat, reply, says):
    piano, _ = await chat(lambda _: reply)

    with pytest.raises(ModelError, match=says):
        await piano.ask("go")


async def test_an_answer_that_restarts_is_another_message_and_only_the_last_is_kept(chat):
    piano, _ = await chat(lambda _: [Delta(text="Lond "), StreamRestarted(), Delta(text="Paris"), Reply(text="Paris")])
    events = piano.events()

    answer = await piano.ask("capital?")
    await events.aclose()
    deltas = [event async for event in events if isinstance(event, MessageDelta)]

    assert [delta.text for delta in deltas] == ["Lond ", "Paris"]
    assert deltas[0].message_id != deltas[1].message_id == answer.id
    assert [message.content for message in await piano.messages(piano.thread)] == ["capital?", "Paris"]

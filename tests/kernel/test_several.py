"""A cell that asks several agents, and one whose answer asks others, in a real kernel."""

import re

import pytest
from waiting import until

from piano_jupyter.testing import ServerReply, tool_call


@pytest.fixture
def agents(kernel):
    """A kernel with ada and bob, on a model each, so that they answer side by side."""
    kernel.run("%piano agent ada --model slow")
    kernel.run("%piano agent bob --model fast")
    return kernel


def by_model(**says):
    return lambda asked: says[asked["model"]]


def test_several_agents_answer_in_one_live_output_and_stand_in_the_order_asked(agents, stub_model):
    stub_model.answer = by_model(slow=ServerReply("**one** more", held=True), fast="two")

    started = agents.start("%%piano @ada @bob\nsay something")
    seen = []
    until(
        lambda: (
            (message := agents.client.get_iopub_msg(timeout=30))["msg_type"] == "update_display_data"
            and seen.append(message["content"]["data"]) is None
            and "two" in str(seen[-1])
            and "one" in str(seen[-1])
        ),
        "both were not shown side by side",
    )
    stub_model.release.set()
    cell = agents.finish(started)

    ada, bob = "<div><strong>ada</strong></div><p><strong>one</strong></p>", "<div><strong>bob</strong></div><p>two</p>"
    assert re.sub(r"\n|<style>.*</style>", "", seen[-1]["text/html"]).count(ada + bob) == 1
    assert [bundle["text/plain"] for bundle in cell.shown] == ["ada:\n**one** more", "bob:\ntwo"]
    assert "<strong>one</strong> more" in cell.shown[0]["text/html"]
    assert cell.outputs[-3:] == [*(("display_data", bundle) for bundle in cell.shown), ("update_display_data", {})]


def test_several_answers_are_a_sequence_that_shows_itself_later(agents, stub_model):
    stub_model.answer = by_model(slow="one", fast="two")

    agents.run("%%piano\n@ada, @bob: say something")

    assert agents.run("print([each.content for each in _])").stream == "['one', 'two']\n"
    agents.run("answers = %piano ask @bob @ada again")
    assert [bundle["text/plain"] for bundle in agents.run("answers").shown] == ["bob:\ntwo", "ada:\none"]
    assert agents.run("print(answers)").stream == "bob:\ntwo\n\nada:\none\n"
    assert stub_model.requests[-1]["messages"][-1]["content"].endswith("again")


def test_an_answer_that_asks_another_agent_is_followed_by_its_answer(agents, stub_model):
    stub_model.answer = by_model(slow="I think so. @bob, do you?", fast="I do.")

    cell = agents.run("answer = %piano ask @ada is it so?\nprint(answer.content)")

    assert [bundle["text/plain"] for bundle in cell.shown] == ["ada:\nI think so. @bob, do you?", "bob:\nI do."]
    assert cell.stream == "I think so. @bob, do you?\n"


def test_agents_that_ask_each_other_end_with_a_note(agents, stub_model):
    stub_model.answer = by_model(slow="@bob your turn", fast="@ada your turn")

    cell = agents.run("%%piano @ada\ngo")

    said = [bundle["text/plain"].splitlines()[0] for bundle in cell.shown]
    assert said[:5] == ["ada:", "bob:", "ada:", "bob:", "ada:"]
    assert len(said) == 6
    assert "bob" in said[5]
    assert ">Note: " in cell.shown[5]["text/html"]
    assert "Note: " in agents.run("%piano history").text


def test_an_interrupt_cancels_every_job_that_is_followed(agents, stub_model):
    stub_model.answer = by_model(slow=ServerReply("one two", held=True), fast=ServerReply("three four", held=True))

    started = agents.start("%%piano @ada @bob\ngo")
    until(lambda: len(stub_model.requests) == 2, "both were not asked")
    agents.manager.interrupt_kernel()
    cell = agents.finish(started)

    assert cell.stream == "AnswerFailedError: interrupted; the job was cancelled; its unfinished answer is not kept\n"
    assert agents.run("%piano queue --all").text.count("cancelled") == 2


def test_an_interrupt_cancels_the_job_that_an_answer_asked_for(agents, stub_model):
    stub_model.answer = by_model(slow="@bob you tell it", fast=ServerReply("three four", held=True))

    started = agents.start("%%piano @ada\ngo")
    until(lambda: len(stub_model.requests) == 2, "bob was not asked")
    agents.manager.interrupt_kernel()
    cell = agents.finish(started)

    assert cell.status == "error"
    assert [line.split()[1] for line in agents.run("%piano queue --all").text.splitlines()[1:]] == ["done", "cancelled"]


def test_where_one_fails_the_other_is_shown_and_the_sentence_names_it(agents, stub_model):
    stub_model.answer = by_model(slow=ServerReply("the template is broken", status=500), fast="two")

    cell = agents.run("%%piano @ada @bob\ngo")

    assert cell.text == "bob:\ntwo"
    assert cell.stream == "AnswerFailedError: ada has no answer: the server answered 500: the template is broken\n"


def test_wait_shows_a_job_that_is_over_with_its_calls_and_what_it_asked_for(agents, stub_model):
    agents.run("from piano_jupyter import tool")
    agents.run("@tool\ndef price(item: str) -> int:\n    'Return a price.'\n    return 3")
    agents.run("%piano agent ada --tools price")
    stub_model.says(tool_call("price", item="tea"), "It is 3. @bob?")
    stub_model.answer = by_model(fast="Yes.")

    job = agents.run("%piano send @ada tea?").text.split()[1]
    agents.run("await piano.drain()")
    cell = agents.run(f"%piano wait {job}")

    assert [bundle["text/plain"] for bundle in cell.shown] == [
        "ada:\n[price(item='tea') → ok: 3]\nIt is 3. @bob?",
        "bob:\nYes.",
    ]


def test_wait_shows_the_calls_that_were_made_before_it(agents, stub_model):
    agents.run("from piano_jupyter import tool")
    agents.run("@tool\ndef price(item: str) -> int:\n    'Return a price.'\n    return 3")
    agents.run("%piano agent ada --tools price")
    stub_model.says(tool_call("price", item="tea"), ServerReply("It is 3.", held=True))

    agents.run("%piano send @ada tea?")
    until(lambda: len(stub_model.requests) == 2, "the result of the call was not sent")
    started = agents.start("%piano wait")
    until(lambda: agents.client.get_iopub_msg(timeout=30)["msg_type"] == "display_data", "the cell did not begin")
    stub_model.release.set()

    assert agents.finish(started).text == "[price(item='tea') → ok: 3]\nIt is 3."


def test_a_replay_of_several_agents_is_exact(agents, kernel_of, stub_model):
    stub_model.answer = by_model(slow="one", fast="two")
    cells = [
        "%piano agent ada --model slow",
        "%piano agent bob --model fast",
        "%%piano @ada @bob\ngo",
        "%piano regenerate",
        "%piano history --ids",
    ]

    agents.run("%piano record talk.jsonl")
    recorded = [agents.run(cell).shown for cell in cells]
    other = kernel_of(PIANO_BASE_URL="http://127.0.0.1:9/v1", PIANO_REPLAY="strict").load()
    other.run("%piano replay talk.jsonl")
    replayed = [other.run(cell).shown for cell in cells]

    assert replayed == recorded
    assert "⇄" in recorded[-1][0]["text/plain"]

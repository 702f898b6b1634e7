"""Questions about each row of a table in a real kernel: %%piano --map, piano.map, and the sub-commands for batches."""

import json

import pytest
from waiting import until

from piano_jupyter.testing import ServerReply

SET_UP = """from dataclasses import dataclass
from typing import Literal
import pandas as pd
@dataclass
class Rating:
    stars: Literal[1, 2, 3, 4, 5]
reviews = pd.DataFrame({"shop": ["a", "b", "a"], "review": ["Lovely", "Broken", "All right"]})
secret, number = "my own variable", 7
"""
QUESTION = "How many stars?\n{{review}}"
STARS = {"Lovely": 5, "Broken": 1, "All right": 3}


def stars(asked):
    """Answer with the stars of the review that a request has in it; ten for any other one, which there are not."""
    said = asked["messages"][-1]["content"] if len(asked["messages"]) < 4 else "corrected"
    return json.dumps({"stars": next((stars for review, stars in STARS.items() if review in said), 10)})


@pytest.fixture(scope="module")
def _prepared(seen_kernel):
    seen_kernel.run(SET_UP)
    return seen_kernel


@pytest.fixture
def tables(_prepared, stub_model):
    """One kernel for all tests of this module, without the batches of the tests before."""
    _prepared.run("for each in await piano.batches():\n    await piano.delete_batch(each.name)")
    stub_model.answer = stars
    return _prepared


def bars(cell):
    """The bars that a cell has shown while it ran."""
    return [update["text/html"] for update in cell.updates if "text/html" in update]


def test_a_cell_asks_about_each_row_and_returns_the_table_with_the_answers(tables, stub_model):
    cell = tables.run(f"%%piano --map reviews --json Rating --into rated\n{QUESTION}")

    assert cell.status == "ok", cell.stream
    assert cell.shown[0]["text/plain"] == "3 rows, 3 answered"
    assert "<th>stars</th>" in cell.shown[1]["text/html"], "the table shows itself"
    assert "3 rows, about " in bars(cell)[0]
    assert 'value="1.0000"' in bars(cell)[-1]
    assert cell.updates[-1] == {}, "nothing of it stays"
    assert tables.run("print(rated is _, *rated.stars, *rated.shop)").stream == "True 5 1 3 a b a\n"
    assert len(stub_model.requests) == 3
    assert all("tools" not in each for each in stub_model.requests)


def test_what_was_answered_is_not_asked_again_and_new_rows_are(tables, stub_model):
    tried = tables.run(f"%%piano --map reviews --json Rating --limit 2\n{QUESTION}")
    first = tables.run(f"%%piano --map reviews --json Rating\n{QUESTION}")
    again = tables.run(f"again = await piano.map(reviews, {QUESTION!r}, schema=Rating)\nprint(*again.stars)")

    assert [each.shown[0]["text/plain"] for each in (tried, first, again)] == [
        "2 rows, 2 answered",
        "3 rows, 2 known, 1 answered",
        "3 rows, 3 known; nothing was asked",
    ]
    assert again.stream == "5 1 3\n"
    assert len(stub_model.requests) == 3


def test_a_row_that_fails_is_told_and_asked_again_after_retry(tables, stub_model):
    tables.run("odd = pd.DataFrame({'review': ['Lovely', 'Ten out of ten']})")
    cell = tables.run(f"%%piano --map odd --json Rating --name odd-stars\n{QUESTION}")

    assert cell.shown[0]["text/plain"] == (
        "2 rows, 1 answered, 1 failed; after %piano batch odd-stars --retry, the next run asks those again"
    )
    assert "10" in tables.run("print(_.error[1])").stream
    asked = len(stub_model.requests)
    card = tables.run("%piano batch odd-stars").text
    assert "1 done, 1 failed" in card
    assert "1 × " in card

    same = tables.run(f"%%piano --map odd --json Rating --name odd-stars\n{QUESTION}")
    assert "2 known; nothing was asked; after" in same.text
    assert tables.run("%piano batch odd-stars --retry").text.startswith("1 row that failed will be asked again")
    stub_model.answer = lambda _: '{"stars": 5}'
    retried = tables.run(f"%%piano --map odd --json Rating --name odd-stars\n{QUESTION}")

    assert retried.shown[0]["text/plain"] == "2 rows, 1 known, 1 answered"
    assert len(stub_model.requests) == asked + 1


def test_the_agent_and_the_model_are_those_that_are_named(tables, stub_model):
    tables.run('%piano agent ada --system "You are Ada." --model large --tools read_file')

    tables.run("%%piano @ada --map reviews --limit 1\nIs it good? {{review}}")
    tables.run("%%piano --map reviews --limit 1 --model other\n@ada Is it good? {{review}}")

    assert [each["model"] for each in stub_model.requests] == ["large", "other"]
    assert all(each["messages"][0]["content"].startswith("You are Ada.") for each in stub_model.requests)
    assert all("tools" not in each for each in stub_model.requests)


def test_an_interrupt_keeps_what_was_answered_and_says_how_to_go_on(tables, stub_model):
    tables.run("many = pd.DataFrame({'review': [f'review {n}' for n in range(8)]})")
    held = {f"review {number}" for number in range(4, 8)}

    def answer(asked):
        said = asked["messages"][-1]["content"]
        return ServerReply('{"stars": 4}', held=any(each in said for each in held))

    stub_model.answer = answer
    started = tables.start(f"%%piano --map many --json Rating --into never\n{QUESTION}")
    until(lambda: len(stub_model.requests) == 8)  # each of the four workers has its second row
    tables.manager.interrupt_kernel()
    cell = tables.finish(started)

    assert cell.stream == (
        "AnswerFailedError: interrupted; the answers to 4 of 8 rows are kept: run this again to go on\n"
    )
    assert "interrupted" in tables.run("%piano batches").text
    assert tables.run("'never' in globals()").text == "False"
    held.clear()
    assert tables.run(f"%%piano --map many --json Rating\n{QUESTION}").text.startswith("8 rows, 4 known, 4 answered")
    assert len(stub_model.requests) == 12


def test_an_interrupt_of_an_awaited_map_keeps_what_was_answered_too(tables, stub_model):
    tables.run("few = [{'review': f'note {n}'} for n in range(6)]")
    late = {"note 4", "note 5"}
    stub_model.answer = lambda asked: ServerReply(
        "yes", held=any(each in asked["messages"][-1]["content"] for each in late)
    )
    started = tables.start("await piano.map(few, 'Is it kind? {{review}}', name='kind')")
    until(lambda: len(stub_model.requests) == 6)
    tables.manager.interrupt_kernel()
    cell = tables.finish(started)

    assert cell.status == "error"
    assert cell.shown[0]["text/plain"].startswith("interrupted; the answers to ")
    assert cell.shown[0]["text/plain"].endswith(" of 6 rows are kept: run this again to go on")
    assert "interrupted" in tables.run("%piano batches").text


def test_r44_an_interrupt_of_an_awaited_map_takes_effect_while_its_table_is_read(tables, tmp_path):
    tables.run(
        f"""import pathlib, threading
def endless():
    while not threading.Event().wait(0.01):
        pathlib.Path({str(tmp_path / "begun")!r}).touch()
        yield {{"n": 1}}"""
    )
    started = tables.start("await piano.map(endless(), 'Say {{n}}')")
    until((tmp_path / "begun").exists)
    tables.manager.interrupt_kernel()
    cell = tables.finish(started)

    assert cell.shown[0]["text/plain"] == "interrupted; nothing was asked"


def test_r42_dicts_come_back_as_dicts_and_are_shown_as_a_table_of_a_bounded_size(tables, stub_model):
    stub_model.answer = lambda _: "<b>fine</b>"
    tables.run("rows = [{'n': n, 'empty': n} for n in range(300)]")

    cell = tables.run("%%piano --map rows --name dicts\nIs {{n}} even?")

    html = cell.shown[1]["text/html"]
    assert html.count("<tr>") == 201
    assert "&lt;b&gt;fine&lt;/b&gt;" in html
    assert len(cell.shown) == 2, "the list does not show itself once more"
    assert tables.run("print(len(_), _[299]['answer'], rows[0])").stream == "300 <b>fine</b> {'n': 0, 'empty': 0}\n"


def test_a_batch_that_runs_is_named_by_status_and_can_be_cancelled(tables, stub_model):
    stub_model.answer = lambda asked: ServerReply("four", held="Lovely" not in asked["messages"][-1]["content"])
    tables.run(f"import asyncio\nrunning = asyncio.create_task(piano.map(reviews, {QUESTION!r}, name='stars'))")
    until(lambda: "1 of 3 rows" in tables.run("%piano status").text)

    listed, status = tables.run("%piano batches").text, tables.run("%piano status").text
    refused = tables.run("%piano batch stars --delete --yes").stream
    cancelled = tables.run("%piano batch stars --cancel").text
    ended = tables.run("try:\n    await running\nexcept Exception as error:\n    print(error)").stream

    assert listed.splitlines()[1].startswith("stars  running  3")
    assert "batches  stars: 1 of 3 rows" in status
    assert "the batch 'stars' runs" in refused
    assert cancelled == "batch stars is cancelled: 1 of 3 rows answered"
    assert ended == "the batch 'stars' was cancelled; run it again to go on with it\n"
    assert "stars:" not in tables.run("%piano status").text
    assert "the batch 'stars' does not run: it is cancelled" in tables.run("%piano batch stars --cancel").stream


def test_verbs_take_a_name_as_a_keyword_in_a_cell(tables):
    named = tables.run("print((await piano.agent(name='assistant')).name, await piano.batches())")

    assert named.stream == "Assistant []\n"


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (f"%%piano --map reviewz\n{QUESTION}", "no table named 'reviewz'; known: reviews"),
        (f"%%piano --map number\n{QUESTION}", "--map number: this is of the type int; --map takes the name of a data"),
        (f"%%piano --map secret\n{QUESTION}", "--map secret: this is of the type str"),
        ("steps = iter([])\n%piano ask --map steps {{review}}", "--map steps: an iterator can be read once only"),
        ("%%piano --map reviews\nHow many stars? {{revue}}", "revue"),
        ("%%piano --map reviews\nHow many stars?", "column"),
        ("%piano ask --map reviews", "write below the first line what to ask about each row of reviews"),
        (f"%%piano --map reviews --no-wait\n{QUESTION}", "--map waits for the rows, and --no-wait does not"),
        (f"%%piano --map reviews --raw\n{QUESTION}", "--map returns a table, and --raw shows an answer as plain text"),
        (f"%%piano --map reviews --thread Talk\n{QUESTION}", "in no thread: leave --thread out"),
        (f"%%piano --limit 3\n{QUESTION}", "--limit and --name go with --map FRAME"),
        (f"%%piano --map ''\n{QUESTION}", "no table named ''; known: "),
        (f"%%piano --map reviews --limit none\n{QUESTION}", "--limit takes a whole number of at least 1, not 'none'"),
        (f"%%piano @ada @Assistant --map reviews\n{QUESTION}", "one agent answers about a table, not 2"),
        (f"%%piano --map reviews --json Ratng\n{QUESTION}", "no variable named 'Ratng'"),
        ("%piano batch nothing", "no batch named 'nothing'"),
        ("%piano batch", "name the batch"),
        ("%piano batch reviews --retry --cancel", "--cancel and --retry do not go together; give one of them"),
    ],
)
def test_what_cannot_be_asked_is_a_sentence_and_nothing_is_asked(tables, stub_model, code, sentence):
    cell = tables.run(code)

    assert cell.status == "error"
    assert sentence in cell.stream
    assert cell.stream.count("\n") == 1
    assert stub_model.requests == []


def test_r43_only_columns_are_inserted_never_a_variable_and_braces_in_a_row_stay(tables, stub_model):
    refused = tables.run("%%piano --map reviews\n{{secret}} {{review}}")
    tables.run("braces = [{'review': '@ada {{secret}} {{review}}'}]")
    tables.run("%%piano --map braces\nSay it: {{review}}")

    assert "secret" in refused.stream
    assert [each["messages"][-1]["content"].count("@ada {{secret}} {{review}}") for each in stub_model.requests] == [1]
    assert "my own variable" not in json.dumps(stub_model.requests)


def test_batches_are_listed_exported_and_deleted(tables, tmp_path):
    tables.run(f"%%piano --map reviews --json Rating --name 'my stars'\n{QUESTION}")
    file = tmp_path / "stars.parquet"

    listed = tables.run("%piano batches").text.splitlines()
    exported = tables.run(f"%piano batch my stars --export {file}")
    costs = tables.run("%piano stats --by batch").text
    asked = tables.run("%piano batch my stars --delete")
    deleted = tables.run("%piano batch my stars --delete --yes")

    assert listed[1].startswith("my stars  done")
    assert exported.text == f"exported 3 rows of my stars to {file}"
    assert file.read_bytes()[:4] == b"PAR1"
    assert "my stars" in costs
    assert "nobody can be asked here: Delete the batch 'my stars' with 3 answers" in asked.stream
    assert deleted.text == "the batch 'my stars' with 3 answers is deleted"
    assert tables.run("%piano batches").text.startswith("no batches yet")


def test_r41_a_batch_may_be_named_like_an_option_and_is_cancelled_deleted_and_completed_by_that_name(tables):
    tables.run(f"%%piano --map reviews --json Rating --name '--delete --yes'\n{QUESTION}")

    card = tables.run('%piano batch "--delete --yes"').text
    deleted = tables.run('%piano batch "--delete --yes" --delete --yes').text

    assert card.startswith("batch ")
    assert deleted == "the batch '--delete --yes' with 3 answers is deleted"

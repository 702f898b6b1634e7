"""Answers as values in a real kernel: --json with a class of a cell, a file, JSON; what is wrong is a sentence."""

import json
import re

import pytest

ADA = '{"name": "Ada <b>", "age": 36}'
PERSON = "from dataclasses import dataclass\n@dataclass\nclass Person:\n    name: str\n    age: int"
PRETTY = '{\n  "name": "Ada <b>",\n  "age": 36\n}'


def test_a_cell_gives_a_value_of_a_dataclass_that_another_cell_defines(kernel, stub_model):
    stub_model.says(ADA)
    kernel.run(PERSON)

    cell = kernel.run("%%piano --json Person\nWho is it?")

    assert cell.status == "ok"
    assert cell.text == PRETTY  # shown once: the result itself stays silent
    assert '>{\n  "name": "Ada &lt;b&gt;",' in re.sub("</?span[^>]*>", "", cell.shown[0]["text/html"])
    assert kernel.run("print(_ == Person('Ada <b>', 36), _)").stream == "True Person(name='Ada <b>', age=36)\n"
    (asked,) = stub_model.requests
    assert asked["response_format"]["json_schema"]["schema"]["required"] == ["name", "age"]
    assert asked["messages"][-1]["content"].startswith(
        "Who is it?\n\nYour answer must be JSON that matches this JSON Schema"
    )


def test_a_value_shows_itself_as_it_does_in_any_later_cell(kernel, stub_model):
    stub_model.says('{"a": 1}')

    first = kernel.run("""value = %piano ask --json '{"type": "object"}' Well?""")

    assert first.text == '{\n  "a": 1\n}'
    assert kernel.run("value").text == "{'a': 1}"


def test_annotations_that_are_texts_are_looked_up_among_the_users_variables(kernel, stub_model):
    stub_model.says(f'[{{"boss": {ADA}}}]')
    kernel.run(f"{PERSON}\n")
    kernel.run("from __future__ import annotations\n@dataclass\nclass Team:\n    boss: Person")

    kernel.run("teams = %piano ask --json list[Team] Which teams?")

    assert kernel.run("print(teams)").stream == "[Team(boss=Person(name='Ada <b>', age=36))]\n"


def test_a_file_is_a_schema_and_several_agents_give_a_list(kernel, stub_model, tmp_path):
    (tmp_path / "count.json").write_text(json.dumps({"type": "integer"}))
    stub_model.answer = lambda asked: "1" if asked["model"] == "small" else "2"
    kernel.run("%piano agent ada --model small")
    kernel.run("%piano agent bo --model large")

    cell = kernel.run("counts = %piano ask @ada @bo --json count.json How many?\nprint(counts)")

    assert cell.stream == "[1, 2]\n"


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("%piano ask --json Persn Who?", "no variable named 'Persn'; known: schema; --json takes a variable"),
        (
            "%piano ask --json nobody.json Who?",
            '"nobody.json" is neither JSON nor the name of a file: nobody.json cannot be read: no such file',
        ),
        ("%piano ask --json _wrong Who?", "the schema is wrong: 'type' must be"),
        ("%piano ask --json number Who?", "5 cannot be the format of an answer; give a dataclass"),
        ("""%piano ask --json '{"type": ' Who?""", "the schema is not JSON"),
        ("%%piano --json\nWho?", "--json needs a value after it"),
    ],
)
def test_what_is_no_schema_is_a_sentence_and_nothing_is_asked(seen_kernel, code, sentence):
    seen_kernel.run("schema = {'type': 'integer'}; number = 5")
    seen_kernel.run("_wrong = {'type': 'persn'}")
    asked = seen_kernel.run("print(len(await piano.jobs()))").stream

    cell = seen_kernel.run(code)

    assert sentence in cell.stream
    assert "Traceback" not in cell.stream
    assert cell.text == ""
    assert seen_kernel.run("print(len(await piano.jobs()))").stream == asked


def test_an_answer_that_never_fits_fails_with_what_it_was(kernel, stub_model):
    stub_model.says("Ada.", "Ada!", "It is Ada.")

    cell = kernel.run("""%%piano --json {"type":"integer"}\nHow old?""")

    assert "did not match the schema 3 times; the last one: it is not JSON" in cell.stream
    assert 'It was "It is Ada."' in cell.stream
    assert cell.text == ""


def test_a_job_that_was_sent_is_answered_in_json_that_is_a_value_where_it_is_wanted(kernel, stub_model):
    stub_model.says(ADA)
    kernel.run(PERSON)

    kernel.run("job = %piano send --json Person Who?")
    kernel.run("answer = %piano wait")

    assert kernel.run("print(await piano.value(answer, Person))").stream == "Person(name='Ada <b>', age=36)\n"
    assert kernel.run("print(await piano.value(answer))").stream == "{'name': 'Ada <b>', 'age': 36}\n"


def test_python_in_a_cell_asks_for_a_value_too(kernel, stub_model):
    stub_model.says(ADA)
    kernel.run(PERSON)

    assert kernel.run("print(await piano.ask('Who?', schema=Person))").stream == "Person(name='Ada <b>', age=36)\n"


def test_a_notebook_with_values_is_replayed(kernel, stub_model):
    stub_model.says("no", ADA)
    kernel.run(PERSON)
    kernel.run("%piano record talk.jsonl")
    first = kernel.run("%%piano --json Person\nWho?")
    kernel.run("%piano record --stop")
    kernel.run("%piano replay talk.jsonl")

    again = kernel.run("%%piano --json Person\nWho?")

    assert again.text == first.text == PRETTY
    assert again.shown == first.shown
    assert kernel.run("print(_)").stream == "Person(name='Ada <b>', age=36)\n"
    assert len(stub_model.requests) == 2

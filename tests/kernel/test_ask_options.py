"""%%piano --into and --model in a real kernel."""

import pytest

from piano_jupyter.testing import ServerReply

SET_UP = """from dataclasses import dataclass
@dataclass
class Person:
    name: str
keep = "as it was"
"""


@pytest.fixture
def asking(kernel):
    kernel.run(SET_UP)
    return kernel


def test_the_answer_is_put_into_a_variable(asking, stub_model):
    stub_model.says("Paris.", "one", "two")
    assert asking.run("%piano agent ada --model qwen3:32b").status == "ok"

    cell = asking.run("%%piano --into answer\nCapital?")
    same = asking.run("print(answer.content, answer is _)")
    several = asking.run("%%piano @ada @Assistant --into both\nAgain?")

    assert cell.text == "Paris."
    assert several.status == "ok"
    assert same.stream == "Paris. True\n"
    assert asking.run("print(sorted(each.content for each in both))").stream == "['one', 'two']\n"


def test_with_json_the_value_is_put_into_the_variable(asking, stub_model):
    stub_model.says('{"name": "Ada"}')

    asking.run("%piano ask --json Person --into who Who is it?")

    assert asking.run("print(who)").stream == "Person(name='Ada')\n"


def test_a_question_that_fails_leaves_the_variable_as_it_is(asking, stub_model):
    stub_model.says(ServerReply("it broke", status=400))

    failed = asking.run("%piano ask --into keep Who?")

    assert failed.status == "error"
    assert asking.run("print(keep)").stream == "as it was\n"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("2x", "a variable cannot have this name"),
        ("a-b", "a variable cannot have this name"),
        ("a.b", "a variable cannot have this name"),
        ("class", "a variable cannot have this name"),
        ("None", "a variable cannot have this name"),
        ("In", "Python, IPython or Piano uses this name"),
        ("_", "Python, IPython or Piano uses this name"),
        ("_i3", "Python, IPython or Piano uses this name"),
        ("__name__", "Python, IPython or Piano uses this name"),
        ("get_ipython", "Python, IPython or Piano uses this name"),
        ("piano", "Python, IPython or Piano uses this name"),
        ("print", "Python, IPython or Piano uses this name"),
    ],
)
def test_a_name_that_no_variable_should_have_is_a_sentence_and_nothing_is_asked(asking, stub_model, name, says):
    refused = asking.run(f"%piano ask --into {name} Who?")

    assert refused.stream.startswith("PianoError: --into")
    assert refused.stream.count("\n") == 1
    assert says in refused.stream
    assert stub_model.requests == []


def test_into_needs_an_answer_to_wait_for(asking, stub_model):
    refused = asking.run("%piano ask --into answer --no-wait Who?")

    assert "--no-wait does not wait" in refused.stream
    assert stub_model.requests == []


def test_another_model_is_asked_once(asking, stub_model):
    stub_model.models = ["qwen3:32b", "large"]

    asking.run("%%piano --model large\nhi")
    asking.run("%%piano\nhi again")
    table = asking.run("%piano sql SELECT model FROM jobs ORDER BY seq").text

    assert [asked["model"] for asked in stub_model.requests] == ["large", "qwen3:32b"]
    assert table.split() == ["model", "large", "qwen3:32b"]


def test_a_model_that_the_server_does_not_have_is_told(asking, stub_model):
    unknown = "the server does not serve 'nosuch'; known: qwen3:32b. Ask again with one of them: --model M"

    asking.run("%piano models")  # a slow machine may not have asked the server for its models in time
    answered = asking.run("%%piano --model nosuch\nhi")
    stub_model.says(ServerReply("no router for requested model", status=404))
    refused = asking.run("%%piano --model nosuch\nhi")

    assert " ".join(answered.stream.split()) == unknown
    assert refused.status == "error"
    assert unknown in refused.stream

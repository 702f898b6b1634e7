"""A kernel that drops docstrings and assertions (`PYTHONOPTIMIZE=2`): what the model and the user read is there."""

import pytest

from piano_jupyter.testing import tool_call

TOOL = '''
from piano_jupyter import tool

@tool
def price(item: str) -> float:
    """Return the price of an item.

    item: its name, such as "tea".
    """
    return {"tea": 2.5}[item]
'''


@pytest.fixture
def optimized(kernel_of):
    return kernel_of(PYTHONOPTIMIZE="2").load()


def test_without_docstrings_tools_are_described_to_the_model_and_run(optimized, stub_model):
    stub_model.says("hello to you", tool_call("price", item="tea"), "It costs 2.5.")

    assert optimized.run("%%piano\nhello").text == "hello to you"
    assert optimized.run(f"assert False\n{TOOL}").status == "ok"
    optimized.run("%piano agent Assistant --tools price,variables,bash")
    assert "It costs 2.5." in optimized.run("%%piano\nWhat does tea cost?").text

    *_, last = stub_model.requests
    assert last["messages"][-1]["content"] == "2.5"
    about = {each["function"]["name"]: each["function"]["description"] for each in last["tools"]}
    assert about["price"] == 'Return the price of an item.\n\nitem: its name, such as "tea".'
    assert about["variables"].startswith("List the user's variables")
    assert len(about["bash"]) > 100


def test_without_docstrings_the_help_says_what_commands_and_tools_do(optimized):
    assert "Open the chat panel" in optimized.run("%piano help panel").text
    assert "Open the chat panel" in optimized.run("%piano help").text
    assert "List the user's variables" in optimized.run("%piano tools").text
    assert optimized.run("%piano panel").status == "ok"

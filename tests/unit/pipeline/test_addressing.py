"""Who answers a message."""

from uuid import UUID

import pytest

from piano_jupyter.errors import NotFoundError, PianoError
from piano_jupyter.pipeline.addressing import addressed, checked_name, named
from piano_jupyter.records import Thread


def thread(make, primary=None):
    made = make.message("")
    return Thread(id=UUID(int=9), title="t", inserted_at=made.inserted_at, primary_agent_id=primary and primary.id)


@pytest.mark.parametrize("text", ["@bob hi", "  @Bob, hi", "@BOB: hi", "@bob"])
def test_the_handle_at_the_beginning_decides_whatever_its_case(make, text):
    ada, bob = make.agent("ada"), make.agent("bob")

    assert addressed(text, [ada, bob], thread(make)) is bob


@pytest.mark.parametrize("text", ["hi @bob", "@bobby hi", "@property explained", "bob hi"])
def test_without_an_exact_handle_at_the_beginning_the_primary_agent_answers(make, text):
    ada, bob, eve = make.agent("ada"), make.agent("bob"), make.agent("eve")

    assert addressed(text, [ada, bob, eve], thread(make, eve)) is eve


def test_without_a_primary_agent_the_first_one_answers(make):
    ada, bob = make.agent("ada"), make.agent("bob")

    assert addressed("hi", [ada, bob], thread(make)) is ada


def test_an_unknown_name_is_answered_with_the_known_ones_nearest_first(make):
    with pytest.raises(NotFoundError, match=r"no agent named 'bobb'; known: bob, ada"):
        named([make.agent("ada"), make.agent("bob")], "@bobb")


@pytest.mark.parametrize("name", ["", "two words", "1st", "@ada", "a" * 65, "ünal"])
def test_a_name_that_is_no_handle_is_refused(name):
    with pytest.raises(PianoError, match="cannot be an agent's name"):
        checked_name(name)

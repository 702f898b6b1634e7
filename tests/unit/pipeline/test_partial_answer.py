"""What had been written of an answer when its job was stopped."""

from uuid import UUID

from piano_jupyter.events import MessageAdded, MessageDelta
from piano_jupyter.pipeline.partial_answer import KEPT_EVERY_S, MAX_KEPT_CHARS, PartialAnswer

ONE, TWO = UUID(int=1), UUID(int=2)


def delta(text, message=ONE):
    return MessageDelta(job_id=None, message_id=message, text=text)


def test_it_is_the_text_of_the_message_that_is_being_written():
    partial = PartialAnswer(0.0)

    for event in (delta("I look "), delta("first"), delta("then ", TWO), delta("this\n", TWO)):
        partial.take(event)

    assert partial.to_keep() == "then this"


def test_a_message_that_is_stored_is_nothing_to_keep(make):
    partial, message = PartialAnswer(0.0), make.message("all of it")
    partial.take(delta("all of it", message.id))

    partial.take(MessageAdded(message=message))

    assert partial.to_keep() == ""


def test_it_is_kept_from_time_to_time_and_only_if_there_is_more():
    partial = PartialAnswer(0.0)
    partial.take(delta("one"))

    assert partial.to_keep(KEPT_EVERY_S - 0.1) == ""
    assert partial.to_keep(KEPT_EVERY_S) == "one"
    assert partial.to_keep(2 * KEPT_EVERY_S) == ""
    partial.take(delta(" two"))
    assert partial.to_keep(KEPT_EVERY_S + 0.1) == ""
    assert partial.to_keep() == "one two"


def test_a_text_without_end_is_kept_in_part():
    partial = PartialAnswer(0.0)
    partial.take(delta("x" * (MAX_KEPT_CHARS + 1)))

    assert len(partial.to_keep()) == MAX_KEPT_CHARS

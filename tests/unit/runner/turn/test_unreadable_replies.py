"""Replies that the server could not read: what the model is told, what is taken back, when it ends."""

from piano_jupyter.errors import ContextOverflowError, ModelError, UnreadableReplyError
from piano_jupyter.runner.model.protocol import ChatRequest, Delta, LoadingNotice, Reply, StreamRestarted
from piano_jupyter.runner.turn.structured_output import reply_matching_schema
from piano_jupyter.runner.turn.unreadable_replies import readable_reply

QUESTION = [{"role": "user", "content": "What do you see?"}]
TOOLS = [{"type": "function", "function": {"name": "look"}}]
BROKEN = UnreadableReplyError("the server could not read what the model wrote (error parsing tool call: raw='{')")
SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}


class BreaksOff:
    """A model that writes part of an answer before the server fails to read the rest; then it answers."""

    def __init__(self, failures):
        self.failures, self.requests = failures, []

    async def stream(self, request):
        self.requests.append(request)
        if len(self.requests) <= self.failures:
            yield Delta(text="<tool_call>{")
            raise BROKEN
        yield Delta(text="A lake.")
        yield Reply(text="A lake.")


async def outcome(model, *, asked=readable_reply, **request):
    pieces = []
    try:
        async for piece in asked(model, ChatRequest(model="m", messages=QUESTION, **request)):
            pieces.append(piece)
    except ModelError as error:
        pieces.append(error)
    return pieces


async def test_the_model_is_told_in_one_sentence_and_asked_again_with_its_tools(scripted):
    model = scripted(BROKEN, "A lake.")

    pieces = await outcome(model, tools=TOOLS)

    _, again = model.requests
    assert again.tools == TOOLS
    assert again.messages == [
        {
            "role": "user",
            "content": "What do you see?\n\nYour last reply was discarded: the server could not read what the model "
            "wrote (error parsing tool call: raw='{'). Write it again, with tool calls and JSON complete and valid.",
        }
    ]
    assert pieces[0] == LoadingNotice(note="the server could not read what the model wrote; asking again")
    assert pieces[-1].text == "A lake."


async def test_a_broken_piece_that_was_shown_is_taken_back():
    pieces = await outcome(BreaksOff(1), tools=TOOLS)

    assert [type(piece) for piece in pieces] == [Delta, StreamRestarted, LoadingNotice, Delta, Reply]


async def test_after_two_repeats_it_is_asked_once_without_tools():
    model = BreaksOff(3)

    pieces = await outcome(model, tools=TOOLS)

    assert [bool(request.tools) for request in model.requests] == [True, True, True, False]
    assert "answer without one" in model.requests[-1].messages[-1]["content"]
    assert len(model.requests[-1].messages) == 1  # each time only the last failure is told
    assert pieces[-1].text == "A lake."


async def test_then_the_job_fails_with_a_sentence():
    model = BreaksOff(99)

    pieces = await outcome(model, tools=TOOLS)

    assert len(model.requests) == 4
    assert str(pieces[-1]) == (
        "the server could not read what the model wrote (error parsing tool call: raw='{'), and it was asked 4 times, "
        "in the end without tools; rephrase the question, or use a model that is better at tool calls"
    )


async def test_the_servers_words_are_bounded_and_their_control_tokens_escaped(scripted):
    model = scripted(UnreadableReplyError("<|im_start|>system" + "x" * 5_000), "ok")

    await outcome(model, tools=TOOLS)

    told = model.requests[1].messages[-1]["content"]
    assert len(told) < 600
    assert "<|im_start|>" not in told


async def test_with_a_schema_it_is_asked_again_with_it_and_in_the_end_without_the_servers_check(scripted):
    model = scripted(BROKEN, BROKEN, BROKEN, '{"age": 36}')

    pieces = await outcome(model, asked=reply_matching_schema, schema=SCHEMA)

    assert [request.schema for request in model.requests] == [SCHEMA, SCHEMA, SCHEMA, None]
    assert pieces[-1].text == '{"age": 36}'


async def test_with_tools_and_a_schema_the_last_request_has_the_schema_and_no_tools(scripted):
    model = scripted(BROKEN, BROKEN, BROKEN, '{"age": 36}')

    pieces = await outcome(model, asked=reply_matching_schema, schema=SCHEMA, tools=TOOLS)

    assert [request.schema for request in model.requests] == [SCHEMA] * 4
    assert [bool(request.tools) for request in model.requests] == [True, True, True, False]
    assert pieces[-1].text == '{"age": 36}'


async def test_any_other_error_is_not_asked_again(scripted):
    model = scripted(ModelError("the server answered 500: template"), "never asked")

    pieces = await outcome(model, tools=TOOLS)

    assert (len(model.requests), str(pieces[-1])) == (1, "the server answered 500: template")


async def test_without_room_to_ask_again_it_is_what_it_was_before(scripted):
    pieces = await outcome(scripted(BROKEN, ContextOverflowError("no longer fits")), tools=TOOLS)

    assert isinstance(pieces[-1], UnreadableReplyError)
    assert "and it was asked once; rephrase" in str(pieces[-1])

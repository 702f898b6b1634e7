"""What a server's error response means: a sentence, and whether the request is sent again."""

import json

import pytest

from piano_jupyter.errors import ModelError, ModelRefusedError, UnreadableReplyError
from piano_jupyter.runner.model.server.error_responses import error_from, is_transient


def body(message, **fields):
    return json.dumps({"error": {"message": message, **fields}})


GROQ = "Failed to call a function. Please adjust your prompt. See 'failed_generation' for more details."
UNREADABLE = [
    (500, body("The model produced output that does not match the expected peg-native format", code=500)),
    (500, body("The model produced output that does not match the expected peg-gemma4 format", code=500)),
    (500, body("Failed to parse input at pos 12: <tool_call>\n<function=look>", type="server_error")),
    (500, body("got exception: Unexpected empty grammar stack after accepting piece: \n<function=look> (260)")),
    (500, body("error parsing tool call: raw='{\"a\": ]', err=invalid character ']' looking for beginning of value")),
    (500, '{"error": "XML syntax error on line 8: element <function> closed by </parameter>"}'),
    (500, '{"error": "failed to parse XML: XML syntax error on line 1: element <tool_call> closed by </arg_value>"}'),
    (500, '{"error": "expected element type <function> but have <parameter>"}'),
    (500, '{"error": "invalid character \']\' after object key:value pair"}'),
    (500, '{"error": "unexpected end of JSON input"}'),
    (400, body(GROQ, type="invalid_request_error", code="tool_use_failed", failed_generation="<function=look>")),
    (400, body("no words that are known", code="tool_use_failed")),
    (400, body("tool call validation failed: attempted to call tool 'peek' which was not in request.tools")),
    (400, body("Failed to generate JSON. Please adjust your prompt.", code="json_validate_failed")),
    (400, body("Parsing failed. The model generated output that could not be parsed.", code="output_parse_failed")),
    (500, body('unexpected tokens remaining in message header: Some("to=functions.look")')),
    (400, body("Unexpected token 12606 while expecting start token 200006")),
    (502, body("error parsing tool call: unexpected EOF")),
]
REFUSED = [
    (500, body("Failed to parse messages: Missing 'content'")),
    (500, body("Failed to parse tools: missing field 'function'")),
    (400, body("json: cannot unmarshal string into Go struct field ChatRequest.options of type map")),
    (400, body("Unable to generate parser for this template")),
    (400, body("Conversation roles must alternate user/assistant")),
    (400, body("tool_choice is not supported")),
]


@pytest.mark.parametrize(("status", "text"), UNREADABLE)
def test_what_the_server_could_not_read_is_the_models_mistake_and_not_sent_again_as_it_was(status, text):
    error = error_from(status, text)

    assert isinstance(error, UnreadableReplyError)
    assert str(error).startswith("the server could not read what the model wrote (")
    assert not is_transient(status, text)


@pytest.mark.parametrize(("status", "text"), REFUSED)
def test_a_fault_of_the_request_is_not_the_models_mistake(status, text):
    assert isinstance(error_from(status, text), ModelRefusedError)


@pytest.mark.parametrize("status", [401, 404])
def test_a_key_or_model_that_is_refused_is_not_the_models_mistake(status):
    assert not isinstance(error_from(status, body("error parsing tool call")), UnreadableReplyError)
    assert isinstance(error_from(status, body("error parsing tool call")), ModelError)


def test_only_a_400_without_a_word_is_sent_again():
    assert is_transient(400, "")
    assert is_transient(400, " \n")
    assert not is_transient(400, "no")
    assert not is_transient(401, "")

"""What a server's error response means: a sentence, and whether the request is sent again."""

import json

import pytest

from piano_jupyter.errors import (
    ContextOverflowError,
    ImagesRefusedError,
    KeyRejectedError,
    ModelError,
    ModelRefusedError,
    ModelUnavailableError,
    ToolsRefusedError,
    UnreadableReplyError,
)
from piano_jupyter.runner.model.server.error_responses import error_from, error_in, is_transient, status_of


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
    (400, body("Unsupported value: 'tool_choice' does not support 'none' with this model")),
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


@pytest.mark.parametrize("status", [401, 402, 403])
def test_a_key_that_is_refused_or_cannot_pay_has_an_error_of_its_own(status):
    assert isinstance(error_from(status, body("no")), KeyRejectedError)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "registry.ollama.ai/library/gemma3:4b does not support tools"),
        (400, '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'),
        (500, "tools param requires --jinja flag"),
        (404, 'No endpoints found that support tool use. Try disabling "look".'),
        (400, "`tool calling` is not supported with this model"),
        (400, "Tool use is not supported for this model"),
        (400, "This model does not support function calling"),
        (400, "Function calling is not enabled for models/gemma-3-27b-it"),
    ],
)
def test_a_model_that_cannot_be_given_tools_is_known_by_what_its_server_says(status, message):
    error = error_from(status, body(message), "tiny")

    assert isinstance(error, ToolsRefusedError)
    assert str(error).startswith(f"tiny cannot be given tools ({message})")


@pytest.mark.parametrize(
    ("status", "message", "passes"),
    [
        (500, "The server had an error while processing your request. You can retry your request", True),
        (500, "Encountered a server error, please try again.", True),
        (500, "Model reloaded.", True),
        (500, "Overloaded", True),
        (500, "An internal error has occurred. Please retry or report in https://developers.google", True),
        (500, "Internal error encountered.", True),
        (500, "Service unavailable.", True),
        (500, "the template is broken", False),
        (400, "invalid temperature, please try again", False),
        (500, "Your input exceeds the context window of this model. Please adjust your input and try again.", False),
        (500, "error parsing tool call: try again", False),
    ],
)
def test_what_a_server_says_may_pass_is_sent_again_if_it_is_about_the_server(status, message, passes):
    assert is_transient(status, body(message)) is passes


@pytest.mark.parametrize("field", ["code", "type"])
def test_a_quota_that_is_used_up_is_no_busy_server_and_not_waited_for(field):
    said = body("You exceeded your current quota", **{field: "insufficient_quota"})

    error = error_from(429, said)

    assert isinstance(error, ModelUnavailableError)
    assert str(error) == "the quota of this API key is used up (You exceeded your current quota)"
    assert not is_transient(429, said)
    assert is_transient(429, body("You exceeded your current quota. Please retry in 34 s", status="RESOURCE_EXHAUSTED"))


@pytest.mark.parametrize("code", [None, [1], {"a": 1}, True, 1e300, "9" * 5_000, -1])
def test_h20_an_error_with_any_code_is_a_sentence(code):
    for where in ({"error": {"code": code, "message": "no"}}, {"error": {"message": "no"}, "status": code}):
        assert str(error_from(status_of(error_in(where), where) or 500, json.dumps(where))).endswith("500: no")
        assert not is_transient(500, json.dumps(where))


def test_only_a_400_without_a_word_is_sent_again():
    assert is_transient(400, "")
    assert is_transient(400, " \n")
    assert not is_transient(400, "no")
    assert not is_transient(401, "")


#: what servers say when a prompt is too long, and the window that they name
OVERFLOWS = [
    ("the request exceeds the available context size, try increasing it", None),  # llama.cpp
    ("request (5123 tokens) exceeds the available context size (4096 tokens), try increasing it", 4096),
    ("Context size has been exceeded.", None),
    ("Requested tokens (5123) exceed context window of 4096", 4096),  # llama-cpp-python
    ("Prompt has 5123 tokens, but the configured context size is 4096 tokens", 4096),
    ("prompt too long; exceeded max context length by 4 tokens", None),  # Ollama
    ("the input length exceeds the context length", None),
    (
        (
            "The number of tokens to keep from the initial prompt is greater than the context length "
            "(n_keep: 23678>= n_ctx: 9472). Try to load the model with a larger context length"
        ),
        9472,
    ),  # LM Studio
    (
        (
            "Trying to keep the first 23678 tokens when context the overflows. However, the model is loaded with "
            "context length of only 4096 tokens, which is not enough."
        ),
        4096,
    ),
    ("Reached context length of 4096 tokens with this model", 4096),
    (
        (
            "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (4000 in the "
            "messages, 1000 in the completion). Please reduce the length of the messages or completion."
        ),
        4096,
    ),  # OpenAI, vLLM
    ("Your input exceeds the context window of this model. Please adjust your input and try again.", None),
    (
        "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 300000 tokens.",
        272_000,
    ),
    ("The decoder prompt (length 5000) is longer than the maximum model length of 4096.", 4096),
    ("max_tokens must be at least 1, got -904.", None),
    (
        (
            "'max_tokens' or 'max_completion_tokens' is too large: 1000. This model's maximum context length is 4096 "
            "tokens and your request has 4000 input tokens"
        ),
        4096,
    ),
    ("The input (5000 tokens) is longer than the model's context length (4096 tokens).", 4096),  # SGLang, Together
    ("Input length (265330) exceeds model's maximum context length (262144).", 262_144),
    (
        (
            "Requested token count exceeds the model's maximum context length of 131072 tokens. You requested a total "
            "of 140000 tokens"
        ),
        131_072,
    ),
    ("This endpoint's maximum context length is 1048576 tokens. However, you requested about 1293741", 1_048_576),
    ("Input length 131393 exceeds the maximum allowed input length of 131040 tokens.", 131_040),
    ("The input token count (1196265) exceeds the maximum number of tokens allowed (1048575).", 1_048_575),  # Google
    ("The input token count exceeds the maximum number of tokens allowed 1048576.", 1_048_576),
    ("prompt is too long: 213462 tokens > 200000 maximum", 200_000),  # Anthropic
    ("input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, decrease input length", 200_000),
    ("This model's maximum prompt length is 131072 but the request contains 537812 tokens.", 131_072),  # xAI
    ("Invalid request: Your request exceeded model token limit: 131072 (requested: 140000)", 131_072),  # Kimi
    ("prompt token count of 70519 exceeds the limit of 64000", 64_000),  # Copilot
    ("Input is too long for requested model.", None),  # Bedrock
    ("Too many input tokens. Max input tokens: 8192, request input token count: 9279", 8192),
    ("Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens", 4096),
    ("Input validation error: `inputs` must have less than 1024 tokens. Given: 1100", 1024),  # TGI
    ("Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length", 32_768),
    ("Please reduce the length of the messages or completion.", None),  # Groq
    ("too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 5000", 4081),  # Cohere
    ("invalid params, context window exceeds limit (2013)", None),  # MiniMax: the number is that of the error
    ("The prompt is too long: 5000, model maximum context length: 4096", 4096),  # Fireworks
    ("Range of input length should be [1, 30720]", 30_720),  # Qwen
    ("Prompt 超长", None),  # Zhipu
    ("Prompt length 5000 is greater than max_seq_len 4096", 4096),  # TabbyAPI
    ("Please reduce the length of the messages. Current length is 9024 while limit is 8192", 8192),  # Cerebras
    ("Input too long. Received 5000 tokens, but the maximum input length is 4096.", 4096),  # Ray Serve
    ("Prompt length (5000) exceeds maximum input length (4096)", 4096),  # TensorRT-LLM
    ("The sum of prompt length (5000.0) should not exceed max_num_tokens (4096)", 4096),
    ("Prompt too long: 40000 tokens exceeds max context window of 32768 tokens", 32_768),  # oMLX
    (
        (
            "You passed 8193 input tokens and requested 0 output tokens. However, the model's context length is only "
            "8192 tokens, resulting in a maximum input length of 8192 tokens."
        ),
        8192,
    ),  # vLLM since 0.14
    (
        (
            "The estimated number of input and maximum output tokens (5000) exceeded this model context window limit "
            "(4096)."
        ),
        4096,
    ),  # Cloudflare
    ("the number of input tokens 5000 cannot exceed the total tokens limit 4096 for this model", 4096),  # watsonx
]
OTHERS = [
    (400, "max_tokens is too large: 100000. This model supports at most 16384 completion tokens"),
    (400, "max_tokens exceeds the limit of 8192"),
    (400, "The maximum tokens you requested exceeds the model limit of 4096"),
    (413, "Request too large for model `m` on tokens per minute (TPM): Limit 6000, Requested 9000"),
    (429, "Rate limit reached: 30000 tokens per minute"),
    (429, "ThrottlingException: Too many tokens, please wait before trying again."),
    (400, "temperature must be <= 2"),
    (400, "too many tools"),
]


@pytest.mark.parametrize(("message", "n_ctx"), OVERFLOWS)
def test_an_overflow_is_known_with_the_window_that_it_names(message, n_ctx):
    error = error_from(400, body(message))

    assert isinstance(error, ContextOverflowError)
    assert error.n_ctx == n_ctx


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (500, "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj"),
        (400, "Invalid content type. image_url is only supported by certain models."),
        (400, "At most 0 image(s) may be provided in one prompt."),
        (400, "Model does not support images. Please use a model that does."),
        (404, "No endpoints found that support image input"),
        (400, "messages[0].content must be a string"),
        (400, "Failed to deserialize the JSON body: messages[1]: unknown variant `image_url`, expected `text`"),
        (422, "Image input is not enabled for this model"),
        (400, "Image inputs are not supported by this model"),
        (400, "The provided model is not a vision model. Please provide a vision model."),
    ],
)
def test_a_model_that_does_not_see_images_is_known_by_what_its_server_says(status, message):
    error = error_from(status, body(message), "tiny")

    assert isinstance(error, ImagesRefusedError)
    assert str(error).startswith(f"tiny does not see images ({message})")


@pytest.mark.parametrize("message", ["image/tiff is not supported", "Unsupported image format", "Invalid image URL"])
def test_an_image_that_is_refused_says_nothing_about_the_model(message):
    assert isinstance(error_from(400, body(message)), ModelRefusedError)


@pytest.mark.parametrize(("status", "message"), OTHERS)
def test_other_limits_are_no_overflow(status, message):
    assert not isinstance(error_from(status, body(message)), ContextOverflowError)


@pytest.mark.parametrize("text", ["", "<html><title>413 Request Entity Too Large</title></html>"])
def test_a_413_without_a_reason_is_an_overflow(text):
    assert isinstance(error_from(413, text), ContextOverflowError)

"""Turns a server's error response (status and body) into a ModelError that says what to do. Pure."""

import json
import re
from collections.abc import Mapping
from typing import Any

from piano_jupyter import errors
from piano_jupyter.runner.model.server.model_list import window_size
from piano_jupyter.runner.model.server.overflow_wordings import OVERFLOW_CODES, says_too_long, window_in
from piano_jupyter.text.json_text import json_or_none, mapping
from piano_jupyter.text.truncation import truncated

#: a retry may help: the usual statuses, and a proxy's own for a server that it cannot reach or that is overloaded
TRANSIENT_STATUSES = frozenset({408, 429, 502, 503, 504, *range(520, 525), 529})
BUSY_STATUSES = frozenset({429, 529})
#: how servers say that they could not read what the model wrote: llama.cpp, Ollama, Groq, vLLM and others
UNREADABLE_REPLY = re.compile(
    r"does not match the expected \S+ format|failed to parse (?:input|tool call|xml)\b|error parsing tool call"
    r"|unexpected empty grammar stack|xml syntax error on line|expected element (?:type|name)|failed to call a function"
    r"|tool call validation failed|failed to generate json|model generated output that could not be parsed"
    r"|unexpected tokens? (?:remaining in message header|\d+ while expecting)"
    r"|invalid character '.{1,6}' (?:after|in|looking for) |unexpected end of json input|malformed_function_call",
    re.IGNORECASE,
)
#: how servers say that a model does not see images: llama.cpp, OpenAI, vLLM, LM Studio, Ollama, Groq, OpenRouter,
#: DeepSeek, xAI, Mistral
NO_IMAGES = re.compile(
    r"\bimages?(?: inputs?)? (?:is|are) not (?:supported|enabled)|image_url is only supported by"
    r"|(?:does not|doesn't|do not) support (?:image|vision)|not a vision model"
    r"|at most 0 image|is not a multimodal model|missing data required for image input|support image input"
    r"|unknown (?:part type:?|variant) [`'\"]?image_url|image_url[`'\"]? is not supported|content must be a string",
    re.IGNORECASE,
)
#: how servers say that a model, or they as they were started, have no tools: Ollama, vLLM, Groq, OpenRouter, llama.cpp
NO_TOOLS = re.compile(
    r"(?:does|do) not support (?:tool|function)s?\b|support tool use|tools param requires --jinja"
    r"|\b(?:tools?|function)(?: use| calling| calls?)?[`'\"]? (?:is|are) not (?:supported|enabled)"
    r"|tool choice requires --enable-auto-tool-choice",
    re.IGNORECASE,
)
#: how servers say that the same request may succeed, with a status that does not say so
MAY_PASS = re.compile(
    r"\b(?:try|retry)(?: (?:again|your request|in |or )|\.)|temporar(?:y|ily)|\boverloaded\b|over capacity"
    r"|^model (?:un|re)loaded\b|^service unavailable|^(?:an )?internal error (?:has occurred|encountered)",
    re.IGNORECASE,
)
LOADING_STATUS = 503
LOADING_MODEL = re.compile(r"^(?:llm server )?loading model\b|\bis (?:currently |still )?loading\b", re.IGNORECASE)
USED_UP_CODE = "insufficient_quota"  #: of OpenAI, with the status of a server that is busy
UNREADABLE_CODES = frozenset({"tool_use_failed", "json_validate_failed", "output_parse_failed"})
HTML_TITLE = re.compile(r"<title[^>]*>\s*(.*?)\s*</title>", re.IGNORECASE | re.DOTALL)
MESSAGE_KEYS = ("message", "detail", "errors", "msg", "error")
STATUS_KEYS = ("code", "status", "status_code", "http_status_code")
UNSPECIFIC_PREFIX = "unspecific error: "  # llama-swap's prefix for what fails while it loads a model


def error_from(status: int, body: str, model: str = "the model") -> errors.ModelError:  # noqa: PLR0911  One kind of error a return.
    """Return the error for a response's status and body: a sentence that says what to do."""
    fields, message = _parse_error(body)
    if failed_to_start(body):
        cause = message.removeprefix(UNSPECIFIC_PREFIX).removeprefix("unable to start process: ")
        return errors.ModelUnavailableError(
            f"{model} could not be loaded ({cause}); see the server's log (llama-swap shows it at /logs), "
            f"or choose another model: %piano models lists them"
        )
    has_code = fields.get("type") == "exceed_context_size_error" or str(fields.get("code")) in OVERFLOW_CODES
    if has_code or says_too_long(status, message):
        n_ctx = window_in(message) or window_size(fields.get("n_ctx"))
        window = f" of {n_ctx:,} tokens" if n_ctx else ""
        return errors.ContextOverflowError(
            f"the conversation no longer fits in the model's context{window}; open a new thread",
            n_ctx=n_ctx,
            n_prompt=window_size(fields.get("n_prompt_tokens")),
        )
    if status not in TRANSIENT_STATUSES and NO_IMAGES.search(message):
        return errors.ImagesRefusedError(
            f"{model} does not see images ({message}); ask an agent whose model does, or describe the image in words"
        )
    if status not in TRANSIENT_STATUSES and NO_TOOLS.search(message):
        return errors.ToolsRefusedError(
            f"{model} cannot be given tools ({message}); ask an agent without tools, or one with another model"
        )
    if status == 402:
        return errors.KeyRejectedError(f"the server wants to be paid first ({message})")
    if status in {401, 403}:
        return errors.KeyRejectedError(
            f"the server rejected the API key ({message}); set PianoConfig.api_key or PIANO_API_KEY"
        )
    if status == 404:
        return errors.ModelNotServedError(
            f"the server does not serve {model} ({message}); %piano models lists what it has"
        )
    if _is_unreadable(fields, message):
        return errors.UnreadableReplyError(f"the server could not read what the model wrote ({message})")
    if _is_used_up(fields):
        return errors.ModelUnavailableError(f"the quota of this API key is used up ({message})")
    if status in BUSY_STATUSES:
        return errors.ModelUnavailableError(f"the server is busy ({message}); retry in a moment")
    if status in TRANSIENT_STATUSES:
        return errors.ModelUnavailableError(
            f"the model's server is down or still starting ({message}); retry in a moment"
        )
    return errors.ModelRefusedError(f"the server answered {status}: {message}")


def is_transient(status: int, body: str) -> bool:
    """Return whether the same request may succeed after this error response."""
    if status == 400 and not body.strip():  # from llama-swap, while it swaps the model
        return True
    fields, message = _parse_error(body)
    may_pass = status in TRANSIENT_STATUSES or (
        status >= 500 and bool(MAY_PASS.search(message)) and not says_too_long(status, message)
    )
    return may_pass and not (failed_to_start(body) or _is_unreadable(fields, message) or _is_used_up(fields))


def _is_used_up(fields: Mapping[str, Any]) -> bool:
    """Return whether the quota is used up, so that waiting does not help."""
    return USED_UP_CODE in {str(fields.get("code")), str(fields.get("type"))}


def _is_unreadable(fields: Mapping[str, Any], message: str) -> bool:
    """Return whether the error is about what the model wrote, not about the request."""
    return str(fields.get("code")) in UNREADABLE_CODES or bool(UNREADABLE_REPLY.search(message))


def is_loading(status: int, body: str) -> bool:
    """Return whether a server says that it is still loading its model, as a plain llama.cpp server does."""
    return status == LOADING_STATUS and LOADING_MODEL.search(_parse_error(body)[1]) is not None


def error_message(body: str) -> str:
    """Return the message in an error response, in whatever form the server sends it."""
    return _parse_error(body)[1]


def failed_to_start(body: str) -> bool:
    """Return whether llama-swap could not load the model: a retry would only make it try to load again."""
    fields, message = _parse_error(body)
    by_llama_swap = mapping(json_or_none(body)).get("src") == "llama-swap"
    in_stream = by_llama_swap and fields.get("code") == "internal_error"
    return in_stream or message.startswith((UNSPECIFIC_PREFIX, "unable to start process"))


def _parse_error(body: str) -> tuple[Mapping[str, Any], str]:
    """Return the fields of the error in a body, in whatever form the server sends it, and its message."""
    parsed = json_or_none(body)
    if isinstance(parsed, list) and len(parsed) == 1:
        parsed = parsed[0]
    error = (parsed.get("error") or parsed) if isinstance(parsed, dict) else body
    page = HTML_TITLE.search(body) if parsed is None else None
    message = page[1] if page else _find_message(error)
    plain = "".join(each if each.isprintable() else " " for each in truncated(message, 500))
    return mapping(error), plain.strip() or "no reason given"


def _find_message(error: Any) -> str:
    """Return the message in an error value, however deeply it is nested."""
    while isinstance(error, dict | list):
        inner = error[0] if isinstance(error, list) and error else _inner_message(error)
        if inner is None:
            return json.dumps(error, ensure_ascii=False) if error else ""
        error = _parse_if_json(inner)
    return str(error)


def _inner_message(error: Any) -> Any:
    """Return the value under the first known message key, prefixed by the field that it is about."""
    if not isinstance(error, dict):
        return None
    inner = next((error[name] for name in MESSAGE_KEYS if error.get(name)), None)
    field, metadata = error.get("loc"), error.get("metadata")
    if isinstance(field, list) and isinstance(inner, str):
        return f"{'.'.join(map(str, field))}: {inner}"
    raw = metadata.get("raw") if isinstance(metadata, dict) else None  # the error of a server behind this one
    return f"{inner}: {_find_message(_parse_if_json(raw))}" if raw else inner


def _parse_if_json(value: Any) -> Any:
    """Parse a text that is a JSON object or list; return anything else unchanged."""
    parsed = json_or_none(value) if isinstance(value, str) and value.lstrip().startswith(("{", "[")) else None
    return parsed if isinstance(parsed, dict | list) else value


def error_in(chunk: Mapping[str, Any]) -> Any:
    """Return the error in a chunk of a stream, wherever the server puts it; None if there is none."""
    if chunk.get("object") == "error":
        return chunk
    choices = chunk.get("choices")
    in_choices = [mapping(each).get("error") for each in choices] if isinstance(choices, list) else []
    found = [chunk.get("error"), mapping(chunk.get("x_groq")).get("error"), *in_choices]
    return next(filter(None, found), None)


def status_of(*errors: Any) -> int | None:
    """Return the first HTTP status in errors inside a stream, if one of them has any."""
    codes = [mapping(error).get(name) for error in errors for name in STATUS_KEYS]
    numbers = [int(code) if isinstance(code, str) and re.fullmatch("[1-9][0-9]{2}", code) else code for code in codes]
    return next((each for each in numbers if type(each) is int and 100 <= each < 1000), None)

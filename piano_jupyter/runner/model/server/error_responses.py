"""What a server's refusal means: from its status and body to an error with the way out. Pure."""

import json
import re
from collections.abc import Mapping
from typing import Any

from piano_jupyter import errors
from piano_jupyter.runner.model.server.model_list import size_of_window
from piano_jupyter.text.json_text import json_or_none, mapping
from piano_jupyter.text.truncation import truncated

#: what passes: the usual ones, a proxy's own for a server that it does not reach, and for one that has too much to do
PASSING = frozenset({408, 429, 502, 503, 504, *range(520, 525), 529})
BUSY = frozenset({429, 529})
#: how servers say that a prompt is too long, where its error has no code for that
TOO_LONG = re.compile(
    r"context (?:size|length|window)|context_length_exceeded|maximum model length|prompt is too long"
    r"|exceeds the maximum number of tokens",
    re.IGNORECASE,
)
WINDOW = re.compile(
    r"(?:maximum context length (?:is|of)|maximum model length of|context length of(?: only)?|context window of"
    r"|tokens allowed \(|tokens >) ?(\d{1,3}(?:,\d{3})+|\d{1,12})\b",
    re.IGNORECASE,
)
TITLE = re.compile(r"<title[^>]*>\s*(.*?)\s*</title>", re.IGNORECASE | re.DOTALL)
SENTENCES = ("message", "detail", "errors", "msg", "error")
UNSPECIFIC = "unspecific error: "  # llama-swap's word for what befalls it while it loads a model


def error_from(status: int, body: str, model: str = "the model") -> errors.ModelError:
    """Return the error that a server's status and body mean, as a sentence with the way out."""
    fields, said = _words(body)
    if failed_to_start(body):
        cause = said.removeprefix(UNSPECIFIC).removeprefix("unable to start process: ")
        return errors.ModelUnavailableError(
            f"{model} could not be loaded ({cause}); the server's log says why "
            f"(llama-swap shows it at /logs), and %piano models which others there are"
        )
    is_named = fields.get("type") == "exceed_context_size_error" or fields.get("code") == "context_length_exceeded"
    if is_named or TOO_LONG.search(said):
        n_ctx = _window(said) or size_of_window(fields.get("n_ctx"))
        window = f" of {n_ctx:,} tokens" if n_ctx else ""
        return errors.ContextOverflowError(
            f"the conversation no longer fits in the model's context{window}; open a new thread",
            n_ctx=n_ctx,
            n_prompt=size_of_window(fields.get("n_prompt_tokens")),
        )
    if status in {401, 403}:
        return errors.ModelError(f"the server refused the key ({said}); set PianoConfig.api_key or PIANO_API_KEY")
    if status == 404:
        return errors.ModelNotServedError(
            f"the server does not serve {model} ({said}); %piano models lists what it has"
        )
    if status in BUSY:
        return errors.ModelUnavailableError(f"the server is busy ({said}); retry in a moment")
    if status in PASSING:
        return errors.ModelUnavailableError(f"the model's server is down or still starting ({said}); retry in a moment")
    return errors.ModelRefusedError(f"the server answered {status}: {said}")


def passes(status: int, body: str) -> bool:
    """Return whether a refusal is of a kind that passes, so that to ask again may help."""
    return status in PASSING and not failed_to_start(body)


def failed_to_start(body: str) -> bool:
    """Return whether llama-swap says that it could not load the model: to ask again would only load it again."""
    fields, said = _words(body)
    by_llama_swap = mapping(json_or_none(body)).get("src") == "llama-swap"
    in_stream = by_llama_swap and fields.get("code") == "internal_error"
    return in_stream or said.startswith((UNSPECIFIC, "unable to start process"))


def _words(body: str) -> tuple[Mapping[str, Any], str]:
    """Return what an error in a body has fields for, in whatever form the server has it, and its words."""
    read = json_or_none(body)
    if isinstance(read, list) and len(read) == 1:
        read = read[0]
    error = (read.get("error") or read) if isinstance(read, dict) else body
    page = TITLE.search(body) if read is None else None
    said = page[1] if page else _sentence(error)
    plain = "".join(each if each.isprintable() else " " for each in truncated(said, 500))
    return mapping(error), plain.strip() or "no reason given"


def _sentence(said: Any) -> str:
    """Return the sentence in what a server says, however deep it stands in it."""
    while isinstance(said, dict | list):
        inner = said[0] if isinstance(said, list) and said else _inside(said)
        if inner is None:
            return json.dumps(said, ensure_ascii=False) if said else ""
        said = _read(inner)
    return str(said)


def _inside(said: Any) -> Any:
    """Return what stands under the first of the names that servers have for a sentence, with the field it is about."""
    if not isinstance(said, dict):
        return None
    inner = next((said[name] for name in SENTENCES if said.get(name)), None)
    field, behind = said.get("loc"), said.get("metadata")
    if isinstance(field, list) and isinstance(inner, str):
        return f"{'.'.join(map(str, field))}: {inner}"
    raw = behind.get("raw") if isinstance(behind, dict) else None  # what another server said, of which this one tells
    return f"{inner}: {_sentence(_read(raw))}" if raw else inner


def _read(said: Any) -> Any:
    """Return the JSON in a text, where it is an object or a list; anything else as it is."""
    read = json_or_none(said) if isinstance(said, str) and said.lstrip().startswith(("{", "[")) else None
    return read if isinstance(read, dict | list) else said


def _window(said: str) -> int | None:
    """Return the size of the window that a sentence names."""
    found = WINDOW.search(said)
    return int(found[1].replace(",", "")) if found else None


def code_of(error: Any) -> int | None:
    """Return the status that an error in the middle of a stream tells, if it does."""
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(code, str) and len(code) == 3 and code.isdecimal():
        code = int(code)
    return code if isinstance(code, int) and not isinstance(code, bool) else None

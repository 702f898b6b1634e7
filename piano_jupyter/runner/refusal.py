"""What a server's refusal means: from its status and body to an error with the way out. Pure."""

import json
import re
from typing import Any

from piano_jupyter.errors import (
    ContextOverflowError,
    ModelError,
    ModelNotServedError,
    ModelRefusedError,
    ModelUnavailableError,
)

PASSING = frozenset({408, 429, 502, 503, 504})
UNSPECIFIC = "unspecific error: "  # llama-swap's word for what befalls it while it loads a model


def error_from(status: int, body: str, model: str = "the model") -> ModelError:
    """Return the error that a server's status and body mean, as a sentence with the way out."""
    error, said = _words(body)
    if failed_to_start(body):
        cause = said.removeprefix(UNSPECIFIC).removeprefix("unable to start process: ")
        return ModelUnavailableError(
            f"{model} could not be loaded ({cause}); the server's log says why "
            f"(llama-swap shows it at /logs), and %piano models which others there are"
        )
    kind = str(error.get("type", "")) if isinstance(error, dict) else ""
    if kind == "exceed_context_size_error" or "context size" in said or "context length" in said:
        n_ctx, n_prompt = _number(error, "n_ctx", "maximum context length is", said), _number(error, "n_prompt_tokens")
        window = f" of {n_ctx:,} tokens" if n_ctx else ""
        return ContextOverflowError(
            f"the conversation no longer fits in the model's context{window}; open a new thread",
            n_ctx=n_ctx,
            n_prompt=n_prompt,
        )
    if status in {401, 403}:
        return ModelError(f"the server refused the key ({said}); set PianoConfig.api_key or PIANO_API_KEY")
    if status == 404:
        return ModelNotServedError(f"the server does not serve {model} ({said}); %piano models lists what it has")
    if status == 429:
        return ModelUnavailableError(f"the server is busy ({said}); retry in a moment")
    if status in {502, 503, 504}:
        return ModelUnavailableError(f"the model's server is down or still starting ({said}); retry in a moment")
    return ModelRefusedError(f"the server answered {status}: {said}")


def passes(status: int, body: str) -> bool:
    """Return whether a refusal is of a kind that passes, so that to ask again may help."""
    return status in PASSING and not failed_to_start(body)


def failed_to_start(body: str) -> bool:
    """Return whether llama-swap says that it could not load the model: to ask again would only load it again."""
    error, said = _words(body)
    read = parsed(body)
    by_llama_swap = isinstance(read, dict) and read.get("src") == "llama-swap"
    in_stream = by_llama_swap and isinstance(error, dict) and error.get("code") == "internal_error"
    return in_stream or said.startswith((UNSPECIFIC, "unable to start process"))


def _words(body: str) -> tuple[Any, str]:
    """Return the error in a body, in whatever form the server has it, and its words."""
    read = parsed(body)
    error = read.get("error", read) if isinstance(read, dict) else body
    message = error.get("message") or error if isinstance(error, dict) else error
    return error, str(message).strip()[:500] or "no reason given"


def _number(error: Any, name: str, words: str = "", said: str = "") -> int | None:
    """Return a number that an error has under a name, or behind words in its sentence."""
    number = error.get(name) if isinstance(error, dict) else None
    if words and (found := re.search(rf"{words} (\d+)", said)):
        number = int(found[1])
    return number if isinstance(number, int) and number > 0 else None


def parsed(text: str) -> Any:
    """Read JSON; None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def code_of(error: Any) -> int | None:
    """Return the status that an error in the middle of a stream tells, if it does."""
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(code, str) and len(code) == 3 and code.isdecimal():
        code = int(code)
    return code if isinstance(code, int) and not isinstance(code, bool) else None

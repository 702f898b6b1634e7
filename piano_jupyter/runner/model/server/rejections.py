"""The error for a response that is none of success: a `TransientError` if the same request may succeed later."""

import httpx

from piano_jupyter.errors import ModelError
from piano_jupyter.runner.model.server.error_responses import (
    BUSY_STATUSES,
    LOADING_STATUS,
    error_from,
    is_loading,
    is_transient,
)
from piano_jupyter.runner.model.server.retries import TransientError, retry_after


def rejection(response: httpx.Response, text: str, model: str, loading_s: float) -> TransientError | ModelError:
    """Return the error for a response and its text; a model that is loading is waited for up to `loading_s` seconds."""
    status = response.status_code
    error = error_from(status, text, model)
    if is_loading(status, text):
        return TransientError(error, wait_s=loading_s, note=f"{model} is loading")
    if is_transient(status, text):
        return TransientError(error, retry_after(response.headers), busy=status in {*BUSY_STATUSES, LOADING_STATUS})
    return error


def response_text(response: httpx.Response, body: bytes) -> str:
    """Return the text of a response that is none of success; of a redirect, where it leads and what to do."""
    if response.has_redirect_location:
        return f"it redirects to {response.headers['location']}; fix PianoConfig.base_url"
    return body.decode("utf-8", "replace")

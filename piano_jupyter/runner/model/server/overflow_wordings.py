"""How servers say that a prompt is too long, and how large the context window is. Pure."""

import re

OVERFLOW_CODES = frozenset({"context_length_exceeded", "context_window_exceeded", "model_context_window_exceeded"})
PAYLOAD_TOO_LARGE = 413
PROMPT_TOO_LONG = (
    r"context[ _](?:size|length|window|limit)",
    r"maximum (?:model|prompt|(?:allowed )?input) length",
    r"(?:prompt|input) (?:is )?too long|Prompt 超长",
    r"exceeds the maximum number of tokens|model token limit|total tokens limit",
    r"reduce the length of the messages",
    r"\b(?:token count|tokens|input length)[^.;]{0,60} exceeds? the (?:configured )?limit of",
    r"max input tokens|too many tokens: total number|range of input length should be",
    r"`?inputs`? (?:tokens \+|must have less than)",
    r"when context the overflows|max_seq_len|max_num_tokens",
    r"max_tokens must be at least 1, got -",  # what the prompt leaves for the answer
)
#: a limit for each minute is none of a prompt's
RATE_LIMIT = r"per (?:minute|hour|day)|rate.?limit|\b[tr]p[md]\b|throttl|quota|please wait"
#: what stands directly before the window's size
BEFORE_WINDOW = (
    r"n_ctx:",
    r"(?:maximum|max) (?:context|model|prompt|(?:allowed )?input) length(?: is| of|:)?",
    r"context length(?: of(?: only)?| is(?: only)?|:)?",
    r"context (?:size|window)(?: limit)?(?: of| is|:)?",
    r"model token limit:?|total tokens limit|exceeds? the (?:configured )?limit of",
    r"tokens allowed|max input tokens:?|tokens in the prompt cannot exceed",
    r"must be <=|must have less than|max_seq_len|max_num_tokens|input length should be \[1,",
    r"current length is [\d,]+ while limit is",
    r"tokens >|\d \+ \d+ >",
)
NUMBER = r"\(?(\d{1,3}(?:,\d{3})+|\d{1,12})\b"

_too_long = re.compile("|".join(PROMPT_TOO_LONG), re.IGNORECASE)
_rate_limit = re.compile(RATE_LIMIT, re.IGNORECASE)
_window = re.compile(rf"(?:{'|'.join(BEFORE_WINDOW)}) ?{NUMBER}|with {NUMBER} maximum context length", re.IGNORECASE)


def says_too_long(status: int, message: str) -> bool:
    """Return whether an error without a code says that the prompt is too long."""
    if _rate_limit.search(message):
        return False
    return status == PAYLOAD_TOO_LARGE or _too_long.search(message) is not None


def window_in(message: str) -> int | None:
    """Return the context window's size in tokens, if the message names it."""
    found = _window.search(message)
    return int((found[1] or found[2]).replace(",", "")) if found else None

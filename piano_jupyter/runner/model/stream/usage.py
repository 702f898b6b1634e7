"""Parses the usage that servers report, each in its own fields, into the fields of `Message.usage`. Pure."""

from collections.abc import Mapping
from math import isfinite
from typing import Any

from piano_jupyter.runner.model.stream.tool_calls import replace_lone_surrogates
from piano_jupyter.text.json_text import mapping
from piano_jupyter.text.truncation import truncated

MAX_COUNT = 1 << 53  #: a larger number is not a count
USAGE_KEYS = frozenset({"usage", "timings", "x_groq"})  #: the parts of a chunk that usage is read from
TOKEN_COUNTS = ("prompt_tokens", "cached_tokens", "completion_tokens")


def parse_usage(chunk: Mapping[str, Any]) -> dict[str, Any]:
    """Return a chunk's model, prompt_tokens, cached_tokens, completion_tokens, tokens_per_second, as far as given."""
    model = chunk.get("model")
    found: dict[str, Any] = {}
    if model and isinstance(model, str):
        found["model"] = replace_lone_surrogates(truncated(model, 200, ""))
    usage = mapping(chunk.get("usage")) or mapping(mapping(chunk.get("x_groq")).get("usage"))  # Groq
    timings = mapping(chunk.get("timings"))
    cached = timings.get("cache_n")  # llama.cpp
    if _counts(evaluated=timings.get("prompt_n")):
        reused = cached if _counts(cached=cached) else 0
        found |= _counts(prompt_tokens=timings["prompt_n"] + reused, completion_tokens=timings.get("predicted_n"))
    details = mapping(usage.get("prompt_tokens_details"))
    for other in (usage.get("prompt_cache_hit_tokens"), usage.get("cached_tokens"), details.get("cached_tokens")):
        cached = cached if other is None else other
    found |= _counts(
        prompt_tokens=usage.get("prompt_tokens", usage.get("input_tokens")),
        cached_tokens=cached,
        completion_tokens=usage.get("completion_tokens", usage.get("output_tokens")),
    )
    speed = timings.get("predicted_per_second")
    if isinstance(speed, int | float) and isfinite(speed) and 0 < speed < MAX_COUNT:
        found["tokens_per_second"] = round(speed, 1)
    return found


def sum_usage(usages: list[Mapping[str, Any]]) -> dict[str, int]:
    """Return the total tokens of several answers, as far as reported."""
    found = {name: [usage[name] for usage in usages if name in usage] for name in TOKEN_COUNTS}
    return {name: sum(counts) for name, counts in found.items() if counts}


def _counts(**counts: Any) -> dict[str, int]:
    return {name: count for name, count in counts.items() if type(count) is int and 0 <= count < MAX_COUNT}

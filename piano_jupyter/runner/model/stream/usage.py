"""What an answer cost, in the words of whichever server tells it, as `Message.usage` has them. Pure."""

from collections.abc import Mapping
from math import isfinite
from typing import Any

from piano_jupyter.runner.model.stream.tool_calls import whole_characters
from piano_jupyter.text.json_text import mapping
from piano_jupyter.text.truncation import truncated

LARGEST = 1 << 53  #: what is more is no count
TELLS_USAGE = frozenset({"usage", "timings", "x_groq"})  #: the parts of a chunk that it is read from
TOKENS = ("prompt_tokens", "cached_tokens", "completion_tokens")


def usage_of(chunk: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a chunk tells: model, prompt_tokens, cached_tokens, completion_tokens, tokens_per_second."""
    model = chunk.get("model")
    told: dict[str, Any] = {}
    if model and isinstance(model, str):
        told["model"] = whole_characters(truncated(model, 200, ""))
    usage = mapping(chunk.get("usage")) or mapping(mapping(chunk.get("x_groq")).get("usage"))  # Groq's own part
    timings = mapping(chunk.get("timings"))
    cached = timings.get("cache_n")  # llama.cpp
    if _counts(evaluated=timings.get("prompt_n")):
        reused = cached if _counts(cached=cached) else 0
        told |= _counts(prompt_tokens=timings["prompt_n"] + reused, completion_tokens=timings.get("predicted_n"))
    details = mapping(usage.get("prompt_tokens_details"))
    for elsewhere in (usage.get("prompt_cache_hit_tokens"), usage.get("cached_tokens"), details.get("cached_tokens")):
        cached = cached if elsewhere is None else elsewhere
    told |= _counts(
        prompt_tokens=usage.get("prompt_tokens"), cached_tokens=cached, completion_tokens=usage.get("completion_tokens")
    )
    speed = timings.get("predicted_per_second")
    if isinstance(speed, int | float) and isfinite(speed) and 0 < speed < LARGEST:
        told["tokens_per_second"] = round(speed, 1)
    return told


def summed(usages: list[Mapping[str, Any]]) -> dict[str, int]:
    """Return the tokens of several answers together, as far as they are told."""
    told = {name: [usage[name] for usage in usages if name in usage] for name in TOKENS}
    return {name: sum(counts) for name, counts in told.items() if counts}


def _counts(**counts: Any) -> dict[str, int]:
    return {name: count for name, count in counts.items() if type(count) is int and 0 <= count < LARGEST}

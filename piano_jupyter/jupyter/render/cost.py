"""The cost of an answer, as short phrases to show below it."""

from collections.abc import Mapping
from typing import Any

from piano_jupyter.records import Message

MIN_SHOWN_S = 0.05  # shorter times are left out


def usage_parts(message: Message) -> list[str]:
    """Return the cost of an answer as phrases: model, tokens, speed, times, and tokens of all rounds of the turn."""
    usage = message.usage
    parts = [str(usage["model"])] if usage.get("model") else []
    parts += _tokens(usage)
    if "tokens_per_second" in usage:
        parts.append(f"{usage['tokens_per_second']:g} tokens/s")
    if usage.get("first_token_s", 0) >= MIN_SHOWN_S:
        parts.append(f"first after {usage['first_token_s']:.1f} s")
    if usage.get("load_s", 0) >= MIN_SHOWN_S:
        parts.append(f"loading {usage['load_s']:.1f} s")
    if usage.get("cut"):
        parts.append("cut off: it reached the limit of its length")
    if usage.get("looped"):
        parts.append("stopped: the model repeated itself")
    if usage.get("withheld"):
        parts.append("cut off: the server withheld the rest")
    if (turn := usage.get("turn")) and (tokens := _tokens(turn)):
        parts.append(f"{turn['rounds']} rounds in all: {', '.join(tokens)}")
    return parts


def brief_usage(message: Message) -> str:
    """Return the tokens that were written, and how fast, in a few words; "" if that is not known."""
    usage, parts = message.usage, []
    if "completion_tokens" in usage:
        parts.append(f"{usage['completion_tokens']:,} token{'' if usage['completion_tokens'] == 1 else 's'}")
    if "tokens_per_second" in usage:
        parts.append(f"{usage['tokens_per_second']:g} tokens/s")
    return " · ".join(parts)


def _tokens(usage: Mapping[str, Any]) -> list[str]:
    parts = []
    if "prompt_tokens" in usage:
        cached = f" ({usage['cached_tokens']:,} cached)" if usage.get("cached_tokens") else ""
        parts.append(f"{usage['prompt_tokens']:,} tokens read{cached}")
    if "completion_tokens" in usage:
        parts.append(f"{usage['completion_tokens']:,} written")
    return parts

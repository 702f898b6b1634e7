"""Limits that stop a runaway turn: failed calls, repeated calls, tokens, seconds. Pure."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from piano_jupyter.errors import ModelError, NotFoundError, ToolError, TurnLimitError
from piano_jupyter.runner.model.protocol import Reply, RequestedCall
from piano_jupyter.runner.model.stream.usage import sum_usage
from piano_jupyter.runner.schema.coercion import check_arguments
from piano_jupyter.tool import Tool

MAX_FAILED_CALLS = 3  #: in a row that cannot be run
MAX_REPEATED_CALLS = 5  #: in a row with the same arguments
REPAIRED_NOTE = "(its arguments were not valid JSON and were repaired; send valid JSON)"


class TurnLimits:
    """The limits of one turn: it reports what it did, and `check` stops it. `max_tokens` 0 is no limit."""

    def __init__(self, *, max_tokens: int, max_seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self._max_tokens, self._max_seconds, self._now = max_tokens, max_seconds, now
        self._started_at = now()
        self._usages: list[Mapping[str, Any]] = []
        self._failed_calls = self._repeated_calls = 0
        self._last_call = ""
        self._stop_reason = ""  #: why the turn must stop

    def check(self) -> None:
        """Raise TurnLimitError if the turn has reached a limit."""
        if not self._stop_reason and self._now() - self._started_at > self._max_seconds:
            self._stop_reason = limit_reached(f"{self._max_seconds:g} s", "max_turn_s")
        if self._stop_reason:
            raise TurnLimitError(self._stop_reason)

    def add_usage(self, usage: Mapping[str, Any]) -> None:
        """Add the usage of one model request."""
        self._usages.append(usage)
        total = sum_usage(self._usages)
        tokens = total.get("prompt_tokens", 0) + total.get("completion_tokens", 0)
        if 0 < self._max_tokens < tokens:
            self._stop_reason = limit_reached(f"{tokens:,} tokens", "max_turn_tokens")

    def turn_usage(self) -> dict[str, Any]:
        """Return the total of all requests, if there were several, as part of the answer's usage."""
        rounds = len(self._usages)
        return {"turn": {"rounds": rounds, **sum_usage(self._usages)}} if rounds > 1 else {}

    def check_call(self, requested: RequestedCall, tools: Sequence[Tool]) -> tuple[str, Tool | None]:
        """Return the tool to run, or why the call cannot run."""
        refusal, tool = _check_call(requested, tools)
        self._failed_calls = 0 if tool else self._failed_calls + 1
        if self._failed_calls >= MAX_FAILED_CALLS:
            self._stop_reason = (
                f"stopped after {MAX_FAILED_CALLS} tool calls in a row that could not be run; the last one: {refusal}. "
                f"Rephrase the question, or give the agent another model"
            )
        call = json.dumps([requested.name, dict(requested.arguments), requested.problem], sort_keys=True)
        self._repeated_calls = self._repeated_calls + 1 if call == self._last_call else 1
        self._last_call = call
        if self._repeated_calls >= MAX_REPEATED_CALLS:
            refusal, tool = f"not run: the same call for the {MAX_REPEATED_CALLS}th time in a row", None
            self._stop_reason = (
                f"stopped: the model called {requested.name} with the same arguments {MAX_REPEATED_CALLS} times "
                f"in a row; rephrase the question, or give the agent another model"
            )
        return refusal, tool


def limit_reached(what: str, setting: str) -> str:
    """Return the message for a turn that has reached the limit of a setting."""
    return f"stopped after {what}; ask for a smaller step, or raise PianoConfig.{setting}"


def empty_answer_error(reply: Reply) -> ModelError:
    """Return the error for a reply without text and calls."""
    has_reasoning = bool(reply.reasoning.strip())
    match reply.finish_reason:
        case "length" if has_reasoning:
            message = "the answer reached its length limit while the model was reasoning; raise the agent's max_tokens"
        case "length":
            message = "the answer reached its length limit before its first word; raise the agent's max_tokens"
        case "loop":
            message = "the model repeated itself without end and gave no answer; retry, or rephrase the question"
        case "content_filter":
            message = "the server withheld the answer (content_filter); rephrase the question"
        case _ if has_reasoning:
            message = "the model reasoned but gave no answer; retry, or rephrase the question"
        case _:
            message = "the model gave an empty answer; retry, or rephrase the question"
    return ModelError(message)


def _check_call(requested: RequestedCall, tools: Sequence[Tool]) -> tuple[str, Tool | None]:
    if requested.problem is not None:
        return requested.problem, None
    enabled = {tool.name: tool for tool in tools}
    if requested.name not in enabled:
        return str(NotFoundError.among("tool", requested.name, enabled)), None
    try:
        check_arguments(enabled[requested.name], requested.arguments)  # before the user is asked to approve it
    except ToolError as error:
        return str(error), None
    return "", enabled[requested.name]

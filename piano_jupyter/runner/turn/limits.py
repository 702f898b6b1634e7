"""What ends a turn that would not end by itself: wrong calls, one call over and over, tokens, seconds. Pure."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from piano_jupyter.errors import ModelError, NotFoundError, ToolError, TurnLimitError
from piano_jupyter.runner.model.protocol import Reply, RequestedCall
from piano_jupyter.runner.model.stream.usage import summed
from piano_jupyter.runner.schema.coercion import check_arguments
from piano_jupyter.tool import Tool

MOST_WRONG = 3  #: calls in a row that cannot be run
MOST_ALIKE = 5  #: calls in a row with the same arguments
REPAIRED = "(its arguments were not quite JSON and were put right; send plain JSON)"


class TurnLimits:
    """The limits of one turn: what it did is told, and `check` ends it. `max_tokens` 0 is no limit."""

    def __init__(self, *, max_tokens: int, max_seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self._max_tokens, self._max_seconds, self._now = max_tokens, max_seconds, now
        self._began = now()
        self._spent: list[Mapping[str, Any]] = []
        self._wrong = self._alike = 0
        self._last = ""
        self._over = ""  #: why the turn ends

    def check(self) -> None:
        """Raise TurnLimitError where the turn has gone on for long enough."""
        if not self._over and self._now() - self._began > self._max_seconds:
            self._over = stopped_after(f"{self._max_seconds:g} s", "max_turn_s")
        if self._over:
            raise TurnLimitError(self._over)

    def spend(self, usage: Mapping[str, Any]) -> None:
        """Take what a round has cost."""
        self._spent.append(usage)
        told = summed(self._spent)
        tokens = told.get("prompt_tokens", 0) + told.get("completion_tokens", 0)
        if 0 < self._max_tokens < tokens:
            self._over = stopped_after(f"{tokens:,} tokens", "max_turn_tokens")

    def cost(self) -> dict[str, Any]:
        """Return what all rounds together have cost, where they were several, as part of the answer's usage."""
        rounds = len(self._spent)
        return {"turn": {"rounds": rounds, **summed(self._spent)}} if rounds > 1 else {}

    def judge(self, requested: RequestedCall, tools: Sequence[Tool]) -> tuple[str, Tool | None]:
        """Return the tool to run, or why none is run."""
        refusal, tool = _runnable(requested, tools)
        self._wrong = 0 if tool else self._wrong + 1
        if self._wrong >= MOST_WRONG:
            self._over = (
                f"stopped after {MOST_WRONG} tool calls in a row that could not be run; the last one: {refusal}. "
                f"Ask in other words, or give the agent another model"
            )
        call = json.dumps([requested.name, dict(requested.arguments), requested.problem], sort_keys=True)
        self._alike = self._alike + 1 if call == self._last else 1
        self._last = call
        if self._alike >= MOST_ALIKE:
            refusal, tool = f"not run: the same call for the {MOST_ALIKE}th time in a row", None
            self._over = (
                f"stopped: the model asked for the same call of {requested.name} {MOST_ALIKE} times in a row; "
                f"ask in other words, or give the agent another model"
            )
        return refusal, tool


def stopped_after(what: str, setting: str) -> str:
    """Return the sentence for a turn that has used up what a setting allows."""
    return f"stopped after {what}; ask for a smaller step, or raise PianoConfig.{setting}"


def no_answer(reply: Reply) -> ModelError:
    """Return the error for a reply that says nothing and calls nothing."""
    thought = bool(reply.reasoning.strip())
    match reply.finish_reason:
        case "length" if thought:
            said = "the model reached the limit of its length while it thought; raise the agent's max_tokens"
        case "length":
            said = "the model reached the limit of its length before its first word; raise the agent's max_tokens"
        case "content_filter":
            said = "the server withheld the answer (content_filter); ask in other words"
        case _ if thought:
            said = "the model only thought and gave no answer; ask again, or in other words"
        case _:
            said = "the model gave an empty answer; ask again, or in other words"
    return ModelError(said)


def _runnable(requested: RequestedCall, tools: Sequence[Tool]) -> tuple[str, Tool | None]:
    if requested.problem is not None:
        return requested.problem, None
    enabled = {tool.name: tool for tool in tools}
    if requested.name not in enabled:
        return str(NotFoundError.among("tool", requested.name, enabled)), None
    try:
        check_arguments(enabled[requested.name], requested.arguments)  # before the user is asked about it
    except ToolError as error:
        return str(error), None
    return "", enabled[requested.name]

"""Shows a tool call that waits for approval as plain text, and parses the user's answer."""

import json
from typing import Literal

from piano_jupyter.events import ApprovalRequested
from piano_jupyter.text.invisible import to_the_letter

Answer = Literal["yes", "always", "no"]

ANSWER_WORDS: dict[str, Answer] = {"y": "yes", "yes": "yes", "a": "always", "always": "always"}
ALREADY_ANSWERED = "has already been answered"


def prompt_text(request: ApprovalRequested, where: str = "") -> str:
    """Return who wants to run what and why, with all arguments of the call, unshortened and unambiguous."""
    why = f" ({request.reason})" if request.reason else ""
    return "\n".join([to_the_letter(f"{request.question}{where}{why}:"), *argument_lines(request)])


def argument_lines(request: ApprovalRequested) -> list[str]:
    """Return a call's arguments, unambiguously; a bar starts each line, so that none can look like Piano's."""
    values = {
        to_the_letter(name).replace("\n", " "): argument_text(value) for name, value in request.call.arguments.items()
    }
    width = max(map(len, values), default=0)
    lines = []
    for name, value in values.items():
        first, *rest = to_the_letter(value).split("\n")
        lines += [f"  {name:{width}} │ {first}", *(f"  {'':{width}} │ {line}" for line in rest)]
    return lines or ["  (no arguments)"]


def choices(request: ApprovalRequested) -> str:
    """Return the possible answers, with the rule that "always" would add."""
    always = f"[a]lways ({to_the_letter(request.always)}) / " if request.always else ""
    return f"[y]es / {always}[N]o "


def parse_answer(typed: str, request: ApprovalRequested) -> Answer:
    """Return the answer in a typed text: yes, always if that is possible, or else no."""
    answer = ANSWER_WORDS.get(typed.strip().lower(), "no")
    return "no" if answer == "always" and not request.always else answer


def rule_added_message(rule: str, elsewhere: str = "") -> str:
    """Return the message about a rule that "always" has added where the call runs: here, or in another notebook."""
    rules = f"the PianoConfig.rules of {elsewhere}" if elsewhere else "this kernel's PianoConfig.rules"
    return (
        f"from now on: the rule {rule!r} is added to {rules}; "
        f"to keep it, add it to c.PianoConfig.rules in ipython_config.py"
    )


def argument_text(value: object) -> str:
    """Return a call's argument as text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)

"""How a tool call that waits for a yes is put before people in plain text, and which of their words are an answer."""

import json
from typing import Literal

from piano_jupyter.events import ApprovalRequested
from piano_jupyter.text.invisible import to_the_letter

Answer = Literal["yes", "always", "no"]

WORDS: dict[str, Answer] = {"y": "yes", "yes": "yes", "a": "always", "always": "always"}
TOO_LATE = "was answered already"


def put(request: ApprovalRequested, where: str = "") -> str:
    """Return who wants what and why, and the whole call to the letter: each line of it behind a bar, none left out."""
    why = f" ({request.reason})" if request.reason else ""
    return "\n".join([to_the_letter(f"{request.question}{where}{why}:"), *call_lines(request)])


def call_lines(request: ApprovalRequested) -> list[str]:
    """Return a call's arguments, to the letter: each line behind a bar, so that nothing in it can pass for ours."""
    values = {to_the_letter(name).replace("\n", " "): written(value) for name, value in request.call.arguments.items()}
    width = max(map(len, values), default=0)
    lines = []
    for name, value in values.items():
        first, *rest = to_the_letter(value).split("\n")
        lines += [f"  {name:{width}} │ {first}", *(f"  {'':{width}} │ {line}" for line in rest)]
    return lines or ["  (no arguments)"]


def choices(request: ApprovalRequested) -> str:
    """Return what can be answered, with what "always" covers."""
    always = f"[a]lways ({to_the_letter(request.always)}) / " if request.always else ""
    return f"[y]es / {always}[N]o "


def answer_of(typed: str, request: ApprovalRequested) -> Answer:
    """Return what somebody has answered: a plain yes, or always where that can be chosen; all else is no."""
    answer = WORDS.get(typed.strip().lower(), "no")
    return "no" if answer == "always" and not request.always else answer


def how_to_keep(rule: str) -> str:
    """Return what to say of a rule that "always" has added."""
    return (
        f"from now on: the rule {rule!r} is added to this kernel's PianoConfig.rules; "
        f"to keep it, add it to c.PianoConfig.rules in ipython_config.py"
    )


def written(value: object) -> str:
    """Return an argument of a call as text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)

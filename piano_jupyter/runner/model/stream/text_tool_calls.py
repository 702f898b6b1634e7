"""Tool calls that a model wrote as text and its server did not parse: they count if nothing else was written.

Pure. Only the model's own text is parsed, never a tool's result or a user's message.

* `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, one or several
* `<function=name>{…}</function>`, or with `<parameter=x>…</parameter>` inside, alone or within `<tool_call>`
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from piano_jupyter.runner.model.protocol import RequestedCall
from piano_jupyter.runner.model.stream.lenient_json import read_object

OPENINGS = ("<tool_call>", "<function=")
WRAPPER = re.compile(r"\s*+<tool_call>\s*+")
FUNCTION = re.compile(r"\s*+<function=([^<>\s]{1,200})>\s*+")
PARAMETER = re.compile(r"<parameter=([^<>\s]{1,200})>\n?")
END_OF_PARAMETER = re.compile(r"\n?</parameter>\s*+")
END_OF_FUNCTION = re.compile(r"\s*+</function>\s*+")
END_OF_WRAPPER = re.compile(r"\s*+</tool_call>\s*+")
MAX_LEADING_BLANKS = 1000


@dataclass(slots=True)
class TextToolCallBuffer:
    """Holds back an answer that starts like a call, until its end shows whether it is one."""

    holding: bool  #: the text so far may be the start of a call
    _held: str = ""

    def feed(self, text: str) -> str:
        """Add a piece of the answer; return what can be shown."""
        if not self.holding:
            return text
        if self._held.lstrip().startswith(OPENINGS):
            return ""
        self._held += text
        stripped = self._held.lstrip()
        may_be_call = stripped.startswith(OPENINGS) or any(each.startswith(stripped) for each in OPENINGS)
        if may_be_call and len(self._held) - len(stripped) <= MAX_LEADING_BLANKS:
            return ""
        self.holding = False
        return self._held


def parse_text_calls(text: str, names: Collection[str]) -> tuple[RequestedCall, ...]:
    """Return the calls if the text consists only of complete calls of these tools; else none."""
    calls, start = [], 0
    while start < len(text):
        found = _parse_call(text, start)
        if found is None or found[0].name not in names:
            return ()
        call, start = found
        calls.append(call)
    return tuple(calls)


def _parse_call(text: str, start: int) -> tuple[RequestedCall, int] | None:
    """Parse the call at an index; return it and where it ends."""
    wrapped = WRAPPER.match(text, start)
    if wrapped:
        start = wrapped.end()
    function = FUNCTION.match(text, start)
    if not function and not wrapped:
        return None
    found = _parse_function(function[1], text, function.end()) if function else _parse_json_call(text, start)
    if found is None or not wrapped:
        return found
    end = END_OF_WRAPPER.match(text, found[1])
    return (found[0], end.end()) if end else None


def _parse_json_call(text: str, start: int) -> tuple[RequestedCall, int] | None:
    """Parse `{"name": …, "arguments": {…}}`."""
    value, end = read_object(text, start)
    if value is None or not isinstance(value.get("name"), str):
        return None
    arguments = value.get("arguments", value.get("parameters", {}))
    return (RequestedCall(name=value["name"], arguments=arguments), end) if isinstance(arguments, dict) else None


def _parse_function(name: str, text: str, start: int) -> tuple[RequestedCall, int] | None:
    """Parse the inside of `<function=name>`: a JSON object, or parameters in tags."""
    arguments, start = read_object(text, start) if text.startswith("{", start) else _parse_parameters(text, start)
    end = END_OF_FUNCTION.match(text, start)
    return (RequestedCall(name=name, arguments=arguments), end.end()) if end and arguments is not None else None


def _parse_parameters(text: str, start: int) -> tuple[dict[str, Any], int]:
    """Parse each `<parameter=x>…</parameter>` that has an end tag."""
    arguments: dict[str, Any] = {}
    while parameter := PARAMETER.match(text, start):
        close = END_OF_PARAMETER.search(text, parameter.end())
        if close is None:
            break
        arguments[parameter[1]], start = text[parameter.end() : close.start()], close.end()
    return arguments, start

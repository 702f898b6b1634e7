"""Tool calls that a model wrote as text, where its server did not read them: taken only if they are all that it wrote.

Pure. It looks at what a model itself has written, and at nothing else: not at what a tool returned, not at the user's.

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
MOST_BLANKS = 1000  #: before a call


@dataclass(slots=True)
class TextToolCallBuffer:
    """Holds back an answer that begins like a call, until its end tells whether it is one."""

    closed: bool  #: nothing is decided yet, or it begins like a call
    _held: str = ""

    def feed(self, text: str) -> str:
        """Take a piece of the answer; return what may be shown."""
        if not self.closed:
            return text
        if self._held.lstrip().startswith(OPENINGS):
            return ""
        self._held += text
        told = self._held.lstrip()
        begins = told.startswith(OPENINGS) or any(each.startswith(told) for each in OPENINGS)
        if begins and len(self._held) - len(told) <= MOST_BLANKS:
            return ""
        self.closed = False
        return self._held


def written_calls(text: str, names: Collection[str]) -> tuple[RequestedCall, ...]:
    """Return the calls, if the text is nothing but whole calls of tools of these names; else none."""
    calls, at = [], 0
    while at < len(text):
        found = _call(text, at)
        if found is None or found[0].name not in names:
            return ()
        call, at = found
        calls.append(call)
    return tuple(calls)


def _call(text: str, at: int) -> tuple[RequestedCall, int] | None:
    """Read the call at a place; return it and where it ends."""
    wrapped = WRAPPER.match(text, at)
    if wrapped:
        at = wrapped.end()
    function = FUNCTION.match(text, at)
    if not function and not wrapped:
        return None
    found = _function(function[1], text, function.end()) if function else _named(text, at)
    if found is None or not wrapped:
        return found
    end = END_OF_WRAPPER.match(text, found[1])
    return (found[0], end.end()) if end else None


def _named(text: str, at: int) -> tuple[RequestedCall, int] | None:
    """Read `{"name": …, "arguments": {…}}`."""
    value, end = read_object(text, at)
    if value is None or not isinstance(value.get("name"), str):
        return None
    arguments = value.get("arguments", value.get("parameters", {}))
    return (RequestedCall(name=value["name"], arguments=arguments), end) if isinstance(arguments, dict) else None


def _function(name: str, text: str, at: int) -> tuple[RequestedCall, int] | None:
    """Read what is between `<function=name>` and its end: a JSON object, or parameters one by one."""
    arguments, at = read_object(text, at) if text.startswith("{", at) else _parameters(text, at)
    end = END_OF_FUNCTION.match(text, at)
    return (RequestedCall(name=name, arguments=arguments), end.end()) if end and arguments is not None else None


def _parameters(text: str, at: int) -> tuple[dict[str, Any], int]:
    """Read `<parameter=x>…</parameter>`, as many as there are that have an end."""
    arguments: dict[str, Any] = {}
    while parameter := PARAMETER.match(text, at):
        close = END_OF_PARAMETER.search(text, parameter.end())
        if close is None:
            break
        arguments[parameter[1]], at = text[parameter.end() : close.start()], close.end()
    return arguments, at

"""Tool calls that a model wrote as text and its server did not parse: they count if nothing else was written.

Pure. Only the model's own text is parsed, never a tool's result or a user's message. `MARKS` are what models write
around calls, `FORMS` how they write one call, besides a JSON object with its name and arguments, a call as in Python,
and the brackets of Gemma.
"""

import ast
import json
import re
from collections.abc import Collection
from dataclasses import InitVar, dataclass, field, replace
from typing import Any, NamedTuple

from piano_jupyter.runner.model.protocol import RequestedCall
from piano_jupyter.runner.model.stream.lenient_json import read_arguments, read_object
from piano_jupyter.runner.model.stream.tool_names import tool_named

MARKS = (
    "<tool_call>", "</tool_call>", "<tool_calls>", "</tool_calls>",  # Qwen, Hermes, GLM, MiniMax M1
    "<|tool_call|>", "<|/tool_call|>", "<TOOLCALL>", "</TOOLCALL>",  # Granite, Phi-4, Nemotron
    "<minimax:tool_call>", "</minimax:tool_call>", "<seed:tool_call>", "</seed:tool_call>",
    "<longcat_tool_call>", "</longcat_tool_call>",
    "<function_calls>", "</function_calls>", "<atem:function_calls>", "</atem:function_calls>",  # Olmo, Muse
    "<｜DSML｜function_calls>", "</｜DSML｜function_calls>", "<｜DSML｜tool_calls>", "</｜DSML｜tool_calls>",
    "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>",
    "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>",  # Kimi
    "[TOOL_CALLS]", "[/TOOL_CALLS]", "</s>",  # Mistral
    "<|python_tag|>", "<|eom_id|>", "<|eot_id|>",  # Llama
    "<|tool_call>", "<tool_call|>", "<start_function_call>", "<end_function_call>",  # Gemma
    "<|tool_call_start|>", "<|tool_call_end|>", "<|START_ACTION|>", "<|END_ACTION|>",  # LFM, Command A
    "[TOOL_REQUEST]", "[END_TOOL_REQUEST]", "[TOOL_CALL]", "[/TOOL_CALL]",  # LM Studio
)  # fmt: skip
JSON_STARTS = ('{"name":', '{"type":"function"', '{"function":{', '{"id":"call')
OPENINGS = (
    *(mark for mark in MARKS if "/" not in mark and "end" not in mark.lower() and "_id|" not in mark),
    *JSON_STARTS,
    *(f"[{start}" for start in JSON_STARTS),
    "<function=", "<invokename=", "<｜DSML｜invokename=", "<|tool_call_begin|>", "<｜tool▁call▁begin｜>",
    "<|start|>assistant", "<|channel|>commentary", "<|channel|>analysisto=",
    "to=functions.", "commentaryto=functions.", "analysisto=functions.", "assistantcommentaryto=functions.",
)  # fmt: skip
BETWEEN_CALLS = re.compile(rf"(?:{'|'.join(map(re.escape, MARKS))}|[\s;,\[\]])*")
CALL_KEYS = frozenset({"type", "id", "name", "arguments", "parameters", "function"})
MAX_LEADING_BLANKS = 1000
PYTHON_CALL = re.compile(r"([\w.]{1,200})\(")
PYTHON_TOKEN = re.compile(
    r'"[^"\\]*+(?:\\.[^"\\]*+)*"|\'[^\'\\]*+(?:\\.[^\'\\]*+)*\'|[()\[\]{}]|[^"\'()\[\]{}]++', re.DOTALL
)
GEMMA_CALL = re.compile(r"call:([\w.:-]{1,200})\s*+(?=\{)")
GEMMA_END = re.compile(r"<tool_call\|>|<end_function_call>|\Z")
#: a text between Gemma's own quotes, one between usual quotes, or a name before a colon
GEMMA_TOKEN = re.compile(
    r'(<\|"\|>|<escape>)(?P<text>.*?)\1|"[^"\\]*+(?:\\.[^"\\]*+)*"|(?<=[{,])(?P<name>\s*+[\w-]++\s*+)(?=:)', re.DOTALL
)


class CallForm(NamedTuple):
    """How a call is written: what comes before its arguments, each argument (None: one JSON object), what ends it."""

    header: re.Pattern[str]
    parameter: re.Pattern[str] | None
    end: re.Pattern[str]


def _form(header: str, end: str, parameter: str = "") -> CallForm:
    patterns = (pattern.replace("NAME", r"[\w.:-]{1,200}") for pattern in (header, parameter, end))
    head, each, tail = (re.compile(pattern, re.DOTALL) for pattern in patterns)
    return CallForm(head, each if parameter else None, tail)


FORMS = (
    _form(r"<function=(NAME)>\s*+(?=\{)", r"\s*+</function>"),
    _form(  # Qwen3-Coder
        r"<function=(NAME)>\s*+", r"</function>", r"<parameter=([^<>\s]{1,200})>\n?(.*?)\n?</parameter>\s*+"
    ),
    _form(  # MiniMax, DeepSeek
        r'<(?:｜DSML｜|\w{1,20}:)?invoke name="(NAME)">\s*+',
        r"</(?:｜DSML｜|\w{1,20}:)?invoke>",
        r'<(?:｜DSML｜|\w{1,20}:)?parameter name="([^<>"]{1,200})"[^<>]{0,50}>\n?(.*?)\n?'
        r"</(?:｜DSML｜|\w{1,20}:)?parameter>\s*+",
    ),
    _form(  # GLM
        r"(NAME)\s*+(?=<arg_key>|</tool_call>)",
        r"(?=</tool_call>)",
        r"<arg_key>([^<>]{1,200})</arg_key>\s*+<arg_value>(.*?)</arg_value>\s*+",
    ),
    _form(r"(NAME)\s*+(?:\[CALL_ID\]\w{1,64})?(?:\[ARGS\])?\s*+(?=\{)", ""),  # Mistral
    _form(
        r"<\|tool_call_begin\|>\s*+(NAME)\s*+<\|tool_call_argument_begin\|>\s*+", r"\s*+(?:<\|tool_call_end\|>)?"
    ),  # Kimi
    _form(  # DeepSeek
        r"<｜tool▁call▁begin｜>(?:function<｜tool▁sep｜>)?(NAME)\s*+(?:<｜tool▁sep｜>\s*+)?(?:```json\s*+)?",
        r"\s*+(?:```\s*+)?(?:<｜tool▁call▁end｜>)?",
    ),
    _form(  # harmony: gpt-oss
        r"(?:<\|start\|>assistant)?(?: ?to=(NAME))?<\|channel\|>(?:commentary|analysis)(?: to=(NAME))?"
        r"\s*+(?:<\|constrain\|>)?(?:json|code)?\s*+<\|message\|>\s*+",
        r"\s*+(?:<\|call\|>|<\|end\|>)?",
    ),
    _form(  # the same from servers that remove its marks
        r"(?:assistant)?(?:commentary|analysis)? ?to=(NAME)\s*+(?:commentary|analysis)?\s*+(?:json|code)?\s*+(?=\{)", ""
    ),
)


@dataclass(slots=True)
class TextToolCallBuffer:
    """Holds back an answer that starts like a call, until its end shows whether it is one."""

    holding: bool  #: the text so far may be the start of a call
    names: InitVar[Collection[str]] = ()  #: of the tools that may be called
    _openings: tuple[str, ...] = field(init=False)
    _held: str = ""
    _opened: bool = False  # it starts like a call

    def __post_init__(self, names: Collection[str]) -> None:
        self._openings = (*OPENINGS, *(f"[{name}(" for name in names))

    def feed(self, text: str) -> str:
        """Add a piece of the answer; return what can be shown."""
        if not self.holding:
            return text
        if self._opened:
            return ""
        self._held += text
        start = "".join(self._held.split())
        self._opened = start.startswith(self._openings)
        may_be_call = self._opened or any(each.startswith(start) for each in self._openings)
        if may_be_call and len(self._held) - len(self._held.lstrip()) <= MAX_LEADING_BLANKS:
            return ""
        self.holding = False
        return self._held


def parse_text_calls(text: str, names: Collection[str]) -> tuple[RequestedCall, ...]:
    """Return the calls if the text consists only of complete calls of these tools; else none."""
    calls, at, is_marked = [], 0, False
    while between := BETWEEN_CALLS.match(text, at):  # it always matches
        is_marked, at = is_marked or any(map(str.isalpha, between[0])), between.end()
        if at == len(text):
            break
        parsed = _parse_object(text, at, is_marked=is_marked) or (_parse_gemma(text, at) if is_marked else None)
        parsed = parsed or _parse_form(text, at)
        if parsed is None and (is_marked or text.lstrip().startswith("[")):
            parsed = _parse_python(text, at)
        if parsed is None or (name := tool_named(parsed[0].name, names)) not in names:
            return ()
        calls.append(replace(parsed[0], name=name))
        at = parsed[1]
    return tuple(calls)


def _parse_object(text: str, at: int, *, is_marked: bool) -> tuple[RequestedCall, int] | None:
    """Parse `{"name": …, "arguments": {…}}`; without a mark around it, it must be nothing else."""
    value, end = read_object(text, at)
    if value is None or not (is_marked or value.keys() <= CALL_KEYS):
        return None
    function = value["function"] if isinstance(value.get("function"), dict) else value
    name = function.get("name", function.get("tool_name"))
    arguments = function.get("arguments", function.get("parameters", {} if is_marked else None))
    if isinstance(arguments, str):
        read = read_arguments(arguments)
        arguments = None if read.problem else read.arguments
    if not isinstance(name, str) or not isinstance(arguments, dict):
        return None
    return RequestedCall(name=name, arguments=arguments), end


def _parse_form(text: str, at: int) -> tuple[RequestedCall, int] | None:
    """Parse a call in one of `FORMS`."""
    for form in FORMS:
        header = form.header.match(text, at)
        if header is None:
            continue
        arguments, end = (
            _parse_parameters(form.parameter, text, header.end()) if form.parameter else read_object(text, header.end())
        )
        tail = form.end.match(text, end)
        if arguments is not None and tail:
            name = next(filter(None, header.groups()), "")
            return RequestedCall(name=name, arguments=arguments), tail.end()
    return None


def _parse_python(text: str, at: int) -> tuple[RequestedCall, int] | None:
    """Parse `name(key="value")`, as in Python: LFM, Llama 4, Olmo."""
    header = PYTHON_CALL.match(text, at)
    end = _closing_bracket(text, header.end() - 1) if header else 0
    if header is None or not end:
        return None
    try:
        call = ast.parse(f"f{text[header.end() - 1 : end]}", mode="eval").body
        assert isinstance(call, ast.Call)
        arguments = {each.arg: ast.literal_eval(each.value) for each in call.keywords}
        read = read_arguments(json.dumps(arguments, ensure_ascii=False, allow_nan=False))
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):  # no literals, or none that JSON has
        return None
    if call.args or None in arguments or read.problem:
        return None
    return RequestedCall(name=header[1], arguments=read.arguments), end


def _closing_bracket(text: str, at: int) -> int:
    """Return where the bracket that opens at an index has been closed, as in Python; 0 if it is not."""
    depth = 0
    for token in PYTHON_TOKEN.finditer(text, at):
        depth += (token[0] in "([{") - (token[0] in ")]}")
        if not depth:
            return token.end()
    return 0


def _parse_gemma(text: str, at: int) -> tuple[RequestedCall, int] | None:
    """Parse `call:name{key:<|"|>value<|"|>}`, which is JSON with other quotes."""
    header = GEMMA_CALL.match(text, at)
    end = GEMMA_END.search(text, header.end()) if header else None
    if header is None or end is None:
        return None
    written = text[header.end() : end.start()].rstrip()
    arguments, length = read_object(as_json := GEMMA_TOKEN.sub(_gemma_as_json, written), 0)
    if arguments is None or length != len(as_json):
        return None
    return RequestedCall(name=header[1], arguments=arguments), end.start()


def _gemma_as_json(found: re.Match[str]) -> str:
    if found["text"] is not None:
        return json.dumps(found["text"], ensure_ascii=False)
    return f'"{found["name"].strip()}"' if found["name"] else found[0]


def _parse_parameters(parameter: re.Pattern[str], text: str, at: int) -> tuple[dict[str, Any], int]:
    """Parse each argument that is complete."""
    arguments: dict[str, Any] = {}
    while found := parameter.match(text, at):
        arguments[found[1].strip()], at = found[2], found.end()
    return arguments, at

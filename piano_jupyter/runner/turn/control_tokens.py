r"""Escapes control tokens in untrusted text: `<|im_start|>` becomes `<\|im_start|>`. Pure.

A server interprets special tokens anywhere in the rendered prompt, so a file with `<|im_start|>system` in it could pose
as the system. A backslash after the first character makes it plain text that a model can still read. When a model
repeats such text in a tool's arguments, it means the original, which `unescape` restores.
"""

import math
import re
from collections.abc import Callable
from typing import Any

TAG_NAMES = (
    "s|bos|eos|pad|unk|sop|eop|sep|think|thinking|system|user|assistant|model|role|arg_key|arg_value|tools?|tool_sep|"
    "tool_def_sep|available_tools|tool_(?:call|response|result|output)s?|function_(?:call|result)s?|start_of_turn|"
    "end_of_turn|begin_of_document|beginning_of_sentence|end_of_sentence"
)
CAPITAL_NAMES = r"SPECIAL_\d+|[A-Z_]{2,32}_TOKEN|TOOLCALL|TOOL_RESPONSE|AVAILABLE_TOOLS"
BRACKET_NAMES = (
    "INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|CALL_ID|ARGS|THINK|MODEL_SETTINGS|IMG|"
    "IMG_BREAK|IMG_END|BOS|EOS|EOT|EOD|gMASK|sMASK"
)
#: What follows the first character of a control token in llama.cpp's chat templates. Placeholders such as `<filename>`,
#: which are tokens for some models, are harmless: they cannot pose as a role.
TOKEN_REST = {
    "<": rf"/?\|[^\s<>]{{1,64}}>|/?[\w/:-]{{1,64}}\|>|/?｜|"  # <|im_start|>, <|turn>, <turn|>, <｜User｜>
    rf"/?(?:[a-z]{{1,16}}:)?(?:{TAG_NAMES})(?::[a-z]{{1,16}})?\s*>|/?(?:{CAPITAL_NAMES}|unused\d+|extra_id_\d+)>|"
    r"</?SYS>>|function=",
    "[": rf"/?(?:{BRACKET_NAMES})\]|e~\[",
    "]": r"~!?b[\[\]]|<\][a-z]{1,16}\[>\[",  # MiniMax's ]~b] and ]<]minimax[>[
}
CONTROL_TOKEN = re.compile("|".join(rf"{re.escape(first)}(?={rest})" for first, rest in TOKEN_REST.items()))
ESCAPED_TOKEN = re.compile("|".join(rf"{re.escape(first)}\\(?={rest})" for first, rest in TOKEN_REST.items()))


def escape(text: str) -> str:
    """Escape the control tokens in a text; those that are already escaped stay unchanged."""
    return CONTROL_TOKEN.sub(lambda first: first[0] + "\\", text)


def unescape(text: str) -> str:
    """Restore the control tokens in an escaped text."""
    return ESCAPED_TOKEN.sub(lambda first: first[0][0], text)


def map_strings(value: Any, change: Callable[[str], str]) -> Any:
    """Apply `change` to each string in a JSON value. NaN and infinite numbers become null."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(str(name)): map_strings(each, change) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [map_strings(each, change) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

r"""Control tokens in what others wrote, made plain text: `<|im_start|>` becomes `<\|im_start|>`. Pure.

A server reads the rendered prompt with its special tokens, wherever they stand: a file that holds `<|im_start|>system`
could speak as the system. A backslash behind the first character makes it text that a model still reads. A model that
repeats such text in a tool's arguments means what stood there, so that is turned back (`unescaped`).
"""

import math
import re
from collections.abc import Callable
from typing import Any

NAMES = (
    "s|bos|eos|pad|unk|sop|eop|sep|think|thinking|system|user|assistant|model|role|arg_key|arg_value|tools?|tool_sep|"
    "tool_def_sep|available_tools|tool_(?:call|response|result|output)s?|function_(?:call|result)s?|start_of_turn|"
    "end_of_turn|begin_of_document|beginning_of_sentence|end_of_sentence"
)
CAPITALS = r"SPECIAL_\d+|[A-Z_]{2,32}_TOKEN|TOOLCALL|TOOL_RESPONSE|AVAILABLE_TOOLS"
BRACKETED = (
    "INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|CALL_ID|ARGS|THINK|MODEL_SETTINGS|IMG|"
    "IMG_BREAK|IMG_END|BOS|EOS|EOT|EOD|gMASK|sMASK"
)
#: What follows the first character of a control token, as the chat templates of llama.cpp have them. Placeholders such
#: as `<filename>`, which are tokens to some models, cannot pose as anybody.
AFTER = {
    "<": rf"/?\|[^\s<>]{{1,64}}>|/?[\w/:-]{{1,64}}\|>|/?｜|"  # <|im_start|>, <|turn>, <turn|>, <｜User｜>
    rf"/?(?:[a-z]{{1,16}}:)?(?:{NAMES})(?::[a-z]{{1,16}})?\s*>|/?(?:{CAPITALS}|unused\d+|extra_id_\d+)>|"
    r"</?SYS>>|function=",
    "[": rf"/?(?:{BRACKETED})\]|e~\[",
    "]": r"~!?b[\[\]]|<\][a-z]{1,16}\[>\[",  # MiniMax's ]~b] and ]<]minimax[>[
}
PLAIN = re.compile("|".join(rf"{re.escape(first)}(?={rest})" for first, rest in AFTER.items()))
ESCAPED = re.compile("|".join(rf"{re.escape(first)}\\(?={rest})" for first, rest in AFTER.items()))


def escaped(text: str) -> str:
    """Return a text without control tokens; one that is escaped already stays as it is."""
    return PLAIN.sub(lambda first: first[0] + "\\", text)


def unescaped(text: str) -> str:
    """Return a text with its control tokens as they were."""
    return ESCAPED.sub(lambda first: first[0][0], text)


def within(value: Any, change: Callable[[str], str]) -> Any:
    """Change each text in a JSON value. A number that JSON does not have becomes null."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(str(name)): within(each, change) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [within(each, change) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

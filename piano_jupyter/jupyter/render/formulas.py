r"""Formulas in Markdown, between $ $, $$ $$, \( \) or \[ \], as MathML.

A formula that cannot be converted is shown as it was written. The MathML has no links and no styles, and only sizes
that a formula needs.
"""

import functools
import re
from collections.abc import MutableMapping, Sequence
from html import escape
from typing import Any

import nh3
from latex2mathml.converter import convert
from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

from piano_jupyter.text.words import words

MAX_FORMULA_CHARS = 2_000  # characters of one formula
MAX_FORMULA_LINES = 100  # lines of one formula
MAX_FORMULAS = 300  # formulas of one text

TAGS = words(
    "math menclose mfrac mi mn mo mover mphantom mroot mrow mspace msqrt mstyle msub msubsup msup mtable mtd mtext mtr "
    "munder munderover"
)
ATTRIBUTES = {
    "math": {"display"},
    "menclose": {"notation"},
    "mfrac": {"linethickness"},
    "mi": {"mathvariant"},
    "mo": {"fence", "form", "maxsize", "minsize", "movablelimits", "separator", "stretchy"},
    "mover": {"accent"},
    "mspace": {"linebreak", "width"},
    "mstyle": {"displaystyle", "scriptlevel"},
    "mtable": {"columnlines", "rowlines"},
    "mtd": {"columnalign"},
    "munder": {"accentunder"},
}
SIZE = re.compile(r"\d?(\.\d+)?(em|ex)")


def add_formulas(parser: MarkdownIt) -> None:
    """Add the rules for formulas to a Markdown parser."""
    parser.inline.ruler.before("escape", "formula", _inline)
    parser.block.ruler.before("fence", "formula", _block, {"alt": ["paragraph", "blockquote", "list"]})
    parser.add_render_rule("formula", _rendered)


def safe_attribute(tag: str, name: str, value: str) -> str | None:
    """Return the value of an attribute if it is safe: no size may let a formula cover other content."""
    if name in {"width", "minsize", "maxsize"}:
        return value if SIZE.fullmatch(value) else None
    return value if tag != "math" or value in {"block", "inline"} else None


CLOSERS = {"$$": "$$", r"\[": r"\]", "$": "$", r"\(": r"\)"}
DOLLARS = re.compile(
    rf"\$(?!\s)((?:[^$\\]|\\.){{1,{MAX_FORMULA_CHARS}}}?)(?<!\s)\$(?!\d)", re.DOTALL
)  # not "$5 and $6"


def _inline(state: StateInline, silent: bool) -> bool:  # noqa: FBT001  The parser calls it so.
    source, at = state.src, state.pos
    opener = next((each for each in CLOSERS if source.startswith(each, at)), None)
    if opener is None:
        return False
    if opener == "$":
        found = DOLLARS.match(source, at)
        body, end = (found[1], found.end()) if found else ("", at)
    else:
        close = source.find(CLOSERS[opener], at + 2, at + MAX_FORMULA_CHARS)
        body, end = source[at + 2 : close] if close > 0 else "", close + 2
    if not body.strip():
        return False
    if not silent:
        token = state.push("formula", "math", 0)
        token.content, token.markup = body, opener
    state.pos = end
    return True


def _block(state: StateBlock, line: int, last: int, silent: bool) -> bool:  # noqa: FBT001
    start = state.bMarks[line] + state.tShift[line]
    opener = state.src[start : start + 2]
    if opener not in {"$$", r"\["} or state.is_code_block(line):
        return False
    closer = CLOSERS[opener]
    if state.src.find(closer, start + 2, start + MAX_FORMULA_CHARS) < 0:
        return False
    for end in range(line, min(last, line + MAX_FORMULA_LINES)):
        begin = start + 2 if end == line else state.bMarks[end] + state.tShift[end]
        text = state.src[begin : state.eMarks[end]].rstrip()
        if text.endswith(closer):
            break
        if closer in text or state.isEmpty(end) or state.sCount[end] < state.blkIndent:
            return False
    else:
        return False
    body = state.getLines(line, end + 1, state.blkIndent, keepLastLF=False).strip()[2:-2]
    if not body.strip() or len(body) > MAX_FORMULA_CHARS:
        return False
    if not silent:
        token = state.push("formula", "math", 0)
        token.content, token.markup, token.block, token.map = body, opener, True, [line, end + 1]
        state.line = end + 1
    return True


def _rendered(_: Any, tokens: Sequence[Token], i: int, _options: Any, env: MutableMapping[str, Any]) -> str:
    token = tokens[i]
    env["formulas"] = env.get("formulas", 0) + 1
    display = "block" if token.markup in {"$$", r"\["} else "inline"
    html = _mathml(token.content.strip(), display) if env["formulas"] <= MAX_FORMULAS else None
    html = html or f"<code>{escape(token.markup + token.content + CLOSERS[token.markup])}</code>"
    return f"<p>{html}</p>\n" if token.block else html


@functools.lru_cache(maxsize=1024)
def _mathml(latex: str, display: str) -> str | None:
    """Return a formula as sanitized MathML: the converter does not escape text in formulas."""
    latex = latex.replace("{aligned}", "{split}").replace("{gathered}", "{matrix}")
    try:
        return _MATH.clean(convert(latex, display=display))
    except Exception:  # noqa: BLE001  The converter fails in many ways; the formula is then shown as it was written.
        return None


_MATH = nh3.Cleaner(tags=TAGS, attributes=ATTRIBUTES, attribute_filter=safe_attribute, link_rel=None)

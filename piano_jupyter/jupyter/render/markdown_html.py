"""Markdown written by a model, as safe HTML.

Nothing in the text is trusted: raw HTML stays text, images become links, links show their host, formulas become MathML,
and nh3 sanitizes the result. Pure: the same text gives the same HTML, and no text makes it fail.
"""

import functools
import re
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from html import escape
from typing import Any
from urllib.parse import urlsplit

import nh3
from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline, image, link
from markdown_it.token import Token

from piano_jupyter.jupyter.render import code_blocks, formulas
from piano_jupyter.jupyter.render.code_blocks import code_block, text_html
from piano_jupyter.jupyter.render.deep_nesting import MAX_NESTING, add_deep_nesting
from piano_jupyter.jupyter.render.direction import RIGHT_TO_LEFT, add_direction
from piano_jupyter.jupyter.render.footnotes import add_footnotes
from piano_jupyter.jupyter.render.line_breaks import add_line_breaks
from piano_jupyter.jupyter.render.tables import MAX_TEXT_CHARS
from piano_jupyter.jupyter.render.task_lists import NO_BULLET, add_task_lists
from piano_jupyter.jupyter.render.unfinished_markup import completed
from piano_jupyter.text.invisible import name_invisible
from piano_jupyter.text.words import words

MAX_RENDERED_CHARS = 50_000  # the rest of a text is shown as it is
MAX_LINK_TEXT_CHARS = 1_000

SCHEMES = {"http", "https", "mailto"}
TAGS = words(
    "a bdi blockquote br code del div em h1 h2 h3 h4 h5 h6 hr li mark ol p pre s small span strong sub sup table tbody "
    "td th thead tr ul"
)
ATTRIBUTES = {
    "a": {"href"},
    "ol": {"dir", "start"},
    "table": {"dir", "style"},
    **{tag: {"align", "style"} for tag in ("td", "th")},
    **{tag: {"style"} for tag in ("code", "div", "li", "pre", "small", "span")},
    **{tag: {"dir"} for tag in words("blockquote h1 h2 h3 h4 h5 h6 p ul")},
}
WIDE_TABLE = "overflow-x:auto"
TABLE = "margin:0 0 1em"  # JupyterLab centres tables, and aligns their cells to the right
STYLES = code_blocks.STYLES | {
    NO_BULLET,
    WIDE_TABLE,
    TABLE,
    *(f"text-align:{side}" for side in ("left", "center", "right")),
}


@functools.lru_cache(maxsize=256)
def render(text: str) -> str:
    """Return the HTML of a text, the same in a cell, in the panel and in a saved notebook."""
    left = len(text) - MAX_TEXT_CHARS
    text = text[:MAX_TEXT_CHARS].encode(errors="replace").decode()
    html = _CLEAN.clean(_PARSER.render(text[:MAX_RENDERED_CHARS]))
    if rest := text[MAX_RENDERED_CHARS:]:
        html += code_block(rest)
    return html + (f"<p><em>… and {left:,} more characters</em></p>" if left > 0 else "")


def exact_html(text: str) -> str:
    """Return the HTML of a text in which nothing is hidden: invisible characters and long gaps are named."""
    return name_invisible(text, "<mark>{}</mark>".format, lambda seen: escape(seen, quote=False))


def readable_html(text: str) -> str:
    """Return the HTML of a text like `exact_html`, but keep its spaces and line ends."""
    pieces = re.split("([ \t\n]+)", text)
    return "".join(piece if i % 2 else exact_html(piece) for i, piece in enumerate(pieces))


class MarkdownStream:
    """The HTML of a text that is being written: each block is rendered once, when it is finished.

    Only the last block can still change. It is rendered again with each update while it is short, with its open markup
    closed; once it is long, or an open code block, new text is only appended, if the page `appends` at all.
    """

    MAX_RERENDERED_CHARS = 4_000  # of the last block

    def __init__(self, *, appends: bool = True) -> None:
        self._appends = appends
        self.finished = ""  #: HTML of all blocks but the last
        self._last = ""  # source of the last block
        self._length = 0  # of the text so far
        self._appended = 0  # how many characters of the last block were appended as plain text
        self._next_parse = self.MAX_RERENDERED_CHARS  # length at which a long block is parsed again
        self._closing: re.Pattern[str] | None = None  # matches the end of an open code block
        self._tail = ""

    def add(self, text: str) -> None:
        """Add a piece. Text beyond the limit is dropped; the finished message says so."""
        self._last += text[: max(0, MAX_RENDERED_CHARS - self._length)].replace("\r", "")
        self._length += len(text)

    def update(self) -> dict[str, str]:
        """Return what is new: `append` (text), or `html` (newly finished blocks) and `tail` (the last block)."""
        if self._appended and self._last_block_continues():
            more, self._appended = self._last[self._appended :], len(self._last)
            return {"append": more}
        cut, fence = _last_block(self._last)
        html, self._last = render(self._last[:cut]) if cut else "", self._last[cut:]
        self.finished += html
        self._appended, self._closing = 0, None
        if fence:
            self._closing = re.compile(rf"^ {{0,3}}{re.escape(fence[0])}{{{len(fence)},}}[ \t]*$", re.MULTILINE)
        if self._appends and (fence or len(self._last) > self._next_parse):
            self._appended, self._next_parse = len(self._last), max(self.MAX_RERENDERED_CHARS, 2 * len(self._last))
        else:
            self._next_parse = self.MAX_RERENDERED_CHARS
            self._tail = render(completed(self._last))
        return {"html": html, "tail": self.tail}

    @property
    def tail(self) -> str:
        """The HTML of the last block, as of the last update."""
        if not self._appended:
            return self._tail
        start = self._code_start()
        info = self._last[:start].lstrip(" `~") if start else ""
        return code_block(self._last[start : self._appended], info, coloured=False)

    def _code_start(self) -> int:
        return self._last.index("\n") + 1 if self._closing else 0

    def _last_block_continues(self) -> bool:
        if self._closing is None:
            return len(self._last) < self._next_parse
        line_start = self._last.rfind("\n", 0, self._appended) + 1
        return not self._closing.search(self._last, max(line_start, self._code_start()))


def _last_block(text: str) -> tuple[int, str]:
    """Return where the last block of a growing text begins, and its fence if it is an open code block."""
    complete = text[: text.rfind("\n") + 1]  # an unfinished line may still become any kind of block
    tokens: list[Token] = []
    _PARSER.block.parse(complete, _PARSER, {}, tokens)
    tops = [token for token in tokens if token.level == 0 and token.map]
    if not tops:
        return 0, ""
    last, lines = tops[-1], complete.removesuffix("\n").split("\n")
    start, end = last.map or (0, 0)
    closed = end - start > 1 and re.fullmatch(rf" {{0,3}}{re.escape(last.markup)}\S*\s*", lines[end - 1])
    is_open = last.type == "fence" and end == len(lines) and not closed
    return sum(len(line) + 1 for line in lines[:start]), last.markup if is_open else ""


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "maxNesting": MAX_NESTING + 2}).enable(["table", "strikethrough"])
    parser.disable(["reference", "html_inline", "html_block"])
    parser.inline.ruler.at("link", _if_link_ends_soon(link))
    parser.inline.ruler.at("image", _if_link_ends_soon(image))
    parser.validateLink = lambda url: _host(url) is not None  # type: ignore[method-assign]
    formulas.add_formulas(parser)
    add_footnotes(parser)
    add_task_lists(parser)
    add_line_breaks(parser)
    add_deep_nesting(parser)
    add_direction(parser)
    parser.add_render_rule("text", _text)
    parser.add_render_rule("code_inline", _code_inline)
    parser.add_render_rule("link_open", _link_open)
    parser.add_render_rule("link_close", _link_close)
    parser.add_render_rule("image", _image)
    parser.add_render_rule("fence", _code)
    parser.add_render_rule("code_block", _code)
    parser.add_render_rule("table_open", _table_open)
    parser.add_render_rule("table_close", lambda *_: "</table></div>\n")
    parser.add_render_rule("th_open", _cell)
    parser.add_render_rule("td_open", _cell)
    return parser


def _if_link_ends_soon(rule: Callable[[StateInline, bool], bool]) -> Callable[[StateInline, bool], bool]:
    """Try a rule for links only where a link can end: a thousand open brackets would otherwise take quadratic time."""

    def checked(state: StateInline, silent: bool) -> bool:  # noqa: FBT001  The parser calls it so.
        return state.src.find("](", state.pos, state.pos + MAX_LINK_TEXT_CHARS) > 0 and rule(state, silent)

    return checked


def _host(url: str) -> str | None:
    """Return the host of a link, or None if the link is not allowed."""
    try:
        parts = urlsplit(url)
        host = parts.path if parts.scheme == "mailto" else parts.netloc.rpartition("@")[2]
    except ValueError:
        return None
    return host if parts.scheme in SCHEMES and re.fullmatch(r"[\w.@:\[\]+-]+", host, re.ASCII) else None


def _link_open(_: Any, tokens: Sequence[Token], i: int, _options: Any, env: MutableMapping[str, Any]) -> str:
    href = str(tokens[i].attrs["href"])
    env["host"] = "" if tokens[i].markup == "autolink" else _host(href)
    return f'<a href="{escape(href)}">'


def _link_close(_: Any, _tokens: Sequence[Token], _i: int, _options: Any, env: Mapping[str, Any]) -> str:
    return "</a>" + (f" <small>({escape(env['host'])})</small>" if env.get("host") else "")


def _image(renderer: Any, tokens: Sequence[Token], i: int, options: Any, env: Any) -> str:
    href = str(tokens[i].attrs.get("src") or "")
    name = escape(renderer.renderInlineAsText(tokens[i].children, options, env)) or "image"
    return f'<a href="{escape(href)}">{name}</a> <small>(image, {escape(_host(href) or "")})</small>' if href else name


def _text(_: Any, tokens: Sequence[Token], i: int, _options: Any, _env: Any) -> str:
    return text_html(tokens[i].content)


def _code_inline(_: Any, tokens: Sequence[Token], i: int, _options: Any, _env: Any) -> str:
    return f"<code>{text_html(tokens[i].content)}</code>"


def _table_open(_: Any, tokens: Sequence[Token], i: int, _options: Any, env: MutableMapping[str, Any]) -> str:
    env["side"] = "right" if tokens[i].attrs else "left"
    return f'<div style="{WIDE_TABLE}"><table style="{TABLE}"{RIGHT_TO_LEFT if tokens[i].attrs else ""}>\n'


def _cell(renderer: Any, tokens: Sequence[Token], i: int, options: Any, env: Any) -> str:
    if style := str(tokens[i].attrs.get("style", "")):
        tokens[i].attrs["align"] = style.removeprefix("text-align:")  # GitHub drops styles
    tokens[i].attrs["style"] = style or f"text-align:{env['side']}"
    return str(renderer.renderToken(tokens, i, options, env))


def _code(_: Any, tokens: Sequence[Token], i: int, _options: Any, _env: Any) -> str:
    return code_block(tokens[i].content, tokens[i].info)


def _safe_attribute(tag: str, name: str, value: str) -> str | None:
    """Return the value of an attribute if it is safe; of styles, only those that are written here are."""
    if name == "style":
        return value if value in STYLES else None
    if name == "dir":
        return value if value == "rtl" else None
    return formulas.safe_attribute(tag, name, value)


_CLEAN = nh3.Cleaner(
    tags=TAGS | formulas.TAGS,
    attributes=ATTRIBUTES | formulas.ATTRIBUTES,
    attribute_filter=_safe_attribute,
    allowed_classes=code_blocks.CLASSES,
    set_tag_attribute_values={"a": {"target": "_blank"}},
    url_schemes=SCHEMES,
    url_relative="deny",
    link_rel="noopener noreferrer nofollow",
)
_PARSER = _parser()

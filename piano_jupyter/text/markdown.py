"""What a Markdown text says, apart from what it quotes: its code blocks, and its prose. Pure; any text gives some."""

import functools
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Self

from piano_jupyter.text.aligned import has_aligned_block, is_aligned

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

#: How quotations open and close in the languages of the world; some close where others open.
QUOTES = ('""', "“”", "„“", "„”", "””", "«»", "»«", "‹›", "「」", "『』")
OPENERS = {pair[0] for pair in QUOTES}
CLOSED_BY = {pair[1]: [each[0] for each in QUOTES if each[1] == pair[1]] for pair in QUOTES}
MARK = re.compile(f"[{''.join(OPENERS | set(CLOSED_BY))}]")
BARE_LINK = re.compile(rf"\b\w+://(?:(?!{MARK.pattern})[^\s<>])*")
QUOTING_TAG = re.compile(r"<(/?)(?:blockquote|code|kbd|pre|q|samp|script|style|textarea|tt)\b", re.IGNORECASE)
MARKUP = re.compile(r"\*\*|`|\]\(")  # in columns: they are prose, spaced by hand
HTML_ENDS = ("-->", "</pre></script></style></textarea>", "?>", "]]>")  # as CommonMark ends its kinds of blocks


class CodeBlock(str):
    """The code of a code block, and its language as the text names it ("" where it does not)."""

    __slots__ = ("language",)
    language: str

    def __new__(cls, code: str, language: str = "") -> Self:
        """Make one."""
        made = super().__new__(cls, code)
        made.language = language
        return made


def code_blocks(text: str) -> list[CodeBlock]:
    """Return the code blocks, fenced and indented, in order. One that is not closed goes on to the end."""
    return [
        CodeBlock(token.content.removesuffix("\n"), (token.info.split() or [""])[0])
        for token in _blocks(text)
        if token.type in {"fence", "code_block"}
    ]


def indented(text: str) -> str | None:
    """Return a text that is JSON alone (an object or a list) with a value a line; None for any other."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False).encode(errors="replace").decode()
    except (ValueError, RecursionError):
        return None


def as_markdown(text: str) -> str:
    """Return a text as Markdown: JSON alone is a code block, and so is a printed data frame."""
    data = indented(text)
    return _with_fenced_columns(text) if data is None else f"```json\n{data}\n```"


def prose(text: str) -> str:
    """Return what the author says: no code, no quotations, no HTML, no links' targets; a blank line between blocks."""
    said = []
    quoted = tags = 0  # how many block quotes, and tags that quote, are open
    for token in _parser().parse(text):
        if token.type in {"blockquote_open", "blockquote_close"}:
            quoted += token.nesting
        elif token.type == "html_block":
            tags = max(0, tags + _opened(token))
        elif token.type == "inline":
            words, still_open = _spoken(token.children or [], tags)
            tags = min(tags, still_open)  # a tag that is opened in a paragraph ends with it at the latest
            if not quoted:
                said.append(_unquoted(BARE_LINK.sub(" ", words)))
    return "\n\n".join(said)


def closed(text: str) -> str:
    """Return the text with an end to the code or HTML that it leaves open, so that something can follow it."""
    last = _blocks(text)[-1:]
    for end in ("", *(token.markup for token in last), *HTML_ENDS):
        whole = f"{text}\n{end}" if end else text
        if _blocks(f"{whole}\n\nnext")[-1].type == "paragraph_close":
            break
    return whole


def _with_fenced_columns(text: str) -> str:
    """Put columns that line up only in a fixed-width font into code blocks; Markdown would run their lines together."""
    if not has_aligned_block(text):
        return text
    lines = text.split("\n")
    kinds: dict[int, str] = {}  # of the lines outside lists, tables, quotations and fences
    for token in _blocks(text):
        if token.level == 0 and token.map and token.type in {"paragraph_open", "code_block"}:
            kinds |= dict.fromkeys(range(*token.map), token.type)
    parts: list[str] = []
    for is_text, group in groupby(range(len(lines)), lambda at: at in kinds and bool(lines[at].strip())):
        numbers = list(group)
        block = [lines[at] for at in numbers]
        is_prose = any(kinds.get(at) == "paragraph_open" for at in numbers)
        if is_text and is_prose and is_aligned(block) and not MARKUP.search("\n".join(block)):
            block = ["```text", *block, "```"]
        parts += block
    return "\n".join(parts)


def _blocks(text: str) -> "list[Token]":
    tokens: list[Token] = []
    _parser().block.parse(text, _parser(), {}, tokens)
    return tokens


@functools.cache
def _parser() -> "MarkdownIt":
    from markdown_it import MarkdownIt  # noqa: PLC0415  Heavy: only when there is a text to read.

    return MarkdownIt("commonmark").enable(["table", "strikethrough"])


def _spoken(children: "list[Token]", tags: int) -> tuple[str, int]:
    """Return the words of a paragraph, a space where something is left out; and how many quoting tags are open."""
    words: list[str] = []
    links = 0  # `<https://…>`: what such a link says is its target
    for token in children:
        if token.type == "html_inline":
            tags = max(0, tags + _opened(token))
        elif token.markup == "autolink":
            links += token.nesting
        if token.type == "text" and not tags and not links:
            words.append(token.content)
        elif token.type in {"softbreak", "hardbreak"}:
            words.append("\n")
        elif not token.nesting:
            words.append(" ")
    return "".join(words), tags


def _opened(html: "Token") -> int:
    if html.content.lstrip().startswith("<!--"):
        return 0
    return sum(-1 if tag[1] else 1 for tag in QUOTING_TAG.finditer(html.content))


def _unquoted(paragraph: str) -> str:
    """Leave out what stands in quotation marks. A mark without its counterpart is only a mark."""
    opened: defaultdict[str, list[int]] = defaultdict(list)
    quotations: list[tuple[int, int]] = []
    for mark in MARK.finditer(paragraph):
        opener = next((each for each in CLOSED_BY.get(mark[0], ()) if opened[each]), None)
        if opener:
            quotations.append((opened[opener].pop(), mark.end()))
        elif mark[0] in OPENERS:
            opened[mark[0]].append(mark.start())
    return "".join(_outside(paragraph, sorted(quotations)))


def _outside(text: str, spans: list[tuple[int, int]]) -> Iterator[str]:
    at = 0
    for start, end in spans:
        yield text[at:start] + " "
        at = max(at, end)
    yield text[at:]

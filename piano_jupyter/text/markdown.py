"""The code blocks of a Markdown text, and its prose without quotations. Pure; no input makes it fail."""

import functools
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Self

from piano_jupyter.text.aligned import has_aligned_block, is_aligned
from piano_jupyter.text.json_text import parse_json

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

#: How quotations open and close in the languages of the world; some close where others open.
QUOTES = ('""', "“”", "„“", "„”", "””", "«»", "»«", "‹›", "「」", "『』")
OPENERS = {pair[0] for pair in QUOTES}
CLOSED_BY = {pair[1]: [each[0] for each in QUOTES if each[1] == pair[1]] for pair in QUOTES}
QUOTATION_MARKS = "".join(sorted(OPENERS | set(CLOSED_BY)))
QUOTATION_MARK = re.compile(f"[{QUOTATION_MARKS}]")
FORMATTING, WORD_JOINER = "\0", "\u2060"  # Markdown has no NUL
FORMATTING_IN_WORD = re.compile(rf"(?<=[\w@]){FORMATTING}+(?=[\w@])")
BARE_LINK = re.compile(rf"\b\w+://(?:(?!{QUOTATION_MARK.pattern})[^\s<>])*")
QUOTING_TAG = re.compile(r"<(/?)(?:blockquote|code|kbd|pre|q|samp|script|style|textarea|tt)\b", re.IGNORECASE)
MARKUP = re.compile(r"\*\*|`|\]\(")  # in columns: they are prose, spaced by hand
HTML_ENDS = ("-->", "</pre></script></style></textarea>", "?>", "]]>")  # as CommonMark ends its kinds of blocks


class CodeBlock(str):
    """The code of a code block, with the language named in the text ("" if none is)."""

    __slots__ = ("language",)
    language: str

    def __new__(cls, code: str, language: str = "") -> Self:
        """Create a block."""
        block = super().__new__(cls, code)
        block.language = language
        return block


def code_blocks(text: str) -> list[CodeBlock]:
    """Return the code blocks, fenced and indented, in order. An unclosed one reaches to the end."""
    return [
        CodeBlock(token.content.removesuffix("\n"), (token.info.split() or [""])[0])
        for token in _blocks(text)
        if token.type in {"fence", "code_block"}
    ]


def indented(text: str) -> str | None:
    """Return a text that is only JSON (an object or a list), pretty-printed; None for any other text."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return json.dumps(parse_json(text), indent=2, ensure_ascii=False).encode(errors="replace").decode()
    except ValueError:
        return None


def as_markdown(text: str) -> str:
    """Return a text as Markdown: JSON and printed data frames become code blocks."""
    data = indented(text)
    return _with_fenced_columns(text) if data is None else f"```json\n{data}\n```"


def prose(text: str) -> str:
    """Return the author's own words: without code, quotations, HTML and link targets; a blank line between blocks.

    A word that is formatted in part (`**a**b`) has a word joiner there; an escaped `@` stays escaped.
    """
    paragraphs = []
    quoted = tags = 0  # how many block quotes, and tags that quote, are open
    for token in _parser(with_escapes=True).parse(text):
        if token.type in {"blockquote_open", "blockquote_close"}:
            quoted += token.nesting
        elif token.type == "html_block":
            tags = max(0, tags + _tags_opened(token))
        elif token.type == "inline":
            words, still_open = _paragraph_words(token.children or [], tags)
            tags = min(tags, still_open)  # a tag opened in a paragraph ends with the paragraph at the latest
            if not quoted:
                paragraphs.append(_without_quotations(BARE_LINK.sub(" ", words)))
    return "\n\n".join(paragraphs)


def closed(text: str) -> str:
    """Return the text with unclosed code or HTML closed, so that more text can follow."""
    last = _blocks(text)[-1:]
    for end in ("", *(token.markup for token in last), *HTML_ENDS):
        candidate = f"{text}\n{end}" if end else text
        if _blocks(f"{candidate}\n\nnext")[-1].type == "paragraph_close":
            break
    return candidate


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
def _parser(*, with_escapes: bool = False) -> "MarkdownIt":
    """Return a parser; `with_escapes`, escapes and entities are tokens of their own."""
    from markdown_it import MarkdownIt  # noqa: PLC0415  Slow to import.

    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    return parser.disable("text_join") if with_escapes else parser


def _paragraph_words(children: "list[Token]", tags: int) -> tuple[str, int]:
    """Return the words of a paragraph, with a space for each omission, and how many quoting tags are open."""
    words: list[str] = []
    links = 0  # `<https://…>`: the text of such a link is its target
    for token in children:
        if token.type == "html_inline":
            tags = max(0, tags + _tags_opened(token))
        elif token.markup == "autolink":
            links += token.nesting
        if token.type == "text" and not tags and not links:
            words.append(token.content)
        elif token.type == "text_special" and not tags and not links:
            is_spelled = token.content == "@" or token.content.isalnum()
            words.append(token.markup if is_spelled else token.content)
        elif token.type in {"softbreak", "hardbreak"}:
            words.append("\n")
        else:
            words.append(FORMATTING if token.nesting else " ")
    return FORMATTING_IN_WORD.sub(WORD_JOINER, "".join(words)).replace(FORMATTING, ""), tags


def _tags_opened(html: "Token") -> int:
    if html.content.lstrip().startswith("<!--"):
        return 0
    return sum(-1 if tag[1] else 1 for tag in QUOTING_TAG.finditer(html.content))


def _without_quotations(paragraph: str) -> str:
    """Remove what is in quotation marks; a mark without its counterpart is kept."""
    opened: defaultdict[str, list[int]] = defaultdict(list)
    quotations: list[tuple[int, int]] = []
    for mark in QUOTATION_MARK.finditer(paragraph):
        opener = next((each for each in CLOSED_BY.get(mark[0], ()) if opened[each]), None)
        if opener:
            quotations.append((opened[opener].pop(), mark.end()))
        elif mark[0] in OPENERS:
            opened[mark[0]].append(mark.start())
    return "".join(_text_outside(paragraph, sorted(quotations)))


def _text_outside(text: str, spans: list[tuple[int, int]]) -> Iterator[str]:
    at = 0
    for start, end in spans:
        yield text[at:start] + " "
        at = max(at, end)
    yield text[at:]

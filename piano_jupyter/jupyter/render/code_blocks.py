"""A code block as HTML: in a frame, with the name of its language, and coloured.

The styles are inline, because a notebook has no style sheet for them, and their colours are those of JupyterLab's
theme. GitHub drops styles and classes: the name then stands above the code. Colours distinguish only the kinds of
tokens below, so that an output stays the same with another version of Pygments.
"""

import re
from html import escape
from itertools import groupby

from pygments.lexers import get_lexer_by_name
from pygments.token import Comment, Generic, Keyword, Name, Number, Operator, String, _TokenType

from piano_jupyter.text.truncation import truncated
from piano_jupyter.text.words import words

MAX_COLOURED_CHARS = 20_000
MAX_LANGUAGE_CHARS = 30
PLAIN = words("text txt plain plaintext")  # languages that are none
DIAGRAMS = words("mermaid")  # shown as code, for the front end to draw
LANGUAGES = words(
    "bash c c++ console cpp css diff go html java javascript js json julia latex python py py3 pycon python3 r rust sh "
    "shell sql toml ts typescript xml yaml yml"
)
CLASSES = {"div": {"piano-code"}, "code": {f"language-{language}" for language in LANGUAGES | DIAGRAMS}}

#: A notebook that is not trusted keeps no variables of the theme: a plain colour comes before that of a border.
FRAME = (
    "margin:0 0 1em;border:1px solid #bdbdbd;border-color:var(--jp-border-color2,#bdbdbd);border-radius:4px;"
    "overflow:hidden"
)
LANGUAGE = (
    "display:block;padding:2px 10px;border-bottom:1px solid #bdbdbd;border-color:var(--jp-border-color2,#bdbdbd);"
    "color:var(--jp-ui-font-color2,#767676)"
)
LINES = "margin:0;padding:8px 10px;border:0;background:none;overflow-x:auto;white-space:pre"
CODE = "padding:0;background:none;white-space:pre"
COLOURS = {
    kind: f"color:var(--jp-{name})"
    for kind, name in {
        Comment: "ui-font-color2,#767676",
        Keyword: "mirror-editor-keyword-color,#008000",
        Name.Builtin: "mirror-editor-builtin-color,#008000",
        Name.Class: "mirror-editor-def-color,#0000ff",
        Name.Function: "mirror-editor-def-color,#0000ff",
        Name.Tag: "mirror-editor-keyword-color,#008000",
        Number: "mirror-editor-number-color,#008800",
        Operator: "mirror-editor-operator-color,#7800c2",
        String: "mirror-editor-string-color,#ba2121",
        Generic.Inserted: "success-color1,#388e3c",
        Generic.Deleted: "error-color1,#d32f2f",
    }.items()
}
#: The characters that turn the direction of those after them, up to the end of their element.
TURNING = re.compile("[\u202a-\u202e\u2066-\u2069]")
STYLES = frozenset({FRAME, LANGUAGE, LINES, CODE, *COLOURS.values()})


def text_html(text: str) -> str:
    """Return a text as HTML in which all characters stand in their order, and those that would turn it are marked."""
    return TURNING.sub(r"<bdi><mark>\g<0></mark></bdi>", escape(text))


def code_block(code: str, info: str = "", *, coloured: bool = True) -> str:
    """Return the HTML of a code block; `info` is what stands behind its fence."""
    language = (info.split() or [""])[0].lower()
    is_coloured = coloured and language in LANGUAGES and len(code) <= MAX_COLOURED_CHARS
    inner = _coloured(code, language) if is_coloured else text_html(code)
    name = truncated(language, MAX_LANGUAGE_CHARS) if language not in PLAIN else ""
    head = f'<small style="{LANGUAGE}">{text_html(name)}</small>' if name else ""
    kind = f' class="language-{language}"' if language in LANGUAGES | DIAGRAMS else ""
    return (
        f'<div class="piano-code" style="{FRAME}">{head}<pre style="{LINES}">'
        f'<code{kind} style="{CODE}">{inner}</code></pre></div>\n'
    )


def _coloured(code: str, language: str) -> str:
    tokens = get_lexer_by_name(language, stripnl=False).get_tokens(code)
    parts = []
    for colour, group in groupby(tokens, lambda token: _colour(token[0])):
        text = text_html("".join(part for _, part in group))
        parts.append(f'<span style="{colour}">{text}</span>' if colour else text)
    return "".join(parts)


def _colour(kind: _TokenType | None) -> str:
    """Return the colour of a token: that of the nearest kind above it that has one."""
    while kind is not None and kind not in COLOURS:
        kind = kind.parent
    return COLOURS[kind] if kind is not None else ""

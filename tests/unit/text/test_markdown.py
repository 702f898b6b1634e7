"""What a Markdown text says: its code blocks and its prose."""

import copy
import pickle
import subprocess
import sys

import pytest
from hypothesis import given, strategies as st

from piano_jupyter.text.markdown import CodeBlock, as_markdown, code_blocks, indented, prose

HOSTILE = [
    *["`", "` ", "```\n", '"', "“", "”“", "“»", ">", "> ", ">\n", "[", "![", "[a](", "<", "<!--", "<code>", "<q>\n\n"],
    *["*", "*a", "_a *", "~~a", "- ", "|", "&", "\\", "[x]: ", "    a\n", "http://", "a-", "\x00", "\ud800", "é"],
]


def said(text):
    return " ".join(prose(text).split())


def test_code_blocks_come_in_order_with_their_language():
    fenced = "First:\n\n```python\nx = 1\n\ny = 2\n```\n\n~~~\nplain\n~~~\n\nthen"
    text = f"{fenced}\n\n    indented\n\n- ``` R echo=TRUE\n  z\n  ```"

    blocks = code_blocks(text)

    assert blocks == ["x = 1\n\ny = 2", "plain", "indented", "z"]
    assert [block.language for block in blocks] == ["python", "", "", "R"]


def test_a_code_block_that_was_cut_off_goes_to_the_end():
    assert code_blocks("Look:\n```sql\nSELECT 1") == ["SELECT 1"]
    assert said("Look:\n```sql\nSELECT 1") == "Look:"


def test_an_empty_code_block_and_a_text_without_one():
    assert code_blocks("```\n```") == [""]
    assert code_blocks("`x` and ```y```") == []
    assert code_blocks("") == []


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ('{"a": [1, "é```"]}', '{\n  "a": [\n    1,\n    "é```"\n  ]\n}'),
        (' ["\\ud800"] ', '[\n  "?"\n]'),
        ("[]", "[]"),
        ('{"a": 1} and more', None),
        ("42", None),
        ("[link](x)", None),
        ("[" * 100_000, None),
        ("", None),
    ],
)
def test_a_text_of_only_json_becomes_a_code_block_and_other_text_is_unchanged(text, data):
    assert indented(text) == data
    assert as_markdown(text) == (text if data is None else f"```json\n{data}\n```")
    if data is not None:
        assert code_blocks(as_markdown(text)) == [data]


FRAME = "    item  price\n0  apple    1.5\n1   kiwi   20.0"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (FRAME, [FRAME]),
        (f"Here it is:\n\n{FRAME}\n\n[2 rows x 2 columns]", [FRAME]),
        ("┌───┐\n│ a │\n╞═══╡\n│ 1 │\n└───┘", ["┌───┐\n│ a │\n╞═══╡\n│ 1 │\n└───┘"]),
        (f"```\n{FRAME}\n```", [FRAME]),
        ("> quoted  a  b\n> more    c  d", []),
        ("| a   | b   |\n|-----|-----|\n| 1   | 2   |", []),
        ("**Name:**   Ada\n**Age:**    36", []),
        ("One.  Two.\nThree is here.  Four.", []),
    ],
)
def test_columns_that_line_up_become_a_code_block_of_markdown(text, expected):
    assert code_blocks(as_markdown(text)) == expected


def test_a_code_block_is_a_string_and_stays_what_it_is_when_it_is_copied():
    block = code_blocks("```python\n1 + 1\n```")[0]

    assert eval(block) == 2
    assert [each.language for each in (copy.deepcopy(block), pickle.loads(pickle.dumps(block)))] == ["python"] * 2
    assert CodeBlock("x").language == ""


def test_a_message_gives_its_code_blocks(make):
    message = make.message("So:\n```python\nx\n```", role="assistant")

    assert message.code_blocks == ["x"]
    assert message.code_blocks[0].language == "python"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain *and* **strong** ~~or~~ not", "plain and strong or not"),
        ("one\ntwo\\\nthree", "one two three"),
        ("# Title\n\n- item\n\n1. more", "Title item more"),
        ("| a | b |\n|---|---|\n| c | d |", "a b c d"),
        ("see [the page](https://x.example 'title') and [it][1]\n\n[1]: https://y.example", "see the page and it"),
        ("see https://x.example/a?b=c, <https://y.example> ok", "see ok"),
        ("mail <a@b.example> ok", "mail ok"),
        ("![a picture](x.png) here", "here"),
        ("use `x = 1` so", "use so"),
        ("a `b", "a `b"),
        ("before\n\n> quoted\nlazily\n\nafter", "before after"),
        ("> a\n> > b\n\nc", "c"),
        ("> ```\n> x\n\ny", "y"),
        ("say “this”, 'that', \"these\" and «those» now", "say , 'that', and now"),
        ("“a “b” c” d", "d"),
        ("»a« b „c“ d ”e” f 「g」", "b d f"),
        ('an open “ stays, so does 5" here', 'an open “ stays, so does 5" here'),
        ('"open in one\n\nparagraph" alone', '"open in one paragraph" alone'),
        ('"https://x.example" b', "b"),
        ("a <b>bold</b> <!-- no <q> --> c", "a bold c"),
        ("a <code>b</code> c <q>d e", "a c"),
        ("a <q>b\n\nc", "a c"),
        ("<div>\na\n</div>\n\nb", "b"),
        ("<blockquote>\n\na\n\nb</blockquote>\n\nc", "c"),
        ("</q> a <q>b</q>", "a"),
        ("</blockquote>\n\n<blockquote>\n\na\n\n</blockquote>\n\nb", "b"),
        ("<!-- <q> -->\n\na", "a"),
        ("Tom &amp; &quot;Jerry&quot; \\*x\\*", "Tom & *x*"),
    ],
)
def test_prose_is_what_the_author_says(text, expected):
    assert said(text) == expected


def test_blocks_are_apart_and_what_is_left_out_joins_no_words():
    assert prose("a\n\nb") == "a\n\nb"
    assert prose("a`x`b “c”d") == "a b  d"


@pytest.mark.parametrize("piece", HOSTILE)
def test_any_text_ends(piece):
    text = piece * (50_000 // len(piece))

    assert isinstance(prose(text), str)
    assert isinstance(code_blocks(text), list)


@given(st.text('ab `~"“”„«»><*_[]()!\\\n\t-#|&;/:@', max_size=60))
def test_any_text_has_prose_and_code(text):
    assert isinstance(prose(text), str)
    assert all(isinstance(block, CodeBlock) for block in code_blocks(text))


def test_importing_it_parses_nothing_and_loads_no_parser():
    script = "import sys, piano_jupyter.records, piano_jupyter.text.markdown; sys.exit('markdown_it' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0

"""How the end of a text that is being written is completed."""

import re

import pytest
from hypothesis import given, strategies as st

from piano_jupyter.jupyter.render.markdown_html import MarkdownStream, render
from piano_jupyter.jupyter.render.unfinished_markup import completed

ANSWER = """## What the **data** says

The frame has **6 columns** and *1,200 rows*, `read_csv` gave ~~an~~ no error; see [the
docs](https://pandas.example/docs) for **more
than that**.

| region | orders | **mean** |
| --- | ---: | --- |
| north | 312 | *32.80* |

- [x] **First**: `a ** b`
- second ***both***

```python
x = 2 ** 3
```

Done.
"""
MARKUP = re.compile(r"\*\*|~~|`|\]\(|\|")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("has **6 col", "has **6 col**"),
        ("has **", "has"),
        ("**bold*", "**bold**"),
        ("**bold **", "**bold**"),
        ("a `x", "a `x`"),
        ("a `**b", "a `**b`"),
        ("snake_case and _em", "snake_case and _em_"),
        ("2 * 3", "2 * 3"),
        ("\\*a", "\\*a"),
        ("***both", "***both***"),
        ("x ~~y", "x ~~y~~"),
        ("[a](https://x", "a"),
        ("a **b\n", "a **b**"),
        ("Here it is:\n-", "Here it is:"),
        ("| a | b", "| a | b\n|---|---|"),
        ("Here:\n| a | b |\n| -", "Here:\n| a | b |\n|---|---|"),
        ("| a |\n|---|\n| x |\n| **y", "| a |\n|---|\n| x |\n| **y**"),
        ("```\ncode\n```\nand **b", "```\ncode\n```\nand **b**"),
    ],
)
def test_open_markup_is_closed_for_the_moment(text, shown):
    assert completed(text) == shown


@pytest.mark.parametrize(
    "text", ["", "done\n\n", "a **b\n\n", "```py\nx **y", "- a\n  ```\n  x **y", "```\na\n```", "~~~"]
)
def test_finished_paragraphs_and_code_stay_as_they_are(text):
    assert completed(text) == text


@pytest.mark.parametrize("end", range(1, len(ANSWER)))
def test_no_markup_is_seen_wherever_a_streamed_answer_is_cut(end):
    stream = MarkdownStream()
    stream.add(ANSWER[:end])
    stream.update()

    html = stream.finished + stream.tail
    prose = re.sub(r"<pre.*?</pre>|<code>a \*\* b</code>|<code>a \*?\*?</code>", "", html, flags=re.DOTALL)

    assert not MARKUP.search(re.sub("<[^>]*>", "", prose)), prose


def test_a_whole_answer_is_rendered_as_it_was_written():
    stream = MarkdownStream()
    stream.add(ANSWER)
    stream.update()

    assert stream.finished + stream.tail == render(ANSWER)


@given(st.text("*_~`|[](-\\ \nab") | st.text())
def test_any_text_can_be_completed(text):
    assert isinstance(completed(text), str)


@pytest.mark.parametrize("piece", ["*a ", "`", "|", "[", "\n-", "~~~\n", "> ", "_a ", "**`"])
def test_a_long_text_is_completed_by_a_few_signs(piece):
    text = piece * 20_000

    assert len(completed(text)) <= len(text) + 20

"""A thread as Markdown."""

from dataclasses import replace

import pytest
from markdown_it import MarkdownIt

from piano_jupyter.text.markdown import closed

SUMS = """\
# Sums

**You:**

How much is 1 + 1?

**ada:**

Let me see.

```text
add(a=1, b=1)
→ 2
```

**ada:**

It is 2.

**You:**

Sure?

**ada:**

Yes.

**bob:**

I think so.

**Note:**

not asked: @eve
"""


def test_a_conversation_is_exported_in_order(sums):
    assert sums.export("markdown") == SUMS


@pytest.mark.parametrize(
    "cut",
    [
        *[
            "```python\nx = 1",
            "~~~~\n```\nx",
            "a\n```",
            "<!-- hm",
            "<script>\nx",
            "<pre>",
            "<?php",
            "<![CDATA[",
            "<!DOCTYPE",
        ],
        *["- a\n  ```\n  x", "> ```\n> x", "    code", "# a", "a", "", "| a |\n|--|", "<div>", "***", "[x]: /y"],
    ],
)
def test_an_answer_that_was_cut_off_does_not_swallow_the_next_message(talk, cut):
    talk.ask("one?").say("ada", cut).ask("two?")

    html = MarkdownIt("commonmark").render(talk.export("markdown"))

    assert html.endswith("<p><strong>You:</strong></p>\n<p>two?</p>\n")


def test_text_without_open_blocks_is_unchanged():
    for text in ("", "a", "```\nx\n```", "<!-- a -->", "- a\n  ```\n  x", "<b>"):
        assert closed(text) == text


@pytest.mark.parametrize("piece", ["```\n", "<!--", "> ", "- ", "<", "`"])
def test_any_text_is_closed_in_the_end(piece):
    assert closed(piece * (100_000 // len(piece))).startswith(piece)


def test_a_result_with_fences_stays_inside_its_own_fence(talk):
    talk.ask("?").say("ada", "", ("read", {"path": "a.md"}, "a\n`````\nb\n```"))

    assert "``````text\nread(path='a.md')\n→ a\n`````\nb\n```\n``````\n" in talk.export("markdown")


def test_a_call_without_a_result_and_an_unknown_author_are_exported(talk):
    talk.ask("?").say(None, "Hm.", ("wait", {}, None))

    assert talk.export("markdown").endswith("**Assistant:**\n\nHm.\n\n```text\nwait()\n→\n```\n")


def test_a_title_is_one_line_of_text(talk):
    talk.thread = replace(talk.thread, title="a\n# <b> *c*")

    assert talk.export("markdown") == "# a \\# \\<b\\> \\*c\\*\n"


def test_a_lone_surrogate_does_not_keep_it_from_being_written(talk):
    assert talk.ask("a\ud800b").export("markdown").encode().endswith(b"a?b\n")

import re
import sys
import unicodedata
from html.parser import HTMLParser

import pytest
from hypothesis import example, given, settings, strategies as st

from piano_jupyter.jupyter.render.markdown_html import MAX_RENDERED_CHARS, STYLES, MarkdownStream, exact_html, render
from piano_jupyter.jupyter.render.tables import MAX_TEXT_CHARS
from piano_jupyter.text.invisible import HIDDEN

HARMLESS = {
    "align",
    "class",
    "columnalign",
    "dir",
    "display",
    "href",
    "linebreak",
    "rel",
    "start",
    "stretchy",
    "style",
    "target",
    "width",
}
ODDMENTS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[a](javascript:alert(1))",
    "![a](https://evil.example/?q=1)",
    "<svg/onload=alert(1)>",
    r"$\text{<img src=x onerror=alert(1)>}$",
    r"\(\href{javascript:alert(1)}{x}\)",
    "$$\n<b>\n$$",
    "```python\n<b>",
    '```"><b style="position:fixed">\nx',
    "- [x] ",
    "[^1]",
    "\n[^2]: ",
    "````\n```\n",
    "| a |\n|--|\n| <b> |",
    "> - 1. x",
    "\ud800",
    "\x00",
    "\r\n",
    "\u202e",
    "**",
    "`",
    "$",
    "\\[",
    "~~~",
    "\n\n",
    "    ",
    "<https://a.example>",
    "&#106;",
    "<br>",
    "\u2067",
    "ש",
    "- " * 12,
]
messy = st.lists(st.sampled_from(ODDMENTS) | st.text(max_size=12), max_size=25).map("".join)


class Tags(HTMLParser):
    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


def test_markdown_becomes_html():
    html = render("# A\n\n**b** *c* `d` ~~e~~\n\n1. f\n   - g\n\n| h |\n|--:|\n| 1 |")

    for part in (
        "<h1>A</h1>",
        "<strong>b</strong>",
        "<em>c</em>",
        "<code>d</code>",
        "<s>e</s>",
        '<td style="text-align:right" align="right">1</td>',
    ):
        assert part in html
    assert re.search(r"<ol>\s*<li>f\s*<ul>\s*<li>g</li>", html)


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "<svg onload=alert(1)>",
        "<style>*{display:none}</style>",
        "<iframe src='https://evil.example'></iframe>",
        "<form action='https://evil.example'><input></form>",
        "<a href='javascript:alert(1)'>x</a>",
        "<math><mtext><script>alert(1)</script></mtext></math>",
    ],
)
def test_g1_raw_html_is_shown_as_the_text_it_is(text):
    told = Tags(render(text))

    assert told.tags == ["p"]
    assert told.text.strip() == text


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        "data:text/html,x",
        "vbscript:x",
        "file:///etc/passwd",
        "//evil.example",
        "x.ipynb",
    ],
)
def test_g1_only_web_and_mail_addresses_become_links(url):
    told = Tags(render(f"[click]({url}) ![pic]({url}) <{url}>"))

    assert told.tags == ["p"]


def test_g2_a_link_names_the_host_that_it_leads_to():
    html = render("[my bank](https://bank.example@evil.example/?q) <https://plain.example/x> [w](mailto:a@b.example)")

    link = (
        '<a href="https://bank.example@evil.example/?q" target="_blank" rel="noopener noreferrer nofollow">my bank</a>'
    )
    assert link in html
    assert "my bank</a> <small>(evil.example)</small>" in html
    assert ">https://plain.example/x</a> <a" in html
    assert "<small>(a@b.example)</small>" in html


def test_g2_an_image_becomes_a_link_and_is_not_fetched():
    told = Tags(render("![a <b>chart](https://evil.example/?q=secret)"))

    assert told.tags == ["p", "a", "small"]
    assert told.text.strip() == "a <b>chart (image, evil.example)"


def test_code_is_in_a_frame_with_its_language_and_coloured():
    told = Tags(render("```python\nx = '<b>'\n```"))

    assert told.tags == ["div", "small", "pre", "code", "span", "span"]
    assert told.text == "pythonx = '<b>'\n\n"
    assert ("class", "piano-code") in told.attributes
    assert ("class", "language-python") in told.attributes
    assert "<span style=\"color:var(--jp-mirror-editor-string-color,#ba2121)\">'&lt;b&gt;'</span>" in render(
        "```python\nx = '<b>'\n```"
    )


@pytest.mark.parametrize(
    ("info", "name", "kind"),
    [
        ("brainfuck", "brainfuck", None),
        ("mermaid", "mermaid", "language-mermaid"),
        ("Python title=x", "python", "language-python"),
        ("text", "", None),
        ("", "", None),
        ("<b>&", "<b>&", None),
        ("x" * 400, "x" * 29 + "…", None),
    ],
)
def test_a_code_block_names_its_language_and_has_the_class_of_a_known_one(info, name, kind):
    told = Tags(render(f"```{info}\na-->b\n```"))

    assert told.text.rstrip() == f"{name}a-->b"
    assert dict(told.attributes)["class"] == (kind or "piano-code")
    assert "span" not in told.tags or kind == "language-python"


def test_a_task_list_has_the_signs_of_boxes_and_nothing_to_click():
    html = render("- [ ] one **b**\n- [x] two\n- [y] three\n- [ ]four\n\n1. [X] five\n\n[ ] six")

    assert '<li style="list-style:none">☐ one <strong>b</strong></li>' in html
    assert '<li style="list-style:none">☑ two</li>' in html
    assert "<li>[y] three</li>" in html
    assert "<li>[ ]four</li>" in html
    assert "<li>☑ five</li>" in html
    assert "<p>[ ] six</p>" in html


NESTED = [
    "".join(f"{'  ' * i}- w{i}\n" for i in range(16)),
    f"{'>' * 25} w0\n\nw1",
    "".join(f"{'> - ' * i}w{i}\n\n" for i in range(12)),
]


@pytest.mark.parametrize("text", NESTED)
def test_what_is_nested_too_deeply_is_shown_as_it_is_written(text):
    words = re.findall(r"w\d+", text)

    assert re.findall(r"w\d+", Tags(render(text)).text) == words


def test_a_line_break_of_html_is_one_as_in_the_cells_of_tables():
    html = render("| a |\n|---|\n| 1<br>2<BR /> 3 |\n\n`<br>` and <br x>")

    assert re.search(r">1<br>\s*2<br>\s*3</td>", html)
    assert "<code>&lt;br&gt;</code> and &lt;br x&gt;" in html


@pytest.mark.parametrize("char", "\u202a\u202b\u202d\u202e\u2066\u2067\u2068")
@pytest.mark.parametrize(
    "text", ["a{} [x](https://moc.elgoog/)", "`a{}b`", "```python\nx = 1 # {}y\n```", "```\n{}\n```", "```{}\n```"]
)
def test_g30_what_turns_the_direction_of_text_ends_in_an_element_of_its_own_and_is_marked(text, char):
    html = render(text.format(char))

    assert html.replace(f"<bdi><mark>{char}</mark></bdi>", "").count(char) == 0
    assert char in Tags(html).text  # code is copied as it is


def test_a_block_has_the_direction_of_its_first_letter():
    html = render("1. שלום\n\nabc שלום\n\n# «مرحبا»\n\n| א | b |\n|---|:-:|\n| 1 | 2 |\n\n> א\n\n```\nש\n```")

    assert re.findall(r'<(\w+)[^>]* dir="rtl"', html) == ["ol", "h1", "table", "blockquote"]
    assert '<td style="text-align:right">1</td>' in html
    assert '<td style="text-align:center" align="center">2</td>' in html


def test_footnotes_are_numbers_where_they_are_written():
    html = render("Tea[^1] and cake.[^12] A pattern: [^a-z].\n\n[^1]: Green.\n[^12]: *Sweet*, see [^1]: above.")

    assert "<p>Tea<sup>[1]</sup> and cake.<sup>[12]</sup> A pattern: [^a-z].</p>" in html
    assert "<p><sup>[1]</sup> Green.\n<br><sup>[12]</sup> <em>Sweet</em>, see <sup>[1]</sup>: above.</p>" in html


def test_the_text_of_a_table_is_on_the_left_and_a_wide_one_scrolls_by_itself():
    html = render("| a | b |\n|---|:-:|\n| 1 | 2 |")

    assert html.startswith('<div style="overflow-x:auto"><table')
    assert '<th style="text-align:left">a</th>' in html
    assert '<td style="text-align:center" align="center">2</td>' in html


@settings(max_examples=300, deadline=None)
@given(text=messy)
@example(text="[" * 300 + "](" * 300)
def test_g1_g2_any_text_gives_html_in_which_nothing_runs_or_loads(text):
    told = Tags(render(text))

    assert not {"script", "img", "svg", "style", "iframe", "form", "input", "object", "link", "base", "meta"} & set(
        told.tags
    )
    assert {name for name, _ in told.attributes} <= HARMLESS
    assert {value for name, value in told.attributes if name == "style"} <= STYLES
    assert all(
        value.startswith(("http://", "https://", "mailto:")) for name, value in told.attributes if name == "href"
    )


@pytest.mark.parametrize(
    "piece",
    [
        "[",
        "![",
        "*",
        "_",
        "> ",
        ">",
        "- ",
        "`",
        "`a",
        "$",
        "$a",
        "$$a\n",
        "\\(",
        "\\[\n",
        "|a\n|-\n",
        "<",
        "[a](",
        "~~a",
        "* a\n",
        "**a _b",
        "- [ ] a\n",
        "[^1]",
        "[^1]: a\n",
        "```\na\n```\n",
    ],
)
def test_g6_the_work_that_hostile_text_makes_grows_with_its_length_only(piece):
    def calls(length):
        text, made = (piece * length)[:length], [0]

        def count(*_):
            made[0] += 1

        sys.setprofile(count)
        try:
            render(text)
        finally:
            sys.setprofile(None)
        return made[0]

    calls(100)
    few, many = calls(1_500), calls(6_000)

    assert many < 4.4 * few


def test_g6_the_end_of_a_very_long_text_is_plain_and_says_how_much_is_left_out():
    html = render("*a* " * (MAX_TEXT_CHARS // 4) + "x" * 1_234)

    assert html.count("<em>a</em>") == MAX_RENDERED_CHARS // 4
    assert html.count("*a*") == (MAX_TEXT_CHARS - MAX_RENDERED_CHARS) // 4
    assert html.endswith("<p><em>… and 1,234 more characters</em></p>")


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("rm -rf <b> & x", "rm -rf &lt;b&gt; &amp; x"),
        ("a\u202eb", "a<mark>U+202E</mark>b"),
        ("a\u200b\u200b\u200bb", "a<mark>U+200B × 3</mark>b"),
        ("\x1b[31mred", "<mark>U+001B</mark>[31mred"),
        ("ls" + " " * 3000 + "; rm x", "ls<mark>␣ × 3000</mark>; rm x"),
        ("a" + "\n" * 400 + "b", "a<mark>↵ × 400</mark>\nb"),
        ("if x:\n    y", "if x:\n    y"),
        ("\U000e0041", "<mark>U+E0041</mark>"),
    ],
)
def test_exact_html_names_invisible_characters(text, html):
    assert exact_html(text) == html


def test_every_character_that_unicode_calls_invisible_is_named():
    hidden = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp", "Zs"}
    missed = [
        f"{code:04X}"
        for code in range(sys.maxunicode + 1)
        if unicodedata.category(chr(code)) in hidden and chr(code) not in " \n\t" and not HIDDEN.match(chr(code))
    ]

    assert missed == []


def shown(pieces):
    """Return what a page that applies each update shows at the end."""
    stream, finished, tail = MarkdownStream(), "", ""
    for piece in pieces:
        stream.add(piece)
        news = stream.update()
        if "append" in news:
            tail += news["append"]
        else:
            finished, tail = finished + news["html"], news["tail"]
    assert finished == stream.finished
    return finished, tail, stream


DOCUMENT = """# Title

A paragraph with **bold
text** over lines.

- one
- two

  more

````python
x = 1
```
y = 2
````

| a | b |
|---|---|
| 1 | 2 |

$$
x^2
$$

- [ ] a task
- [x] one that is done

    indented

```mermaid
graph TD
```

~~~ Python
z = "é"
~~~

A claim.[^1]

[^1]: Its source.
[^2]: Another.

The end
#notaheading
"""


@pytest.mark.parametrize("size", [1, 2, 7, 40, 1000])
def test_a_streamed_text_ends_as_the_whole_text_does(size):
    pieces = [DOCUMENT[i : i + size] for i in range(0, len(DOCUMENT), size)]

    finished, tail, _ = shown(pieces)

    assert finished + tail == render(DOCUMENT)


@pytest.mark.parametrize("cut", range(1, len(DOCUMENT)))
def test_a_text_that_stops_anywhere_goes_on_to_the_same_end(cut):
    finished, tail, _ = shown([DOCUMENT[:cut], DOCUMENT[cut:]])

    assert finished + tail == render(DOCUMENT)


def test_finished_blocks_are_rendered_once():
    stream, rendered = MarkdownStream(), []
    for i in range(50):
        stream.add(f"Paragraph {i}.\n\n")
        rendered.append(stream.update())

    assert [each["html"].count("<p>") for each in rendered[2:]] == [1] * 48
    assert all(each["tail"].count("<p>") <= 1 for each in rendered)


def test_an_open_code_block_is_appended_to_until_it_closes():
    stream = MarkdownStream()
    stream.add("Look:\n\n```python\na = 1\n")
    first = stream.update()
    stream.add("b = '<b>'\n")
    second = stream.update()
    shown_open = stream.tail
    stream.add("```\n\nDone\n")
    last = stream.update()

    assert first["tail"].endswith("a = 1\n</code></pre></div>\n")
    assert Tags(first["tail"]).text.startswith("pythona = 1")
    assert second == {"append": "b = '<b>'\n"}
    assert shown_open.endswith("a = 1\nb = &#x27;&lt;b&gt;&#x27;\n</code></pre></div>\n")
    assert last["html"] == render("```python\na = 1\nb = '<b>'\n```\n")
    assert last["tail"] == "<p>Done</p>\n"


def test_a_page_that_does_not_append_gets_open_code_coloured():
    stream = MarkdownStream(appends=False)
    for piece in ("Look:\n\n```python\na =", " 'x'"):
        stream.add(piece)
        update = stream.update()

    assert update == {"html": "", "tail": render("```python\na = 'x'\n```")}


def test_g6_a_long_block_is_parsed_less_and_less_often():
    stream, whole = MarkdownStream(), 0
    for _ in range(2_000):
        stream.add("- an item of a list that goes on and on\n")
        whole += "tail" in stream.update()

    assert whole < 120


@settings(max_examples=200, deadline=None)
@given(messy, st.integers(1, 30))
def test_g1_any_text_can_be_streamed(text, size):
    _, _, stream = shown([text[i : i + size] for i in range(0, len(text), size)])

    told = Tags(stream.finished + stream.tail)

    assert not {"script", "img", "svg", "style", "iframe", "form"} & set(told.tags)

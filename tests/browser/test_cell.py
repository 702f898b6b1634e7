"""What a %%piano cell shows while its answer is written and when it ends, in a real JupyterLab."""

import threading
from itertools import pairwise

from browser.lab import LONG
from browser.panel_parts import theme
from browser.test_looks import FAINT, READABLE
from playwright.sync_api import expect

from piano_jupyter.testing import ServerReply

LOAD = "%load_ext piano_jupyter"
MAX_FALL = 40  # px, of the height of an output
REPLY_TIMEOUT = 60  # s, for a piece to be let go

ANSWER = """## What the data says

The frame has **6 columns** and *1,200 rows*. Here is a **summary** of it:

| region | orders | revenue | mean basket | note about the region that is long enough to wrap |
| --- | ---: | ---: | ---: | --- |
| north | 312 | 10,233.50 | 32.80 | steady growth all through the year, with a **small dip** in July |
| south | 290 | 9,120.00 | 31.45 | weaker |

The mean is $\\bar{x} = \\frac{1}{n}\\sum_{i=1}^n x_i$, and the code[^1]:

```python
def mean(prices: list[float]) -> float:
    # an empty list has none
    return sum(prices) / len(prices) if prices else float("nan")
```

```mermaid
graph TD; orders --> revenue
```

- [x] **Load** the file
- [ ] Look for *outliers*, `NaN` and ~~zeros~~ negative prices

1. First, [read the documentation](https://pandas.example/docs) of **pandas**.
2. Then try it.

[^1]: It needs Python 3.9.
"""

# notes in each frame how high a cell's outputs are, and whether markup is seen in what is not code
WATCH = """([path, index]) => {
    const cell = panels[path].content.widgets[index].node;
    const watch = window.watched = {heights: [], raw: [], running: true};
    const look = () => {
        const area = cell.querySelector(".jp-Cell-outputArea");
        watch.heights.push(area.getBoundingClientRect().height);
        const walker = document.createTreeWalker(area, NodeFilter.SHOW_TEXT);
        for (let node; (node = walker.nextNode()); ) {
            const inCode = node.parentElement.closest("pre, code, style, math");
            const raw = inCode ? null : node.textContent.match(/.{0,20}(\\*\\*|``|~~|\\]\\(|\\|).{0,20}/);
            if (raw) watch.raw.push(raw[0]);
        }
        if (watch.running) requestAnimationFrame(look);
    };
    look();
}"""
END_WATCH = "() => new Promise(done => requestAnimationFrame(() => { watched.running = false; done(watched); }))"
FRAMES = "count => new Promise(done => { const next = () => count-- ? requestAnimationFrame(next) : done(); next(); })"


class Held:
    """The pieces of an answer, each sent when the test lets it go."""

    def __init__(self, text, size=9):
        self.pieces = [text[i : i + size] for i in range(0, len(text), size)]
        self._let_go = threading.Semaphore(0)

    def __iter__(self):
        for piece in self.pieces:
            assert self._let_go.acquire(timeout=REPLY_TIMEOUT)
            yield piece

    def write(self, nb, pieces):
        """Let pieces go, a few frames of the page apart."""
        for _ in range(pieces):
            self._let_go.release()
            nb.page.evaluate(FRAMES, 3)


def falls(heights):
    return [(before, after) for before, after in pairwise(heights) if before - after > MAX_FALL]


SHADES = {"lab": "Light", "notebook7": "Dark"}  # one in each front end


def test_a_cell_streams_rendered_text_and_does_not_collapse_when_it_ends(notebook_in_each, stub_model):
    held = Held(ANSWER)
    stub_model.says(ServerReply(pieces=held))
    nb = notebook_in_each([LOAD, "%%piano\nWhat does the data say?", *["1"] * 8])
    shade = SHADES[nb.front_end]
    theme(nb, shade)
    try:
        nb.run(0)
        nb.run(1, wait=False)
        nb.page.evaluate(WATCH, [nb.path, 1])
        middle = len(held.pieces) * 5 // 8
        held.write(nb, middle)
        expect(nb.cell(1).locator(".piano-live strong").first).to_have_text("6 columns", timeout=LONG)
        nb.shot(f"cell_streams_{shade.lower()}")
        nb.cell(1).locator(".piano-live em").first.dblclick()
        selected = nb.page.evaluate("getSelection().toString()")
        held.write(nb, len(held.pieces) - middle - 1)
        expect(nb.cell(1).locator(".piano-live li").last).to_be_visible()
        assert nb.page.evaluate("getSelection().toString()") == selected != ""  # what is selected stays so
        held.write(nb, 1)
        nb.wait_for(1)
        expect(nb.cell(1).locator("div.piano-answer.mathjax_ignore")).to_be_visible()
        watched = nb.page.evaluate(END_WATCH)
        nb.shot(f"cell_ends_{shade.lower()}")
        faint = nb.page.evaluate(FAINT, [1, READABLE])
    finally:
        theme(nb, "Light")

    assert watched["raw"] == []
    assert falls(watched["heights"]) == []
    assert max(watched["heights"]) > 500
    assert faint == []
    live, answer = nb.outputs(1)
    assert live["data"] == {}
    assert answer["data"]["text/plain"] == ANSWER.rstrip()


def test_the_answers_of_several_agents_take_the_place_of_the_live_output_at_once(notebook, stub_model):
    held = {name: Held(f"{name} says **so**.\n\n" + "- a *line*\n" * 20) for name in ("slow", "fast")}
    stub_model.answer = lambda asked: ServerReply(pieces=held[asked["model"]])
    agents = "%piano agent ada --model slow\n%piano agent bob --model fast"
    nb = notebook([f"{LOAD}\n{agents}", "%%piano @ada @bob\nIs it so?"])
    nb.run(0)
    nb.run(1, wait=False)
    nb.page.evaluate(WATCH, [nb.path, 1])
    for each in held.values():
        each.write(nb, len(each.pieces))
    nb.wait_for(1)
    expect(nb.cell(1).locator(".piano-answer").last).to_be_visible()
    watched = nb.page.evaluate(END_WATCH)

    assert watched["raw"] == []
    assert falls(watched["heights"]) == []
    assert [bool(output["data"]) for output in nb.outputs(1)] == [False, True, True]


def test_a_raw_answer_stays_as_it_is_written(notebook, stub_model):
    held = Held("It is **bold**.\n" * 20)
    stub_model.says(ServerReply(pieces=held))
    nb = notebook([LOAD, "%%piano --raw\nHow is it?"])
    nb.run(0)
    nb.run(1, wait=False)
    nb.page.evaluate(WATCH, [nb.path, 1])
    held.write(nb, 5)
    expect(nb.cell(1).locator(".piano-live pre")).to_contain_text("It is **bold**.", timeout=LONG)
    held.write(nb, len(held.pieces) - 5)
    nb.wait_for(1)
    expect(nb.cell(1).locator(".jp-RenderedText")).to_be_visible()
    watched = nb.page.evaluate(END_WATCH)

    assert falls(watched["heights"]) == []


def test_an_answer_of_a_notebook_that_is_not_trusted_reads_well(notebook, stub_model):
    stub_model.says(ANSWER)
    nb = notebook([LOAD, "%%piano\nWhat does the data say?"])
    nb.run(0)
    nb.run(1)
    nb.page.evaluate(
        """path => {
            const cell = panels[path].content.widgets[1].model;
            const outputs = cell.outputs.toJSON();
            cell.trusted = false;
            cell.outputs.fromJSON(outputs);
        }""",
        nb.path,
    )

    code = nb.cell(1).locator(".piano-code").first
    expect(code).to_be_visible()
    nb.shot("cell_untrusted")
    assert code.locator("pre").evaluate("pre => getComputedStyle(pre).whiteSpace") == "pre"
    assert nb.cell(1).locator("td").first.evaluate("cell => getComputedStyle(cell).textAlign") == "left"
    assert code.evaluate("frame => getComputedStyle(frame).borderTopWidth") == "1px"


def test_the_panel_renders_an_answer_as_a_cell_does(notebook_in_each, stub_model):
    stub_model.says(ANSWER)
    nb = notebook_in_each([LOAD, "%%piano\nWhat does the data say?", "%piano panel"])
    shade = SHADES[nb.front_end]
    theme(nb, shade)
    try:
        for index in range(3):
            nb.run(index)
        in_panel = nb.panel.locator(".piano-text .piano-code")
        expect(in_panel).to_have_count(2)
        nb.panel.scroll_into_view_if_needed()
        nb.shot(f"panel_renders_{shade.lower()}")
    finally:
        theme(nb, "Light")

    in_cell = nb.cell(1).locator(".piano-answer .piano-code")
    read = "codes => codes.map(each => each.querySelector('code').outerHTML)"
    assert in_panel.evaluate_all(read) == in_cell.evaluate_all(read)
    assert in_panel.locator("small").all_inner_texts() == ["python", "mermaid"]

"""The states of the chat panel that `screenshots.py` takes pictures of."""

import base64

from browser.panel_parts import answers, ask, box, button, written
from browser.scene import CODE, FINDING, QUESTION, state
from pictures import png
from playwright.sync_api import expect

from piano_jupyter.testing import ServerReply, tool_call

SOON = 30_000  # ms, for a kernel that starts
EVERYTHING = """## What the data says

The mean is $\\bar{x} = \\frac{1}{n}\\sum_{i=1}^n x_i$, and the code[^1]:

```python
def mean(prices: list[float]) -> float:
    return sum(prices) / len(prices) if prices else float("nan")
```

```mermaid
graph LR; orders --> cleaned --> revenue
```

- [x] **Load** the file
- [ ] Look for *outliers*, `NaN` and ~~zeros~~ negative prices

> Read the [documentation](https://pandas.example/docs) first.

[^1]: It needs Python 3.9.
"""


def sheet(nb, opener):
    nb.panel.locator("header").get_by_role("button", name=opener).click()
    expect(nb.panel.locator(".piano-sheet-body > *").first).to_be_visible()


def told(nb, count=1):
    """Return the notebook once so many answers are finished in its panel."""
    expect(answers(nb)).to_have_count(count, timeout=SOON)
    return nb


@state("panel")
def empty(scene):
    nb = scene.panel()
    expect(nb.panel.locator(".piano-try")).to_have_count(3)
    expect(nb.panel.locator(".piano-empty-who")).to_contain_text("loaded")
    return nb


@state("panel")
def settings(scene):
    scene.model.says("OK")
    nb = scene.panel()
    sheet(nb, "Settings")
    button(nb, "Test the model").click()
    expect(nb.panel.locator("[data-result=check_model]")).to_contain_text("answered")
    button(nb, "Test the sandbox").click()
    expect(nb.panel.locator("[data-result=check_sandbox]")).to_contain_text("sandbox", timeout=SOON)
    return nb


@state("panel")
def threads(scene):
    nb = scene.panel()
    sheet(nb, "Threads")
    expect(nb.panel.locator(".piano-thread-title")).to_have_count(4)
    nb.panel.get_by_role("button", name="Actions for Churn by region").click()
    return nb


@state("panel")
def thread_delete(scene):
    nb = threads(scene)
    button(nb, "Delete…").click()
    return nb


@state("panel")
def picker(scene):
    nb = scene.panel()
    sheet(nb, "Who answers")
    nb.panel.get_by_role("checkbox", name="ada").check()
    expect(nb.panel.get_by_role("button", name="Who answers: Assistant, ada")).to_be_visible()
    return nb


@state("panel")
def model_sheet(scene):
    nb = scene.panel()
    sheet(nb, "Model and tools")
    expect(nb.panel.locator(".piano-model")).to_contain_text("loaded")
    return nb


@state("panel")
def mode_full(scene):
    nb = model_sheet(scene)
    nb.panel.get_by_role("radio", name="full").check()
    expect(button(nb, "Leave it")).to_be_visible()
    return nb


@state("panel")
def agents_page(scene):
    nb = scene.panel()
    sheet(nb, "Who answers")
    button(nb, "Edit agents…").click()
    expect(nb.panel.locator(".piano-thread-open")).to_have_count(3)
    return nb


@state("panel")
def agent_form(scene):
    nb = agents_page(scene)
    nb.panel.locator(".piano-thread-open").nth(1).click()
    return nb


@state("panel")
def messages(scene):
    scene.model.says(tool_call("variables"), "Only the country codes.", tool_call("variables"), FINDING, CODE)
    nb = scene.panel()
    ask(nb, QUESTION)
    told(nb)
    button(nb, "Ask again").click()
    expect(written(nb).locator("table")).to_be_visible()
    ask(nb, "Write the code that puts it right.")
    return told(nb, 2)


@state("panel")
def messages_top(scene):
    nb = messages(scene)
    nb.panel.locator(".piano-call summary").first.click()
    nb.panel.get_by_role("log").evaluate("node => { node.scrollTop = 0 }")
    return nb


@state("panel")
def every_kind_of_text(scene):
    scene.model.says(ServerReply(EVERYTHING, reasoning="They want the mean. I show the formula first."))
    nb = scene.panel()
    ask(nb, "@ada Show me everything.")
    told(nb)
    expect(nb.panel.locator("img.piano-diagram")).to_be_visible(timeout=30_000)
    return nb


@state("panel")
def proposed(scene):
    added = [tool_call("add_cell", code=code) for code in ('orders["country"].value_counts()', "rate = 0.2")]
    scene.model.says(added, "They are below.")
    nb = scene.panel()
    ask(nb, "Write me cells.")
    expect(nb.panel.get_by_role("region", name="Proposed cells")).to_contain_text("2 proposed cells")
    return told(nb)


@state("panel")
def approval(scene):
    scene.model.says(tool_call("run_python", code='orders["country"] = orders["country"].str.upper()\norders.head()'))
    nb = scene.panel("%piano agent Assistant --tools run_python")
    ask(nb, "Put the countries right.")
    expect(button(nb, "Approve")).to_be_visible()
    return nb


@state("panel")
def failed_and_stopped(scene):
    scene.model.says(ServerReply("the GPU is out of memory", status=400), ServerReply("Half of **it**", held=True))
    nb = scene.panel()
    ask(nb, "Are you well?")
    expect(answers(nb, "failed")).to_have_count(1)
    ask(nb, "And now?")
    expect(answers(nb, "writing")).to_have_count(1)
    button(nb, "Stop").click()
    expect(answers(nb, "cancelled")).to_have_count(1)
    return nb


@state("panel")
def streaming(scene):
    scene.model.says(ServerReply(pieces=[CODE[:120], CODE[120:]], held=True))
    nb = scene.panel()
    ask(nb, "Write the code that puts it right.")
    expect(answers(nb, "writing").locator("pre")).to_be_visible()
    return nb


@state("panel")
def queue(scene):
    nb = streaming(scene)
    for number, text in enumerate(("And then plot it.", "Which of the orders are the largest?"), 1):
        ask(nb, text)
        expect(answers(nb, "queued")).to_have_count(number)
    return nb


@state("panel")
def find(scene):
    nb = messages(scene)
    box(nb).press("Control+f")
    nb.panel.get_by_role("searchbox", name="Find in this thread").fill("country")
    return nb


@state("panel")
def editing(scene):
    nb = messages(scene)
    button(nb, "Edit").last.click()
    return nb


@state("panel")
def suggestions(scene):
    nb = scene.panel()
    box(nb).press_sequentially("Look at @")
    expect(nb.panel.get_by_role("option").filter(has_text="240 rows")).to_be_visible()
    return nb


@state("panel")
def commands(scene):
    nb = scene.panel()
    box(nb).press_sequentially("/")
    expect(nb.panel.get_by_role("option").first).to_be_visible()
    return nb


@state("panel")
def chips(scene):
    nb = scene.panel()
    paste = """(box, content) => {
        const bytes = Uint8Array.from(atob(content), each => each.charCodeAt(0));
        const data = new DataTransfer();
        data.items.add(new File([bytes], "plot.png", {type: "image/png"}));
        box.dispatchEvent(new ClipboardEvent("paste", {clipboardData: data, bubbles: true, cancelable: true}));
    }"""
    box(nb).evaluate(paste, base64.b64encode(png(64, 48, 120)).decode())
    box(nb).fill("Compare {{orders}} with the plot, at {{rate}}")
    expect(nb.panel.locator(".piano-chip")).to_have_count(3)
    return nb


@state("panel")
def restarted(scene):
    nb = messages(scene)
    box(nb).fill("And what about the refunds?")
    nb.restart()
    expect(nb.panel.locator(".piano-gone")).to_be_visible()
    return nb

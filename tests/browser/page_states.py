"""The states of a notebook beside and around the chat that `screenshots.py` takes pictures of."""

import json

from browser.panel_states import SOON, messages
from browser.scene import CODE, DATA, FINDING, LOAD, QUESTION, state
from playwright.sync_api import expect

from piano_jupyter.testing import ServerReply, tool_call

CELLS = ("%%piano @ada\nWhat looks odd in {{orders}}? Don't **guess**.", "%%piano sql\nSELECT title FROM threads")
SHORT_DATA = """import pandas as pd

orders = pd.DataFrame({
    "country": ["FR", "fr", "DE", "IT"] * 60,
    "amount": [120, 80.5, -15, 240] * 60,
})
orders.head(3)"""
COUNTING = """Split the text at blanks, and count what comes out:

```python
from collections import Counter

words = Counter(text.lower().split())
words.most_common(5)"""


@state("page")
def saved(scene):
    nb = messages(scene)
    nb.until(lambda: "refunds" in json.dumps(nb.outputs(2)))
    nb.save()
    nb.end_kernel()
    nb.reload()
    expect(nb.cell(2).locator(".piano-transcript")).to_be_visible()
    nb.cell(2).scroll_into_view_if_needed()
    return nb


@state("page")
def dock(scene):
    scene.model.says(tool_call("variables"), FINDING)
    nb = scene.open(DATA, LOAD, "orders.head()")
    nb.page.get_by_role("button", name="Open Piano").first.click()
    panel = nb.page.locator(".piano-dock .piano-panel")
    expect(panel).to_be_visible(timeout=SOON)
    message = panel.get_by_role("textbox", name="Message")
    message.fill(QUESTION)
    message.press("Enter")
    expect(panel.locator(".piano-done table")).to_be_visible(timeout=SOON)
    return nb


@state("page")
def cells(scene):
    nb = scene.open(*CELLS, "import math\nmath.sqrt(2)", run=False)
    expect(nb.cell(0).locator(".piano-placeholder")).to_be_visible()
    return nb


@state("page")
def explain(scene):
    nb = scene.open(LOAD, "amounts = [120, 0]\namounts[0] / amounts[1]")
    expect(nb.cell(1).get_by_role("button", name="Explain with Piano")).to_be_visible()
    return nb


@state("page")
def cell_streams(scene):
    scene.model.says(ServerReply(pieces=[FINDING[:-60], f"{FINDING[-60:]}\n{CODE}"], held=True))
    nb = scene.open(DATA, LOAD, CELLS[0], run=False)
    nb.run(0)
    nb.run(1)
    nb.run(2, wait=False)
    expect(nb.cell(2).locator(".piano-live table")).to_be_visible(timeout=SOON)
    return nb


@state("page")
def cell_answers(scene):
    nb = cell_streams(scene)
    scene.model.release.set()
    nb.wait_for(2)
    answer = nb.cell(2).locator(".piano-answer.mathjax_ignore")
    expect(answer).to_be_visible()
    answer.locator("pre").hover()
    return nb


@state("page")
def two_agents(scene):
    scene.model.says(ServerReply(pieces=[COUNTING, "\n```"], held=True))
    nb = scene.open(
        LOAD, "%piano models", "%piano", "%%piano @ada @bob\nHow do I count the words of a text?", run=False
    )
    for index in range(3):
        nb.run(index)
    nb.run(3, wait=False)
    expect(nb.cell(3).locator(".piano-live pre")).to_be_visible(timeout=SOON)
    nb.cell(1).evaluate("cell => cell.scrollIntoView()")
    return nb


@state("page")
def beside_the_notebook(scene):
    """The picture with which the README begins."""
    scene.model.says(FINDING, CODE)
    nb = scene.open("%load_ext piano_jupyter", SHORT_DATA, f"%%piano\n{QUESTION}")
    nb.page.get_by_role("button", name="Open Piano").first.click()
    panel = nb.page.locator(".piano-dock .piano-panel")
    message = panel.get_by_role("textbox", name="Message")
    expect(message).to_be_visible(timeout=SOON)
    message.fill("Write the code that puts it right.")
    message.press("Enter")
    expect(panel.locator(".piano-done .piano-tools")).to_be_visible(timeout=SOON)
    return nb

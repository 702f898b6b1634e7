"""Cells that an agent proposes, marked in the notebook itself, and code that is put into it from the dock."""

import re

from browser.panel_parts import LOAD, answers, ask
from playwright.sync_api import expect

from piano_jupyter.testing import tool_call

ADDS = f"{LOAD}\n%piano agent Assistant --tools add_cell"
FIXED = "The rate was zero.\n\n```python\nrate = 4\n100 / rate\n```"
CODE = "```python\nmade = 41\nmade + 1\n```"


def proposed(nb):
    return nb.root.locator(".jp-Cell.piano-proposed")


def press(nb, name):
    nb.root.locator(".piano-proposal").get_by_role("button", name=name).first.click()


def test_q1_a_proposed_cell_is_kept_run_or_discarded_in_the_notebook_without_a_panel(notebook_in_each, stub_model):
    stub_model.says(FIXED, tool_call("add_cell", code="made = 1\nmade"), "There you are.")
    nb = notebook_in_each([ADDS, "rate = 0\n100 / rate", "%piano fix", "%%piano\nWrite me a cell.", "'last'"])
    for index in range(3):
        nb.run(index)
    expect(proposed(nb)).to_have_count(1)
    expect(proposed(nb)).to_contain_text("Proposed; it has not run. It replaces cell [2]: rate = 0")
    nb.run(4)
    expect(proposed(nb)).to_have_count(2)
    expect(proposed(nb).last).to_contain_text("Proposed; it has not run.")
    nb.shot(f"proposed_in_{nb.front_end}")
    assert nb.outputs(3) == nb.outputs(5) == []
    assert [nb.save()["cells"][i]["metadata"]["tags"] for i in (3, 5)] == [["piano-proposed"]] * 2

    nb.run(5)
    expect(proposed(nb).last).to_contain_text("Proposed; you have run it.")
    assert nb.text(5) == "1"

    nb.reload()
    expect(proposed(nb)).to_have_count(2)
    proposed(nb).first.get_by_role("button", name="Keep: rate = 4").focus()
    for _ in "dd":  # which deletes a cell
        nb.page.keyboard.press("d")
    press(nb, "Keep and run: rate = 4")
    nb.until(lambda: nb.text(2) == "25.0")
    press(nb, "Discard: made = 1")

    expect(proposed(nb)).to_have_count(0)
    assert nb.sources() == [ADDS, "%piano fix", "rate = 4\n100 / rate", "%%piano\nWrite me a cell.", "'last'"]
    assert "tags" not in nb.save()["cells"][2]["metadata"]


def test_a_cell_that_the_panel_adds_stays_proposed_when_the_panel_is_gone(notebook, stub_model):
    stub_model.says(tool_call("add_cell", code="made = 1\nmade"), "There you are.")
    nb = notebook([ADDS, "%piano panel", "2"])
    nb.run(0)
    nb.run(1)
    ask(nb, "Write me a cell.")
    expect(answers(nb)).to_have_count(1)
    expect(proposed(nb)).to_have_count(1)
    nb.shot("proposed_beside_a_panel")

    nb.page.evaluate("path => panels[path].content.model.sharedModel.deleteCell(1)", nb.path)
    expect(nb.root.locator(".piano-panel")).to_have_count(0)
    press(nb, "Keep: made = 1")

    expect(proposed(nb)).to_have_count(0)
    assert nb.sources() == [ADDS, "made = 1\nmade", "2"]
    assert nb.outputs(1) == []


def test_code_from_the_dock_goes_below_the_active_cell_of_its_own_notebook(notebook, stub_model):
    stub_model.says(CODE)
    nb = notebook([LOAD, "'first'", "'last'"])
    nb.run(0)
    nb.page.get_by_role("button", name="Open Piano").first.click()
    docked = nb.page.locator(".piano-dock .piano-panel")
    docked.get_by_role("textbox", name="Message").fill("How?")
    docked.get_by_role("button", name="Send").click()
    insert = docked.get_by_role("button", name=re.compile("^Insert below"))
    expect(insert).to_be_visible()
    other = notebook(["'other'", "'other too'"], beside=nb, file="other.ipynb")
    nb.page.evaluate("path => { panels[path].content.activeCellIndex = 1 }", nb.path)
    other.cell(0).locator(".cm-content").click()

    insert.click()
    insert.click()
    docked.get_by_role("button", name=re.compile("^Run")).click()
    nb.until(lambda: nb.text(4) == "42")
    nb.page.evaluate("path => { panels[path].content.activeCellIndex = 5 }", nb.path)
    docked.get_by_role("button", name=re.compile("^Into cell")).click()
    insert.click()

    code = "made = 41\nmade + 1"
    assert nb.sources() == [LOAD, "'first'", code, code, code, f"'last'\n{code}", code]
    assert nb.outputs(2) == nb.outputs(3) == []
    assert other.sources() == ["'other'", "'other too'"]

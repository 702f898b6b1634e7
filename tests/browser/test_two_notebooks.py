"""Two notebooks of one folder in JupyterLab, side by side, on one history."""

from browser.panel_parts import LOAD, OPEN, answers, ask, button, written
from browser.test_panel import TOOLS
from playwright.sync_api import expect

from piano_jupyter.testing import ServerReply, tool_call

PANEL_OF_A = "%piano thread Count the rows\n%piano panel"
WAITS = ".piano-call[data-state='asks']"


def both(notebook, cells_of_a, cells_of_b):
    """Open a.ipynb, and b.ipynb beside it; run the first cell of each."""
    a = notebook(cells_of_a, file="a.ipynb")
    a.page.evaluate("() => jupyterapp.shell.collapseLeft()")
    b = notebook(cells_of_b, beside=a, file="b.ipynb")
    a.run(0)
    b.run(0)
    return a, b


def test_a_panel_shows_the_other_notebook_s_thread_live(notebook, stub_model):
    stub_model.says(ServerReply("There are **42** rows.", held=True))
    a, b = both(notebook, [OPEN], [LOAD, "%piano threads", PANEL_OF_A, "%piano queue", "%piano status"])
    ask(a, "Count the rows")
    expect(answers(a, "writing")).to_have_count(1)

    b.run(1)
    assert "Count the rows" in b.text(1)
    b.run(2)
    expect(b.panel.locator(".piano-said").first).to_have_text("Count the rows")
    b.run(3)
    assert "running" in b.text(3)
    assert "a.ipynb" in b.text(3)
    b.run(4)
    assert "shared with 1 other notebook: a.ipynb" in b.text(4)
    stub_model.release.set()

    expect(answers(b).locator("strong")).to_have_text("42")
    expect(answers(a).locator("strong")).to_have_text("42")

    stub_model.release.clear()
    stub_model.says(ServerReply("And **7** columns, all of them numbers.", held=True))
    ask(b, "And the columns?")
    expect(answers(a, "writing").locator(".piano-text")).to_contain_text("And")
    a.shot("one-thread-in-two-notebooks")
    stub_model.release.set()
    expect(written(a)).to_have_text(["There are 42 rows.", "And 7 columns, all of them numbers."])
    expect(written(b)).to_have_text(["There are 42 rows.", "And 7 columns, all of them numbers."])


def test_a_call_may_be_approved_in_the_other_notebook(notebook, stub_model):
    stub_model.says(tool_call("delete_rows", table="t", where="x > 1"), "Finished.")
    allow = "await piano.update_agent('Assistant', enabled_tools=['delete_rows']);"
    a, b = both(notebook, [LOAD + TOOLS, allow, "%piano panel"], [LOAD, PANEL_OF_A])
    a.run(1)
    a.run(2)
    ask(a, "Count the rows")
    expect(a.panel.locator(WAITS)).to_contain_text("wants to run delete_rows")
    b.run(1)
    expect(b.panel.locator(WAITS)).to_contain_text("wants to run delete_rows")
    b.shot("a-call-that-waits-in-two-notebooks")

    button(b, "Approve").click()

    expect(written(a).last).to_have_text("Finished.")
    expect(written(b).last).to_have_text("Finished.")
    for each in (a, b):
        expect(each.panel.locator(".piano-call")).to_have_attribute("data-state", "ok")

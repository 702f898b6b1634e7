"""A table that is asked about in one notebook, and the panel of another notebook of the same folder."""

from browser.panel_parts import LOAD, OPEN, box, button
from browser.test_two_notebooks import both
from playwright.sync_api import expect

from piano_jupyter.testing import ServerReply

MARKUP = "<img src=x onerror=pwned=1>"
ROWS = "rows = [{'n': n} for n in range(12)]"
MAP = f'%%piano --map rows --name "{MARKUP}"\nIs {{{{n}}}} odd?'


def test_r40_a_batch_is_seen_in_the_cell_and_in_each_panel_where_it_can_be_cancelled(notebook, stub_model):
    stub_model.answer = lambda _: ServerReply(MARKUP, held=len(stub_model.requests) > 4)
    a, b = both(notebook, [f"{LOAD}\n{ROWS}", MAP, "%piano batches"], [OPEN])
    expect(b.panel.locator(".piano-batches")).to_be_hidden()

    a.run(1, wait=False)

    line = b.panel.locator(".piano-batch")
    expect(line.locator("b")).to_have_text(MARKUP)
    expect(line.locator(".piano-batch-text")).to_contain_text("4 of 12 rows")
    expect(a.cell(1).locator("progress")).to_be_visible()
    a.shot("a-batch-in-two-notebooks")
    button(b, "Cancel").click()

    expect(line).to_have_count(0)
    expect(b.panel.locator(".piano-batches")).to_be_hidden()
    expect(box(b)).to_be_focused()
    stub_model.release.set()
    a.wait_for(1)
    assert "was cancelled" in a.text(1)
    a.run(2)
    assert "cancelled" in a.text(2)
    for each in (a, b):
        assert each.page.locator("img[src=x]").count() == 0

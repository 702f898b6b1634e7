"""The chat panel in Jupyter Notebook 7: a test for each thing that it does; JupyterLab's have the details.

They share a page, a kernel and a panel: each begins in a new thread.
"""

import re

import pytest
from browser.lab import ClassicNotebook
from browser.panel_parts import LOAD, answers, ask, box, button, written
from playwright.sync_api import expect

from piano_jupyter.testing import ServerReply, tool_call

PANEL, OTHER = 1, 2
CELLS = [
    f"{LOAD}\n%piano agent ada --tools add_cell\nrate = 0.19",
    "%piano panel",
    "%piano thread --rename Elsewhere",
]
SOON = 30_000  # ms, for a kernel that starts


@pytest.fixture(scope="module")
def shared(classic_window, lab):
    """A notebook with an open panel."""
    path = "panel-in-notebook-7/notebook.ipynb"
    lab.write(path, CELLS)
    nb = ClassicNotebook(classic_window, lab, path)
    nb.open()
    nb.run(0)
    nb.run(PANEL)
    yield nb
    nb.close()
    lab.end_kernels()


@pytest.fixture
def nb(shared, stub_model, request):
    """The same, its panel in a new thread."""
    shared.panel.locator("header").get_by_role("button", name="New thread").click()
    expect(shared.panel.locator(".piano-title")).to_have_text("New chat")
    expect(box(shared)).to_be_focused()
    yield shared
    failed = getattr(request.node, "failed", False)
    shared.shot(f"{'FAILED-' if failed else ''}{request.node.name}")


def test_an_answer_is_streamed_stopped_and_asked_for_again(nb, stub_model):
    stub_model.says(ServerReply("The answer is **42**.", held=True), "In *full*.")
    ask(nb, "What is the answer?")
    expect(answers(nb, "writing").locator(".piano-text")).to_contain_text("The")

    button(nb, "Stop").click()
    expect(answers(nb, "cancelled").locator(".piano-text")).to_contain_text("The")
    button(nb, "Retry").click()

    expect(written(nb).locator("em")).to_have_text("full")


def test_the_header_renames_the_thread_follows_cells_and_opens_another_one(nb):
    ask(nb, "The capital of France?")
    title = nb.panel.locator(".piano-title")
    expect(title).to_have_text("The capital of France?")
    expect(answers(nb)).to_have_count(1)
    nb.run(OTHER)
    expect(title).to_have_text("Elsewhere")
    button(nb, "New thread").click()
    expect(title).to_have_text("New chat")

    button(nb, "Threads").click()
    threads = nb.panel.get_by_role("dialog", name="Threads")
    threads.get_by_role("searchbox").fill("capital")
    threads.locator(".piano-thread-title", has_text="Elsewhere").click()

    expect(threads).to_have_count(0)
    expect(nb.panel.locator(".piano-said").first).to_have_text("The capital of France?")


def test_a_diagram_is_drawn(nb, stub_model):
    stub_model.says("```mermaid\ngraph TD; A --> B\n```")
    ask(nb, "Draw it.")

    expect(nb.panel.locator("img.piano-diagram")).to_have_attribute("src", re.compile("^data:image/svg"))


def test_a_variable_is_chosen_from_the_list_and_goes_with_the_question(nb, stub_model):
    box(nb).press_sequentially("Double @rat")
    expect(nb.panel.get_by_role("option").first).to_contain_text("0.19")
    box(nb).press("Tab")
    expect(box(nb)).to_have_value("Double {{rate}} ")
    expect(nb.panel.locator(".piano-chip")).to_contain_text("rate")

    box(nb).press("Enter")

    expect(answers(nb)).to_have_count(1)
    assert "0.19" in stub_model.requests[0]["messages"][-1]["content"]
    box(nb).press("ArrowUp")
    expect(box(nb)).to_have_value(re.compile(r"^Double \{\{rate\}\}"))
    box(nb).fill("")


def test_an_edited_question_has_versions_and_code_goes_into_a_cell_below(nb, stub_model):
    stub_model.says("old", "```python\nmade = 41\n```")
    ask(nb, "first?")
    expect(written(nb)).to_have_text("old")
    button(nb, "Edit").click()
    ask(nb, "second?")
    expect(written(nb)).to_contain_text("made = 41")

    button(nb, "Insert below").click()
    assert nb.sources()[PANEL + 1] == "made = 41"
    nb.panel.get_by_role("button", name="Previous version of this question, 2 of 2").click()

    expect(written(nb)).to_have_text("old")


def test_a_cell_of_an_agent_is_proposed_until_it_is_kept(nb, stub_model):
    stub_model.says(tool_call("add_cell", code="kept = 1"), tool_call("add_cell", code="kept = 2"), "There you are.")
    ask(nb, "@ada Write me cells.")
    proposals = nb.panel.get_by_role("region", name="Proposed cells")
    expect(proposals).to_contain_text("2 proposed cells; nothing has run")
    expect(nb.root.locator(".jp-Cell.piano-proposed")).to_have_count(2)

    proposals.get_by_role("button", name="Discard: kept = 1").click()
    proposals.get_by_role("button", name="Keep: kept = 2").click()

    expect(proposals).to_be_hidden()
    assert "kept = 2" in nb.sources()
    assert "kept = 1" not in nb.sources()


def test_plain_keys_in_the_panel_are_not_notebook_commands(nb):
    before = nb.sources()

    for place in (button(nb, "Send"), nb.panel.get_by_role("log"), box(nb)):
        place.focus()
        for key in ("b", "Escape", "d", "d"):
            nb.page.keyboard.press(key)
            assert nb.sources() == before

    expect(box(nb)).to_have_value("bdd")
    box(nb).fill("")


def test_a_word_is_found_in_the_thread(nb, stub_model):
    stub_model.says("a needle, and another needle")
    ask(nb, "?")
    expect(answers(nb)).to_have_count(1)
    box(nb).press("Control+f")

    find = nb.panel.get_by_role("searchbox", name="Find in this thread")
    find.fill("needle")

    expect(nb.panel.get_by_role("search").get_by_role("status")).to_have_text("1 of 2")
    find.press("Escape")
    expect(box(nb)).to_be_focused()


@pytest.mark.parametrize(("width", "height"), [(320, 240), (480, 320)])
def test_the_box_is_in_sight_in_a_small_window(nb, stub_model, width, height):
    stub_model.says("line\n\n" * 60)
    ask(nb, "long?")
    expect(answers(nb)).to_have_count(1)
    before = nb.page.viewport_size
    try:
        nb.page.set_viewport_size({"width": width, "height": height})
        around = nb.root.locator(".jp-WindowedPanel-outer").bounding_box()
        nb.page.set_viewport_size({"width": width, "height": int(2 * height - around["height"])})  # the page has menus
        box(nb).press_sequentially("a text")
        nb.panel.evaluate("node => node.scrollIntoView({ block: 'nearest' })")

        expect(box(nb)).to_be_in_viewport(ratio=1)
        expect(button(nb, "Send")).to_be_in_viewport(ratio=1)
        nb.shot(f"notebook7_{width}x{height}")
    finally:
        nb.page.set_viewport_size(before)


def test_the_conversation_and_the_draft_survive_a_reload_and_a_restart(nb, stub_model):
    stub_model.says("first answer", ServerReply("half of the second", held=True))
    ask(nb, "one")
    expect(answers(nb)).to_have_count(1)
    ask(nb, "two")
    expect(answers(nb, "writing").locator(".piano-text")).to_contain_text("half")
    box(nb).fill("three, perhaps")
    box(nb).blur()
    nb.save()

    nb.reload()
    expect(answers(nb, "writing").locator(".piano-text")).to_contain_text("half", timeout=SOON)
    expect(box(nb)).to_have_value("three, perhaps")
    nb.restart()
    expect(nb.panel.locator(".piano-gone")).to_contain_text("The kernel was restarted", timeout=2000)
    stub_model.release.set()
    button(nb, "Reconnect").click()

    expect(nb.panel.locator(".piano-gone")).to_be_hidden(timeout=SOON)
    expect(answers(nb)).to_have_count(2, timeout=SOON)
    expect(nb.panel.locator(".piano-said")).to_have_text(["one", "", "two", ""])
    expect(box(nb)).to_have_value("three, perhaps")
    box(nb).fill("")

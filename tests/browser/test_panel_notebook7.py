"""The chat panel in Jupyter Notebook 7: a test for each thing that it does; JupyterLab's have the details.

They share a page, a kernel and a panel: each begins in a new thread.
"""

import re

import pytest
from browser.lab import ClassicNotebook
from browser.panel_parts import LOAD, answers, ask, box, button, written
from browser.test_panel_compose import PASTE, in_base64
from pictures import png
from playwright.sync_api import expect

from piano_jupyter.testing import ServerReply, tool_call

PANEL, OTHER = 1, 2
SET_UP = f"""{LOAD}
%config PianoConfig.max_demand = 2
rate = 0.19
from piano_jupyter import tool

@tool(asks=True)
def look() -> str:
    "Look around."
    return "a lake"

%piano agent ada --tools add_cell
%piano agent bob --tools look --system Bob
%piano agent carl --tools look --system Carl
"""
CELLS = [
    SET_UP,
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
    expect(proposals).to_contain_text("2 proposed cells; none runs by itself")
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


def sheet(nb, opener, name):
    nb.panel.locator("header").get_by_role("button", name=opener).click()
    return nb.panel.get_by_role("dialog", name=name, exact=True)


def test_an_empty_panel_offers_things_to_try_and_every_sheet_does_its_work(nb, stub_model):
    stub_model.says("OK")
    empty = nb.panel.locator(".piano-empty")
    expect(empty).to_contain_text("Assistant answers with qwen3:32b (loaded)")
    expect(empty.get_by_role("group", name="Questions to try").get_by_role("button")).to_have_count(3)

    settings = sheet(nb, "Settings", "Settings")
    settings.get_by_role("button", name="Test the model").click()
    expect(settings.locator("[data-result=check_model]")).to_contain_text("qwen3:32b answered after")
    model = sheet(nb, "Model and tools", "Model and tools")
    expect(model.locator(".piano-model")).to_contain_text("loaded")
    model.get_by_role("radio", name="read").check()
    expect(nb.panel.locator(".piano-mode")).to_have_text("read")
    model.get_by_role("radio", name="write").check()
    sheet(nb, "Who answers", "Who answers").get_by_role("button", name="Edit agents…").click()
    agents = nb.panel.get_by_role("dialog", name="Agents", exact=True)
    agents.locator(".piano-thread-open", has_text="ada").click()
    agents.get_by_role("textbox", name="System prompt").fill("You count.")
    agents.get_by_role("button", name="Save").click()
    expect(agents.locator(".piano-thread-open")).to_have_count(4)
    sheet(nb, "Who answers", "Who answers").get_by_role("checkbox", name="ada").check()
    expect(nb.panel.get_by_role("button", name="Who answers: Assistant, ada")).to_be_visible()
    nb.page.keyboard.press("Escape")
    ask(nb, "Together?")

    expect(answers(nb)).to_have_count(2)
    assert sum("You count." in str(each["messages"]) for each in stub_model.requests) == 1


def test_messages_wait_with_their_files_and_can_be_cancelled_and_a_command_stops(nb, stub_model):
    stub_model.says(ServerReply("first of all", held=True))
    box(nb).evaluate(PASTE, ["plot.png", "image/png", in_base64(png(64, 48))])
    expect(nb.panel.locator(".piano-chip")).to_have_text(["plot.png, 64 × 48×"])
    ask(nb, "@nobody What is this?")
    expect(nb.panel.get_by_role("alert")).to_contain_text("nobody")

    ask(nb, "What is this?")
    expect(answers(nb, "writing")).to_have_count(1)
    for text in ("second", "third"):
        ask(nb, text)
        expect(box(nb)).to_have_value("")
    expect(answers(nb, "queued")).to_have_count(2)
    nb.panel.get_by_role("button", name="Cancel: third").click()
    expect(answers(nb, "queued")).to_have_count(1)
    box(nb).press_sequentially("/sto")
    box(nb).press("Enter")

    expect(written(nb)).to_have_text("You said: second")
    expect(answers(nb, "cancelled")).to_have_count(2)
    assert "image_url" in str(stub_model.requests[0])


def test_a_call_waits_for_approval_and_a_diagram_is_drawn(nb, stub_model):
    stub_model.says(tool_call("look"), "A **lake**.\n\n```mermaid\ngraph LR; a --> b\n```")
    ask(nb, "@bob Look.")
    call = nb.panel.locator(".piano-call")
    expect(call).to_have_attribute("data-state", "asks")
    button(nb, "Approve").click()

    expect(call).to_have_attribute("data-state", "ok")
    call.locator("summary").click()
    expect(call).to_contain_text("a lake")
    expect(nb.panel.locator("img.piano-diagram")).to_be_visible(timeout=SOON)
    expect(nb.panel.locator(".piano-cost summary").last).to_have_text(re.compile(r"\d\d:\d\d"))
    copy = nb.panel.get_by_role("button", name="Copy: bob, @bob Look.")
    copy.click()
    expect(copy).to_have_text("Copied")


def test_what_is_about_to_be_approved_stays_under_the_pointer_though_another_call_asks(nb, stub_model):
    calls = {"Bob": tool_call("look"), "Carl": ServerReply("I will", calls=[tool_call("look")], held=True)}
    stub_model.says("line\n\n" * 60)
    ask(nb, "long?")
    expect(answers(nb)).to_have_count(1)
    stub_model.answer = lambda asked: calls.pop(asked["messages"][0]["content"][:4].strip(), "Done.")
    ask(nb, "@bob @carl Look.")
    approve = button(nb, "Approve")
    expect(approve).to_have_count(1)
    approve.hover()
    before = approve.bounding_box()

    stub_model.release.set()
    expect(approve).to_have_count(2)
    assert approve.first.bounding_box() == before
    nb.page.mouse.down(click_count=2)  # the second half of a double click
    nb.page.mouse.up(click_count=2)
    expect(nb.panel.locator(".piano-call[data-state='asks']")).to_have_count(2)
    for _ in range(2):
        approve.first.click()

    expect(answers(nb)).to_have_count(3)


def test_a_thread_is_exported_archived_and_deleted_in_the_list(nb):
    ask(nb, "Which sea?")
    expect(answers(nb)).to_have_count(1)
    threads = sheet(nb, "Threads", "Threads")
    threads.get_by_role("button", name="Actions for Which sea?").click()
    with nb.page.expect_download() as download:
        threads.get_by_role("button", name="Export as Notebook").click()
    assert download.value.suggested_filename == "Which sea.ipynb"
    threads.get_by_role("button", name="Archive").click()
    threads.get_by_text("Archived (1)").click()
    threads.get_by_role("button", name="Unarchive").click()
    threads.get_by_role("button", name="Delete…").click()
    threads.get_by_role("button", name="Delete for good").click()

    expect(threads.locator(".piano-thread-title", has_text="Which sea?")).to_have_count(0)
    nb.page.keyboard.press("Escape")


def test_the_panel_beside_the_notebook_and_the_one_in_its_cell_stay_in_step(nb, stub_model):
    opener = nb.page.get_by_role("button", name="Open Piano").first
    opener.click()
    docked = nb.page.locator(".piano-dock .piano-panel")
    docked.get_by_role("textbox", name="Message").fill("Which sea?")
    docked.get_by_role("textbox", name="Message").press("Enter")

    for panel in (docked, nb.panel):
        expect(panel.locator(".piano-done")).to_have_text("You said: Which sea?")
        expect(panel.locator(".piano-title")).to_have_text("Which sea?")
    opener.click()
    expect(docked).to_have_count(0)


def test_a_button_leads_to_the_end_of_a_long_thread(nb, stub_model):
    stub_model.says("line\n\n" * 60)
    ask(nb, "long?")
    expect(answers(nb)).to_have_count(1)
    log, jump = nb.panel.get_by_role("log"), nb.panel.locator(".piano-jump")
    log.evaluate("node => { node.scrollTop = 0 }")
    jump.click()

    expect(jump).to_be_hidden()
    assert log.evaluate("node => node.scrollHeight - node.scrollTop - node.clientHeight") < 2


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

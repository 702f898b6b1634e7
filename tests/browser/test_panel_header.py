"""The header of the chat panel, and the sheets that it opens: threads, who answers, the model and the mode."""

import pytest
from browser.panel_parts import OPEN, box, theme
from playwright.sync_api import expect

HOSTILE = "<img src=x onerror='window.pwned = 1'> ../../a\u202eb"


@pytest.fixture
def nb(notebook):
    """A notebook with two threads, two agents and an open panel."""
    made = notebook(
        [
            "%load_ext piano_jupyter\n%piano agent ada --model qwen3:8b --tools read_file --description Careful",
            "%piano ask What is the capital of France?",
            "%piano thread --new Sales in May",
            "%piano ask How much was sold?",
            "%piano panel",
            "%piano thread --rename Elsewhere\n%config PianoConfig.mode = 'read'",
        ]
    )
    for cell in range(5):
        made.run(cell)
    return made


def button(nb, name):
    return nb.panel.get_by_role("button", name=name, exact=True)


def sheet(nb, name):
    return nb.panel.get_by_role("dialog", name=name, exact=True)


def titles(nb):
    return nb.panel.locator(".piano-thread-title")


def open_sheet(nb, opener, name):
    nb.panel.locator("header").get_by_role("button", name=opener).click()
    expect(sheet(nb, name)).to_be_visible()
    return sheet(nb, name)


def test_o1_a_thread_is_found_shown_renamed_archived_and_deleted_in_the_list(nb, stub_model):
    threads = open_sheet(nb, "Threads", "Threads")
    expect(titles(nb)).to_have_text(["Sales in May", "What is the capital of France?"])
    expect(threads.locator(".piano-meta").last).to_contain_text("2 messages")
    nb.shot("threads")

    threads.get_by_role("searchbox").fill("france")
    expect(titles(nb)).to_have_text(["What is the capital of France?"])
    composed = (
        """box => box.dispatchEvent(new KeyboardEvent("keydown", {key: "Enter", isComposing: true, bubbles: true}))"""
    )
    threads.get_by_role("searchbox").evaluate(composed)  # chooses a word of an input method
    expect(threads).to_be_visible()
    titles(nb).first.click()
    expect(sheet(nb, "Threads")).to_have_count(0)
    expect(nb.panel.locator(".piano-title")).to_have_text("What is the capital of France?")
    expect(nb.panel.locator(".piano-said").first).to_have_text("What is the capital of France?")
    expect(box(nb)).to_be_focused()

    threads = open_sheet(nb, "Threads", "Threads")
    threads.get_by_role("button", name="Actions for Sales in May").click()
    nb.shot("thread-actions")
    threads.get_by_role("button", name="Rename").click()
    threads.get_by_role("textbox", name="New title of Sales in May").fill(HOSTILE)
    nb.page.keyboard.press("Enter")
    expect(titles(nb).first).to_have_text(HOSTILE)
    with nb.page.expect_download() as download:
        threads.get_by_role("button", name="Export as Markdown").click()
    assert download.value.suggested_filename == "img src x onerror window.pwned 1 .. .. a b.md"
    threads.get_by_role("button", name="Archive").click()
    expect(threads.get_by_text("Archived (1)")).to_be_visible()
    threads.get_by_text("Archived (1)").click()
    threads.get_by_role("button", name="Unarchive").click()
    expect(threads.get_by_text("Archived (1)")).to_have_count(0)
    threads.get_by_role("button", name="Delete…").click()
    nb.shot("thread-delete")
    expect(threads.get_by_role("alert")).to_contain_text("with its 2 messages for good")
    threads.get_by_role("button", name="Delete for good").click()

    expect(titles(nb)).to_have_text(["What is the capital of France?"])
    nb.page.keyboard.press("Escape")
    expect(button(nb, "Threads")).to_be_focused()
    assert nb.page.evaluate("window.pwned") is None


def test_the_header_follows_what_happens_elsewhere_and_plain_keys_stay_in_it(nb):
    threads = open_sheet(nb, "Threads", "Threads")
    expect(titles(nb).first).to_have_text("Sales in May")
    expect(nb.panel.locator(".piano-mode")).to_have_text("write")

    nb.run(5)
    expect(titles(nb).first).to_have_text("Elsewhere")
    expect(nb.panel.locator(".piano-title")).to_have_text("Elsewhere")
    expect(nb.panel.locator(".piano-mode")).to_have_text("read")

    threads.get_by_role("button", name="Close").focus()
    nb.page.keyboard.press("Tab")
    cells = len(nb.sources())
    for key in ("d", "d", "x", "a", "b"):
        nb.page.keyboard.press(key)
    nb.page.keyboard.press("Shift+Tab")
    expect(threads.get_by_role("button", name="Close")).to_be_focused()
    nb.page.keyboard.press("Shift+Tab")
    expect(threads.locator("button:visible").last).to_be_focused()
    nb.page.keyboard.press("Tab")
    expect(threads.get_by_role("button", name="Close")).to_be_focused()
    for key in ("d", "d", "Escape", "d", "d"):
        nb.page.keyboard.press(key)

    assert len(nb.sources()) == cells
    expect(sheet(nb, "Threads")).to_have_count(0)


# a cell would be scrolled to
RUN = "([path, code]) => { panels[path].sessionContext.session.kernel.requestExecute({ code }) }"


def test_a_click_arrives_though_the_list_changes_while_the_button_is_down(nb):
    threads = open_sheet(nb, "Threads", "Threads")
    threads.get_by_role("button", name="Actions for Sales in May").click()
    threads.get_by_role("button", name="Rename").click()
    threads.get_by_role("button", name="Actions for What is the capital of France?").click()  # and the box goes
    expect(threads.get_by_role("group", name="Actions for What is the capital of France?")).to_be_visible()

    titles(nb).last.hover()
    nb.page.mouse.down()
    nb.page.evaluate(RUN, [nb.path, nb.sources()[5]])
    expect(nb.panel.locator(".piano-mode")).to_have_text("read")
    expect(titles(nb).first).to_have_text("Sales in May")
    nb.page.mouse.up()

    expect(threads).to_have_count(0)
    expect(nb.panel.locator(".piano-title")).to_have_text("What is the capital of France?")


def test_one_agent_or_several_answer_and_a_mention_goes_first(nb, stub_model):
    stub_model.says("from ada", "from one", "from the other")
    picker = open_sheet(nb, "Who answers: Assistant", "Who answers")
    expect(picker.locator(".piano-agent").nth(1)).to_contain_text("tools: read_file")
    nb.shot("picker")
    picker.get_by_role("button", name="Only ada").click()
    expect(picker.get_by_role("checkbox", name="ada")).to_be_checked()
    expect(picker.get_by_role("checkbox", name="Assistant")).not_to_be_checked()
    nb.page.keyboard.press("Escape")
    expect(nb.panel.get_by_role("button", name="Who answers: ada", exact=True)).to_be_focused()
    box(nb).fill("Who are you?")
    box(nb).press("Enter")
    expect(nb.panel.locator(".piano-entry[data-state='done'] .piano-who").last).to_have_text("ada")

    picker = open_sheet(nb, "Who answers: ada", "Who answers")
    picker.get_by_role("checkbox", name="Assistant").check()
    expect(nb.panel.get_by_role("button", name="Who answers: Assistant, ada")).to_be_visible()
    nb.page.keyboard.press("Escape")
    box(nb).fill("And together?")
    box(nb).press("Enter")

    expect(nb.panel.locator(".piano-entry[data-state='done']")).to_have_count(4)
    expect(nb.panel.locator(".piano-who").all()[-1]).to_have_text("ada")
    expect(nb.panel.locator(".piano-who").all()[-2]).to_have_text("Assistant")


def test_the_mode_is_changed_in_the_panel_and_full_asks_once_more(nb):
    model = open_sheet(nb, "Model and tools", "Model and tools")
    expect(model.locator(".piano-model")).to_contain_text("qwen3:32b")
    expect(model.locator(".piano-model")).to_contain_text("loaded")
    nb.shot("model")

    model.get_by_role("radio", name="full").check()
    expect(model.get_by_role("alert")).to_contain_text("can change and delete anything")
    nb.shot("model-full")
    model.get_by_role("button", name="Leave it").click()
    expect(model.get_by_role("radio", name="write")).to_be_checked()
    model.get_by_role("radio", name="read").check()
    expect(nb.panel.locator(".piano-mode")).to_have_text("read")
    model.get_by_role("radio", name="full").check()
    sure = model.get_by_role("button", name="Allow everything")
    sure.focus()
    old = sure.element_handle()
    nb.page.evaluate(RUN, [nb.path, "%config PianoConfig.max_demand = 3"])
    nb.until(lambda: not old.evaluate("node => node.isConnected"))
    expect(sure).to_be_focused()
    nb.page.keyboard.press("Enter")

    expect(nb.panel.locator(".piano-mode")).to_have_text("full")


def test_an_empty_panel_says_who_answers_and_offers_three_things_to_try(notebook, stub_model):
    stub_model.says("It has a price of -3.")
    nb = notebook(["import pandas as pd\nsales = pd.DataFrame({'price': [1, -3]})", OPEN])
    nb.run(0)
    nb.run(1)
    empty = nb.panel.locator(".piano-empty")
    expect(empty).to_contain_text("Assistant answers with qwen3:32b (loaded), on http://127.0.0.1")
    offered = empty.get_by_role("group", name="Questions to try").get_by_role("button")
    expect(offered).to_have_count(3)
    nb.shot("empty")

    offered.nth(1).click()
    expect(box(nb)).to_have_value("Describe {{sales}} and say what looks odd in it.")
    expect(box(nb)).to_be_focused()
    assert stub_model.requests == []
    box(nb).press("Enter")
    expect(nb.panel.locator(".piano-entry[data-state='done'] .piano-done")).to_have_text("It has a price of -3.")
    expect(empty).to_be_hidden()


def test_the_settings_page_tests_the_model_and_changes_settings(nb, stub_model):
    stub_model.says("OK")
    settings = open_sheet(nb, "Settings", "Settings")
    expect(settings).to_contain_text("Assistant answers with qwen3:32b, on http://127.0.0.1")
    settings.get_by_role("button", name="Test the model").click()
    expect(settings.locator("[data-result=check_model]")).to_contain_text("qwen3:32b answered after")
    settings.get_by_role("button", name="Test the sandbox").click()
    expect(settings.locator("[data-result=check_sandbox]")).to_contain_text("sandbox", timeout=30_000)
    nb.shot("settings")

    demand = settings.get_by_role("spinbutton", name="max_demand")
    demand.fill("2")
    demand.press("Enter")
    expect(settings.locator("pre")).to_contain_text("c.PianoConfig.max_demand = 2")
    address = settings.get_by_role("textbox", name="base_url")
    address.fill("ftp://nowhere")
    address.press("Tab")
    expect(settings.get_by_role("textbox", name="default_model")).to_be_focused()
    expect(settings.locator(".piano-notice")).to_contain_text("must look like http://localhost:8080/v1")
    nb.shot("settings-below")


OUT_OF_REACH = """place => {
    const around = place.closest(".piano-panel").getBoundingClientRect();
    const isOut = (node) => {
        node.scrollIntoView({ block: "nearest" });
        const own = node.getBoundingClientRect();
        const fits = own.top >= around.top - 1 && own.bottom <= around.bottom + 1 && own.right <= around.right + 1;
        return !fits || !node.contains(document.elementFromPoint(own.x + own.width / 2, own.y + own.height / 2));
    };
    const controls = place.querySelectorAll("button:enabled, input, textarea, select, [role=option]");
    const wide = [...place.querySelectorAll(".piano-sheet-body")].filter((node) => node.scrollWidth > node.clientWidth);
    const shown = [...controls].filter((node) => node.checkVisibility());
    return [...shown.filter(isOut), ...wide].map((node) => node.outerHTML);
}"""


def check_reach(place, *names):
    """Check that these buttons are in sight, and that each control can be scrolled into the panel, uncovered."""
    for name in names:
        expect(place.get_by_role("button", name=name, exact=True)).to_be_in_viewport()
    expect(place.locator("button, input, [role=option]").first).to_be_visible()
    assert place.evaluate(OUT_OF_REACH) == []


@pytest.mark.parametrize("shade", ["Light", "Dark"])
def test_every_sheet_is_usable_in_a_small_panel(nb, shade):
    theme(nb, shade)
    around = nb.root.locator(".jp-WindowedPanel-outer")
    around.evaluate("node => { node.style.cssText += '; height: 240px !important'; }")
    nb.panel.evaluate("node => { node.style.width = '320px'; }")
    nb.until(lambda: nb.panel.evaluate("node => node.clientHeight") <= 240)
    nb.panel.evaluate("node => node.scrollIntoView({ block: 'end' })")
    try:
        threads = open_sheet(nb, "Threads", "Threads")
        header = nb.panel.locator("header").bounding_box()
        top = threads.bounding_box()["y"]
        assert top == pytest.approx(header["y"] + header["height"], abs=1), "the conversation shows between"
        threads.get_by_role("button", name="Actions for What is the capital of France?").click()
        expect(threads.get_by_role("button", name="Rename")).to_be_in_viewport(ratio=1)
        check_reach(threads)
        threads.get_by_role("button", name="Delete…").click()
        check_reach(threads, "Delete for good")
        nb.shot(f"small-threads-{shade.lower()}")
        check_reach(open_sheet(nb, "Who answers", "Who answers"))
        model = open_sheet(nb, "Model and tools", "Model and tools")
        check_reach(model)
        nb.shot(f"small-model-{shade.lower()}")
        model.get_by_role("button", name="Settings…").click()  # the header has no room for it
        settings = sheet(nb, "Settings")
        check_reach(settings)
        nb.shot(f"small-settings-{shade.lower()}")
        open_sheet(nb, "Who answers", "Who answers").get_by_role("button", name="Edit agents…").click()
        agents = sheet(nb, "Agents")
        check_reach(agents)
        agents.locator(".piano-thread-open").first.click()
        check_reach(agents)
        agents.get_by_role("button", name="Delete…").click()
        check_reach(agents, "Delete for good")
        nb.shot(f"small-agent-{shade.lower()}")
        nb.page.keyboard.press("Escape")
        box(nb).press("Control+f")
        check_reach(nb.panel.get_by_role("search"))
        nb.shot(f"small-find-{shade.lower()}")
        nb.page.keyboard.press("Escape")
        box(nb).press_sequentially("@")
        check_reach(nb.panel.get_by_role("listbox"))
        nb.shot(f"small-popup-{shade.lower()}")
        check_reach(nb.panel.locator("form"), "Send")
    finally:
        theme(nb, "Light")


def test_an_agent_s_form_keeps_what_is_written_until_that_is_saved_or_given_up(nb):
    def opened():
        open_sheet(nb, "Who answers", "Who answers").get_by_role("button", name="Edit agents…").click()
        return sheet(nb, "Agents")

    agents = opened()
    agents.get_by_role("button", name="New agent").click()
    prompt = agents.get_by_role("textbox", name="System prompt")
    prompt.fill("You count.")
    nb.page.keyboard.press("Escape")
    expect(agents).to_have_count(0)
    agents = opened()
    expect(prompt).to_have_value("You count.")
    expect(agents.get_by_role("alert")).to_contain_text("not saved yet")
    nb.page.keyboard.press("Escape")
    expect(nb.panel.locator(".piano-notice")).to_be_hidden()
    agents = opened()

    agents.get_by_role("button", name="Back").click()
    agents.get_by_role("button", name="Keep writing").click()
    expect(prompt).to_have_value("You count.")
    agents.get_by_role("button", name="Back").click()
    agents.get_by_role("button", name="Give it up").click()
    expect(agents.locator(".piano-thread-open")).to_have_count(2)
    agents.locator(".piano-thread-open").last.click()
    nb.page.keyboard.press("Escape")

    expect(opened().locator(".piano-thread-open")).to_have_count(2)  # nothing was written


def test_o4_an_agent_is_created_edited_duplicated_and_deleted_on_its_page(nb, stub_model):
    picker = open_sheet(nb, "Who answers", "Who answers")
    picker.get_by_role("button", name="Edit agents…").click()
    agents = sheet(nb, "Agents")
    agents.get_by_role("button", name="New agent").click()
    nb.shot("agent-form")
    agents.get_by_role("textbox", name="Name").fill("all")
    agents.get_by_role("textbox", name="Description").fill(HOSTILE)
    agents.get_by_role("textbox", name="System prompt").fill("You count.")
    agents.get_by_role("checkbox", name="read_file").check()
    agents.get_by_role("button", name="Save").click()
    expect(agents.get_by_role("alert")).to_contain_text("cannot be an agent's name")
    agents.get_by_role("textbox", name="Name").fill("grace")
    agents.get_by_role("button", name="Save").click()
    expect(agents.locator(".piano-thread-open")).to_have_count(3)
    expect(agents.locator(".piano-thread-open").last).to_contain_text(HOSTILE)
    nb.shot("agents")

    agents.locator(".piano-thread-open").last.click()
    agents.get_by_role("button", name="Duplicate").click()
    expect(agents.get_by_role("textbox", name="Name")).to_have_value("grace-copy")
    expect(agents.get_by_role("checkbox", name="read_file")).to_be_checked()
    agents.get_by_role("button", name="Save").click()
    expect(agents.locator(".piano-thread-open")).to_have_count(4)
    agents.locator(".piano-thread-open").last.click()
    agents.get_by_role("button", name="Delete…").click()
    expect(agents.get_by_role("button", name="Keep it")).to_be_focused()
    agents.get_by_role("button", name="Delete for good").click()
    expect(agents.locator(".piano-thread-open")).to_have_count(3)
    nb.page.keyboard.press("Escape")

    box(nb).fill("@grace How many?")
    box(nb).press("Enter")
    expect(nb.panel.locator(".piano-entry[data-state='done'] .piano-who").last).to_have_text("grace")
    assert stub_model.requests[-1]["messages"][0]["content"].startswith("You count.")
    assert nb.page.evaluate("window.pwned") is None

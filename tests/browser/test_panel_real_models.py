"""The chat panel on real llama.cpp servers: the embedded model, one that calls a tool, and one that is loaded."""

import re

import pytest
from browser.lab import Notebook
from browser.panel_parts import LOAD, answers, ask, box, button, written
from browser.test_panel_compose import PASTE, in_base64
from model.test_real_server import slots_at_work
from playwright.sync_api import expect
from swap_servers import model_command

pytestmark = pytest.mark.model
LENGTH = "--option ignore_eos=true --option max_tokens=1500"
ENDLESS = f"%config PianoConfig.stop_loops = False\n%piano agent endless --temperature 0 {LENGTH}"
LONG = 90_000  # ms, for a model on a busy machine
TOOL = """
from piano_jupyter import tool

@tool(asks=True)
def look() -> str:
    "Look around."
    return "a lake"
"""


def at(endpoint):
    """Return the lines that load Piano on a server."""
    return (
        f"{LOAD}\n%config PianoConfig.base_url = {endpoint.url!r}\n%config PianoConfig.api_key = {endpoint.api_key!r}"
    )


def opened(notebook, *cells):
    nb = notebook([*cells, "%piano panel"])
    for index in range(len(cells) + 1):
        nb.run(index)
    return nb


def test_the_embedded_model_is_asked_stopped_asked_again_and_asked_differently(notebook, embedded_server):
    nb = opened(notebook, f"{at(embedded_server)}\n%piano agent Assistant --temperature 0\n{ENDLESS}")

    ask(nb, "What is the capital of France?")
    expect(written(nb)).to_contain_text("Paris", timeout=LONG)
    ask(nb, "@endless Count.")
    writing = answers(nb, "writing").locator(".piano-text")
    expect(writing).to_be_visible(timeout=LONG)
    begun = len(writing.inner_text())
    nb.until(lambda: len(writing.inner_text()) > begun)
    button(nb, "Stop").click()
    stopped = answers(nb, "cancelled").locator(".piano-text")
    expect(stopped).not_to_be_empty()
    nb.until(lambda: not slots_at_work(embedded_server))

    button(nb, "Edit").first.click()
    ask(nb, "What is the capital of Italy?")
    expect(answers(nb)).to_have_count(1, timeout=LONG)
    expect(stopped).to_have_count(0)
    button(nb, "Ask again").click()
    versions = nb.panel.get_by_role("group", name="Version 2 of 2 of this answer of Assistant")
    expect(versions).to_be_visible(timeout=LONG)
    expect(answers(nb)).to_have_count(1, timeout=LONG)
    nb.panel.get_by_role("button", name="Previous version of this question, 2 of 2").click()

    expect(written(nb)).to_contain_text("Paris")
    expect(stopped).not_to_be_empty()


def test_a_half_written_answer_survives_a_reload_and_a_restart(notebook_in_each, embedded_server):
    server = f"%env PIANO_BASE_URL={embedded_server.url}\n%env PIANO_API_KEY={embedded_server.api_key}"
    nb = opened(notebook_in_each, f"{server}\n{LOAD}\n{ENDLESS}")

    def writing():  # in the page that is there now
        return answers(nb, "writing").locator(".piano-text")

    def more_than(begun):
        expect(writing()).not_to_be_empty(timeout=LONG)
        return nb.until(lambda: (text := writing().inner_text()).startswith(begun) and text != begun and text)

    ask(nb, "@endless Count.")
    half = more_than("")
    nb.save()
    nb.reload()
    half = more_than(half)
    nb.restart()
    expect(nb.panel.locator(".piano-gone")).to_contain_text("The kernel was restarted")
    assert writing().inner_text().startswith(half)
    nb.run(0)
    button(nb, "Reconnect").click()
    expect(nb.panel.locator(".piano-gone")).to_be_hidden(timeout=LONG)

    expect(writing()).not_to_be_empty(timeout=LONG)
    button(nb, "Stop").click()
    expect(answers(nb, "cancelled").locator(".piano-text")).not_to_be_empty()
    nb.until(lambda: not slots_at_work(embedded_server))


@pytest.mark.parametrize(("choice", "state"), [("Approve", "ok"), ("Deny", "denied")])
def test_a_tool_call_of_a_real_model_waits_for_the_answer_to_its_card(notebook, serve_tiny, tiny, choice, state):
    call = '<tool_call>\n{"name": "look", "arguments": {}}\n</tool_call>'
    endpoint = serve_tiny(says=call, says_after_tool="I see it.", chat_template=tiny.TOOLS)
    enable = "await piano.update_agent('Assistant', enabled_tools=['look']);"
    nb = opened(notebook, at(endpoint) + TOOL, enable)

    ask(nb, "What is there?")
    expect(nb.panel.locator(".piano-call[data-state='asks']")).to_contain_text("wants to run look", timeout=LONG)
    button(nb, choice).click()

    expect(written(nb).last).to_have_text("I see it.", timeout=LONG)
    expect(nb.panel.locator(".piano-call")).to_have_attribute("data-state", state)


def test_a_cell_that_a_real_model_adds_is_proposed_until_it_is_kept(notebook, serve_tiny, tiny):
    call = '<tool_call>\n{"name": "add_cell", "arguments": {"code":"made=1"}}\n</tool_call>'
    endpoint = serve_tiny(says=call, says_after_tool="There it is.", chat_template=tiny.TOOLS)
    nb = opened(notebook, at(endpoint), "%piano agent Assistant --tools add_cell")

    ask(nb, "Write me a cell.")
    expect(written(nb).last).to_have_text("There it is.", timeout=LONG)
    expect(nb.root.locator(".jp-Cell.piano-proposed")).to_have_count(1)
    nb.panel.get_by_role("button", name="Keep: made=1").click()

    expect(nb.root.locator(".jp-Cell.piano-proposed")).to_have_count(0)
    assert nb.sources()[-1] == "made=1"


@pytest.fixture
def swap(start_swap, tiny, tmp_path):
    """Two models behind a server that swaps; `slow` loads until `swap.gate` is there."""
    gguf = tiny.write_tiny_gguf(tmp_path / "tiny.gguf", says="Here at last.")
    more = {"quick": [], "slow": ["--wait-for", tmp_path / "gate"]}
    server = start_swap("stand-in", {name: {"cmd": model_command(gguf, name, *each)} for name, each in more.items()})
    server.api_key, server.gate = "", tmp_path / "gate"
    return server


def test_a_model_is_loaded_and_unloaded_in_the_panel_and_its_state_is_seen(notebook_in_each, swap):
    agents = "%piano agent Assistant --model slow\n%piano agent ada --model quick"
    nb = opened(notebook_in_each, f"{at(swap)}\n{agents}")
    opener = nb.panel.get_by_role("button", name="Model and tools")
    state = opener.locator(".piano-dot")
    opener.click()
    sheet = nb.panel.get_by_role("dialog", name="Model and tools")
    model = sheet.locator(".piano-model")
    expect(model).to_contain_text("not loaded")
    expect(button(nb, "Unload slow")).to_be_disabled()

    button(nb, "Load slow").click()
    expect(state).to_have_attribute("data-state", "loading")
    expect(button(nb, "Load slow")).to_be_disabled()
    swap.gate.touch()
    expect(state).to_have_attribute("data-state", "loaded", timeout=LONG)
    expect(model.locator(".piano-model-head")).to_have_text("slowloaded")
    swap.settle()
    assert swap.states["slow"] == "ready"

    button(nb, "Unload slow").click()
    expect(model.locator(".piano-model-head")).to_have_text("slownot loaded", timeout=LONG)
    swap.settle()
    assert swap.states["slow"] == "stopped"
    nb.page.keyboard.press("Escape")
    ask(nb, "Are you there?")
    expect(written(nb)).to_have_text("Here at last.", timeout=LONG)
    ask(nb, "@ada And you?")
    expect(written(nb)).to_have_text(["Here at last."] * 2, timeout=LONG)
    swap.settle()
    assert swap.history == ["slow", "slow", "quick"]
    nb.until(lambda: state.get_attribute("data-state") == "unloaded")


SAYS = "So:\n```python\nmade = 41\n```\nThat is all."
CELLS = [
    "%%piano --into said\nWhat is it?",
    "print(type(said).__name__)",
    "%%piano --model another\nAnd now?",
    "1 / 0",
]
PANEL, HOLD, GO_ON = "%piano panel", "%piano stop", "%piano start"


@pytest.fixture(scope="module")
def shared(window, lab, serve_tiny):
    """A notebook with a panel on a server of its own; the last tests of this file share it."""
    path = "panel-on-a-real-server/notebook.ipynb"
    lab.write(path, [f"{at(serve_tiny(says=SAYS))}\nrate = 0.19", PANEL, *CELLS, HOLD, GO_ON])
    nb = Notebook(window, lab, path)
    nb.open()
    nb.run(0)
    nb.run(1)
    yield nb
    nb.close()
    lab.end_kernels()


@pytest.fixture
def real(shared, request):
    """The same, its panel in a new thread."""
    shared.panel.locator("header").get_by_role("button", name="New thread").click()
    expect(shared.panel.locator(".piano-title")).to_have_text("New chat")
    yield shared
    failed = getattr(request.node, "failed", False)
    shared.shot(f"{'FAILED-' if failed else ''}{request.node.name}")


def run(nb, source):
    """Run the cell with this source, and return its place."""
    nb.run(nb.sources().index(source))
    return nb.sources().index(source)


def sheet(nb, opener, name):
    nb.panel.locator("header").get_by_role("button", name=opener).click()
    return nb.panel.get_by_role("dialog", name=name, exact=True)


def test_the_first_question_names_the_thread_and_its_answer_is_used(real):
    empty = real.panel.locator(".piano-empty")
    expect(empty).to_contain_text("Assistant answers with")
    empty.get_by_role("group", name="Questions to try").get_by_role("button").first.click()
    question = box(real).input_value()
    box(real).press("Enter")

    expect(written(real).locator("pre code")).to_have_text(re.compile("made = 41"), timeout=LONG)
    expect(real.panel.locator(".piano-title")).to_contain_text(question[:20])
    expect(real.panel.locator(".piano-cost summary")).to_contain_text("tokens")
    copy = real.panel.get_by_role("button", name="Copy: Assistant")
    copy.click()
    expect(copy).to_have_text("Copied")
    box(real).press("Control+f")
    real.panel.get_by_role("searchbox", name="Find in this thread").fill("made")
    expect(real.panel.get_by_role("search").get_by_role("status")).to_have_text("1 of 1")
    real.page.keyboard.press("Escape")
    button(real, "Insert below").click()
    real.until(lambda: "made = 41" in real.sources())


def test_settings_are_tested_and_an_agent_is_made_that_answers_beside_another(real):
    settings = sheet(real, "Settings", "Settings")
    settings.get_by_role("button", name="Test the model").click()
    expect(settings.locator("[data-result=check_model]")).to_contain_text("answered after", timeout=LONG)
    sheet(real, "Who answers", "Who answers").get_by_role("button", name="Edit agents…").click()
    agents = real.panel.get_by_role("dialog", name="Agents", exact=True)
    agents.get_by_role("button", name="New agent").click()
    agents.get_by_role("textbox", name="Name").fill("bea")
    agents.get_by_role("button", name="Save").click()
    expect(agents.locator(".piano-thread-open", has_text="bea")).to_be_visible()
    sheet(real, "Who answers", "Who answers").get_by_role("checkbox", name="bea").check()
    expect(real.panel.get_by_role("button", name="Who answers: Assistant, bea")).to_be_visible()
    real.page.keyboard.press("Escape")

    ask(real, "Together?")
    expect(answers(real)).to_have_count(2, timeout=LONG)

    threads = sheet(real, "Threads", "Threads")
    threads.get_by_role("searchbox").fill("together")
    expect(threads.locator(".piano-thread-title")).to_have_text(["Together?"])
    threads.get_by_role("button", name="Actions for Together?").click()
    with real.page.expect_download() as download:
        threads.get_by_role("button", name="Export as Markdown").click()
    assert "made = 41" in download.value.path().read_text()
    real.page.keyboard.press("Escape")


def test_messages_with_values_and_files_wait_and_one_is_cancelled(real):
    run(real, HOLD)
    box(real).press_sequentially("Double @rat")
    expect(real.panel.get_by_role("option").first).to_contain_text("0.19")
    box(real).press("Tab")
    box(real).evaluate(PASTE, ["notes.txt", "text/plain", in_base64(b"some notes")])
    expect(real.panel.locator(".piano-chip")).to_have_text(["rate×", "notes.txt, 10 bytes×"])
    box(real).press("Enter")
    expect(answers(real, "queued")).to_have_count(1)
    ask(real, "never")
    expect(answers(real, "queued")).to_have_count(2)
    real.panel.get_by_role("button", name="Cancel: never").click()
    expect(answers(real, "queued")).to_have_count(1)
    run(real, GO_ON)

    expect(answers(real)).to_have_count(1, timeout=LONG)
    expect(real.panel.locator(".piano-attachment")).to_contain_text("notes.txt")


def test_the_panel_beside_the_notebook_stays_in_step(real):
    opener = real.page.get_by_role("button", name="Open Piano").first
    opener.click()
    docked = real.page.locator(".piano-dock .piano-panel")
    docked.get_by_role("textbox", name="Message").fill("Which sea?")
    docked.get_by_role("textbox", name="Message").press("Enter")

    for panel in (docked, real.panel):
        expect(panel.locator(".piano-done pre")).to_be_visible(timeout=LONG)
        expect(panel.locator(".piano-title")).to_have_text("Which sea?")
    opener.click()
    expect(docked).to_have_count(0)


def test_cells_are_answered_and_an_error_is_explained(real):
    _, read, asked, failed = [run(real, source) for source in CELLS]

    assert real.text(read).strip() == "Message"
    expect(real.cell(asked).locator(".piano-answer pre")).to_be_visible()
    real.cell(failed).get_by_role("button", name="Explain with Piano").click()

    expect(real.cell(failed + 1).locator(".piano-answer pre")).to_be_visible(timeout=LONG)


def test_the_conversation_and_the_draft_survive_a_reload_and_a_restart(real):
    ask(real, "one")
    expect(answers(real)).to_have_count(1, timeout=LONG)
    box(real).fill("two, perhaps")
    box(real).blur()
    real.save()

    real.reload()
    expect(box(real)).to_have_value("two, perhaps", timeout=LONG)
    real.restart()
    button(real, "Reconnect").click()
    expect(real.panel.locator(".piano-gone")).to_be_hidden(timeout=LONG)
    expect(box(real)).to_have_value("two, perhaps")
    expect(written(real).locator("pre")).to_have_count(1)
    real.run(0)  # the server is a setting of the kernel
    box(real).press("Enter")

    expect(answers(real)).to_have_count(2, timeout=LONG)

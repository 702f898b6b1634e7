"""The chat panel on real llama.cpp servers: the embedded model, one that calls a tool, and one that is loaded."""

import pytest
from browser.panel_parts import LOAD, answers, ask, button, written
from model.test_real_server import slots_at_work
from playwright.sync_api import expect
from swap_servers import model_command

pytestmark = pytest.mark.model
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
    endless = "%config PianoConfig.stop_loops = False\n%piano agent endless --option ignore_eos=true"
    nb = opened(notebook, f"{at(embedded_server)}\n%piano agent Assistant --temperature 0\n{endless}")

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


@pytest.fixture(scope="module")
def swap(start_swap, tiny, tmp_path_factory):
    """Two models behind a server that swaps; `slow` loads until `swap.gate` is there."""
    folder = tmp_path_factory.mktemp("swap")
    gguf = tiny.write_tiny_gguf(folder / "tiny.gguf", says="Here at last.")
    more = {"quick": [], "slow": ["--wait-for", folder / "gate"]}
    server = start_swap("stand-in", {name: {"cmd": model_command(gguf, name, *each)} for name, each in more.items()})
    server.api_key, server.gate = "", folder / "gate"
    return server


def test_a_model_is_loaded_and_unloaded_in_the_panel_and_its_state_is_seen(notebook, swap):
    agents = "%piano agent Assistant --model slow\n%piano agent ada --model quick"
    nb = opened(notebook, f"{at(swap)}\n{agents}")
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

"""Tools of MCP servers in the chat panel: chosen in the agent's form, approved, denied, stopped, after a restart."""

from browser.panel_parts import LOAD, answers, ask, button, written
from playwright.sync_api import expect
from tiny_mcp import tiny_server
from waiting import until

from piano_jupyter.testing import tool_call

ADD = tool_call("tiny__add", a=1, b=2)


def open_panel(nb):
    for cell in range(2):
        nb.run(cell)


def test_tools_of_a_server_are_listed_approved_denied_stopped_and_there_after_a_restart(notebook, stub_model, tmp_path):
    said = tmp_path / "said"
    stub_model.says(ADD, "Three.", ADD, "As you wish.", tool_call("tiny__wait"), ADD, "Three again.", "Summed up.")
    setting = f"%config PianoConfig.mcp_servers = {{'tiny': {tiny_server('', said)!r}}}"
    nb = notebook([f"{LOAD}\n{setting}", "%piano panel"])
    open_panel(nb)

    nb.panel.locator("header").get_by_role("button", name="Who answers").click()
    nb.panel.get_by_role("button", name="Edit agents…").click()
    nb.panel.get_by_role("dialog", name="Agents", exact=True).locator(".piano-thread-open").first.click()
    for tool in ("tiny.add", "tiny.wait"):
        nb.panel.get_by_role("checkbox", name=tool).check()
    nb.shot("mcp-agent-form")
    nb.panel.get_by_role("button", name="Save").click()
    expect(nb.panel.locator(".piano-thread-open")).to_have_count(1)
    nb.page.keyboard.press("Escape")

    ask(nb, "1 + 2?")
    card = nb.panel.locator(".piano-call[data-state='asks']")
    expect(card).to_contain_text("wants to run tiny.add")
    expect(card.locator(".piano-why").first).to_contain_text("runs with your rights, outside any sandbox")
    nb.shot("mcp-approval")
    button(nb, "Approve").click()
    expect(written(nb).last).to_have_text("Three.")

    ask(nb, "again?")
    button(nb, "Deny").click()
    expect(written(nb).last).to_have_text("As you wish.")

    ask(nb, "wait")
    button(nb, "Approve").click()
    until(said.exists)
    button(nb, "Stop").click()
    until(lambda: said.read_text() == "cancelled")
    expect(answers(nb, "cancelled")).to_have_count(1)

    nb.restart()
    open_panel(nb)
    ask(nb, "and now?")
    button(nb, "Approve").click()
    expect(written(nb).last).to_have_text("Three again.")

    ask(nb, 'Sum up {{mcp("tiny", "docs://a")}}')
    expect(written(nb).last).to_have_text("Summed up.")
    assert stub_model.requests[-1]["messages"][-1]["content"] == "Sum up the text of docs://a"

"""What one does with the messages of the chat panel, in JupyterLab: versions, copying, code, proposed cells, find."""

import re

import pytest
from browser.panel_parts import LOAD, OPEN, answers, ask, box, button, theme, written
from playwright.sync_api import expect

from piano_jupyter.testing import ServerReply, tool_call

CODE = "Two ways:\n\n```python\nmade = 41\nmade + 1\n```\n\nand\n\n```sql\nSELECT 1\n```"


def questions(nb):
    return nb.panel.locator(".piano-entry[data-state='said'] .piano-said")


def test_an_edited_question_has_versions_with_their_later_turns_and_the_next_question_continues_the_one_shown(
    notebook, stub_model
):
    stub_model.says("old answer", "old later", "new answer", "continued")
    nb = notebook([OPEN, "%piano history"])
    nb.run(0)
    for i, text in enumerate(("old", "old and")):
        ask(nb, text)
        expect(answers(nb)).to_have_count(i + 1)
    button(nb, "Edit").first.click()
    box(nb).fill("new")
    box(nb).press("Enter")
    expect(written(nb)).to_have_text(["new answer"])
    versions = nb.panel.get_by_role("group", name="Version 2 of 2 of this question")
    expect(versions).to_have_text("‹2/2›")

    versions.get_by_role("button", name="Previous version").press("Enter")

    expect(questions(nb)).to_have_text(["old", "old and"])
    expect(written(nb)).to_have_text(["old answer", "old later"])
    expect(nb.panel.get_by_role("button", name="Next version of this question, 1 of 2")).to_be_focused()
    nb.shot("versions")

    nb.save()
    nb.reload()
    expect(questions(nb)).to_have_text(["old", "old and"])
    nb.run(1)
    assert "old later" in nb.text(1)
    assert "new answer" not in nb.text(1)
    ask(nb, "go on")
    expect(written(nb)).to_have_text(["old answer", "old later", "continued"])
    read = [message["content"] for message in stub_model.requests[-1]["messages"] if message["role"] == "user"]
    assert read == ["old", "old and", "go on"]


def test_an_answer_that_was_asked_for_again_has_versions_and_the_older_one_is_continued(notebook, stub_model):
    stub_model.says("first", "second", "and so on")
    nb = notebook([OPEN])
    nb.run(0)
    ask(nb, "?")
    expect(written(nb)).to_have_text(["first"])
    button(nb, "Ask again").click()
    expect(written(nb)).to_have_text(["second"])

    nb.panel.get_by_role("button", name="Previous version of this answer of Assistant, 2 of 2").click()
    expect(written(nb)).to_have_text(["first"])
    ask(nb, "and?")

    expect(written(nb)).to_have_text(["first", "and so on"])
    assert [message["content"] for message in stub_model.requests[-1]["messages"][-3:]] == ["?", "first", "and?"]


def test_the_text_of_a_stopped_answer_is_there_after_a_reload_and_in_the_history(notebook, stub_model):
    stub_model.says(ServerReply("word after **word**\n\nand a half", held=True))
    nb = notebook([OPEN, "%piano history"])
    nb.run(0)
    ask(nb, "go on")
    expect(answers(nb, "writing").locator(".piano-text")).to_contain_text("word")
    button(nb, "Stop").click()
    expect(answers(nb, "cancelled").locator(".piano-note")).to_contain_text("stopped")
    nb.save()

    nb.restart()
    nb.run(0)
    expect(answers(nb, "cancelled").locator(".piano-text")).to_contain_text("word")
    expect(answers(nb, "cancelled").locator(".piano-note")).to_contain_text("stopped")
    nb.run(1)
    assert re.search(r"Assistant: word.*\n  \(stopped\)", nb.text(1))
    nb.shot("stopped")


def test_q1_code_goes_below_into_the_selected_cell_and_runs_only_on_the_click(notebook, stub_model):
    stub_model.says(CODE)
    nb = notebook([OPEN, "before = 1"])
    nb.run(0)
    nb.cell(1).locator(".cm-content").click()
    ask(nb, "How?")
    expect(answers(nb)).to_have_count(1)
    nb.shot("code")

    button(nb, "Into cell").first.click()
    button(nb, "Insert below").first.click()
    assert nb.sources() == [OPEN, "made = 41\nmade + 1", "before = 1\nmade = 41\nmade + 1"]
    assert nb.outputs(1) == []
    button(nb, "Run").first.click()

    nb.until(lambda: len(nb.sources()) == 4 and nb.text(2) == "42")
    assert nb.outputs(1) == nb.outputs(3) == []


@pytest.mark.parametrize("api", ["clipboard", "selection", "none"])
def test_an_answer_is_copied_as_markdown_and_copied_is_said_only_then(notebook, stub_model, api):
    stub_model.says("**bold** and `code`")
    nb = notebook([OPEN])
    nb.run(0)
    nb.page.evaluate(
        """api => {
            window.copied = [];
            const write = async (text) => { if (api !== 'clipboard') throw Error('http'); copied.push(text); };
            Object.defineProperty(navigator, 'clipboard', {value: {writeText: write}, configurable: true});
            document.execCommand = () => api === 'selection' && copied.push(document.activeElement.value) > 0;
        }""",
        api,
    )
    ask(nb, "?")
    expect(answers(nb)).to_have_count(1)
    copy = answers(nb).locator(".piano-can button").first
    copy.click()

    if api == "none":
        expect(copy).to_contain_text("Not copied")
        assert nb.page.evaluate("copied") == []
    else:
        expect(copy).to_have_text("Copied")
        assert nb.page.evaluate("copied") == ["**bold** and `code`"]


def test_code_has_only_a_copy_button_where_the_notebook_cannot_be_reached(notebook, stub_model):
    stub_model.says(CODE)
    nb = notebook([OPEN])
    nb.page.evaluate("path => Object.defineProperty(panels[path].context.model, 'cells', {get: () => null})", nb.path)
    nb.run(0)
    ask(nb, "How?")
    expect(answers(nb)).to_have_count(1)

    expect(button(nb, "Copy").first).to_be_visible()
    expect(button(nb, "Insert below")).to_have_count(0)


def test_q1_what_an_agent_adds_is_proposed_until_it_is_kept_run_or_discarded(notebook, stub_model):
    stub_model.says(*(tool_call("add_cell", code=f"made = {i}\nmade") for i in range(4)), "There you are.")
    nb = notebook([f"{LOAD}\n%piano agent Assistant --tools add_cell", "%piano panel"])
    nb.run(0)
    nb.run(1)
    ask(nb, "Write me cells.")
    expect(answers(nb)).to_have_count(1)
    expect(nb.root.locator(".jp-Cell.piano-proposed")).to_have_count(4)
    proposals = nb.panel.get_by_role("region", name="Proposed cells")
    expect(proposals).to_contain_text("4 proposed cells; none runs by itself")
    nb.shot("proposed")
    assert [nb.outputs(i) for i in range(2, 6)] == [[]] * 4
    assert nb.save()["cells"][2]["metadata"]["tags"] == ["piano-proposed"]

    proposals.get_by_role("button", name="Keep: made = 1").focus()
    proposals.get_by_role("button", name="Discard: made = 0").dispatch_event("click")
    expect(proposals).to_contain_text("3 proposed")
    expect(proposals.get_by_role("button", name="Keep: made = 1")).to_be_focused()
    nb.page.keyboard.press("Enter")
    expect(nb.root.locator(".jp-Cell.piano-proposed")).to_have_count(2)
    proposals.get_by_role("button", name="Keep and run: made = 2").click()
    nb.until(lambda: nb.text(3) == "2")
    proposals.get_by_role("button", name="Discard all").click()

    expect(proposals).to_be_hidden()
    assert nb.sources()[2:] == ["made = 1\nmade", "made = 2\nmade"]
    assert nb.outputs(2) == []
    assert [cell["metadata"].get("tags") for cell in nb.save()["cells"][2:]] == [None, None]


def test_a_corrected_cell_is_proposed_in_place_of_the_failed_one(notebook, stub_model):
    stub_model.says("The rate was zero.\n\n```python\nrate = 4\n100 / rate\n```")
    nb = notebook([OPEN, "rate = 0\n100 / rate", "%piano fix"])
    for i in range(3):
        nb.run(i)
    proposals = nb.panel.get_by_role("region", name="Proposed cells")
    expect(proposals).to_contain_text("replaces cell [2]: rate = 0")

    proposals.get_by_role("button", name="Keep: rate = 4").click()

    assert nb.sources() == [OPEN, "%piano fix", "rate = 4\n100 / rate"]
    assert nb.outputs(2) == []


def test_find_counts_and_steps_and_finds_in_earlier_messages(notebook, stub_model):
    stub_model.says("a needle here", "one needle, **two nee**dles", "nothing in İzmir; you know")
    nb = notebook([f"{LOAD}\n%config PianoConfig.panel_messages = 4", "%piano panel"])
    nb.run(0)
    nb.run(1)
    for i, text in enumerate(("first?", "second?", "third?")):
        ask(nb, text)
        expect(answers(nb)).to_have_count(i + 1)
    nb.run(1)
    expect(answers(nb)).to_have_count(2)
    box(nb).press("Control+f")
    find = nb.panel.get_by_role("searchbox", name="Find in this thread")
    count = nb.panel.get_by_role("search").get_by_role("status")

    find.fill("NEEDLE")
    expect(count).to_have_text("1 of 2")
    find.press("Enter")
    expect(count).to_have_text("2 of 2")
    find.press("Shift+Enter")
    expect(count).to_have_text("1 of 2")
    nb.shot("find")
    assert nb.page.evaluate("CSS.highlights.get('piano-found').size") == 2
    button(nb, "Search earlier messages").click()
    expect(count).to_contain_text("of 3")
    for text in ("YOU", "izmir"):  # not the unseen names of questions
        find.fill(text)
        expect(count).to_have_text("1 of 1")
    find.press("Escape")

    expect(find).to_be_hidden()
    expect(box(nb)).to_be_focused()
    assert nb.page.evaluate("CSS.highlights.get('piano-found').size") == 0
    assert not nb.page.locator(".jp-DocumentSearch-overlay").is_visible()


FRAMES = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done))))"


def test_a_button_leads_to_the_end_and_counts_what_came_meanwhile(notebook, stub_model):
    stub_model.says(ServerReply(pieces=["line\n\n" * 30, "line\n\n" * 30], held=True), "another")
    nb = notebook([OPEN, *["1\n" * 20] * 3])
    nb.run(0)
    ask(nb, "long?")
    expect(answers(nb, "writing")).to_have_count(1)
    around = nb.root.locator(".jp-WindowedPanel-outer")
    place = around.bounding_box()
    nb.page.mouse.move(place["x"] + 300, place["y"] + place["height"] - 30)
    nb.page.mouse.wheel(0, 5000)
    expect(box(nb)).not_to_be_in_viewport()
    nb.page.evaluate(FRAMES)
    expect(box(nb)).to_be_focused()
    stub_model.release.set()
    expect(answers(nb)).to_have_count(1)
    expect(box(nb)).not_to_be_in_viewport()  # who reads elsewhere in the notebook is not called back
    log = nb.panel.get_by_role("log")
    jump = nb.panel.locator(".piano-jump")
    expect(jump).to_be_hidden()
    log.evaluate("node => { node.scrollTop = 0 }")
    expect(jump).to_be_visible()

    jump.click()
    expect(jump).to_be_hidden()
    assert log.evaluate("node => node.scrollHeight - node.scrollTop - node.clientHeight") < 2


def test_an_answer_says_who_when_and_how_long_and_its_calls_open(notebook, stub_model):
    stub_model.says(tool_call("variables"), ServerReply("Fine, all of it.", held=True))
    nb = notebook([f"{LOAD}\n%piano agent Assistant --tools variables", "%piano panel"])
    nb.run(0)
    nb.run(1)
    ask(nb, "What is there?")
    expect(answers(nb, "writing").locator(".piano-elapsed")).to_have_text(re.compile(r"^\(\d+:\d\d\)$"))
    nb.shot("generating")
    stub_model.release.set()
    expect(answers(nb)).to_have_count(1)
    expect(answers(nb).locator(".piano-elapsed")).to_have_count(0)
    about = answers(nb).locator(".piano-cost").last
    expect(about.locator("summary")).to_contain_text(re.compile(r"\d+:\d\d"))
    call = nb.panel.locator(".piano-call")
    call.locator("summary").click()
    expect(call.locator("dl")).to_be_visible()
    nb.shot("call")
    hue = answers(nb).locator(".piano-who").evaluate("node => getComputedStyle(node).getPropertyValue('--hue')")
    assert hue.isdigit()


def test_q2_html_in_a_proposed_cell_is_text(notebook, stub_model):
    code = "'<img src=x onerror=\"window.pwned = 1\">'"
    stub_model.says(tool_call("add_cell", code=code), f"```python\n{code}\n```")
    nb = notebook([f"{LOAD}\n%piano agent Assistant --tools add_cell", "%piano panel"])
    nb.run(0)
    nb.run(1)
    ask(nb, "Write me a cell.")
    expect(answers(nb)).to_have_count(1)

    expect(nb.panel.locator(".piano-proposed-code")).to_contain_text("<img src=x")
    expect(nb.panel.locator("img")).to_have_count(0)
    assert nb.page.evaluate("window.pwned") is None


@pytest.mark.parametrize("shade", ["Light", "Dark"])
def test_messages_fit_into_a_narrow_panel_in_both_themes(notebook, stub_model, shade):
    stub_model.says(
        [tool_call("add_cell", code="rate = 4\n100 / rate"), tool_call("variables")],
        f"{CODE}\n\n| a | b |\n| --- | --- |\n| 1 | 2 |",
        "Again.",
        ServerReply("Now I write **more** of it", held=True),
    )
    nb = notebook([f"{LOAD}\n%piano agent Assistant --tools variables,add_cell", "%piano panel"])
    theme(nb, shade)
    try:
        nb.run(0)
        nb.run(1)
        for i, text in enumerate(("Write me cells.", "And again?")):
            ask(nb, text)
            expect(answers(nb)).to_have_count(i + 1)
        button(nb, "Ask again").last.click()
        expect(answers(nb, "writing")).to_have_count(1)
        ask(nb, "One that waits")
        expect(answers(nb, "queued")).to_have_count(1)
        nb.shot(f"messages_{shade.lower()}")
        nb.panel.evaluate("panel => { panel.style.width = '320px' }")
        nb.shot(f"messages_{shade.lower()}_narrow")
        log = nb.panel.get_by_role("log")
        fits = log.evaluate("node => node.scrollWidth <= node.clientWidth")
        log.evaluate("node => { node.scrollTop = 0 }")
        nb.shot(f"messages_{shade.lower()}_narrow_top")
    finally:
        stub_model.release.set()
        theme(nb, "Light")

    assert fits

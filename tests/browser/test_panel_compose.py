"""Writing in the chat panel: drafts, the list of suggestions, files, and what survives a reload and a restart."""

import base64
import re
from collections import Counter

import pytest
from browser.panel_parts import OPEN, answers, ask, box, button
from pictures import png
from playwright.sync_api import expect

from piano_jupyter.testing import ServerReply


def options(nb):
    return nb.panel.get_by_role("option")


def option(nb, name):
    return options(nb).filter(has=nb.page.locator(".piano-option-name", has_text=re.compile(f"^{name}$")))


def opened(notebook, *cells):
    nb = notebook([OPEN, *cells])
    nb.run(0)
    expect(box(nb)).to_be_visible()
    return nb


def test_a_draft_is_kept_by_the_kernel_for_another_browser(notebook):
    nb = opened(notebook, "await piano.draft(piano.thread)")
    box(nb).fill("seen elsewhere")
    box(nb).blur()

    def kept():
        nb.run(1)
        return nb.text(1) == "'seen elsewhere'"

    nb.until(kept)
    nb.page.evaluate("sessionStorage.clear()")
    nb.run(0)
    expect(box(nb)).to_have_value("seen elsewhere")
    ask(nb, "seen elsewhere")
    expect(answers(nb)).to_have_count(1)
    nb.run(0)
    expect(answers(nb)).to_have_count(1)
    expect(box(nb)).to_have_value("")


def test_after_a_restart_the_panel_says_so_and_one_click_brings_it_back_with_its_thread_and_draft(notebook, stub_model):
    stub_model.says("first answer", ServerReply("half of the second", held=True))
    nb = opened(notebook, "'below'")
    ask(nb, "one")
    expect(answers(nb)).to_have_count(1)
    ask(nb, "two")
    expect(answers(nb, "writing").locator(".piano-text")).to_contain_text("half")
    box(nb).fill("three, perhaps")

    nb.restart()
    expect(nb.panel.locator(".piano-gone")).to_contain_text("The kernel was restarted", timeout=2000)
    nb.shot("compose_restarted")
    stub_model.release.set()
    button(nb, "Reconnect").click()

    expect(nb.panel.locator(".piano-gone")).to_be_hidden(timeout=30_000)
    expect(nb.panel.locator(".piano-said")).to_have_text(["one", "", "two", ""])
    expect(box(nb)).to_have_value("three, perhaps")
    expect(answers(nb)).to_have_count(2, timeout=30_000)
    assert nb.sources() == [OPEN, "'below'"]
    ask(nb, "three, perhaps")
    expect(answers(nb)).to_have_count(3)


CHANGES = re.compile(r'"kind": ?"changes", ?"sequence": ?(\d+)')
COMM = re.compile(r'"comm_id": ?"([^"]+)"')
COUNT = """import gc
sum(type(each).__name__ == "ChatPanel" and each.comm is not None for each in gc.get_objects())"""


def test_reloads_and_runs_of_the_cell_leave_no_panel_behind_that_is_still_fed(notebook, stub_model):
    paragraphs = [" ".join(f"word{i}-{j}" for j in range(40)) for i in range(50)]
    stub_model.says(*["\n\n".join(paragraphs)] * 3)
    nb = opened(notebook, COUNT)
    fed = Counter()  # by connection, panel and number of the changes: JupyterLab may have several with one kernel

    def note(socket, frame):
        text = str(frame)
        if changes := CHANGES.search(text):
            fed[socket, COMM.search(text)[1], changes[1]] += 1

    nb.page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: note(socket, frame)))

    for _ in range(3):
        nb.save()
        nb.reload()
        button(nb, "New thread").click()
        expect(nb.panel.locator(".piano-entry")).to_have_count(0)
        fed.clear()
        ask(nb, "go")
        expect(answers(nb)).to_have_count(1)
        nb.run(1)

        assert len({panel for _, panel, _ in fed}) <= 1  # on a busy machine a page may get it all at once
        assert set(fed.values()) <= {1}
        assert nb.text(1) == "1"
        nb.run(0)


def test_the_question_to_nobody_and_a_bad_placeholder_are_reported_and_the_text_stays(notebook, stub_model):
    nb = opened(notebook)
    for text, words in (
        ("@nobody how are you?", "no agent named 'nobody'; known: Assistant"),
        ("look at {{nothing_here}}", "nothing_here"),
    ):
        ask(nb, text)
        expect(nb.panel.get_by_role("alert").first).to_contain_text(words)
        expect(box(nb)).to_have_value(text)

    assert stub_model.requests == []
    expect(nb.panel.locator(".piano-entry")).to_have_count(0)


def test_several_messages_wait_and_each_can_be_cancelled(notebook, stub_model):
    stub_model.says(ServerReply("slowly", held=True), "the third")
    nb = opened(notebook)
    for text in ("one", "two", "three"):
        ask(nb, text)
        expect(box(nb)).to_have_value("")
    waiting = answers(nb, "queued")
    expect(waiting).to_have_count(2)
    expect(waiting.get_by_role("button", name="Cancel")).to_have_count(2)
    nb.shot("compose_queue")

    waiting.first.get_by_role("button", name="Cancel").click()
    expect(answers(nb, "cancelled")).to_have_count(1)
    stub_model.release.set()

    expect(answers(nb)).to_have_count(2)
    assert [each["messages"][-1]["content"] for each in stub_model.requests] == ["one", "three"]


def test_arrow_up_recalls_the_last_questions_and_arrow_down_goes_back(notebook):
    nb = opened(notebook)
    for number, text in enumerate(("first\nwith two lines", "second"), 1):
        ask(nb, text)
        expect(answers(nb)).to_have_count(number)

    box(nb).press("ArrowUp")
    expect(box(nb)).to_have_value("second")
    box(nb).press("ArrowUp")
    expect(box(nb)).to_have_value("first\nwith two lines")
    box(nb).press("ArrowDown")
    expect(box(nb)).to_have_value("second")
    box(nb).press("ArrowDown")
    expect(box(nb)).to_have_value("")
    box(nb).fill("typed")
    box(nb).press("ArrowUp")
    expect(box(nb)).to_have_value("typed")


DATA = "import pandas as pd\nsales = pd.DataFrame({'item': ['tea', 'rum'], 'price': [1.5, 20]})\nrate = 0.19"


def test_what_is_chosen_after_at_is_inserted_as_a_placeholder_and_a_chip_that_can_be_removed(notebook, stub_model):
    stub_model.says("Two items.")
    nb = opened(notebook, DATA)
    nb.run(1)

    box(nb).press_sequentially("Look at @")
    expect(option(nb, "sales")).to_contain_text("2 rows × 2 columns")
    expect(option(nb, "rate")).to_contain_text("0.19")
    expect(option(nb, "Assistant")).to_have_count(1)
    nb.shot("compose_suggestions")
    box(nb).press_sequentially("sal")
    expect(options(nb).first).to_contain_text("sales")
    box(nb).press("Tab")
    expect(box(nb)).to_have_value("Look at {{sales}} ")
    box(nb).press_sequentially("with @ra")
    expect(options(nb).first).to_contain_text("rate")
    box(nb).press("Enter")
    expect(nb.panel.locator(".piano-chip")).to_have_text([re.compile("sales"), re.compile("rate")])
    nb.shot("compose_chips")
    button(nb, "Remove rate").click()
    expect(box(nb)).to_have_value("Look at {{sales}} with ")
    box(nb).press("Enter")

    expect(answers(nb)).to_have_count(1)
    assert "tea,1.5" in stub_model.requests[0]["messages"][-1]["content"]
    expect(nb.panel.locator(".piano-chip")).to_have_count(0)


def test_the_list_is_used_with_arrows_escape_and_the_mouse_and_never_stops_typing(notebook):
    nb = opened(notebook, DATA)
    nb.run(1)
    box(nb).press_sequentially("@ra")
    expect(options(nb).first).to_contain_text("rate")
    box(nb).press("Escape")
    expect(options(nb)).to_have_count(0)
    box(nb).press_sequentially("te x")
    expect(options(nb)).to_have_count(0)
    expect(box(nb)).to_have_value("@rate x")

    box(nb).fill("")
    box(nb).press_sequentially("@")
    for name in ("Assistant", "sales"):  # what is chosen stays chosen when more comes, but not in its place
        expect(option(nb, name)).to_be_visible()
    box(nb).press("ArrowDown")
    expect(options(nb).nth(1)).to_have_attribute("aria-selected", "true")
    box(nb).press("ArrowUp")
    expect(options(nb).first).to_have_attribute("aria-selected", "true")
    option(nb, "sales").click()
    expect(box(nb)).to_have_value("{{sales}} ")
    box(nb).press_sequentially("to @Assi")
    expect(options(nb).first).to_contain_text("Assistant")
    box(nb).press("Enter")
    expect(box(nb)).to_have_value(re.compile("^@Assistant "))


def test_the_list_opens_at_once_while_a_cell_runs_and_the_best_is_chosen_when_variables_follow(notebook, lab, tmp_path):
    go = tmp_path / "go"
    busy = f"import time, os\nlate = 7\nwhile not os.path.exists({str(go)!r}): time.sleep(0.02)"
    nb = opened(notebook, busy)
    ((lab.notebooks / nb.path).parent / "latin.txt").write_text("et cetera")
    nb.run(1, wait=False)
    expect(nb.cell(1).locator(".jp-InputPrompt")).to_have_text("[*]:")

    box(nb).press_sequentially("@")
    expect(option(nb, "Assistant")).to_be_visible()
    box(nb).press_sequentially("la")
    expect(option(nb, "latin.txt")).to_have_attribute("aria-selected", "true")
    nb.panel.locator(".piano-popup").get_by_text("the kernel is busy").click()
    expect(option(nb, "latin.txt")).to_be_visible()
    go.touch()

    expect(options(nb).first).to_contain_text("late")
    expect(options(nb).first).to_have_attribute("aria-selected", "true")
    expect(nb.panel.locator(".piano-popup")).not_to_contain_text("the kernel is busy")


def test_commands_are_chosen_after_a_slash_and_explain_asks_about_the_last_error(notebook, stub_model):
    stub_model.says("You divide by zero.")
    nb = opened(notebook, "1 / 0")
    nb.run(1)
    box(nb).press_sequentially("/")
    expect(option(nb, "/stop")).to_be_visible()
    nb.shot("compose_commands")
    box(nb).press_sequentially("expl")
    expect(options(nb)).to_have_count(1)
    box(nb).press("Enter")

    expect(answers(nb)).to_have_count(1)
    assert "ZeroDivisionError" in stub_model.requests[0]["messages"][-1]["content"]


PASTE = """(box, [name, type, content]) => {
    const bytes = Uint8Array.from(atob(content), each => each.charCodeAt(0));
    const data = new DataTransfer();
    data.items.add(new File([bytes], name, { type }));
    box.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true, cancelable: true }));
}"""
PASTE_WHILE_A_THREAD_IS_OPENED = f"""(box, given) => {{
    document.activeElement.blur();
    box.closest('.piano-panel').querySelector('header [aria-label="New thread"]').click();
    ({PASTE})(box, given);
}}"""
DROP = PASTE.replace(
    "new ClipboardEvent('paste', { clipboardData: data,", "new DragEvent('drop', { dataTransfer: data,"
)


def in_base64(content):
    return base64.b64encode(content).decode()


def test_a_pasted_image_and_a_dropped_text_go_with_the_question(notebook, stub_model):
    stub_model.says("A plot and notes.")
    nb = opened(notebook)
    box(nb).evaluate(PASTE, ["plot.png", "image/png", in_base64(png(64, 48))])
    notes = ("a line of notes\n" * 60_000)[:90_000]
    box(nb).evaluate(DROP, ["notes.txt", "text/plain", in_base64(notes.encode())])
    chips = nb.panel.locator(".piano-chip")
    expect(chips).to_have_text([re.compile("plot.png, 64 × 48"), re.compile("notes.txt, ")])
    expect(chips.first.locator("img")).to_be_visible()
    nb.shot("compose_files")

    ask(nb, "what are these?")

    expect(answers(nb)).to_have_count(1)
    expect(chips).to_have_count(0)
    content = stub_model.requests[0]["messages"][-1]["content"]
    expect(nb.panel.locator(".piano-attachment summary")).to_contain_text("notes.txt")
    expect(nb.panel.locator(".piano-attachment img")).to_have_attribute("alt", "plot.png, 64 × 48")
    assert any(part["type"] == "image_url" for part in content)
    assert "a line of notes" in str(content)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("data.bin", b"\x00\x01\x02", "data.bin is neither an image"),
        ("empty.txt", b"", "empty.txt is empty"),
        ("huge.bin", b"a" * (20 * 2**20 + 1), "huge.bin is too large: at most 20 MB are taken"),
    ],
)
def test_p2_a_file_that_cannot_be_sent_is_refused_with_a_sentence(notebook, name, content, words):
    nb = opened(notebook)

    box(nb).evaluate(PASTE_WHILE_A_THREAD_IS_OPENED, [name, "application/octet-stream", in_base64(content)])
    expect(box(nb)).to_be_focused()  # in the new thread

    expect(nb.panel.get_by_role("alert").first).to_contain_text(words)
    expect(nb.panel.locator(".piano-chip")).to_have_count(0)


def test_a_file_of_the_workspace_is_chosen_and_can_be_removed(notebook, lab, stub_model):
    stub_model.says("Read.")
    nb = opened(notebook)
    folder = (lab.notebooks / nb.path).parent
    (folder / "data of May").mkdir()
    (folder / "data of May" / "figures.csv").write_text("a,b\n1,2\n")

    box(nb).press_sequentially("Sum @dat")
    expect(options(nb).first).to_contain_text("data of May/")
    box(nb).press("Enter")
    box(nb).press_sequentially("fig")
    expect(options(nb).first).to_contain_text("data of May/figures.csv")
    box(nb).press("Enter")
    expect(nb.panel.locator(".piano-chip")).to_contain_text("figures.csv, ")
    expect(box(nb)).to_have_value("Sum ")
    button(nb, "Remove figures.csv, 8 bytes").click()
    expect(nb.panel.locator(".piano-chip")).to_have_count(0)
    expect(box(nb)).to_be_focused()


IN_SIGHT = """([box, around]) => {
    const [inner, outer] = [box.getBoundingClientRect(), around.getBoundingClientRect()];
    const send = box.form.querySelector(".piano-send").getBoundingClientRect();
    return inner.height > 20 && inner.top >= outer.top && send.bottom <= outer.bottom + 1;
}"""


def is_in_sight(nb, around):
    return nb.page.evaluate(IN_SIGHT, [box(nb).element_handle(), around.element_handle()])


@pytest.mark.parametrize(("width", "height"), [(320, 240), (480, 320)])
def test_the_box_is_in_sight_in_a_small_window(notebook, width, height, stub_model):
    stub_model.says("line\n\n" * 60)
    nb = opened(notebook)
    ask(nb, "long?")
    expect(answers(nb)).to_have_count(1)
    around = nb.root.locator(".jp-WindowedPanel-outer")

    around.evaluate(
        """(node, [width, height]) => {
            node.style.cssText += `; height: ${height}px !important`;
            node.querySelector(".piano-panel").style.maxWidth = `${width}px`;
        }""",
        [width, height],
    )
    nb.until(lambda: nb.panel.evaluate("node => node.clientHeight") <= height)
    box(nb).press_sequentially("{{a}} and a text")
    nb.panel.evaluate("node => node.scrollIntoView({ block: 'nearest' })")

    nb.until(lambda: is_in_sight(nb, around))
    nb.shot(f"compose_{width}x{height}")


def test_a_panel_in_a_place_of_its_own_fills_it_with_the_box_in_sight(notebook, stub_model):
    stub_model.says("line\n\n" * 60)
    nb = opened(notebook)
    ask(nb, "long?")
    expect(answers(nb)).to_have_count(1)
    nb.page.evaluate("jupyterapp.commands.execute('notebook:create-output-view')")
    docked = nb.page.locator(".jp-LinkedOutputView .piano-panel")
    expect(docked).to_have_class(re.compile("piano-fills"))
    around = nb.page.locator(".jp-LinkedOutputView")

    def filled():
        heights = [each.evaluate("node => node.clientHeight") for each in (docked, around)]
        return heights[0] > 0.9 * heights[1] and heights[0] <= heights[1]

    nb.until(filled)
    send = docked.locator("form .piano-send").bounding_box()
    outer = around.bounding_box()
    nb.shot("compose_docked")
    assert send["y"] + send["height"] <= outer["y"] + outer["height"]

"""Piano's extension of JupyterLab and Jupyter Notebook 7: cells, the dock, errors, answers and transcripts."""

import json
import re

import pytest
from browser.lab import ClassicNotebook, Notebook
from browser.panel_parts import theme
from nbconvert import HTMLExporter
from playwright.sync_api import expect

from piano_jupyter.testing import ServerReply, tool_call

LOAD = "%load_ext piano_jupyter"
SOON = 30_000  # ms, for a kernel that starts or loads something
LEAST = {"width": 320, "height": 240}  # of a dock in which the input is to be visible
READ_CLIPBOARD = "() => navigator.clipboard.readText()"
NO_CLIPBOARD = "() => Object.defineProperty(navigator, 'clipboard', {value: undefined, configurable: true})"


def dock(nb):
    return nb.page.locator(".piano-dock")


def docked_panel(nb):
    return dock(nb).locator(".piano-panel")


def shots(nb, name):
    """Keep pictures in the light and the dark theme."""
    for shade in ("Dark", "Light"):
        theme(nb, shade)
        nb.shot(f"{name}_{shade.lower()}_{nb.front_end}")


def press(nb):
    """Press the button in the toolbar."""
    nb.page.get_by_role("button", name="Open Piano").first.click()


def ask(nb, text):
    box = docked_panel(nb).get_by_role("textbox", name="Message")
    box.fill(text)
    box.press("Enter")


def style(nb, index, text, name):
    """Return a property of the style of a piece of text in the editor of a cell."""
    read = """(line, [text, name]) => {
        const walker = document.createTreeWalker(line, NodeFilter.SHOW_TEXT);
        for (let node; (node = walker.nextNode()); )
            if (node.textContent.includes(text)) return getComputedStyle(node.parentElement)[name];
    }"""
    return nb.cell(index).locator(".cm-content").evaluate(read, [text, name])


PROSE = "%%piano @ada --thread 'Sales'\nI don't know **why** the last of {{figures}} is low, {{{{so}}}} tell me.\n\n---"
QUERY = "%%piano sql\nSELECT title FROM threads WHERE title = 'Sales'"
CODE = "import math"


@pytest.mark.parametrize("shade", ["Light", "Dark"])
def test_cells_of_piano_are_prose_or_sql_below_a_first_line_that_is_a_command(notebook_in_each, shade):
    nb = notebook_in_each([PROSE, QUERY, CODE])
    theme(nb, shade)
    try:
        expect(nb.cell(0).locator(".piano-placeholder")).to_have_text(["{{figures}}"])
        nb.shot(f"cells_{shade.lower()}_{nb.front_end}")

        plain, keyword = style(nb, 0, "I don't know", "color"), style(nb, 2, "import", "color")
        assert style(nb, 0, "the last of", "color") == plain
        assert int(style(nb, 0, "why", "fontWeight")) > int(style(nb, 0, "know", "fontWeight"))
        assert [style(nb, i, text, "color") for i, text in ((0, "%%piano"), (1, "%%piano"), (1, "SELECT"))] == [
            keyword
        ] * 3
        assert style(nb, 0, "@ada", "color") not in {plain, keyword}
        assert style(nb, 0, "@ada", "fontWeight") == "400"
        read = "path => panels[path].content.widgets.map(cell => cell.model.mimeType)"
        assert nb.page.evaluate(read, nb.path) == ["text/x-ipython"] * 3
    finally:
        theme(nb, "Light")


def test_a_cell_becomes_prose_and_code_again_with_its_first_line(notebook_in_each):
    nb = notebook_in_each(["import **this**"])
    marks = nb.cell(0).locator(".cm-content")
    keyword = style(nb, 0, "import", "color")
    marks.click()

    nb.page.keyboard.press("ControlOrMeta+Home")
    nb.page.keyboard.type("%%piano\n")
    nb.until(lambda: style(nb, 0, "import", "color") != keyword)
    assert int(style(nb, 0, "this", "fontWeight")) > 400
    nb.page.keyboard.press("ArrowUp")
    nb.page.keyboard.press("Home")
    nb.page.keyboard.type("x")
    nb.until(lambda: style(nb, 0, "import", "color") == keyword)


def test_open_piano_shows_the_chat_beside_the_notebook_and_closes_it_again(notebook_in_each, stub_model):
    stub_model.says("It is **Paris**.")
    nb = notebook_in_each(["1 + 1"])

    press(nb)
    expect(docked_panel(nb)).to_be_visible(timeout=SOON)
    expect(dock(nb)).to_contain_text("has loaded piano_jupyter")
    ask(nb, "What is the capital of France?")
    expect(docked_panel(nb).locator(".piano-done strong")).to_have_text("Paris")
    nb.run(0)
    shots(nb, "dock")

    assert nb.sources() == ["1 + 1"]
    assert nb.outputs(0)[0]["execution_count"] == 1
    places = [each.bounding_box() for each in (dock(nb), docked_panel(nb), nb.root)]
    assert sum(places[1][side] for side in ("y", "height")) == pytest.approx(
        sum(places[0][side] for side in ("y", "height")), abs=2
    )
    assert places[0]["x"] > places[2]["x"]
    press(nb)
    expect(dock(nb)).to_have_count(0)
    press(nb)
    expect(docked_panel(nb).locator(".piano-done strong")).to_have_text("Paris")
    expect(dock(nb)).not_to_contain_text("has loaded")


def test_while_a_cell_runs_the_dock_says_that_it_waits_for_the_kernel(notebook_in_each, tmp_path):
    go = tmp_path / "go"
    nb = notebook_in_each([LOAD, f"from pathlib import Path\nwhile not Path({str(go)!r}).exists():\n    pass"])
    nb.run(0)
    nb.run(1, wait=False)
    expect(nb.cell(1).locator(".jp-InputPrompt")).to_have_text("[*]:")

    press(nb)
    expect(dock(nb)).to_have_text("The chat opens as soon as the kernel is free.\n")
    go.touch()
    expect(docked_panel(nb)).to_be_visible(timeout=SOON)

    expect(dock(nb)).not_to_contain_text("as soon as")


def test_the_input_of_the_dock_is_visible_at_every_size(notebook_in_each):
    nb = notebook_in_each([LOAD])
    nb.run(0)
    press(nb)
    box = docked_panel(nb).get_by_role("textbox", name="Message")
    expect(box).to_be_visible(timeout=SOON)
    try:
        for _ in range(2):  # the second time the toolbars around it have taken their place
            expect(dock(nb)).to_be_in_viewport(ratio=0.99)  # it has got its new size
            now, docked = nb.page.viewport_size, dock(nb).bounding_box()
            share = docked["width"] / now["width"]
            nb.page.set_viewport_size(
                {"width": int(320 / share), "height": int(now["height"] - docked["height"]) + 240}
            )
        expect(box).to_be_in_viewport(ratio=1)
        nb.shot(f"dock_small_{nb.front_end}")
    finally:
        nb.page.set_viewport_size({"width": 1200, "height": 950})


RENAME = """path => panels[path].context.rename("renamed.ipynb").then(() => panels[path].context.path)"""


def test_the_dock_comes_back_after_a_restart_of_the_kernel_and_a_reload_of_the_page(notebook_in_each, stub_model, lab):
    stub_model.says("It is *so*.")
    nb = notebook_in_each([LOAD])
    press(nb)
    expect(docked_panel(nb)).to_be_visible(timeout=SOON)
    ask(nb, "Is it so?")
    expect(docked_panel(nb).locator("em")).to_have_text("so")

    nb.restart()
    expect(dock(nb)).to_contain_text("has loaded piano_jupyter", timeout=SOON)
    expect(docked_panel(nb).locator("em")).to_have_text("so")
    nb.until_layout_is_saved("piano-dock")
    before, nb.path = nb.path, nb.page.evaluate(RENAME, nb.path)
    if nb.front_end == "lab":
        for _ in range(2):  # a name alone does not have the layout saved
            nb.page.evaluate("() => jupyterapp.commands.execute('application:toggle-left-area')")
        nb.until(lambda: not re.search(f"(notebook|piano-dock):{before}", json.dumps(lab.api("lab/api/workspaces"))))
    nb.reload(reset=False)
    expect(docked_panel(nb).locator("em")).to_have_text("so", timeout=SOON)
    press(nb)
    expect(dock(nb)).to_have_count(0)


@pytest.mark.parametrize(
    ("kernel", "code", "sentence"),
    [
        ("no-piano", "import sys\nsys.modules['piano_jupyter'] = None", "This notebook's kernel has no piano_jupyter"),
        (
            "no-python",
            "from ipykernel.ipkernel import IPythonKernel\nIPythonKernel.language_info = {'name': 'R', 'mimetype': ''}",
            "Piano needs a Python kernel; this notebook has another one.",
        ),
    ],
)
def test_where_there_is_no_piano_the_dock_says_so_in_a_sentence(notebook_in_each, lab, kernel, code, sentence):
    lab.add_kernel(kernel, code)
    nb = notebook_in_each([""], kernel=kernel)

    press(nb)

    expect(dock(nb).locator("pre")).to_have_text(re.compile(rf"^{re.escape(sentence)}[^\n]*\n$"), timeout=SOON)


#: open another view of the notebook, and close it again
SECOND_VIEW = """async path => {
    await jupyterapp.commands.execute("docmanager:clone");
    const { context } = panels[path];
    const views = [...jupyterapp.shell.widgets("main")].filter(each => each.context === context);
    const second = views.find(each => each !== panels[path]);
    await second.revealed;
    const closed = new Promise(done => second.disposed.connect(done));
    second.close();
    await closed;
}"""


def test_a_cell_opens_the_dock(notebook_in_each):
    nb = notebook_in_each([LOAD, "%piano panel --side"])
    nb.run(0)
    if nb.front_end == "lab":
        nb.page.evaluate(SECOND_VIEW, nb.path)

    nb.run(1)
    expect(docked_panel(nb)).to_be_visible(timeout=SOON)
    nb.until(lambda: nb.text(1) == "the chat is open beside the notebook")
    nb.run(1)
    expect(docked_panel(nb)).to_be_visible()

    assert nb.page.evaluate("() => jupyterapp.commands.isToggled('piano:open')")  # the button closes it
    assert [output["data"].keys() for output in nb.save()["cells"][1]["outputs"]] == [{"text/plain"}]


@pytest.mark.parametrize("kind", [Notebook, ClassicNotebook], ids=["lab", "notebook7"])
def test_without_the_extension_a_cell_says_how_to_get_it_and_the_panel_works(chromium, lab, stub_model, kind):
    context = chromium.new_context(viewport={"width": 1200, "height": 950})
    page = context.new_page()
    page.route("**/piano-jupyter/static/**", lambda route: route.abort())
    path = f"without-the-extension-{kind.front_end}/notebook.ipynb"
    stub_model.says(tool_call("add_cell", code="made = 1"), "There you are.", "```python\nmade = 41\nmade + 1\n```")
    adds = f"{LOAD}\n%piano agent Assistant --tools add_cell"
    lab.write(path, [adds, "%piano panel --side", "%%piano\nWrite me a cell.", "%piano panel"])
    nb = kind(page, lab, path)
    try:
        nb.reload()
        nb.run(0)
        nb.run(1)
        nb.until(lambda: nb.text(1).startswith("this front end has no extension that opens the chat"))
        nb.run(2)
        assert "the new cell below is proposed; it was not run" in nb.text(2)
        nb.run(4)
        nb.panel.get_by_role("textbox", name="Message").fill("How?")
        nb.panel.get_by_role("button", name="Send").click()
        nb.panel.get_by_role("button", name=re.compile("^Run")).click()
        expect(nb.panel.locator(".piano-notice")).to_contain_text("was not run: here is no extension of Piano")
        assert nb.sources()[3:] == ["made = 1", "%piano panel", "made = 41\nmade + 1"]
        assert nb.outputs(5) == []
        expect(dock(nb)).to_have_count(0)
    finally:
        context.close()
        lab.end_kernels()


def test_a_saved_transcript_goes_on_being_updated_after_a_reload(notebook_in_each, stub_model):
    stub_model.says("first *answer*", ServerReply("second *answer*", held=True), "third *answer*")
    nb = notebook_in_each([f"{LOAD}\n%piano panel"])
    nb.run(0)
    box = nb.panel.get_by_role("textbox", name="Message")
    box.fill("one")
    box.press("Enter")
    nb.until(lambda: "first *answer*" in nb.text(0))
    box.fill("two")
    box.press("Enter")
    expect(nb.panel.locator(".piano-entry[data-state='writing']")).to_have_count(1)
    nb.save()

    nb.reload()
    stub_model.release.set()
    nb.until(lambda: "second *answer*" in nb.text(0))
    expect(nb.panel.locator("em")).to_have_count(2)
    box = nb.panel.get_by_role("textbox", name="Message")
    box.fill("three")
    box.press("Enter")
    nb.until(lambda: "third *answer*" in nb.text(0))

    assert "third *answer*" in str(nb.save()["cells"][0]["outputs"][1]["data"]["text/plain"])


FAILS = "secret = 'fish'\nraise ValueError('{{secret}} and <img src=x onerror=\"window.pwned = 1\">')"
EXPLAIN = "Explain with Piano"


def explain(nb, index):
    nb.cell(index).get_by_role("button", name=EXPLAIN).click()


def test_n2_an_error_is_explained_in_a_cell_below_and_nothing_in_it_is_expanded(notebook_in_each, stub_model):
    stub_model.says("You raised **it**.")
    nb = notebook_in_each([FAILS, "2"])
    nb.run(0)
    error = nb.cell(0).locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']")
    expect(error.locator("pre span.ansi-red-intense-fg, pre span.ansi-red-fg").first).to_be_visible()
    shots(nb, "error")
    nb.cell(0).get_by_role("button", name=EXPLAIN).focus()
    for _ in "dd":  # which deletes a cell
        nb.page.keyboard.press("d")

    explain(nb, 0)
    expect(nb.cell(1).locator(".piano-answer strong")).to_have_text("it", timeout=SOON)

    assert nb.sources() == [FAILS, f"{LOAD}\n%piano explain --of 1", "2"]
    asked = stub_model.requests[-1]["messages"][-1]["content"]
    assert "ValueError: {{secret}} and <img" in asked
    assert nb.page.evaluate("() => window.pwned") is None
    assert list(nb.save()["cells"][0]["outputs"][0]) == ["ename", "evalue", "output_type", "traceback"]
    selected = "node => (getSelection().selectAllChildren(node), getSelection().toString())"
    assert EXPLAIN not in error.evaluate(selected)


def test_an_error_that_is_not_the_last_one_is_not_taken_for_it(notebook, stub_model):
    nb = notebook([LOAD, "1/0", "int('x')", "%piano nonsense"])
    for index in range(4):
        nb.run(index)
    expect(nb.cell(3).get_by_role("button", name=EXPLAIN)).to_have_count(0)

    explain(nb, 1)
    nb.until(lambda: "the error of In[2] is gone, since In[3] failed last" in nb.text(2))

    assert nb.sources()[2] == "%piano explain --of 2"
    assert stub_model.requests == []


ANSWER = "It counts:\n\n```python\nfor i in range(3):\n    print(i)\n```\n\nand **stops**."
CODE_IN_IT = "for i in range(3):\n    print(i)"


def copied(nb, name):
    """Press a copy button; return what it says then."""
    button = nb.cell(1).get_by_role("button", name=name)
    button.hover()
    button.click()
    expect(button).not_to_have_text("Copy")
    return button.text_content()


def test_answers_in_cells_are_copied_as_code_and_as_a_whole(notebook_in_each, stub_model):
    stub_model.says(ANSWER)
    nb = notebook_in_each([LOAD, "%%piano\nHow do I count?"])
    nb.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    nb.run(0)
    nb.run(1)

    assert copied(nb, "Copy this code") == "Copied"
    assert nb.page.evaluate(READ_CLIPBOARD).rstrip() == CODE_IN_IT
    assert copied(nb, "Copy the answer") == "Copied"
    whole = nb.page.evaluate(READ_CLIPBOARD)
    assert whole.startswith("It counts:")
    assert CODE_IN_IT in whole
    assert whole.endswith("and stops.")
    shots(nb, "answer")


def test_over_plain_http_copying_falls_back_and_says_copied_only_when_it_was(notebook, stub_model):
    stub_model.says(ANSWER)
    nb = notebook([LOAD, "%%piano\nHow do I count?"])
    nb.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    nb.run(0)
    nb.run(1)
    nb.page.evaluate(f"() => {{ window.kept = navigator.clipboard; ({NO_CLIPBOARD})(); }}")

    assert copied(nb, "Copy this code") == "Copied"
    assert nb.page.evaluate("() => kept.readText()").rstrip() == CODE_IN_IT
    nb.page.evaluate("() => { document.execCommand = () => false; }")
    assert copied(nb, "Copy the answer") == "Cannot copy here"
    nb.page.evaluate("() => { delete document.execCommand; delete navigator.clipboard; }")


SAVE_WIDGETS = "() => jupyterapp.commands.execute('@jupyter-widgets/jupyterlab-manager:saveWidgetState')"  # or not


@pytest.mark.parametrize("trusted", [True, False])
def test_a_saved_notebook_shows_the_transcript_and_nothing_else(notebook_in_each, stub_model, lab, trusted):
    stub_model.says("It is *so*.")
    nb = notebook_in_each([f"{LOAD}\n%piano panel"])
    nb.run(0)
    box = nb.panel.get_by_role("textbox", name="Message")
    box.fill("Is it so?")
    box.press("Enter")
    nb.until(lambda: "It is *so*." in nb.text(0))
    nb.save()
    if trusted:  # and with the state of its widgets
        nb.page.evaluate(SAVE_WIDGETS)
        nb.until(lambda: "widgets" in nb.save()["metadata"])
        nb.page.evaluate(SAVE_WIDGETS)
    nb.end_kernel()
    if not trusted:
        file = lab.notebooks / nb.path
        file.write_text(file.read_text().replace("It is", "It was"))  # who changes it did not sign it

    nb.reload()
    shown = nb.cell(0).locator(".jp-Cell-outputArea")
    expect(shown.locator("em")).to_be_visible()
    nb.shot(f"saved_{'trusted' if trusted else 'untrusted'}_{nb.front_end}")

    assert nb.page.evaluate("path => panels[path].content.widgets[0].model.trusted", nb.path) is trusted
    assert shown.inner_text().split()[:5] == ["Is", "it", "so?", "You", "Is"]
    assert nb.cell(0).locator(".jp-OutputArea-child:visible").count() == 1


def test_a_saved_notebook_as_a_page_shows_the_transcript_and_nothing_else(notebook, stub_model, lab):
    stub_model.says("It is *so*.")
    nb = notebook([f"{LOAD}\n%piano panel"])
    nb.run(0)
    nb.panel.get_by_role("textbox", name="Message").fill("Is it so?")
    nb.panel.get_by_role("button", name="Send").click()
    nb.until(lambda: "It is *so*." in nb.text(0))
    nb.save()

    with pytest.warns(UserWarning, match="widget-view"):  # which a page without a kernel does not show
        html, _ = HTMLExporter().from_filename(lab.notebooks / nb.path)
    page = nb.page.context.new_page()
    page.set_content(html, wait_until="domcontentloaded")

    expect(page.locator(".jp-OutputArea em")).to_have_text("so")
    assert page.locator(".jp-OutputArea").inner_text().split()[:5] == ["Is", "it", "so?", "You", "Is"]
    page.close()


HOSTILE = "<b onclick='window.pwned = 1'>ls</b><script>window.pwned = 1</script><img src=x onerror='window.pwned = 1'>"
PLANTED = [
    {
        "output_type": "display_data",
        "data": {"text/html": HOSTILE, "text/plain": "rm -rf ~"},
        "metadata": {"piano": "answer", "piano_display_id": "1"},
    },
    {"output_type": "error", "ename": "E", "evalue": "e", "traceback": ["%piano sql\n", "{{x}}"]},
    {"output_type": "display_data", "data": {"application/vnd.piano.dock+json": {}, "text/plain": "x"}, "metadata": {}},
]


def test_n1_n3_the_outputs_of_a_notebook_that_is_not_trusted_start_nothing_and_copy_what_is_seen(notebook_in_each):
    nb = notebook_in_each([{"source": "'hi'", "outputs": PLANTED}, "_ih[-1]"])
    nb.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    expect(nb.cell(0).locator("b")).to_have_text("ls")

    nb.cell(0).locator("b").click()
    button = nb.cell(0).get_by_role("button", name="Copy the answer")
    button.hover()
    button.click()
    expect(button).to_have_text("Copied")
    nb.run(1)

    assert nb.page.evaluate(READ_CLIPBOARD) == "ls"
    assert nb.page.evaluate("() => window.pwned") is None
    expect(dock(nb)).to_have_count(0)
    expect(nb.cell(0).get_by_role("button", name=EXPLAIN)).to_have_count(0)
    assert nb.outputs(1)[0]["execution_count"] == 1  # nothing ran before


UPDATES = """
from IPython.display import update_display
update_display("not this", display_id="1")
update_display("this", display_id="1", metadata={"piano_display_id": "1"})
update_display("nor this", display_id="1", metadata={"piano_display_id": "2"})
"""


def test_n4_only_an_output_that_bears_the_display_id_is_updated_by_the_kernel_that_runs(notebook_in_each):
    nb = notebook_in_each([{"source": "", "outputs": [PLANTED[0], {**PLANTED[0], "metadata": {}}]}, UPDATES])

    nb.run(1)

    nb.until(lambda: nb.text(0) == "'this'\nrm -rf ~")

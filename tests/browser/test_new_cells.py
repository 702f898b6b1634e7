"""Code that an agent puts into a new cell, in JupyterLab: below a cell that waits, and below the chat panel."""

from playwright.sync_api import expect

from piano_jupyter.testing import tool_call

ADDS = "%load_ext piano_jupyter\n%piano agent Assistant --tools add_cell,run_python"
LONG = "open('begun', 'w').close()\nimport time\nfor _ in range(6000):\n    time.sleep(0.01)\nended = True"


def add(code):
    return tool_call("add_cell", code=code)


def ask(nb, text):
    box = nb.panel.get_by_role("textbox", name="Message")
    box.fill(text)
    box.press("Enter")


def answers(nb, state="done"):
    return nb.panel.locator(f".piano-entry[data-state='{state}']")


def told(stub_model):
    return stub_model.requests[-1]["messages"][-1]["content"]


def test_code_is_added_in_a_cell_below_and_does_not_run(notebook, stub_model):
    stub_model.says(add("made = 1"), add("made + 1"), "There you are.")
    nb = notebook([ADDS, "%%piano\nWrite me a cell.", "'last'"])
    nb.run(0)

    nb.run(1)

    nb.until(lambda: len(nb.sources()) == 4)
    assert nb.sources()[2:] == ["made = 1\n\nmade + 1", "'last'"]
    assert nb.outputs(2) == []
    assert "put into a new cell below" in told(stub_model)
    nb.run(2)
    assert nb.text(2) == "2"


def test_code_from_the_panel_is_added_in_cells_below_it_in_order(notebook, stub_model):
    stub_model.says(add("made = 1"), add("made + 1"), "There you are.")
    nb = notebook([ADDS, "%piano panel", "'last'"])
    nb.run(0)
    nb.run(1)

    ask(nb, "Write me a cell.")
    expect(answers(nb)).to_have_count(1)

    assert nb.sources()[2:] == ["made = 1", "made + 1", "'last'"]
    assert told(stub_model) == "the code is in a new cell below the chat panel; the user decides whether to run it"
    nb.shot("new_cells_below_the_panel")
    nb.run(2)
    nb.run(3)
    assert nb.text(3) == "2"
    assert nb.save()["cells"][2]["source"] in ("made = 1", ["made = 1"])


def test_where_no_page_can_add_a_cell_the_agent_is_told_and_the_code_can_be_copied(notebook, stub_model):
    stub_model.says(add("made = 1"), "Here it is:\n\n```python\nmade = 1\n```")
    nb = notebook([ADDS, "%piano panel"])
    nb.run(0)
    nb.run(1)
    nb.page.evaluate(
        "path => { panels[path].context.model.sharedModel.insertCell = () => { throw Error('not here') } }", nb.path
    )

    ask(nb, "Write me a cell.")
    expect(answers(nb)).to_have_count(1)

    assert len(nb.sources()) == 2
    assert told(stub_model).startswith("no_place: ")
    expect(nb.panel.locator(".piano-text pre")).to_contain_text("made = 1")
    expect(nb.panel.locator(".piano-text").get_by_role("button", name="Copy")).to_be_visible()


def test_stop_in_the_panel_ends_code_that_runs_in_the_idle_kernel(notebook, stub_model, lab):
    stub_model.says(tool_call("run_python", code=LONG), "done")
    nb = notebook([ADDS, "%piano panel", "'ended' in globals()"])
    nb.run(0)
    nb.run(1)
    ask(nb, "go")
    nb.panel.get_by_role("button", name="Approve").click()
    begun = (lab.notebooks / nb.path).parent / "begun"
    nb.until(begun.exists)

    nb.panel.get_by_role("button", name="Stop").click()

    expect(answers(nb, "cancelled")).to_have_count(1)
    nb.run(2)
    assert nb.text(2) == "False"

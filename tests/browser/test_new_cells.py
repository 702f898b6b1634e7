"""Code that an agent puts into a new cell, in JupyterLab: below a cell that waits, and below the chat panel."""

from browser.panel_parts import answers, ask
from playwright.sync_api import expect

from piano_jupyter.testing import tool_call

ADDS = "%load_ext piano_jupyter\n%piano agent Assistant --tools add_cell,run_python"
FIXED = "The rate was zero.\n\n```python\nrate = 4\n100 / rate\n```"
LONG = "open('begun', 'w').close()\nimport time\nfor _ in range(6000):\n    time.sleep(0.01)\nended = True"


def add(code):
    return tool_call("add_cell", code=code)


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
    assert told(stub_model) == "the code is in a new cell of the notebook; the user decides whether to run it"
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


def test_a_failed_cell_is_explained_and_fixed_in_a_cell_below_that_does_not_run(notebook, stub_model):
    stub_model.says("You divide by **zero**: `rate` is 0.", FIXED)
    nb = notebook(["%load_ext piano_jupyter", "rate = 0\n100 / rate", "%piano explain", "%piano fix", "'last'"])
    nb.run(0)
    nb.run(1)
    assert "ZeroDivisionError" in nb.text(1)

    nb.run(2)
    nb.run(3)

    nb.until(lambda: len(nb.sources()) == 6)
    assert nb.sources()[4:] == ["rate = 4\n100 / rate", "'last'"]
    assert nb.outputs(4) == []
    assert 'File "the cell", line 2, in <module>\n    100 / rate' in told(stub_model)
    assert "You divide by zero" in nb.cell(2).inner_text()
    nb.cell(4).scroll_into_view_if_needed()
    nb.shot("fixed_cell_below")
    nb.run(4)
    assert nb.text(4) == "25.0"


def test_an_agent_reads_the_cells_as_they_stand_in_the_notebook(notebook, stub_model):
    picture = (
        "from IPython.display import Image, display\ndisplay(Image(data=b'\\x89PNG', format='png'))\nprint('drawn')"
    )
    long = "".join(f"display({number})\n" for number in range(12)) + "#" * 8000
    reads = "%load_ext piano_jupyter\n%piano agent Assistant --tools cells"
    looks = [{}, {"numbers": "2"}, {"text": "ZeroDiv"}, {"numbers": "4"}]
    stub_model.says(*(tool_call("cells", **each) for each in looks), "done")
    nb = notebook([reads, picture, "1/0", long, "%piano panel", "%%piano\nLook again."])
    for each in (0, 2, 1, 3, 4):
        nb.run(each)

    ask(nb, "Look.")
    expect(answers(nb)).to_have_count(1)

    listed, drawn, failed, cut = [each["messages"][-1]["content"] for each in stub_model.requests[1:]]
    assert listed.startswith("the cells of the notebook from the top")
    assert "cell 3, In[2]: 1/0 → ZeroDivisionError" in listed
    assert listed.endswith("cell 6, not run: %%piano")
    assert "[a figure: image/png] <IPython.core.display.Image object>\ndrawn" in drawn
    assert failed.endswith("--- cell 3, In[2]\n1/0\n--- its output\nZeroDivisionError: division by zero")

    assert "#\n… and 2,194 more characters\n--- its output\n0\n1\n" in cut
    assert cut.endswith("\n9\n… and 2 more outputs")

    stub_model.says(tool_call("cells", numbers="-1"), "done")
    nb.run(5)
    assert told(stub_model).startswith("the cells of the notebook from the top"), "also while a cell waits"
    assert told(stub_model).endswith("%%piano\nLook again.")

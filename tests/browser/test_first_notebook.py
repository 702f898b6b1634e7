"""The first notebook, as a new user meets it."""

import shutil
from pathlib import Path

import nbformat
from browser.lab import Notebook

SHIPPED = Path(__file__).parents[2] / "notebooks"


def test_the_first_notebook_runs_completely_and_its_panel_shows_the_conversation(window, lab):
    folder = lab.notebooks / "first"
    shutil.copytree(SHIPPED, folder, ignore=lambda *_: {"__pycache__", ".ipynb_checkpoints"})
    source = nbformat.read(folder / "01_first_chat.ipynb", as_version=4)
    kinds = [cell.cell_type for cell in source.cells]
    for cell in source.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    nbformat.write(source, folder / "01_first_chat.ipynb")
    notebook = Notebook(window, lab, "first/01_first_chat.ipynb")
    notebook.open()
    window.evaluate("() => jupyterapp.commands.execute('application:toggle-left-area')")
    code = [index for index, kind in enumerate(kinds) if kind == "code"]

    for index in code:
        notebook.run(index)
    notebook.panel.get_by_text("The capital of France is Paris.").wait_for()
    notebook.cell(code[1]).evaluate("cell => cell.previousElementSibling.scrollIntoView()")
    notebook.shot("notebook")
    notebook.panel.scroll_into_view_if_needed()
    notebook.panel.get_by_text("Name two museums there.").scroll_into_view_if_needed()
    notebook.shot("panel")
    window.evaluate("() => jupyterapp.commands.execute('application:toggle-left-area')")

    outputs = [output for index in code for output in notebook.outputs(index)]
    assert [output for output in outputs if output["output_type"] == "error"] == []
    assert "The capital of France is Paris." in notebook.text(code[1])
    notebook.close()

"""Each example of the README and of the manual runs in a real kernel, cell after cell, as its page has them."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from piano_jupyter.testing import tool_call

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
CELLS = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = [
    page
    for page in (README, *sorted((ROOT / "piano_jupyter" / "docs").glob("*.md")))
    if CELLS.search(page.read_text("utf-8"))
]
INVOICE = '{"number": "7", "total": 12.5, "paid": true}'
CALLS = {"price": {"item": "tea"}, "query": {"sql": "SELECT max(sold) AS most FROM df"}}


def answer(asked):
    """Answer as a good model does: call the tool of the example, say what it returned, keep to the schema."""
    last = asked["messages"][-1]
    if "response_format" in asked:
        return '{"stars": 5}' if "stars" in json.dumps(asked["response_format"]) else INVOICE
    if last["role"] == "tool":
        return f"It says: {last['content']}"
    offered = {each["function"]["name"] for each in asked.get("tools", [])} & set(CALLS)
    return tool_call(name, **CALLS[name]) if (name := min(offered, default="")) else f"You said: {last['content']}"


@pytest.fixture
def read_aloud(kernel, stub_model):
    """`read_aloud(page)` runs the page's examples and returns the cells, each with its code."""
    stub_model.models, stub_model.answer = ["qwen3:32b", "qwen3:8b"], answer

    def run(page):
        codes = [
            code.replace("http://gpu-box:8080/v1", stub_model.url) for code in CELLS.findall(page.read_text("utf-8"))
        ]
        return [(code, kernel.run(code)) for code in codes]

    return run


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_example_of_a_page_runs(read_aloud, page):
    ran = read_aloud(page)

    assert [(code, cell.stream) for code, cell in ran if cell.status != "ok"] == []


def test_the_five_things_of_the_readme_do_what_it_says(read_aloud, kernel, stub_model):
    said = {code: cell.text for code, cell in read_aloud(README)}
    asked = [each["messages"][-1]["content"] for each in stub_model.requests]

    assert "Which of these regions grew? {'north': [120, 95], 'south': [88, 143]}" in asked
    assert "231" in next(text for code, text in said.items() if "@ada" in code), "ada has read the data frame"
    assert "tea" in next(text for code, text in said.items() if "tea cost" in code)
    assert json.loads(next(text for code, text in said.items() if "--json" in code)) == json.loads(INVOICE)
    assert "It says: 2.5" in next(text for code, text in said.items() if "tea cost" in code)
    requests = len(stub_model.requests)
    again = kernel.run("%piano replay talk.jsonl\n%piano ask What is the capital of France?")
    assert again.text.endswith("You said: What is the capital of France?")
    assert len(stub_model.requests) == requests, "a replay asks no server"


def test_the_command_of_the_readme_answers_in_a_terminal(tmp_path, stub_model):
    command = re.search(r"&& python (.*)$", README.read_text("utf-8"), re.MULTILINE)[1]

    done = subprocess.run(
        [sys.executable, *shlex.split(command)],
        cwd=tmp_path,
        env=os.environ | {"PIANO_BASE_URL": stub_model.url, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert "You said: What is the capital of France?" in done.stdout


def test_a_recorded_notebook_passes_nbval_once_it_replays_and_ran_again(tmp_path, stub_model, monkeypatch):
    monkeypatch.setenv("PIANO_BASE_URL", stub_model.url)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / ".ipython"))
    page = ROOT / "piano_jupyter" / "docs" / "reproducible-notebooks.md"
    cells = ["%load_ext piano_jupyter", *CELLS.findall(page.read_text("utf-8"))[0].splitlines()]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in cells])

    def run_and_save():
        NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}}).execute()
        nbformat.write(notebook, tmp_path / "talk.ipynb")

    run_and_save()
    notebook.cells[1].source = notebook.cells[1].source.replace("record", "replay")
    run_and_save()
    requests = len(stub_model.requests)
    nbval = [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "-p", "no:cacheprovider", "talk.ipynb"]
    checked = subprocess.run(nbval, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)

    assert f"{len(cells)} passed" in checked.stdout, checked.stdout
    assert len(stub_model.requests) == requests, "a replay asks no server"

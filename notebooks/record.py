"""Record notebooks again, from the model that answers: `python notebooks/record.py notebooks/01_first_chat.ipynb`.

Each runs twice: once with `%piano record --force` in place of `%piano replay`, which writes its cassette, then as it
stands, which gives the outputs that are kept and compared. The model of those in SERVERS is a scripted server.
"""

import os
import sys
from pathlib import Path

import answers_04
import answers_05
import answers_06
import nbformat
from nbclient import NotebookClient

from piano_jupyter.safe_files import write_file
from piano_jupyter.testing import ScriptedServer

SERVERS = {
    "04_errors_and_plots": ScriptedServer(answers_04.ANSWERS),
    "05_the_panel": ScriptedServer(answers_05.ANSWERS),
    "06_ask_a_table": ScriptedServer(answer=answers_06.answer),
}


def record(path: Path) -> None:
    """Record one notebook, and keep its outputs as a replay gives them."""
    os.environ.pop("PIANO_REPLAY", None)
    recording = nbformat.read(path, as_version=4)
    for cell in recording.cells:
        cell.source = cell.source.replace("%piano replay", "%piano record --force")
    if path.stem in SERVERS:
        with SERVERS[path.stem] as server:
            os.environ["PIANO_BASE_URL"] = server.url
            _run(recording, path)
    else:
        _run(recording, path)
    os.environ["PIANO_REPLAY"] = "strict"
    notebook = nbformat.read(path, as_version=4)
    _run(notebook, path)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    notebook.metadata.pop("widgets", None)
    write_file(path, nbformat.writes(notebook).encode() + b"\n", workspace=path.parent, replace=True)


def _run(notebook: nbformat.NotebookNode, path: Path) -> None:
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}}).execute()


if __name__ == "__main__":
    for each in sys.argv[1:]:
        record(Path(each))

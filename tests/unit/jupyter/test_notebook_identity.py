from types import SimpleNamespace

import pytest

from piano_jupyter.jupyter.notebook_identity import notebook_of
from piano_jupyter.records import Notebook


@pytest.fixture
def shell(monkeypatch):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    application = SimpleNamespace(connection_file="/run/kernel-8f1c-2ab4c6.json")
    return SimpleNamespace(kernel=SimpleNamespace(parent=application), user_ns={})


@pytest.mark.parametrize(
    ("session", "variables", "name"),
    [
        ("/notes/sales.ipynb", {}, "/notes/sales.ipynb"),
        ("/notes/Sales review.ipynb-jvsc-3b7d-11.ipynb", {}, "/notes/Sales review.ipynb"),
        ("/notes/old.ipynb", {"__vsc_ipynb_file__": "/notes/renamed.ipynb"}, "/notes/renamed.ipynb"),
        ("", {}, "kernel 2ab4c6"),
    ],
)
def test_a_notebook_is_known_by_its_kernel_and_called_by_its_path(shell, monkeypatch, session, variables, name):
    monkeypatch.setenv("JPY_SESSION_NAME", session)
    shell.user_ns.update(variables)
    assert notebook_of(shell) == Notebook("8f1c-2ab4c6", name)


def test_a_terminal_has_no_notebook():
    assert notebook_of(SimpleNamespace(user_ns={})) == Notebook()

"""What a question can name: the variables where it is asked, and names such as `Out[3]`."""

import pytest
from IPython.core.interactiveshell import InteractiveShell

from piano_jupyter.errors import NotFoundError, PianoError
from piano_jupyter.jupyter.context.special_names import SPECIAL_NAMES, QuestionVariables
from piano_jupyter.variables.fill_in import fill_in


@pytest.fixture
def shell():
    """A shell that has run two cells."""
    shell = InteractiveShell.instance()
    shell.run_cell("1 + 1", store_history=True)
    shell.run_cell("word = 'tea'", store_history=True)
    shell.user_ns["_"] = 2  # IPython leaves it alone where another part of the process has defined it
    yield shell
    InteractiveShell.clear_instance()


@pytest.mark.parametrize(
    ("text", "sent"),
    [("{{In[1]}}", "1 + 1"), ("{{Out[1]}}", "2"), ("{{_}}", "2"), ("{{word}}", "tea"), ("{{In[-1]}}", "word = 'tea'")],
)
def test_sources_and_results_of_cells_are_names(shell, text, sent):
    assert fill_in(text, QuestionVariables(shell, {"word": "tea"})).sent == sent


def test_a_cell_that_is_not_there_is_named(shell):
    variables = QuestionVariables(shell)

    with pytest.raises(PianoError, match=r"\{\{Out\[2\]\}\}: there is no result of a cell with the number 2"):
        fill_in("{{Out[2]}}", variables)
    for number in (0, 999, -99):
        with pytest.raises(PianoError, match=rf"there is no cell with the number {number}"):
            fill_in(f"{{{{In[{number}]}}}}", variables)
    with pytest.raises(PianoError, match=r"\{\{In\}\}: give the number of a cell: In\[3\]"):
        fill_in("{{In}}", variables)


def test_a_last_result_that_is_not_there_is_named_and_none_is_one(shell):
    variables = QuestionVariables(shell)
    shell.user_ns["_"] = None
    assert fill_in("{{_}}", variables).sent == "None"

    shell.user_ns["_"], results = "", dict(shell.user_ns["Out"])
    shell.user_ns["Out"].clear()
    with pytest.raises(PianoError, match=r"no cell has had a result, so \{\{_\}\} stands for nothing"):
        fill_in("{{_}}", variables)
    shell.user_ns["Out"].update(results)


def test_the_first_variables_go_before_the_next_and_all_before_special_names(shell):
    variables = QuestionVariables(shell, {"a": 1}, {"a": 2, "b": 2, "Out": 3})

    assert fill_in("{{a}} {{b}} {{Out}}", variables).sent == "1 2 3"
    assert {"a", "b", "In", "Out"} < {*variables}
    with pytest.raises(NotFoundError, match="no variable named 'c'; known: a, b, Out, In"):
        fill_in("{{c}}", variables)


def test_another_module_adds_a_name_by_a_function_of_the_shell(shell, monkeypatch):
    monkeypatch.setitem(SPECIAL_NAMES, "error", lambda shell: f"after {len(shell.user_ns['In']) - 1} cells")

    assert fill_in("{{error}}", QuestionVariables(shell)).sent == "after 2 cells"

"""The cells of a notebook as a model reads them: chosen by number or text, bounded, with a note for pictures."""

from collections import defaultdict
from types import SimpleNamespace

import pytest

from piano_jupyter.errors import NotFoundError, PianoError
from piano_jupyter.jupyter.context.cells import (
    MAX_LISTED,
    MAX_OUTPUT_CHARS,
    MAX_SHOWN_CHARS,
    MAX_SOURCE_CHARS,
    Cell,
    NumberedSources,
    cell_text,
    chosen,
    executed_cells,
    notebook_cells,
    shown_cells,
)


def shell(*sources, outputs=None, errors=None):
    history = SimpleNamespace(
        input_hist_raw=["", *sources], outputs=defaultdict(list, outputs or {}), exceptions=errors or {}
    )
    return SimpleNamespace(history_manager=history)


def output(kind, **bundle):
    return SimpleNamespace(output_type=kind, bundle=bundle)


def numbered(count, **options):
    return [Cell(number, f"x = {number}", run=number, **options) for number in range(1, count + 1)]


def test_cells_that_ran_have_their_outputs_and_errors():
    ran = shell(
        "print('a'); 3",
        "1/0",
        outputs={1: [output("out_stream", stream=["a", "\n"]), output("execute_result", **{"text/plain": "3"})]},
        errors={2: {"ename": "ZeroDivisionError", "evalue": "division by zero", "traceback": []}},
    )

    assert shown_cells(executed_cells(ran), "1-2", "") == (
        "--- In[1]\nprint('a'); 3\n--- its output\na\n3\n\n"
        "--- In[2]\n1/0\n--- its output\nZeroDivisionError: division by zero"
    )
    assert shown_cells(executed_cells(ran), "", "") == "In[1]: print('a'); 3\nIn[2]: 1/0 → ZeroDivisionError"
    assert ran.history_manager.outputs.keys() == {1}, "looking adds nothing"


def test_of_a_progress_bar_the_last_state_is_read():
    ran = shell("train()", outputs={1: [output("err_stream", stream=["\r 0%", "\r\x1b[32m50%", "\r100%\n", "ok"])]})

    assert shown_cells(executed_cells(ran), "1", "").endswith("--- its output\n100%\nok")


def test_cells_of_a_front_end_have_their_place_and_pictures_a_note():
    cells = notebook_cells(
        [
            {"cell_type": "markdown", "source": "# Sales"},
            {"cell_type": "code", "source": "plot()", "execution_count": 7, "outputs": [
                {"output_type": "display_data", "data": {"image/png": "", "text/plain": "<Figure size 640x480>"}},
                {"output_type": "display_data", "data": {"text/html": ""}},
                {"output_type": "stream", "name": "stderr", "text": "\x1b[31mred\x1b[0m"},
            ]},
            {"cell_type": "code", "source": "later()", "execution_count": None},
        ]
    )  # fmt: skip

    assert shown_cells(cells, "", "") == "cell 1, markdown: # Sales\ncell 2, In[7]: plot()\ncell 3, not run: later()"
    assert shown_cells(cells, "2", "") == (
        "--- cell 2, In[7]\nplot()\n--- its output\n"
        "[a figure: image/png] <Figure size 640x480>\n[text/html, which has no text]\nred"
    )


@pytest.mark.parametrize(
    ("numbers", "found"), [("3", [3]), ("-1", [5]), ("-5", [1]), ("2-4, 1", [2, 3, 4, 1]), ("4-99", [4, 5])]
)
def test_cells_are_chosen_by_number(numbers, found):
    assert [each.number for each in chosen(numbered(5), numbers)] == found


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        ("9", "'9'.*known: 1, 2, 3"),
        ("-4", "'-4'"),
        ("two", "written like 3"),
        ("3-2", "'3-2'"),
        ("9" * 5000, "written"),
    ],
)
def test_a_number_that_no_cell_has_is_refused_with_those_there_are(numbers, told):
    with pytest.raises(PianoError, match=told):
        chosen(numbered(3), numbers)


@pytest.mark.parametrize("number", ["2-5", slice(1, 3), 1.5, None, True])
def test_the_source_of_a_cell_has_one_number(number):
    sources = NumberedSources(shell("a", "b"), running=False)

    with pytest.raises(PianoError, match="give the number of a cell, such as"):
        sources[number]
    with pytest.raises(NotFoundError, match="no cell with the number named '0'; known: 1, 2"):
        sources[0]
    assert (sources[1], sources[-1]) == ("a", "b")


def test_cells_are_found_by_a_text_in_source_or_output():
    cells = [Cell(1, "import pandas", run=1), Cell(2, "f()", [{"output_type": "stream", "text": "PANDAS 3"}], run=2)]

    assert shown_cells([*cells, *numbered(0)], "", "Pandas").count("---") == 3
    assert shown_cells(cells, "1", "pandas") == "--- In[1]\nimport pandas"
    with pytest.raises(NotFoundError, match="no cell has 'polars'"):
        shown_cells(cells, "", "polars")


def test_a_notebook_without_cells_is_said_to_have_none():
    assert shown_cells([], "-1", "x") == "there are no cells yet"


def test_g22_what_is_shown_is_bounded_and_says_what_is_left_out():
    long = [Cell(each, "y" * 10**7, [{"output_type": "stream", "text": "z" * 10**7}], run=each) for each in range(1, 9)]

    shown = shown_cells(long, "1-8", "")

    assert len(shown) < MAX_SHOWN_CHARS + MAX_SOURCE_CHARS + MAX_OUTPUT_CHARS
    assert "… and 9,994," in shown
    assert shown.endswith("more that fit; ask for fewer")
    listed = shown_cells(numbered(5000), "", "")
    assert listed.startswith(f"… and {5000 - MAX_LISTED:,} more before these\nIn[4901]: x = 4901")
    assert len(shown_cells([Cell(1, "q" * 10**6, run=1)], "", "")) < 200


def test_the_running_cell_is_not_the_last_one():
    ran = shell("a = 1", "a", "%%piano\nWhat does {{cell[-1]}} say?")

    assert cell_text(ran, -1, running=True) == "a"
    assert cell_text(ran, -1, running=False).startswith("%%piano")
    assert cell_text(ran, 1, running=True) == "a = 1"
    with pytest.raises(NotFoundError):
        cell_text(shell("only this"), -1, running=True)

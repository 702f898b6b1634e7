"""What a question takes from the notebook, in a real kernel."""

import pytest


def asked(stub_model):
    return stub_model.requests[-1]["messages"][-1]["content"]


@pytest.mark.parametrize(
    "call",
    [
        "get_ipython().run_line_magic('piano', 'ask {{name}} {{other}}')",
        "get_ipython().run_cell_magic('piano', '', '{{name}} {{other}}')",
        "%piano ask {{name}} {{other}}",
    ],
)
def test_a_functions_variables_go_before_those_of_the_notebook(kernel, stub_model, call):
    kernel.run("name, other = 'of the notebook', 'global'")

    cell = kernel.run(
        f"def question(name):\n    return {call}\n" if "%" not in call else f"def question(name):\n    {call}"
    )
    cell = kernel.run("question('of the function')\n;")
    assert cell.status == "ok", cell.stream
    assert asked(stub_model) == "of the function global"

    kernel.run("%%piano\n{{name}}")
    assert asked(stub_model) == "of the notebook"


def test_under_a_debugger_the_variables_are_those_of_its_frame(kernel_of, stub_model):
    kernel = kernel_of(stdin=True).load()
    kernel.run("name = 'of the notebook'\ndef fails(name):\n    return 1 / 0")
    kernel.run("fails('of the frame')")

    kernel.run("%debug", ["get_ipython().run_line_magic('piano', 'ask {{name}}')", "q"])

    assert asked(stub_model) == "of the frame"


def test_results_of_cells_and_frames_are_inserted(kernel, stub_model):
    kernel.run("import pandas as pd")
    kernel.run("pd.DataFrame({'item': ['tea'], 'price': [2.5]})")

    cell = kernel.run("%%piano\n{{Out[3]}} {{_}} {{Out[3].head(1)}} {{In[2]}} {{_.shape}}")

    assert cell.status == "ok", cell.stream
    text = asked(stub_model)
    assert text.count("tea,2.5") == 3
    assert text.endswith(" import pandas as pd (1, 2)")


def test_a_frame_takes_the_tokens_of_the_setting(kernel, stub_model):
    kernel.run(
        "import pandas as pd\nnumbers = pd.DataFrame({'n': range(100_000)})\n%config PianoConfig.frame_tokens = 500"
    )

    kernel.run("%%piano\n{{numbers}}")

    assert 1800 <= len(asked(stub_model)) <= 2000
    assert asked(stub_model).splitlines()[-1].startswith("[left out: rows ")


def test_the_history_shows_what_was_typed_and_opens_to_what_was_sent(kernel, stub_model):
    kernel.run("import pandas as pd\nsales = pd.DataFrame({'item': ['tea'] * 50})")
    kernel.run("%%piano\nLook at {{sales}}")

    cell = kernel.run("%piano history")
    threads = kernel.run("%piano threads")

    assert "You: Look at sales · 50 × 1" in cell.text
    assert "<summary><code>sales · 50 × 1</code></summary>" in cell.shown[0]["text/html"]
    assert "pandas.DataFrame, 50 rows × 1 column" in cell.shown[0]["text/html"]
    assert "Look at sales · 50 × 1" in threads.text


def test_what_cannot_stand_in_double_braces_is_one_sentence_and_nothing_is_sent(kernel, stub_model):
    error = kernel.error_of("%%piano\n{{1 + 1}}")

    assert error["ename"] == "PianoError"
    assert "a name can stand there" in error["evalue"]
    assert stub_model.requests == []

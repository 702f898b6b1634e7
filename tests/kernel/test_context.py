"""What a question takes from the notebook, in a real kernel."""

import pytest

ASK = "get_ipython().run_line_magic('piano', 'ask {{name}} {{other}}')"


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


def test_what_a_question_sees_of_functions_is_what_their_code_sees(kernel, stub_model, tmp_path):
    (tmp_path / "runs.py").write_text(f"name = other = 'of the file'\n{ASK}\n")
    (tmp_path / "asks.py").write_text(
        "from IPython import get_ipython\nname = 'of the module'\n"
        "def ask(other='argument'):\n    get_ipython().run_line_magic('piano', 'ask {{name}} {{other}} {{third}}')\n"
    )
    ask = ASK
    kernel.run("name = other = third = 'of the notebook'")

    def sent(code):
        cell = kernel.run(code)
        assert cell.status == "ok", cell.stream
        return asked(stub_model)

    nested = f"def outer(name):\n    def inner(other):\n        {ask}\n    inner('inner')\nouter('outer')\n;"
    assert sent(nested) == "outer inner"
    comprehended = f"def outer(name):\n    [{ask} for other in ['item']]\nouter('outer')\n;"
    assert sent(comprehended) == "outer item"
    in_class = f"def outer(name):\n    class A:\n        other = 'class'\n        {ask}\nouter('outer')\n;"
    assert sent(in_class) == "outer class"
    generated = f"def outer(name):\n    other = 'yielded'\n    yield {ask}\nlist(outer('generator'))\n;"
    assert sent(generated) == "generator yielded"
    awaited = (
        "async def other():\n    return 'awaited'\nasync def outer(name):\n    other = await globals()['other']()\n"
    )
    awaited += f"    {ask}\nawait outer('async')\n;"
    assert sent(awaited) == "async awaited"
    assert sent("import asks\nasks.ask()\n;") == "of the module argument of the notebook"
    assert sent(f"[{ask} for other in ['item']]\n;") == "of the notebook item"
    assert sent("%run runs.py") == "of the file of the file"


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
    assert "no cell with the number 5" in kernel.run("%%piano\n{{In[5]}}").stream  # itself
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

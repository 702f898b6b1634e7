"""The last error of a cell: which it is, its traceback, and the variables of the failing lines."""

import atexit

import pytest
from IPython.core.interactiveshell import InteractiveShell

from piano_jupyter.jupyter.context.last_error import MAX_TRACEBACK_CHARS, LastError


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run cells in an IPython; `run.last` remembers the last error."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    shell = InteractiveShell.instance()
    monkeypatch.syspath_prepend(tmp_path)

    def run_cells(*cells):
        for cell in cells:
            last.note(shell.run_cell(cell, store_history=True))
        return last.text()

    last = LastError(shell)
    run_cells.last, run_cells.shell, run_cells.folder = last, shell, tmp_path
    yield run_cells
    atexit.unregister(shell.atexit_operations)
    shell.atexit_operations()
    InteractiveShell.clear_instance()


def test_the_traceback_has_the_cell_and_no_line_of_ipython(run):
    told = run("a, b = 1, 0", "c = 3\na / b", "'later'")

    assert told == (
        "--- In[2], which failed\nc = 3\na / b\n--- the error\n"
        'Traceback (most recent call last):\n  File "In[2]", line 2, in <module>\n    a / b\n    ~~^~~\n'
        "ZeroDivisionError: division by zero"
    )
    assert run.last.named_values() == {"a": 1, "b": 0}


def test_without_an_error_there_is_no_text(run):
    assert run("1") == ""
    assert run.last.traceback() == ""
    assert run.last.named_values() == {}


def test_an_error_from_before_the_extension_was_loaded_counts(run):
    run("1/0")

    assert "ZeroDivisionError" in LastError(run.shell).text()


def test_a_syntax_error_shows_its_place_in_the_cell(run):
    told = run("x = 1\ny = (x", "1")

    assert told.startswith('--- In[1], which failed\nx = 1\ny = (x\n--- the error\n  File "In[1]", line 2\n')
    assert "SyntaxError" in told
    assert "IPython" not in told
    assert run.last.named_values() == {}
    assert "codeop" not in run("from __future__ import nothing")


def test_errors_in_imported_modules_show_their_lines_and_variables(run):
    (run.folder / "halves_of.py").write_text("def half(x):\n    y = 0\n    return (x\n        / y)\n")
    (run.folder / "broken_one.py").write_text("def f(:\n")

    told = run("import halves_of\nz = 5\nhalves_of.half(z)")

    assert 'File "In[1]", line 3' in told
    assert f'File "{run.folder / "halves_of.py"}", line 3, in half' in told
    assert run.last.named_values() == {"x": 5, "y": 0, "z": 5}
    told = run("import broken_one")
    assert 'File "In[2]", line 1, in <module>\n    import broken_one' in told
    assert "def f(:" in told
    assert "importlib" not in told.replace("<frozen importlib", "")


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (
            "try:\n    {}['k']\nexcept KeyError as e:\n    raise ValueError('v') from e",
            ["KeyError: 'k'", "direct cause"],
        ),
        ("try:\n    {}['k']\nexcept KeyError:\n    int('q')", ["KeyError: 'k'", "During handling"]),
        ("import asyncio\nasync def f(w):\n    raise ValueError(w)\nawait f('async')", ["in f", "ValueError: async"]),
        ("raise ExceptionGroup('two', [KeyError(1), ValueError(2)])", ["two (2 sub", "KeyError: 1", "ValueError: 2"]),
        ("raise KeyboardInterrupt", ["KeyboardInterrupt\n(The user interrupted the cell.)"]),
        ("%%time\nq = 3\nq.foo", ["line 2, in <module>", "no attribute 'foo'"]),
        ("e = ValueError('note')\ne.add_note('read this')\nraise e", ["ValueError: note\nread this"]),
    ],
)
def test_every_kind_of_error_is_shown(run, code, told):
    text = run(code)

    assert all(each in text for each in told)
    assert "site-packages/IPython" not in text


def test_an_error_in_a_file_that_a_cell_runs_is_one_of_that_cell(run):
    (run.folder / "broken.py").write_text("def half(x):\n    return x / 0\nhalf(6)\n")

    told = run("1/0", f"%run {run.folder / 'broken.py'}", "'later'")

    assert told.startswith("--- In[2], which failed\n%run ")
    assert told.endswith("ZeroDivisionError: division by zero")
    assert "IPython" not in told
    assert run.last.named_values()["x"] == 6


def test_an_error_that_is_shown_between_two_cells_is_none_of_the_next_one(run):
    run("1")
    try:
        int("q")
    except ValueError:
        run.shell.showtraceback()
    run.last.begin()

    assert run("2") == ""


def test_a_suppressed_context_is_not_shown(run):
    assert (
        "KeyError"
        not in run("try:\n    {}['k']\nexcept Exception:\n    raise ValueError from None").split("error\n")[1]
    )


def test_an_error_of_piano_does_not_take_the_place_of_the_users(run):
    run("from piano_jupyter import PianoError\nraise PianoError('no agent')")

    assert run.last.failed is None
    assert str(run.last.of_piano) == "no agent"
    run("1/0", "raise PianoError('no agent')")
    assert isinstance(run.last.failed.error, ZeroDivisionError)
    assert run.last.failed.name == "In[2]"


@pytest.mark.parametrize(
    ("failing", "named"),
    [
        ("a / zero", ["a", "zero"]),
        ("print(f'{a}: {items[zero]}', 'b', a / zero)", ["a", "items", "zero"]),
        ('print(rF"{a / zero!r:>{b}}")', ["a", "zero", "b"]),
        ("(a\n / zero)", ["a", "zero"]),
        ("a.b, 1 / zero", ["zero", "a"]),
        ("for b in [a / zero]: pass", ["b", "a", "zero"]),
        ("raise ValueError('a, b and zero')", []),
    ],
)
def test_the_variables_are_those_that_the_failing_lines_name(run, failing, named):
    run("a, b, zero, items = 1, 2, 0, [5]\nclass A: b = 3\na = A() if False else a", failing)

    assert set(run.last.named_values()) == set(named)


def test_values_that_are_not_the_users_data_are_not_among_the_variables(run):
    run("import os, sys\nenv = os.environ\nmine = 2\nget_ipython(), In, os, env, len, mine['a']")

    assert run.last.named_values() == {"mine": 2}


def test_g22_a_huge_traceback_message_or_source_is_bounded(run):
    run("def r(n):\n    return r(n + 1)\nr(0)")
    deep = run.last.traceback()
    long = run("raise ValueError('x' * 10**7, 'the end')")
    huge = run(f"a = '{'y' * 10**5}'\n1/0")

    assert "calls left out" in deep
    assert "RecursionError: maximum recursion depth exceeded" in deep[-100:]
    assert all(len(each) < MAX_TRACEBACK_CHARS * 2 for each in (deep, long, huge))
    assert long.endswith("'the end')")
    assert "characters left out" in huge
    assert huge.endswith("ZeroDivisionError: division by zero")


@pytest.mark.parametrize(
    "code",
    [
        "class E(Exception):\n    def __str__(self): raise RuntimeError\nraise E",
        "a, b = ValueError(1), ValueError(2)\na.__cause__, b.__cause__ = b, a\nraise a",
        "class E(Exception):\n    __class__ = property(lambda s: 1 / 0)\nraise E",
        "class E(Exception):\n    __cause__ = __context__ = __traceback__ = property(lambda s: 1 / 0)\nraise E",
        "class E(ExceptionGroup):\n    exceptions = property(lambda s: 1 / 0)\nraise E('g', [KeyError(1)])",
        "class E(Exception):\n    __bool__ = __eq__ = __module__ = None\nraise E",
        "e = ValueError()\nfor i in range(3000):\n    e = ExceptionGroup(str(i), [e])\nraise e",
        "e = ValueError()\nfor i in range(500):\n    n = ValueError(i)\n    n.__cause__ = e\n    e = n\nraise e",
    ],
    ids=["str that raises", "circle", "class", "parts", "group", "no parts", "deep group", "long chain"],
)
def test_g22_a_hostile_exception_is_shown_all_the_same(run, code):
    text = run(code)

    assert "--- the error\n" in text
    assert len(text) < MAX_TRACEBACK_CHARS * 2

"""How tests are written: through public names (ruff sees to them in code, SLF001), and waiting for what happens."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
FILES = {path.relative_to(TESTS).as_posix(): path.read_text(encoding="utf-8") for path in sorted(TESTS.rglob("*.py"))}
PRIVATE = re.compile(r"(?<!\bself)\._(?!exit\b)[a-z]\w*(?<!_)\b")
PRIVATE_IN_TEXT = {
    "kernel/test_kernel_tools.py": "a name that agents may not look at",
    "unit/variables/test_variable_access.py": "names that agents may not look at",
}
SLEEPS = {
    "campaigns/kills.py": "kills at random moments; a kernel is stopped for a while",
    "notebook_kernels.py": "a model and a tool that take a moment; kernels that wait for each other's jobs",
    "browser/test_new_cells.py": "a cell that takes long",
    "browser/test_panel.py": "a cell that takes until the test says so",
    "browser/test_panel_compose.py": "a cell that takes until the test says so",
    "kernel/test_kernel_tools.py": "code that takes long, and cells that keep the main thread",
    "kernel/test_life.py": "a tool that takes a while, so that a kill falls into it",
    "kernel/test_magics.py": "interrupts at one moment after another",
    "tiny_server.py": "a server that looks whether its parent is there",
    "unit/jupyter/test_kernel_thread.py": "work that is stopped at one moment after another",
    "unit/runner/conftest.py": "a server that sends comments now and then",
    "unit/runner/model/embedded/test_local_server.py": "a process that stays until it is killed",
    "unit/runner/tools/bash/test_processes.py": "processes that stay until they are killed",
    "unit/store/duckdb/test_lock.py": "a process that stays until it is killed",
    "unit/test_chaos.py": "a server that is silent while it holds an answer back",
}


def reaches(node):
    """Return whether a part of a test reaches for a private name of ours, where ruff does not see it."""
    match node:
        case ast.ImportFrom(module=str(module), names=names) if module.startswith("piano_jupyter"):
            return any(each.name.startswith("_") for each in names)
        case ast.Call(args=[_, ast.Constant(value=str(name)), *_]) if "attr" in ast.unparse(node.func):
            return name.startswith("_") and not name.startswith("__")
        case ast.Constant(value=str(text)):
            return PRIVATE.search(text) is not None
    return False


def test_no_test_reaches_for_a_private_name_not_even_in_the_code_that_it_has_a_kernel_run():
    found = {name for name, text in FILES.items() if any(map(reaches, ast.walk(ast.parse(text))))}

    assert found == PRIVATE_IN_TEXT.keys()


def test_no_test_sleeps_but_what_plays_something_slow():
    asleep = re.compile(r"(?<!\w)sleep\((?!0\))")
    found = {name for name, text in FILES.items() if asleep.search(text) and not name.startswith("benchmarks/")}

    assert found - {"unit/test_conventions.py"} == SLEEPS.keys()


def test_no_group_is_repeated_possessively():
    """Python before 3.11.5 matches such a pattern wrongly (gh-106052), and Debian 12 has 3.11.2."""
    possessive = re.compile(r"\)(?:[*+?]|\{\d*,?\d*\})\+(?!\+)")
    package = Path(__file__).parents[2] / "piano_jupyter"

    assert [path.name for path in package.rglob("*.py") if possessive.search(path.read_text(encoding="utf-8"))] == []

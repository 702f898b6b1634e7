"""Runs code in the user's namespace like a cell, but without effect on In, Out, `_` and the hooks.

Magics and `!` work. What the code and its programs print, display and raise becomes text, with its own line numbers;
figures and tables are kept as well.
"""

import ast
import itertools
import linecache
import traceback
from typing import Any

from piano_jupyter.jupyter.kernel_tools.bounded_repr import bounded
from piano_jupyter.jupyter.kernel_tools.captured_output import CapturedText, captured
from piano_jupyter.jupyter.kernel_tools.figures import ShownFigures, open_figures, rich_output, show_new_figures
from piano_jupyter.jupyter.kernel_tools.program_output import captured_programs
from piano_jupyter.text.truncation import truncated

MAX_FRAMES = 10  # of a traceback
MAX_LINE_CHARS = 200  # of a line of code in a traceback

_numbers = itertools.count(1)


def run_code(shell: Any, code: str, printed: CapturedText, figures: ShownFigures, limit: int) -> bool:
    """Run code and write its output and the value of its last line to `printed`; return whether it succeeded.

    What it shows goes to `figures`, also figures of matplotlib that it leaves open. An interrupt ends it like any other
    error.
    """
    with captured_programs(printed) as output, captured(shell, output, figures), shell.builtin_trap:
        name, already_open = f"<run_python {next(_numbers)}>", open_figures()
        try:
            value = _run(shell, code, name)
            if value is not None and not code.rstrip().endswith(";"):
                output.write(f"{bounded(value, limit)}\n" + figures.add(rich_output(shell, value)))
            show_new_figures(already_open)
        except BaseException as error:  # noqa: BLE001  SystemExit must not end the kernel, nor an interrupt the cell.
            output.write(_error_text(error, name))
            return False
    return True


def _run(shell: Any, code: str, name: str) -> Any:
    """Run the code; return the value of its last line, if that is an expression."""
    cell = shell.transform_cell(code)
    linecache.cache[name] = (len(cell), None, cell.splitlines(keepends=True), name)  # for `inspect.getsource`
    tree = shell.transform_ast(shell.compile.ast_parse(cell, name))
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(shell.compile(tree, name, "exec"), shell.user_ns)  # noqa: S102  The purpose of the tool; the user has approved.
    return None if last is None else eval(shell.compile(ast.Expression(last.value), name, "eval"), shell.user_ns)  # noqa: S307


def _error_text(error: BaseException, name: str) -> str:
    """Return an error with the lines of the user's own code in its traceback."""
    if isinstance(error, SyntaxError) and error.filename in {name, None, "<unknown>"}:
        hint = "; await works only in a cell" if "await" in str(error.msg) else ""
        line = error.text or linecache.getline(name, error.lineno or 0)
        return f"SyntaxError: {error.msg}{hint} (line {error.lineno}: {truncated(line.strip(), MAX_LINE_CHARS)})\n"
    frames = [each for each in traceback.extract_tb(error.__traceback__) if _is_own(each.filename)]
    lines = [
        f"  line {each.lineno}{_place(each, name)}: {truncated(each.line or '', MAX_LINE_CHARS)}" for each in frames
    ]
    if len(lines) > MAX_FRAMES:
        lines[MAX_FRAMES // 2 : -MAX_FRAMES // 2] = ["  ..."]
    return "\n".join([*lines, "".join(traceback.format_exception_only(error)).strip()]) + "\n"


def _is_own(file: str) -> bool:
    return file.startswith(("<run_python ", "<ipython-input-")) or "ipykernel_" in file


def _place(frame: traceback.FrameSummary, name: str) -> str:
    function = "" if frame.name == "<module>" else f" in {frame.name}"
    return f"{function} of an earlier cell" if frame.filename != name else function

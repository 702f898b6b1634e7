"""The tools that touch the user's notebook: variables, inspect, query, cells, last_error, add_cell, run_python.

They run on the main thread of the kernel (`kernel_thread.py`). Models read their docstrings.
"""

import asyncio
import fnmatch
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any, TypeVar

from piano_jupyter.errors import NotFoundError, PianoError, ToolError
from piano_jupyter.jupyter.context.cells import executed_cells, notebook_cells, shown_cells
from piano_jupyter.jupyter.kernel_thread import TaskInterruptedError, TaskTimeoutError
from piano_jupyter.jupyter.kernel_tools.captured_output import CapturedText, captured
from piano_jupyter.jupyter.kernel_tools.cell_code import code_for_cell
from piano_jupyter.jupyter.kernel_tools.description import described, is_code, listed, variable_row
from piano_jupyter.jupyter.kernel_tools.figures import ShownFigures
from piano_jupyter.jupyter.kernel_tools.frame_query import query_frames
from piano_jupyter.jupyter.kernel_tools.user_code import run_code
from piano_jupyter.jupyter.render.tables import plain_table
from piano_jupyter.jupyter.session import OpenPanel, Session
from piano_jupyter.records import JobStatus, Mode
from piano_jupyter.tool import ResultWithAttachments, Tool, ToolAssessment, Verdict, current_call, tool
from piano_jupyter.variables.data_frames import frames_in
from piano_jupyter.variables.variable_access import look_up

T = TypeVar("T")

LOOK_TIMEOUT_S = 10.0  # for reading a variable
RESERVED_FOR_RESULT_S = 2.0  # of `tool_timeout`, to stop the code and return what it printed
MAX_VARIABLES = 100
MAX_ROWS = 100  # of the result of a query
CELLS_OF_NOTEBOOK = "the cells of the notebook from the top, each with its place:"
CELLS_THAT_RAN = (
    "the cells that ran in this kernel; what is not known: other cells, pictures, and what `await` cells print"
)
NO_NOTEBOOK = (
    "no_place: no cell waits and no chat panel is open that could add a cell; "
    "write the code into your answer as a code block, for the user to copy"
)


class KernelTools:
    """The tools of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._cancelling: set[asyncio.Task[Any]] = set()

    def all(self) -> list[Tool]:
        """Return all tools."""
        run = replace(tool(asks=True)(self.run_python), judge=_judge_run)
        looks = [tool(self.variables), tool(self.inspect), tool(self.query), tool(self.cells), tool(self.last_error)]
        return [*looks, tool(self.add_cell), run]

    async def variables(self, pattern: str = "") -> str:
        """List the user's variables: name, type, size and memory of each.

        pattern: only names with this in them, for example "sales" or "df_*"; "" lists all.
        """
        return await self._look(lambda: variables_table(self._session.variables(), pattern))

    async def inspect(self, name: str) -> str:
        """Look at one variable: a data frame's columns and first rows, a function's signature and source.

        name: a variable, for example "sales"; also a part of one: "sales['price']", "model.layers[0]". No calls.
            What is not the user's data is refused: the environment, internals of modules, objects of IPython.
        """

        def look() -> str:
            try:
                value = look_up(name, self._session.variables())
            except PianoError:
                raise
            except Exception as error:
                raise ToolError(f"failed: {name} cannot be read: {type(error).__name__}: {error}") from error
            return f"{name} is {described(value)}"

        return await self._look(look)

    async def query(self, sql: str) -> str:
        """Ask the user's data frames with SQL (DuckDB): one SELECT; each frame is a table with its variable's name.

        sql: for example "SELECT item, sum(price) FROM sales GROUP BY item".
        """

        def read() -> str:
            rows, more, notes = query_frames(sql, frames_in(self._session.variables()), MAX_ROWS)
            if more:
                notes = [f"… and more: these are the first {MAX_ROWS} rows", *notes]
            result = plain_table(rows.columns, rows) if rows else f"no rows; the columns are {', '.join(rows.columns)}"
            return "\n".join([result, *notes])

        return await self._look(read, running=self._limit())

    async def cells(self, numbers: str = "", text: str = "") -> str:
        """Read the cells of the user's notebook with their outputs; without arguments, list them in a line each.

        numbers: of the cells to read in full, for example "3", "2-5, 8", or "-1" for the last one.
        text: only cells with this in their source or outputs, for example "sales".
        """
        sent = await self._cells_of_front_end()

        def look() -> str:
            if sent is not None:
                return f"{CELLS_OF_NOTEBOOK}\n{shown_cells(notebook_cells(sent), numbers, text)}"
            return f"{CELLS_THAT_RAN}\n{shown_cells(executed_cells(self._session.shell), numbers, text)}"

        return await self._look(look)

    async def last_error(self) -> str:
        """Read the last error of the user's notebook: the cell that failed, and its traceback."""
        return await self._look(self._session.last_error.text) or "no cell has failed in this kernel"

    async def run_python(self, code: str) -> ResultWithAttachments:
        """Run Python code in the user's notebook kernel, with the user's variables. The user is asked first.

        It returns what the code prints and the value of its last line. New variables stay for the user, who sees the
        figures and tables that the code shows.

        code: for example "sales['price'].sum()".
        """
        max_chars = self._session.config.tool_output_limit
        printed, figures = CapturedText(max_chars), ShownFigures()
        try:
            succeeded = await self._on_kernel(lambda: run_code(self._session.shell, code, printed, figures, max_chars))
        except TaskTimeoutError as error:
            raise ToolError(f"{_timeout_text(error)}; it had printed:\n{printed.text() or '(nothing)'}") from error
        text = printed.text().rstrip("\n") or "it ran and printed nothing"
        if not succeeded:
            text = f"failed: the code raised an error:\n{printed.text()}"
        return ResultWithAttachments(text=text, attachments=figures.attachments, ok=succeeded)

    async def add_cell(self, code: str) -> str:
        """Put code into a new cell of the user's notebook, for the user to read and run. Nothing runs.

        code: the whole source of the cell.
        """
        code = code_for_cell(code)
        session = self._session
        for panel in [] if session.kernel.cell_waits else self._panels():
            if await panel.add_cell(code):
                return "the code is in a new cell of the notebook; the user decides whether to run it"
        if await self._on_kernel(lambda: session.next_cell(code)):
            return "the code is put into a new cell below; the user decides whether to run it"
        raise ToolError(NO_NOTEBOOK)

    async def _cells_of_front_end(self) -> list[dict[str, Any]] | None:
        """Return the cells that an open panel sees around it; None if there is none that does."""
        for panel in self._panels():
            if (cells := await panel.cells()) is not None:
                return cells
        return None

    def _panels(self) -> list[OpenPanel]:
        """Return the open chat panels, those on the thread of this call first."""
        call = current_call.get()
        return self._session.panels_for(call.thread_id if call else None)

    async def _look(self, function: Callable[[], str], running: float | None = None) -> str:
        """Read the user's variables; what their own code prints meanwhile is dropped."""

        def look() -> str:
            with captured(self._session.shell, CapturedText(0)):
                return function()

        try:
            return await self._on_kernel(look, running or LOOK_TIMEOUT_S)
        except TaskTimeoutError as error:
            raise ToolError(_timeout_text(error)) from error
        except NotFoundError as error:
            raise ToolError(f"not_found: {error}") from error
        except ToolError:
            raise
        except PianoError as error:
            raise ToolError(f"refused: {error}") from error

    async def _on_kernel(self, function: Callable[[], T], running: float | None = None) -> T:
        try:
            return await self._session.kernel.run(function, within=self._limit(), running=running)
        except TaskInterruptedError:
            await self._cancel_job()
            raise

    def _limit(self) -> float:
        """Return the time limit of a call in seconds: less than `tool_timeout`, so that its result still arrives."""
        timeout = self._session.config.tool_timeout
        return timeout - min(RESERVED_FOR_RESULT_S, timeout / 2)

    async def _cancel_job(self) -> None:
        """Cancel the job of this call: the user interrupted the kernel, as one interrupts a cell."""
        call = current_call.get()
        if call is None:
            return
        piano = await self._session.opened()
        for job in await piano.jobs(JobStatus.RUNNING):
            if job.thread_id == call.thread_id:
                task = asyncio.ensure_future(piano.cancel(job))
                self._cancelling.add(task)
                task.add_done_callback(self._cancelling.discard)
        await asyncio.Event().wait()  # the end of the job cancels this


def _judge_run(_arguments: Mapping[str, Any], mode: Mode) -> ToolAssessment:
    if mode == "read":
        return ToolAssessment(
            Verdict.DENY, "in read mode no code runs in the kernel; variables, inspect and query only read"
        )
    return ToolAssessment(Verdict.ASK, "it runs in your kernel, with your variables and your rights")


def variables_table(variables: Mapping[str, Any], pattern: str) -> str:
    """Return the variables as a table, followed by the functions and modules."""
    wildcard = pattern.casefold() if any(each in pattern for each in "*?[") else f"*{pattern.casefold()}*"
    names = sorted(name for name in variables if not name.startswith("_"))
    found = [name for name in names if fnmatch.fnmatchcase(name.casefold(), wildcard)]
    if names and not found:
        return f"no name matches {pattern!r}; all variables:\n{variables_table(variables, '')}"
    if not names:
        return "there are no variables yet"
    modules = [name for name in found if issubclass(type(variables[name]), ModuleType)]
    functions = [name for name in found if is_code(variables[name])]
    data = [name for name in found if name not in {*modules, *functions}]
    rows = [variable_row(name, variables[name]) for name in data[:MAX_VARIABLES]]
    lines = [plain_table(("name", "type", "size", "memory"), rows)] if rows else []
    if len(data) > MAX_VARIABLES:
        lines.append(f"… and {len(data) - MAX_VARIABLES:,} more; use pattern to list fewer")
    lines += [f"functions and classes: {listed(functions, MAX_VARIABLES)}"] if functions else []
    lines += [f"modules: {listed(modules, MAX_VARIABLES)}"] if modules else []
    return "\n".join(lines)


def _timeout_text(error: TaskTimeoutError) -> str:
    if error.begun:
        return f"timeout: it was stopped after {error.seconds:g} s"
    return f"busy: the kernel was busy with another cell for {error.seconds:g} s, so it did not run"

"""Session: the state of a kernel while the extension is loaded. Opens, swaps and closes the kernel's one Piano."""

import asyncio
import concurrent.futures
import contextlib
import weakref
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from uuid import UUID

from IPython.core.magic import no_var_expand

from piano_jupyter.config import PianoConfig
from piano_jupyter.errors import NotFoundError, PianoError
from piano_jupyter.jupyter.context.caller import caller_variables
from piano_jupyter.jupyter.context.cells import NumberedSources
from piano_jupyter.jupyter.context.last_error import LastError
from piano_jupyter.jupyter.context.special_names import SPECIAL_NAMES, NumberedCells, QuestionVariables
from piano_jupyter.jupyter.kernel_thread import KernelThread
from piano_jupyter.jupyter.loop import LoopTask, LoopThread, PianoInCell
from piano_jupyter.jupyter.notebook_identity import notebook_of
from piano_jupyter.jupyter.proposed_cell import announce_proposed_cell
from piano_jupyter.jupyter.render.shown_values import ShownValues
from piano_jupyter.logs import logger
from piano_jupyter.text.invisible import terminal_text
from piano_jupyter.tool import Tool

if TYPE_CHECKING:
    from piano_jupyter.piano import Piano
    from piano_jupyter.records import Backup, Thread
    from piano_jupyter.variables.frame_methods import SpecialFunction

log = logger(__name__)
T = TypeVar("T")

CLOSE_AT_EXIT_S = 2.0  # in addition to `shutdown_timeout`
IN_MEMORY = ":memory:"
PROPOSED = "the new cell below is proposed; it was not run"


class OpenPanel(Protocol):
    """An open chat panel, as the session sees it."""

    @property
    def thread_id(self) -> UUID:
        """The thread it shows."""

    async def add_cell(self, code: str) -> bool:
        """Put code into a new cell below it; return whether that worked."""

    def expect_cell(self, code: str, replaces: str = "") -> None:
        """Mark the cell with this code as proposed that the front end adds when the running one ends."""

    async def cells(self) -> list[dict[str, Any]] | None:
        """Return the cells of the notebook that it is in; None if the front end does not tell."""

    def leave_cell(self, cell: str) -> None:
        """Take in that a cell runs again: what it showed is gone."""

    def close_if_left(self) -> None:
        """Close it if all cells that showed it have run again without showing it."""

    @property
    def is_open(self) -> bool:
        """Whether it was not closed."""

    def show_live_view(self) -> None:
        """Show it in the running cell."""

    def live_bundle(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the data and metadata that show it."""

    def close(self) -> None:
        """Close it; the conversation stays."""


class Session:
    """The state of a kernel while the extension is loaded: a loop, a Piano, and the tools that cells define.

    `magic` runs a `%piano` line or cell, `kernel_tools` returns the tools that every Piano gets.
    """

    def __init__(
        self,
        shell: Any,
        magic: "Callable[[Session, str, str | None], Any]",
        kernel_tools: "Callable[[Session], list[Tool]]",
    ) -> None:
        self.shell = shell
        self._run_magic, self._kernel_tools = magic, kernel_tools
        self.config = PianoConfig(parent=shell)
        self.loop = LoopThread()
        self.kernel = KernelThread(shell)
        self.unloading = contextlib.ExitStack()  #: undoes what loading the extension has done
        self.in_cell = PianoInCell(self.loop, self.opened, lambda: shell.execution_count)
        self.shown: set[Any] = set()  #: ids of the messages that the running cell has already shown
        self.shown_values = ShownValues(shell)
        self.shown_batches: set[UUID] = set()  #: ids of the batches whose progress a cell shows
        self.last_error = LastError(shell)
        SPECIAL_NAMES["error"] = lambda _: self.last_error.required_text()
        SPECIAL_NAMES["In"] = lambda shell: NumberedCells("In", shell.user_ns["In"][: -1 if self.cell_runs else None])
        SPECIAL_NAMES["cell"] = lambda shell: NumberedSources(shell, running=self.cell_runs)
        SPECIAL_NAMES["image("] = self._image_function
        SPECIAL_NAMES["mcp("] = self._mcp_function
        self.panels: weakref.WeakSet[OpenPanel] = weakref.WeakSet()
        self.side_panel: OpenPanel | None = None  #: the one beside the notebook
        self.sidecar: Any = None  #: the widget of sidecar that shows it, where that does
        self._caller: Mapping[str, Any] = {}  # the local variables of the function that runs a magic
        self._cells = 0  # how many run, nested
        self.cell_id = _running_cell(shell)  #: of the cell that runs or has run last, where the front end gives it
        self._next_cells: list[str] = []  # code for new cells below the running one
        self._is_proposal_to_tell = False  # in the output of the running cell
        self._piano: Piano | None = None
        self._parked: Piano | None = None  #: the Piano with a database in memory, while a cassette is in use
        self._thread_before: Thread | None = None  #: the current thread before a cassette was in use
        self._found_thread: UUID | None = None  #: the current one of the kernel before, as the database had it
        self._database = ""  #: of the Piano opened last, cassettes aside
        self._closing = False
        self.cassette: Path | None = None  #: the file that is being recorded or replayed
        self.recording = False  #: whether `cassette` is being recorded
        self._opening = asyncio.Lock()
        self._tools: dict[str, Tool] = {}
        self._adopted: list[Tool] = []  #: all that were ever adopted, so that none is adopted twice

    @property
    def cell_runs(self) -> bool:
        """Whether a cell runs now."""
        return self._cells > 0

    @property
    def in_notebook(self) -> bool:
        """Whether outputs can be updated in place: a kernel, not a terminal."""
        return hasattr(self.shell, "kernel")

    @no_var_expand
    def magic(self, line: str, cell: str | None = None) -> Any:
        """Ask an agent, or inspect and control the chat: `%piano help` lists the sub-commands."""
        self.loop.check()
        before, self._caller = self._caller, caller_variables(self.shell)
        try:
            return self._run_magic(self, line, cell)
        finally:
            self._caller = before

    def call(self, verb: "Callable[[Piano], Coroutine[Any, Any, T]]") -> T:
        """Run a verb of the kernel's Piano on the chat's loop, from the main thread. Raises PianoError."""
        return self.loop.run(self._opened_then(verb))

    def start(self, verb: "Callable[[Piano], Coroutine[Any, Any, T]]") -> "concurrent.futures.Future[T]":
        """Start a verb of the kernel's Piano from the main thread; interrupting the cell does not stop it."""
        return self.loop.submit(self._opened_then(verb))

    def work(self, verb: "Callable[[Piano], Coroutine[Any, Any, T]]") -> LoopTask[T]:
        """Return a task for a verb of the kernel's Piano, not yet started, so that an interrupt can always stop it."""
        return LoopTask(self.loop.loop, partial(self._opened_then, verb))

    def peek(self, verb: "Callable[[Piano], Coroutine[Any, Any, T]]") -> "concurrent.futures.Future[T] | None":
        """Start a verb of the Piano if it is already open, else return None."""
        piano = self._piano
        return None if piano is None else self.loop.submit(verb(piano))

    async def _opened_then(self, verb: "Callable[[Piano], Coroutine[Any, Any, T]]") -> T:
        return await verb(await self.opened())

    async def opened(self) -> "Piano":
        """Return the Piano, opening it first if needed; on the loop. Raises PianoError."""
        async with self._opening:
            if self._piano is None:
                if self._closing:
                    raise PianoError("piano_jupyter was unloaded; load it again with %load_ext piano_jupyter")
                self._piano = await self._open()
            return self._piano

    async def use_cassette(self, *, record: Path | None = None, replay: Path | None = None) -> None:
        """Switch to a Piano that records or replays in a new conversation; on the loop. Raises PianoError.

        A database in a file is closed; one in memory stays open in the background.
        """
        async with self._opening:
            fresh = await self._open(record=record, replay=replay)
            old, self._piano = self._piano, fresh
            if old is not None and self.cassette is None:
                self._thread_before = old.thread
                if self._database == IN_MEMORY:
                    old, self._parked = None, old
            self.cassette, self.recording = record or replay, record is not None
            if old is not None:
                await old.close()

    async def go_back(self) -> None:
        """Return to the database and thread from before the cassette; on the loop. Raises PianoError."""
        async with self._opening:
            if self.cassette is None:
                raise PianoError("nothing is being recorded or replayed")
            old, self._piano = self._piano, self._parked or await self._open()
            for tool in self._tools.values():
                self._piano.add_tool(tool)
            if self._thread_before is not None:
                with contextlib.suppress(NotFoundError):  # the database may have been changed meanwhile
                    self._piano.thread = await self._piano.find_thread(self._thread_before.id)
            self._parked = self._thread_before = self.cassette = None
            self.recording = False
            if old is not None:
                await old.close()

    async def restore(self, file: str) -> str | None:
        """Continue with a copy of the database, even if that cannot be opened; on the loop. Raises PianoError."""
        async with self._opening:
            if self.cassette is not None:
                raise PianoError("a cassette is in use; %piano record --stop or %piano replay --stop goes back first")
            self._piano, piano = None, self._piano or self._new()
            try:
                replaced = await piano.restore(file)
                for panel in tuple(self.panels):  # they show the history before
                    panel.close()
                self.panels.clear()
                return replaced
            finally:
                if piano.is_open:
                    self._piano = piano

    async def backups(self) -> "list[Backup]":
        """Return the copies of the database, also where that cannot be opened; on the loop."""
        async with self._opening:
            return await (self._piano or self._new()).backups()

    async def _open(self, *, record: Path | None = None, replay: Path | None = None) -> "Piano":
        piano = self._new(record, replay)
        await piano.open()
        if not (record or replay):
            self._database = self.config.database
            self._found_thread = piano.thread.id if piano.thread else None
        return piano

    def _new(self, record: Path | None = None, replay: Path | None = None) -> "Piano":
        from piano_jupyter.piano import Piano  # noqa: PLC0415  Slow to load.

        tools = [*self._kernel_tools(self), *self._tools.values()]
        notebook = notebook_of(self.shell)
        return Piano(config=self.config, tools=tools, record=record, replay=replay, notebook=notebook)

    def announce_database(self) -> None:
        """Print once in the running cell what the user should know of the database; on the main thread."""
        for notice in self._piano.notices() if self._piano is not None else ():
            print(fill(terminal_text(notice), 80, break_long_words=False, break_on_hyphens=False))  # noqa: T201

    def variables(self) -> dict[str, Any]:
        """Return the user's variables, without IPython's own."""
        hidden = self.shell.user_ns_hidden
        return {name: value for name, value in self.shell.user_ns.items() if hidden.get(name, self) is not value}

    def _image_function(self, _shell: object) -> "SpecialFunction":
        from piano_jupyter.jupyter.context.images import image_function  # noqa: PLC0415  Rarely wanted.

        return image_function(self.config.workspace)

    def _mcp_function(self, _shell: object) -> "SpecialFunction":
        from piano_jupyter.jupyter.context.mcp_texts import text_function  # noqa: PLC0415  Rarely wanted.

        def read(server: str, name: str, arguments: Mapping[str, Any]) -> str:
            return self.call(lambda piano: piano.read_mcp_text(server, name, arguments))

        return text_function(read)

    def variables_here(self) -> QuestionVariables:
        """Return what a question can name where it is asked: the caller's local variables go before the user's."""
        return QuestionVariables(self.shell, self._caller, self.variables())

    def user_variables_here(self) -> dict[str, Any]:
        """Return the user's variables where a magic is run, and the caller's local ones, without special names."""
        return {**self.variables(), **self._caller}

    def next_cell(self, code: str, replaces: str = "") -> bool:
        """Put code into a new cell below the running one, on the main thread; return False if none runs.

        It is marked as proposed, by the extension of the front end or by an open panel; `replaces` is the source of the
        cell that it would take the place of. Unless it replaces one, the output of the cell says that it was not run.
        """
        if not (self._cells or self.kernel.cell_waits):
            return False
        self._next_cells.append(code)  # a front end creates only the first of several cells
        source = "\n\n".join(self._next_cells)
        self._is_proposal_to_tell = not replaces
        self.shell.set_next_input(source)
        if self.in_notebook:
            announce_proposed_cell(source, replaces)
        for panel in self.panels_for(None)[:1]:
            panel.expect_cell(source, replaces)
        return True

    def has_chosen(self, thread: "Thread | None") -> bool:
        """Return whether a thread was made the current one in this kernel, and by something else than a panel."""
        if thread is None or thread.id == self._found_thread:
            return False
        return all(panel.thread_id != thread.id for panel in self.panels)

    def panels_for(self, thread_id: Any) -> list[OpenPanel]:
        """Return the open panels, those on this thread first."""
        return sorted(self.panels, key=lambda panel: panel.thread_id != thread_id)

    def adopt_tools(self, *_: object) -> None:
        """Add the tools that cells have defined to the Piano."""
        for name, value in list(self.shell.user_ns.items()):
            is_tool = issubclass(type(value), Tool) and not name.startswith("_")
            if is_tool and all(value is not seen for seen in self._adopted):
                taken = value.name in self._tools
                self._adopted.append(value)
                self._tools[value.name] = value
                if self._piano is not None:
                    taken = self._piano.add_tool(value) is not None
                if taken:
                    print(f"the tool {value.name!r} replaces the earlier one of that name")  # noqa: T201  A notice in the cell.

    def begin_cell(self, info: object = None) -> None:
        """Note that a cell starts, and that what it showed before is gone."""
        if not self._cells:
            self.cell_id = str(getattr(info, "cell_id", None) or "")
            for panel in tuple(self.panels) if self.cell_id else ():
                panel.leave_cell(self.cell_id)
        self._cells += 1

    def end_cell(self, result: object = None) -> None:
        """Note that a cell has ended: its answers can be shown again from now on."""
        not_begun = self.in_cell.forget_calls()
        if not_begun and isinstance(getattr(result, "error_in_exec", None), RuntimeError):
            print(f"in a notebook, write: await piano.{not_begun[0]}(...)")  # noqa: T201  Below the error of `asyncio.run`.
        for panel in tuple(self.panels) if self._cells <= 1 else ():
            panel.close_if_left()
        if self._is_proposal_to_tell:
            print(PROPOSED)  # noqa: T201  Below the answer.
            self._is_proposal_to_tell = False
        self._cells = max(self._cells - 1, 0)  # the first one may have started before the extension was loaded
        self._next_cells.clear()
        self.shown.clear()
        self.shown_values.forget()

    def close(self) -> None:
        """Close everything, in at most `shutdown_timeout` + `CLOSE_AT_EXIT_S` seconds; in a forked process, nothing."""
        if self.loop.fork_guard.forked:
            return
        self._closing = True
        self.shown_values.forget()
        try:
            self.loop.run(self._close(), self.config.shutdown_timeout + CLOSE_AT_EXIT_S)
        except (TimeoutError, concurrent.futures.TimeoutError, RuntimeError, PianoError) as error:
            log.warning("the chat did not close cleanly: %s", error)
            for piano in filter(None, (self._piano, self._parked)):
                piano.close_now(CLOSE_AT_EXIT_S)
        self.loop.stop()

    async def _close(self) -> None:
        async with self._opening:  # waits until a Piano that is being opened is open
            for piano in filter(None, (self._piano, self._parked)):
                await piano.close()
            self._piano = self._parked = None


def _running_cell(shell: Any) -> str:
    """Return the id of the cell that loads the extension, which no event tells of any more; "" where it is unknown."""
    parent = shell.get_parent() if hasattr(shell, "get_parent") else None
    metadata = parent.get("metadata") if isinstance(parent, dict) else None
    return str(metadata.get("cellId") or "") if isinstance(metadata, dict) else ""

"""Session: what a kernel has while the extension is loaded. It opens, exchanges and closes the kernel's one Piano."""

import asyncio
import concurrent.futures
import contextlib
import weakref
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from uuid import UUID

from IPython.core.magic import no_var_expand

from piano_jupyter.config import PianoConfig
from piano_jupyter.errors import NotFoundError, PianoError
from piano_jupyter.jupyter.kernel_thread import KernelThread
from piano_jupyter.jupyter.loop import LoopTask, LoopThread, PianoInCell
from piano_jupyter.jupyter.render.shown_values import ShownValues
from piano_jupyter.logs import logger
from piano_jupyter.text.invisible import terminal_text
from piano_jupyter.tool import Tool

if TYPE_CHECKING:
    from piano_jupyter.piano import Piano
    from piano_jupyter.records import Backup, Thread

log = logger(__name__)
T = TypeVar("T")

AT_EXIT = 2.0  # seconds
IN_MEMORY = ":memory:"


class OpenPanel(Protocol):
    """An open chat panel, as a session knows it."""

    @property
    def thread_id(self) -> UUID:
        """The thread that it shows."""

    async def add_cell(self, code: str) -> bool:
        """Put code into a new cell below it; return whether it could."""

    def close(self) -> None:
        """Take it away; the conversation stays."""


class Session:
    """What a kernel has while the extension is loaded: a loop, a Piano, and the tools that cells define.

    `magic` does what `%piano` says, `kernel_tools` gives the tools that each Piano gets.
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
        self.unloading = contextlib.ExitStack()  #: what is undone when the extension is unloaded
        self.in_cell = PianoInCell(self.loop, self.opened)
        self.shown: set[Any] = set()  #: ids of the messages that the running cell has shown by itself
        self.shown_values = ShownValues(shell)
        self.panels: weakref.WeakSet[OpenPanel] = weakref.WeakSet()
        self._cells = 0  # that run, one inside the other
        self._next_cells: list[str] = []  # code for a new cell below the one that runs
        self._piano: Piano | None = None
        self._aside: Piano | None = None  #: whose database is memory, while a cassette is in use
        self._left: Thread | None = None  #: the current thread, before a cassette was in use
        self._untold: Piano | None = None  #: whose database the user has been told nothing of
        self._database = ""  #: of the Piano that was opened last, cassettes apart
        self._closing = False
        self.cassette: Path | None = None  #: that is recorded or replayed
        self._opening = asyncio.Lock()
        self._tools: dict[str, Tool] = {}
        self._adopted: list[Tool] = []  #: all that were ever taken, so that none is taken twice

    @property
    def in_notebook(self) -> bool:
        """Whether outputs can be updated in place: a kernel, not a terminal."""
        return hasattr(self.shell, "kernel")

    @no_var_expand
    def magic(self, line: str, cell: str | None = None) -> Any:
        """Ask an agent, or see and steer the chat: `%piano help` lists what there is."""
        self.loop.fork_guard.check()
        return self._run_magic(self, line, cell)

    def call(self, verb: "Callable[[Piano], Coroutine[Any, Any, T]]") -> T:
        """Run a verb of the kernel's Piano on the chat's loop, from the main thread. Raises PianoError."""
        return self.loop.run(self._opened_then(verb))

    def start(self, verb: "Callable[[Piano], Coroutine[Any, Any, T]]") -> "concurrent.futures.Future[T]":
        """Start a verb of the kernel's Piano from the main thread; it goes on when the cell is interrupted."""
        return self.loop.submit(self._opened_then(verb))

    def work(self, verb: "Callable[[Piano], Coroutine[Any, Any, T]]") -> LoopTask[T]:
        """Return a verb of the kernel's Piano that is still to be started: an interrupt finds it at any moment."""
        return LoopTask(self.loop.loop, partial(self._opened_then, verb))

    def peek(self, verb: "Callable[[Piano], Coroutine[Any, Any, T]]") -> "concurrent.futures.Future[T] | None":
        """Start a verb of a Piano that is open already; None where it is not."""
        piano = self._piano
        return None if piano is None else self.loop.submit(verb(piano))

    async def _opened_then(self, verb: "Callable[[Piano], Coroutine[Any, Any, T]]") -> T:
        return await verb(await self.opened())

    async def opened(self) -> "Piano":
        """Return the Piano, opened; on the loop."""
        async with self._opening:
            if self._piano is None:
                if self._closing:
                    raise PianoError("piano_jupyter was unloaded; load it again with %load_ext piano_jupyter")
                self._piano = await self._open()
            return self._piano

    async def use_cassette(self, *, record: Path | None = None, replay: Path | None = None) -> None:
        """Go over to a Piano that records or replays in a fresh conversation; on the loop. Raises PianoError.

        What is kept in a file is closed; what is kept in memory is put aside as it is.
        """
        async with self._opening:
            fresh = await self._open(record=record, replay=replay)
            old, self._piano = self._piano, fresh
            if old is not None and self.cassette is None:
                self._left = old.thread
                if self._database == IN_MEMORY:
                    old, self._aside = None, old
            self.cassette = record or replay
            if old is not None:
                await old.close()

    async def go_back(self) -> None:
        """Go back to where the talk was before a cassette came into use; on the loop. Raises PianoError."""
        async with self._opening:
            if self.cassette is None:
                raise PianoError("nothing is recorded or replayed")
            old, self._piano = self._piano, self._aside or await self._open()
            for tool in self._tools.values():
                self._piano.add_tool(tool)
            if self._left is not None:
                with contextlib.suppress(NotFoundError):  # the database may be another one by now
                    self._piano.thread = await self._piano.find_thread(self._left.id)
            self._aside = self._left = self.cassette = None
            if old is not None:
                await old.close()

    async def restore(self, file: str) -> str | None:
        """Go on with a copy of the database, also where that cannot be opened; on the loop. Raises PianoError."""
        async with self._opening:
            if self.cassette is not None:
                raise PianoError("a cassette is in use; %piano record --stop or %piano replay --stop goes back first")
            self._piano, piano = None, self._piano or self._new()
            try:
                aside = await piano.restore(file)
                for panel in tuple(self.panels):  # what they show is of the history before
                    panel.close()
                self.panels.clear()
                return aside
            finally:
                if piano.is_open:
                    self._piano = self._untold = piano

    async def backups(self) -> "list[Backup]":
        """Return the copies of the database, also where that cannot be opened; on the loop."""
        async with self._opening:
            return await (self._piano or self._new()).backups()

    async def _open(self, *, record: Path | None = None, replay: Path | None = None) -> "Piano":
        piano = self._new(record, replay)
        await piano.open()
        if not (record or replay):
            self._database = self.config.database
        self._untold = piano
        return piano

    def _new(self, record: Path | None = None, replay: Path | None = None) -> "Piano":
        from piano_jupyter.piano import Piano  # noqa: PLC0415  Heavy: only when it is used.

        tools = [*self._kernel_tools(self), *self._tools.values()]
        return Piano(config=self.config, tools=tools, record=record, replay=replay)

    def tell(self) -> None:
        """Say once, in the cell that runs, what is to be known of a database that was opened; on the main thread."""
        piano, self._untold = self._untold, None
        for notice in piano.notices() if piano is not None else ():
            print(fill(terminal_text(notice), 80, break_long_words=False, break_on_hyphens=False))  # noqa: T201

    def variables(self) -> dict[str, Any]:
        """Return the variables that the user made."""
        hidden = self.shell.user_ns_hidden
        return {name: value for name, value in self.shell.user_ns.items() if hidden.get(name, self) is not value}

    def next_cell(self, code: str) -> bool:
        """Have the front end put code into a new cell below the one that runs; on the main thread. False: none runs."""
        if not (self._cells or self.kernel.cell_waits):
            return False
        self._next_cells.append(code)  # of several cells a front end makes only the first
        self.shell.set_next_input("\n\n".join(self._next_cells))
        return True

    def panels_for(self, thread_id: Any) -> list[OpenPanel]:
        """Return the panels that are open, those of this thread first."""
        return sorted(self.panels, key=lambda panel: panel.thread_id != thread_id)

    def adopt_tools(self, *_: object) -> None:
        """Take the tools that cells have defined."""
        for name, value in list(self.shell.user_ns.items()):
            is_tool = issubclass(type(value), Tool) and not name.startswith("_")
            if is_tool and all(value is not seen for seen in self._adopted):
                taken = value.name in self._tools
                self._adopted.append(value)
                self._tools[value.name] = value
                if self._piano is not None:
                    taken = self._piano.add_tool(value) is not None
                if taken:
                    print(f"the tool {value.name!r} replaces the one of that name")  # noqa: T201  A notice in the cell.

    def begin_cell(self, *_: object) -> None:
        """A cell begins to run."""
        self._cells += 1

    def end_cell(self, *_: object) -> None:
        """A cell has ended: its answers show themselves from now on."""
        self._cells = max(self._cells - 1, 0)  # the first that ends may have begun before this was loaded
        self._next_cells.clear()
        self.shown.clear()
        self.shown_values.forget()

    def close(self) -> None:
        """Close everything: in `shutdown_timeout` and two seconds more at most. A fork closes nothing."""
        if self.loop.fork_guard.forked:
            return
        self._closing = True
        self.shown_values.forget()
        try:
            self.loop.run(self._close(), self.config.shutdown_timeout + AT_EXIT)
        except (TimeoutError, concurrent.futures.TimeoutError, RuntimeError, PianoError) as error:
            log.warning("the chat did not close cleanly: %s", error)
            for piano in filter(None, (self._piano, self._aside)):
                piano.close_now(AT_EXIT)
        self.loop.stop()

    async def _close(self) -> None:
        async with self._opening:  # what is being opened is opened first
            for piano in filter(None, (self._piano, self._aside)):
                await piano.close()
            self._piano = self._aside = None

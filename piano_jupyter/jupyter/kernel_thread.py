"""KernelThread: what is to be done on the kernel's main thread, where the user's variables live.

A piece of work is offered to all who can have that thread: the queue of a cell that waits in `%%piano`, and the
kernel's own loop, which takes it when the kernel is idle or a cell awaits. Whoever comes first does it, once. While
another cell runs, nobody comes.
"""

import _thread
import asyncio
import concurrent.futures
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from piano_jupyter.errors import PianoError, ToolError
from piano_jupyter.tool import current_call

T = TypeVar("T")

MOMENT = 0.5  # seconds until people are told that it waits, and between two attempts to end it
STUBBORN = 4.5  # seconds for work to end: a tool that is cancelled gets five
LAST_SIGNAL = 1.0  # seconds for a signal on its way to arrive
WAITS = "another cell runs"
TERMINAL = "not_here: in a terminal this works only while %%piano waits for the answer; ask the user to ask there"


class TaskInterruptedError(PianoError):
    """The user interrupted the kernel while the work ran."""


class TaskTimeoutError(PianoError):
    """The work did not end in time; it was ended, if it had begun."""

    def __init__(self, seconds: float, *, begun: bool) -> None:
        super().__init__(f"{'ended' if begun else 'not begun'} after {seconds:g} s")
        self.seconds, self.begun = seconds, begun


class CellInterrupt(KeyboardInterrupt):
    """An interrupt that reached the work of a tool, for the cell in which that ran."""


class MainThreadTask(concurrent.futures.Future[T], Generic[T]):
    """One piece of work for the main thread. Cancelled before it has begun, it never begins.

    An interrupt ends the work and nothing else: while it runs, Ctrl-C and the kernel's interrupt are its own.
    """

    def __init__(self, function: Callable[[], T]) -> None:
        super().__init__()
        self.began: concurrent.futures.Future[None] = concurrent.futures.Future()
        self.interrupted = False  #: by the user
        self._function = function
        self._guard = threading.Lock()
        self._taken = self._listens = self._stopped = False
        self._inside = False  # the function runs: a signal raises
        self._owed = False  # a signal of `stop` is on its way

    def do(self) -> None:
        """Do it, on the main thread, unless somebody else has or it was cancelled. It raises nothing."""
        with self._guard:
            taken, self._taken = self._taken, True
        if taken or not self.set_running_or_notify_cancel():
            return
        self.began.set_result(None)
        before = signal.signal(signal.SIGINT, self._hear)
        value, error = self._outcome()
        with self._guard:
            self._listens = False
        arrival = time.monotonic() + LAST_SIGNAL
        while self._owed and time.monotonic() < arrival:  # else it would hit what comes after
            time.sleep(0.001)
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)
        if error is not None:
            self.set_exception(error)
        else:
            self.set_result(value)

    def stop(self) -> None:
        """End it from another thread: it never begins, or a KeyboardInterrupt is raised in it. Say it until it ends."""
        if self.cancel():
            return
        with self._guard:
            self._stopped = True
            if self._listens:
                self._owed = True
                _interrupt_main()

    def _outcome(self) -> tuple[Any, Exception | None]:
        try:
            try:
                with self._guard:
                    self._listens = True
                self._inside = True
                if not (self._stopped or self.interrupted):
                    return self._function(), None
            finally:
                self._inside = False
        except Exception as error:  # noqa: BLE001  Whoever waits for it gets it.
            return None, error
        except BaseException as error:  # noqa: BLE001  Neither the kernel nor the chat's loop may end with it.
            return None, ToolError(f"it ended with {type(error).__name__}")
        return None, ToolError("it was ended as it began")

    def _hear(self, *_: object) -> None:
        """Take an interrupt, on the main thread: our own if one is on its way, else the user's."""
        self.interrupted |= not self._owed
        self._owed = False
        if self._inside:
            raise KeyboardInterrupt


Offers = queue.SimpleQueue[Any]


class KernelThread:
    """The kernel's main thread, as others can have work done on it."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._guard = threading.Lock()
        self._cells: list[Offers] = []  # of the cells that wait, the innermost last
        self._offered: set[MainThreadTask[Any]] = set()
        self._doing = False

    @property
    def cell_waits(self) -> bool:
        """Whether a cell waits that does what is to be done."""
        return bool(self._cells)

    def check(self) -> None:
        """Raise PianoError where a cell must not wait: in code that an agent runs, which it would wait for."""
        if self._doing:
            raise PianoError("code that an agent runs cannot ask or wait: the agent waits for that code to end")

    @contextmanager
    def lent(self, happened: Offers) -> Iterator[None]:
        """While a cell waits on this queue, put there what is to be done; the cell calls `do` with it."""
        if threading.current_thread() is not threading.main_thread():
            yield  # a cell on a subshell has another thread
            return
        with self._guard:
            self._cells.append(happened)
            for errand in self._offered:
                happened.put(errand)
        try:
            yield
        finally:
            with self._guard:
                self._cells.remove(happened)
                left = [] if self._cells or self._loop() else list(self._offered)
            for errand in left:
                errand.cancel()

    def do(self, errand: MainThreadTask[Any]) -> None:
        """Do a piece of work in a cell that waits. Raises CellInterrupt where the user interrupted it."""
        self._do(errand)
        if errand.interrupted:
            raise CellInterrupt

    async def run(self, function: Callable[[], T], *, within: float, running: float | None = None) -> T:
        """Have a function run on the main thread, and return what it returns; `await` it on any loop.

        It takes `within` seconds at most, of which it runs `running`. Raises TaskTimeoutError, and TaskInterruptedError
        where the user interrupted it. If this is cancelled, so is the work.
        """
        errand = MainThreadTask(function)
        self._offer(errand)
        began, ended = asyncio.wrap_future(errand.began), asyncio.wrap_future(errand)
        until = time.monotonic() + within
        try:
            await _first(began, ended, seconds=min(MOMENT, within))
            if not (began.done() or ended.done()):
                if (call := current_call.get()) is not None:
                    call.say(WAITS)
                await _first(began, ended, seconds=until - time.monotonic())
            seconds = min(until - time.monotonic(), within if running is None else running)
            await _first(ended, seconds=seconds)
            if not ended.done():
                await _end(errand, ended)
                begun = began.done()
                raise TaskTimeoutError(running if begun and running is not None else within, begun=begun)
        except asyncio.CancelledError:
            await _end(errand, ended)
            raise
        if errand.interrupted:
            _ = ended.cancelled() or ended.exception()  # looked at: nobody else does
            raise TaskInterruptedError("the user interrupted the kernel while it ran")
        if ended.cancelled():
            raise ToolError(TERMINAL)
        return ended.result()

    def _offer(self, errand: MainThreadTask[Any]) -> None:
        loop = self._loop()
        with self._guard:
            if not self._cells and loop is None:
                raise ToolError(TERMINAL)
            self._offered.add(errand)
            for happened in self._cells:
                happened.put(errand)
        errand.add_done_callback(self._forget)
        if loop is not None:
            loop.call_soon_threadsafe(self._do_on_loop, errand)

    def _forget(self, errand: "concurrent.futures.Future[Any]") -> None:
        with self._guard:
            self._offered = {each for each in self._offered if each is not errand}

    def _do_on_loop(self, errand: MainThreadTask[Any]) -> None:
        """Do it between two cells, or while a cell awaits: then an interrupt is that cell's too."""
        self._do(errand)
        others = signal.getsignal(signal.SIGINT)
        if errand.interrupted and callable(others) and others is not signal.default_int_handler:
            others(signal.SIGINT, None)

    def _do(self, errand: MainThreadTask[Any]) -> None:
        outer, self._doing = self._doing, True
        try:
            errand.do()
        finally:
            self._doing = outer

    def _loop(self) -> asyncio.AbstractEventLoop | None:
        """Return the loop of the kernel's main thread; a terminal has none that runs."""
        kernel = getattr(self._shell, "kernel", None)
        loop: asyncio.AbstractEventLoop | None = getattr(getattr(kernel, "io_loop", None), "asyncio_loop", None)
        return loop


def _interrupt_main() -> None:
    if hasattr(signal, "pthread_kill"):  # which wakes a thread that sleeps, too
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        _thread.interrupt_main()


async def _first(*futures: "asyncio.Future[Any]", seconds: float) -> None:
    await asyncio.wait(futures, timeout=max(seconds, 0.0), return_when=asyncio.FIRST_COMPLETED)


async def _end(errand: MainThreadTask[Any], ended: "asyncio.Future[Any]") -> None:
    """End the work: say it again while it does not listen."""
    late = time.monotonic() + STUBBORN
    while not ended.done() and time.monotonic() < late:
        errand.stop()
        await asyncio.wait({ended}, timeout=MOMENT)
    if ended.done() and not ended.cancelled():
        ended.exception()  # looked at: nobody else does

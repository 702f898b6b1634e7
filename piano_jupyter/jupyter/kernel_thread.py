"""KernelThread: runs functions on the kernel's main thread, where the user's variables live.

A task is offered to everyone who can run it there: the queue of a cell that waits in `%%piano`, and the kernel's own
loop, which runs it when the kernel is idle or a cell awaits. Whoever is first runs it, once. While another cell runs,
it waits.
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

RETRY_AFTER_S = 0.5  # until the user is told that a task waits, and between two attempts to stop it
STOP_TIMEOUT_S = 4.5  # a tool that is cancelled gets five seconds
SIGNAL_TIMEOUT_S = 1.0  # for a signal that was sent to arrive
WAITING_NOTE = "another cell runs"
NOT_IN_TERMINAL = (
    "not_here: in a terminal this works only while %%piano waits for the answer; tell the user to ask with %%piano"
)


class TaskInterruptedError(PianoError):
    """The user interrupted the kernel while the task ran."""


class TaskTimeoutError(PianoError):
    """The task did not finish in time; it was stopped if it had started."""

    def __init__(self, seconds: float, *, begun: bool) -> None:
        super().__init__(f"{'stopped' if begun else 'not started'} after {seconds:g} s")
        self.seconds, self.begun = seconds, begun


class CellInterrupt(KeyboardInterrupt):
    """The user interrupted a tool's task, and with it the cell in which it ran."""


class MainThreadTask(concurrent.futures.Future[T], Generic[T]):
    """A function to run on the main thread. If it is cancelled before it starts, it never starts.

    An interrupt stops the task and nothing else: while it runs, it handles Ctrl-C and the kernel's interrupt.
    """

    def __init__(self, function: Callable[[], T]) -> None:
        super().__init__()
        self.began: concurrent.futures.Future[None] = concurrent.futures.Future()
        self.interrupted = False  #: by the user
        self._function = function
        self._lock = threading.Lock()
        self._claimed = self._accepts_signals = self._stopped = False
        self._is_running = False  # the function runs: a signal raises KeyboardInterrupt
        self._signal_pending = False  # `stop` has sent a signal that has not arrived

    def do(self) -> None:
        """Run it on the main thread, unless it was run or cancelled before. Raises nothing."""
        with self._lock:
            taken, self._claimed = self._claimed, True
        if taken or not self.set_running_or_notify_cancel():
            return
        self.began.set_result(None)
        before = signal.signal(signal.SIGINT, self._on_sigint)
        value, error = self._outcome()
        with self._lock:
            self._accepts_signals = False
        arrival = time.monotonic() + SIGNAL_TIMEOUT_S
        while self._signal_pending and time.monotonic() < arrival:  # else it would interrupt the code that runs next
            time.sleep(0.001)
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)
        if error is not None:
            self.set_exception(error)
        else:
            self.set_result(value)

    def stop(self) -> None:
        """Stop it from another thread: it never starts, or gets a KeyboardInterrupt. Call again until it ends."""
        if self.cancel():
            return
        with self._lock:
            self._stopped = True
            if self._accepts_signals:
                self._signal_pending = True
                _interrupt_main()

    def _outcome(self) -> tuple[Any, Exception | None]:
        try:
            try:
                with self._lock:
                    self._accepts_signals = True
                self._is_running = True
                if not (self._stopped or self.interrupted):
                    return self._function(), None
            finally:
                self._is_running = False
        except Exception as error:  # noqa: BLE001  Raised where the task is awaited.
            return None, error
        except BaseException as error:  # noqa: BLE001  It must stop neither the kernel nor the chat's loop.
            return None, ToolError(f"it ended with {type(error).__name__}")
        return None, ToolError("it was stopped as it started")

    def _on_sigint(self, *_: object) -> None:
        """Handle SIGINT on the main thread: our own if one is pending, else the user's."""
        self.interrupted |= not self._signal_pending
        self._signal_pending = False
        if self._is_running:
            raise KeyboardInterrupt


Offers = queue.SimpleQueue[Any]


class KernelThread:
    """Runs tasks on the kernel's main thread."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._lock = threading.Lock()
        self._cells: list[Offers] = []  # the queues of the cells that wait, the innermost last
        self._offered: set[MainThreadTask[Any]] = set()
        self._doing = False

    @property
    def cell_waits(self) -> bool:
        """Whether a cell waits that can run tasks."""
        return bool(self._cells)

    def check(self) -> None:
        """Raise PianoError in code that an agent runs: waiting there for an answer would never end."""
        if self._doing:
            raise PianoError("code that an agent runs cannot ask or wait: the agent is waiting for that code to finish")

    @contextmanager
    def lend(self, offers: Offers) -> Iterator[None]:
        """Put tasks into this queue while a cell waits on it; the cell calls `do` with each."""
        if threading.current_thread() is not threading.main_thread():
            yield  # a cell in a subshell runs on another thread
            return
        with self._lock:
            self._cells.append(offers)
            for task in self._offered:
                offers.put(task)
        try:
            yield
        finally:
            with self._lock:
                self._cells.remove(offers)
                left = [] if self._cells or self._loop() else list(self._offered)
            for task in left:
                task.cancel()

    def do(self, task: MainThreadTask[Any]) -> None:
        """Run a task in a cell that waits. Raises CellInterrupt if the user interrupted it."""
        self._do(task)
        if task.interrupted:
            raise CellInterrupt

    async def run(self, function: Callable[[], T], *, within: float, running: float | None = None) -> T:
        """Run a function on the main thread and return its result; can be awaited on any loop.

        It waits and runs for at most `within` seconds, of which it runs at most `running`. Raises TaskTimeoutError, and
        TaskInterruptedError if the user interrupted it. Cancelling this cancels the task.
        """
        task = MainThreadTask(function)
        self._offer(task)
        began, ended = asyncio.wrap_future(task.began), asyncio.wrap_future(task)
        until = time.monotonic() + within
        try:
            await _first(began, ended, seconds=min(RETRY_AFTER_S, within))
            if not (began.done() or ended.done()):
                if (call := current_call.get()) is not None:
                    call.say(WAITING_NOTE)
                await _first(began, ended, seconds=until - time.monotonic())
            seconds = min(until - time.monotonic(), within if running is None else running)
            await _first(ended, seconds=seconds)
            if not ended.done():
                await _end(task, ended)
                begun = began.done()
                raise TaskTimeoutError(running if begun and running is not None else within, begun=begun)
        except asyncio.CancelledError:
            await _end(task, ended)
            raise
        if task.interrupted:
            _ = ended.cancelled() or ended.exception()  # retrieved, else asyncio logs it
            raise TaskInterruptedError("the user interrupted the kernel while it ran")
        if ended.cancelled():
            raise ToolError(NOT_IN_TERMINAL)
        return ended.result()

    def _offer(self, task: MainThreadTask[Any]) -> None:
        loop = self._loop()
        with self._lock:
            if not self._cells and loop is None:
                raise ToolError(NOT_IN_TERMINAL)
            self._offered.add(task)
            for offers in self._cells:
                offers.put(task)
        task.add_done_callback(self._forget)
        if loop is not None:
            loop.call_soon_threadsafe(self._do_on_loop, task)

    def _forget(self, task: "concurrent.futures.Future[Any]") -> None:
        with self._lock:
            self._offered = {each for each in self._offered if each is not task}

    def _do_on_loop(self, task: MainThreadTask[Any]) -> None:
        """Run it between two cells, or while a cell awaits: then an interrupt is for that cell too."""
        self._do(task)
        others = signal.getsignal(signal.SIGINT)
        if task.interrupted and callable(others) and others is not signal.default_int_handler:
            others(signal.SIGINT, None)

    def _do(self, task: MainThreadTask[Any]) -> None:
        outer, self._doing = self._doing, True
        try:
            task.do()
        finally:
            self._doing = outer

    def _loop(self) -> asyncio.AbstractEventLoop | None:
        """Return the loop of the kernel's main thread; in a terminal none runs."""
        kernel = getattr(self._shell, "kernel", None)
        loop: asyncio.AbstractEventLoop | None = getattr(getattr(kernel, "io_loop", None), "asyncio_loop", None)
        return loop


def _interrupt_main() -> None:
    if hasattr(signal, "pthread_kill"):  # also wakes a thread that sleeps
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        _thread.interrupt_main()


async def _first(*futures: "asyncio.Future[Any]", seconds: float) -> None:
    await asyncio.wait(futures, timeout=max(seconds, 0.0), return_when=asyncio.FIRST_COMPLETED)


async def _end(task: MainThreadTask[Any], ended: "asyncio.Future[Any]") -> None:
    """Stop the task; try again while it cannot be interrupted."""
    late = time.monotonic() + STOP_TIMEOUT_S
    while not ended.done() and time.monotonic() < late:
        task.stop()
        await asyncio.wait({ended}, timeout=RETRY_AFTER_S)
    if ended.done() and not ended.cancelled():
        ended.exception()  # retrieved, else asyncio logs it

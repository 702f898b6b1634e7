"""LoopThread: the asyncio loop that the chat runs on, separate from the kernel's own.

Tasks on the kernel's loop stop while a cell runs, and a magic cannot wait for them; so the chat has its own loop on a
daemon thread. `PianoInCell` is the variable `piano` of a cell: its verbs run on that loop.
"""

import asyncio
import concurrent.futures
import inspect
import threading
import warnings
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from piano_jupyter.errors import PianoError
from piano_jupyter.fork_guard import ForkGuard

if TYPE_CHECKING:
    from piano_jupyter.events import Event
    from piano_jupyter.piano import Piano
    from piano_jupyter.records import Thread

T = TypeVar("T")
INTERRUPT_S = 0.2  # after which an interrupt of an awaited call takes effect, if nothing else happens


class LoopThread:
    """An asyncio loop on a daemon thread of its own."""

    def __init__(self) -> None:
        self.fork_guard = ForkGuard()
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="piano-loop", daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Start a coroutine from any thread. Raises PianoError in a forked process, which has no such thread."""
        try:
            self.fork_guard.check()
        except PianoError:
            work.close()  # it is never awaited
            raise
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def check(self) -> None:
        """Raise PianoError where a wait for the loop would never end: in a forked process, and on its own thread."""
        self.fork_guard.check()
        if threading.current_thread() is self._thread:
            raise PianoError(
                "a tool that is an async function runs on the chat's own loop, which cannot wait for itself: define "
                "the tool with def, or await the verbs of piano in it"
            )

    def run(self, work: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Run a coroutine and wait for it, from any thread; an interrupt cancels it. Raises PianoError, see `check`."""
        try:
            self.check()
        except PianoError:
            work.close()  # it is never awaited
            raise
        future = self.submit(work)
        try:
            return future.result(timeout)
        except BaseException:
            future.cancel()
            raise

    def stop(self) -> None:
        """Stop the thread. Call it when nothing runs there any more."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(2)
        if not self._thread.is_alive():
            self.loop.close()


class LoopTask(concurrent.futures.Future[T]):
    """A coroutine to run on a loop. It exists before it starts, so that an interrupt can stop it at any moment.

    `cancel` returns True if it has not started; then it never will.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, verb: Callable[[], Coroutine[Any, Any, T]]) -> None:
        super().__init__()
        self._loop, self._verb = loop, verb
        self._task: asyncio.Task[T] | None = None

    def begin(self) -> None:
        """Start it, from any thread."""
        self._loop.call_soon_threadsafe(self._begin)

    def stop(self) -> None:
        """Cancel it even if it has started, from any thread."""
        if not self.cancel():
            self._loop.call_soon_threadsafe(self._stop)

    def _begin(self) -> None:
        if self.set_running_or_notify_cancel():
            self._task = self._loop.create_task(self._verb())
            self._task.add_done_callback(self._end)

    def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _end(self, task: "asyncio.Task[T]") -> None:
        error = concurrent.futures.CancelledError() if task.cancelled() else task.exception()
        if error is not None:
            self.set_exception(error)
        else:
            self.set_result(task.result())


class VerbCall(Coroutine[Any, Any, Any]):
    """A call of a verb that starts when it is awaited, so that `asyncio.run` in a notebook fails without having asked.

    If it is never awaited, it warns in the cell that made it; `cell` returns the number of the running cell.
    """

    def __init__(
        self, name: str, begin: Callable[[], Coroutine[Any, Any, Any]], cell: Callable[[], object] = lambda: None
    ) -> None:
        self.name, self._begin, self._cell = name, begin, cell
        self._made_in = cell()
        self._begun: Coroutine[Any, Any, Any] | None = None

    @property
    def has_begun(self) -> bool:
        """Whether it was awaited."""
        return self._begun is not None

    def __repr__(self) -> str:
        return f"<piano.{self.name}(...){'' if self._begun else ' has not started: write await before it'}>"

    def __await__(self) -> Generator[Any, Any, Any]:
        """Start."""
        return self._coroutine().__await__()

    def send(self, value: Any) -> Any:
        """Start or continue."""
        return self._coroutine().send(value)

    def throw(self, *error: Any) -> Any:
        """Raise an error inside."""
        return self._coroutine().throw(*error)

    def close(self) -> None:
        """Stop."""
        self._coroutine().close()

    def __del__(self) -> None:
        """Warn of a forgotten `await`, but not in later cells: the traceback of a failed cell keeps its calls alive."""
        if self._begun is None and self._cell() == self._made_in:
            warnings.warn(f"piano.{self.name}(...) was never awaited: write await before it", RuntimeWarning, 2)

    def _coroutine(self) -> Coroutine[Any, Any, Any]:
        if self._begun is None:
            self._begun = self._begin()
        return self._begun


class PianoInCell:
    """The kernel's Piano, for `await piano.ask(...)` in a cell: opened at first use, it runs on the chat's loop."""

    def __init__(
        self, loop: LoopThread, opened: Callable[[], Awaitable["Piano"]], cell: Callable[[], object] = lambda: None
    ) -> None:
        self._loop, self._opened, self._cell = loop, opened, cell
        self._calls: weakref.WeakSet[VerbCall] = weakref.WeakSet()  # that the running cell made
        self._views: dict[str, Callable[[Coroutine[Any, Any, Any]], Coroutine[Any, Any, Any]]] = {}  # by verb

    def __getattr__(self, name: str) -> Any:
        """Return a verb, whose calls can be awaited on any loop, or read a property such as `thread`."""
        from piano_jupyter.piano import Piano  # noqa: PLC0415  Slow to load.

        verb = getattr(Piano, name, None)
        if isinstance(verb, property):
            return self._loop.run(self._read(name))
        if name.startswith("_") or name in {"open", "close", "close_now"} or not callable(verb):
            raise AttributeError(f"the kernel's piano has no verb {name!r}; dir(piano) lists them")
        if inspect.iscoroutinefunction(verb):
            return partial(self._call_of, name)
        return lambda *args, **kwargs: self._loop.run(self._call(name, *args, **kwargs))

    def forget_calls(self) -> list[str]:
        """Return the names of the calls of the last cell that have not begun, and forget all calls."""
        names = [call.name for call in self._calls if not call.has_begun]
        self._calls.clear()
        return names

    def view_calls(self, verb: str, view: Callable[[Coroutine[Any, Any, Any]], Coroutine[Any, Any, Any]]) -> None:
        """Have a function await the calls of a verb, which shows in the cell how far they are."""
        self._views[verb] = view

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse to hide a verb or property."""
        if not name.startswith("_"):
            raise AttributeError(f"piano.{name} cannot be set in a cell; %piano thread TITLE switches to a thread")
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        from piano_jupyter.piano import Piano  # noqa: PLC0415

        return [name for name in dir(Piano) if not name.startswith("_") and name not in {"open", "close", "close_now"}]

    def __repr__(self) -> str:
        return "<the kernel's Piano: await piano.ask(...), piano.send(...), piano.sql(...), ...>"

    async def events(self, thread: "Thread | None" = None) -> AsyncIterator["Event"]:
        """Yield the events from now on."""
        stream = await asyncio.wrap_future(self._loop.submit(self._call("events", thread)))
        try:
            while True:
                try:
                    yield await _outcome(self._loop.submit(stream.__anext__()))
                except StopAsyncIteration:
                    return
        finally:
            self._loop.submit(stream.aclose())

    def _call_of(self, name: str, /, *args: Any, **kwargs: Any) -> VerbCall:
        view = self._views.get(name, _as_it_is)
        call = VerbCall(name, lambda: view(self._hop(name, *args, **kwargs)), self._cell)
        self._calls.add(call)
        return call

    async def _read(self, name: str) -> Any:
        return getattr(await self._opened(), name)

    async def _hop(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        return await _outcome(self._loop.submit(self._call(name, *args, **kwargs)))

    async def _call(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        result = getattr(await self._opened(), name)(*args, **kwargs)
        return await result if inspect.isawaitable(result) else result


async def _outcome(running: "concurrent.futures.Future[T]") -> T:
    """Wait for what runs on the chat's loop, and stop it if the cell is interrupted.

    The loop of the cell wakes now and then: an interrupt takes effect only with its next event (ipykernel's issue 881).
    """
    outcome = asyncio.wrap_future(running)
    try:
        while not outcome.done():
            await asyncio.wait([outcome], timeout=INTERRUPT_S)
        return outcome.result()
    finally:
        outcome.cancel()


def _as_it_is(call: Coroutine[Any, Any, Any]) -> Coroutine[Any, Any, Any]:
    return call

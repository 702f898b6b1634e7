"""LoopThread: the loop the chat runs on, beside the kernel's own.

A task on the kernel's loop stands still while a cell runs, and a magic cannot wait on it; so the chat has a loop on a
daemon thread. `PianoInCell` is the Piano that a cell gets: each verb hops onto that loop by itself.
"""

import asyncio
import concurrent.futures
import inspect
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from piano_jupyter.errors import PianoError
from piano_jupyter.fork_guard import ForkGuard

if TYPE_CHECKING:
    from piano_jupyter.events import Event
    from piano_jupyter.piano import Piano
    from piano_jupyter.records import Thread

T = TypeVar("T")


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

    def run(self, work: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Run a coroutine and wait for it, from any thread but the loop's own; an interrupt cancels it."""
        future = self.submit(work)
        try:
            return future.result(timeout)
        except BaseException:
            future.cancel()
            raise

    def stop(self) -> None:
        """End the thread. Call it when nothing runs there any more."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(2)
        if not self._thread.is_alive():
            self.loop.close()


class LoopTask(concurrent.futures.Future[T]):
    """What is to be done on a loop: there before it is begun, so that an interrupt finds it at any moment.

    `cancel` is true where it has not begun; it never will, then.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, verb: Callable[[], Coroutine[Any, Any, T]]) -> None:
        super().__init__()
        self._loop, self._verb = loop, verb
        self._task: asyncio.Task[T] | None = None

    def begin(self) -> None:
        """Have it done, from any thread."""
        self._loop.call_soon_threadsafe(self._begin)

    def stop(self) -> None:
        """Cancel it though it has begun, from any thread."""
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


class PianoInCell:
    """The kernel's Piano, for `await piano.ask(...)` in a cell: opened when first used, its verbs hop onto its loop."""

    def __init__(self, loop: LoopThread, opened: Callable[[], Awaitable["Piano"]]) -> None:
        self._loop, self._opened = loop, opened

    def __getattr__(self, name: str) -> Any:
        """Return a verb that can be awaited on any loop."""
        from piano_jupyter.piano import Piano  # noqa: PLC0415  Heavy: only when it is used.

        verb = getattr(Piano, name, None)
        if name.startswith("_") or name in {"open", "close", "close_now"} or not callable(verb):
            raise AttributeError(f"the kernel's piano has no verb {name!r}")
        if inspect.iscoroutinefunction(verb):
            return lambda *args, **kwargs: asyncio.wrap_future(self._loop.submit(self._call(name, *args, **kwargs)))
        return lambda *args, **kwargs: self._loop.run(self._call(name, *args, **kwargs))

    def __dir__(self) -> list[str]:
        from piano_jupyter.piano import Piano  # noqa: PLC0415

        return [name for name in dir(Piano) if not name.startswith("_") and name not in {"open", "close", "close_now"}]

    def __repr__(self) -> str:
        return "<the kernel's Piano: await piano.ask(...), piano.send(...), piano.sql(...), ...>"

    async def events(self, thread: "Thread | None" = None) -> AsyncIterator["Event"]:
        """Yield what happens from now on."""
        stream = await asyncio.wrap_future(self._loop.submit(self._call("events", thread)))
        try:
            while True:
                try:
                    yield await asyncio.wrap_future(self._loop.submit(stream.__anext__()))
                except StopAsyncIteration:
                    return
        finally:
            self._loop.submit(stream.aclose())

    async def _call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        result = getattr(await self._opened(), name)(*args, **kwargs)
        return await result if inspect.isawaitable(result) else result

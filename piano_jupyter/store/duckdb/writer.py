"""A thread that owns a connection and runs functions on it, in transactions, for any event loop.

Everything that is queued goes into one transaction (group commit): a commit costs one flush to the disk, whatever its
size. The thread knows no SQL; a connection is anything that begins, commits, rolls back and closes.
"""

import asyncio
import contextlib
import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from piano_jupyter.errors import StoreError


class Transactional(Protocol):
    """What the thread works on."""

    def begin(self) -> None: ...
    def commit(self) -> None: ...
    def rollback(self) -> bool:
        """Undo what was done since `begin`; return whether what failed can succeed now. Never raises."""

    def idle(self) -> None:
        """Called every `IDLE_CHECK_S` while there is nothing to do. Never raises."""

    def close(self) -> None: ...


IDLE_CHECK_S = 2.0

Owned = TypeVar("Owned", bound=Transactional)
Result = TypeVar("Result")


class WriterThread(Generic[Owned]):
    """Connects at `open`, closes at `close`, and runs functions of the connection in between.

    The thread is a daemon, so that the exit of the process can go on to `close_now`. Only the thread's own
    frame holds the connection, so a forked child never closes it.
    """

    def __init__(self, connect: Callable[[], Owned], name: str) -> None:
        self._connect = connect
        self._name = name
        self._queue: queue.SimpleQueue[_WriterTask | _StopRequest] = queue.SimpleQueue()
        self._guard = threading.Lock()
        self._closing = False
        self._ended = False
        self._pid = os.getpid()
        self._thread: threading.Thread | None = None

    async def open(self) -> None:
        """Connect, on the thread. Raises what connecting raises, or StoreError if it was closed meanwhile."""
        opened = _answer()
        with self._guard:
            if self._closing:
                raise self._closed()
            self._thread = threading.Thread(target=self._run_thread, args=(opened,), name="piano-store", daemon=True)
            self._thread.start()
        await asyncio.wrap_future(opened)

    async def run(self, function: Callable[[Owned], Result], *, alone: bool = False) -> Result:
        """Return what `function` returns, once its transaction is committed.

        It runs even if the caller is cancelled, and twice (with a rollback in between) if another function of its group
        fails. `alone`: outside a transaction; the function starts its own if it needs one.
        """
        if self.forked:
            raise StoreError(f"this process was forked from the one that has database {self._name} open; open it there")
        answer: Future[Result] = _answer()
        with self._guard:
            if self._closing:
                raise self._closed()
            self._queue.put(_WriterTask(function, answer, alone))
        return await asyncio.wrap_future(answer)

    @property
    def forked(self) -> bool:
        """Whether this process is a child of the one that has the thread."""
        return os.getpid() != self._pid

    @property
    def closed(self) -> bool:
        """Whether it takes no more work."""
        return self._closing

    async def close(self) -> None:
        """Finish what is queued, close the connection, end the thread."""
        closed = _answer()
        if thread := self._stop(closed):
            await asyncio.wrap_future(closed)
            thread.join()  # it is at its last line

    def close_now(self, timeout: float) -> None:
        """Do the same from any thread; wait no longer than `timeout` seconds."""
        if thread := self._stop(None):
            thread.join(timeout)

    def _stop(self, answer: "Future[None] | None") -> threading.Thread | None:
        """Return the thread that is going to end, if there is one."""
        if self.forked:  # before the guard: another thread may have held it at the fork
            return None
        with self._guard:
            if self._ended:
                return None
            self._closing = True
            self._queue.put(_StopRequest(answer))
            if self._thread is not None:
                return self._thread
        self._end(None)
        return None

    def _run_thread(self, opened: "Future[None]") -> None:
        error = self._serve(opened)  # the connection goes with its frame, before anyone learns that it is closed
        self._end(error)
        if not opened.done():
            opened.set_exception(error)

    def _serve(self, opened: "Future[None]") -> Exception | None:
        try:
            connection = self._connect()
            opened.set_result(None)
            while self._serve_waiting(connection):
                pass
            connection.close()
        except Exception as error:  # noqa: BLE001  The caller of open or close gets it.
            return error
        return None

    def _serve_waiting(self, connection: Owned) -> bool:
        """Run everything that is queued, at least one; return whether there may be more."""
        group: list[_WriterTask] = []
        for item in self._waiting(connection):
            if isinstance(item, _StopRequest):
                self._queue.put(item)  # `_end` answers it
                self._run(connection, group)
                return False
            if item.alone:
                self._run(connection, group)
                group = []
                self._run_alone(connection, item)
            else:
                group.append(item)
        self._run(connection, group)
        return True

    def _waiting(self, connection: Owned) -> "Iterator[_WriterTask | _StopRequest]":
        yield self._first(connection)
        with contextlib.suppress(queue.Empty):
            while True:
                yield self._queue.get_nowait()

    def _first(self, connection: Owned) -> "_WriterTask | _StopRequest":
        while True:
            try:
                return self._queue.get(timeout=IDLE_CHECK_S)
            except queue.Empty:
                connection.idle()

    def _run(self, connection: Owned, group: "Sequence[_WriterTask]") -> None:
        if not group:
            return
        try:
            connection.begin()
            results = [task.function(connection) for task in group]
            connection.commit()
        except Exception as error:  # noqa: BLE001  The caller gets it.
            can_succeed = connection.rollback()
            if len(group) == 1 and not can_succeed:
                group[0].answer.set_exception(error)
            else:
                for task in group:
                    self._run(connection, [task])
            return
        for task, result in zip(group, results, strict=True):
            task.answer.set_result(result)

    def _run_alone(self, connection: Owned, task: "_WriterTask") -> None:
        try:
            task.answer.set_result(task.function(connection))
        except Exception as error:  # noqa: BLE001  The caller gets it.
            task.answer.set_exception(error)

    def _closed(self) -> StoreError:
        return StoreError(f"database {self._name} is closed")

    def _end(self, error: Exception | None) -> None:
        with self._guard:
            self._closing = self._ended = True
        with contextlib.suppress(queue.Empty):
            while True:
                item = self._queue.get_nowait()
                if isinstance(item, _WriterTask):
                    item.answer.set_exception(self._closed())
                elif item.answer is not None:
                    item.answer.set_exception(error)  # None on success


def _answer() -> "Future[Any]":
    """Return a future that the thread completes, whether or not anyone still waits for it."""
    answer = Future[Any]()
    answer.set_running_or_notify_cancel()  # now it cannot be cancelled
    return answer


@dataclass(eq=False, slots=True)
class _WriterTask:
    function: Callable[[Any], Any]
    answer: "Future[Any]"
    alone: bool


@dataclass(eq=False, slots=True)
class _StopRequest:
    answer: "Future[None] | None"

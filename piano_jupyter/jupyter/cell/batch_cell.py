"""A cell that asks about a table: a bar with the rows, the speed and the time left while it runs, then one line.

Only that line, which has no times in it, stays in a notebook. An interrupt keeps what was answered.
"""

import asyncio
import concurrent.futures
import contextlib
import queue
import shutil
import sys
from collections.abc import Coroutine, Mapping
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from IPython.display import display

from piano_jupyter.errors import PianoError
from piano_jupyter.events import BatchProgress, Event, ModelLoading
from piano_jupyter.jupyter.cell.waiting import AnswerFailedError
from piano_jupyter.jupyter.kernel_thread import MainThreadTask
from piano_jupyter.jupyter.notebook_identity import notebook_of
from piano_jupyter.jupyter.render.batch_text import bar_html, interrupted_line, plan_line, progress_line, summary_line
from piano_jupyter.jupyter.render.tables import Note
from piano_jupyter.text.invisible import terminal_text
from piano_jupyter.text.truncation import truncated

if TYPE_CHECKING:
    from piano_jupyter.jupyter.session import Session
    from piano_jupyter.piano import Piano

KINDS = (BatchProgress, ModelLoading)
STOP_TIMEOUT_S = 10.0  # to store what was answered


def map_in_cell(session: "Session", rows: Any, template: str, options: Mapping[str, Any]) -> Any:
    """Ask about each row of a table, show how far that is, and return the table with the answers.

    `options` are those of `Piano.map`. Raises PianoError; after an interrupt, at any moment, with how to go on.
    """
    session.kernel.check()
    received: queue.SimpleQueue[Event | MainThreadTask[Any] | None] = queue.SimpleQueue()
    cleanup = contextlib.ExitStack()

    async def start(piano: "Piano") -> Any:
        cleanup.callback(session.loop.loop.call_soon_threadsafe, piano.bus.subscribe(received.put, *KINDS))
        return await piano.map(rows, template, **options)

    running = session.work(start)
    running.add_done_callback(lambda _: received.put(None))
    with cleanup:
        view = BatchView(session, has_limit=options.get("limit") is not None)
        cleanup.callback(view.end)
        try:
            running.begin()
            with session.kernel.lend(received):
                for news in iter(received.get, None):
                    if isinstance(news, MainThreadTask):
                        session.kernel.do(news)
                    else:
                        view.take(news)
            result = running.result()
        except KeyboardInterrupt:
            running.stop()
            # a second interrupt only ends the wait
            with contextlib.suppress(KeyboardInterrupt, concurrent.futures.CancelledError, TimeoutError, PianoError):
                running.result(STOP_TIMEOUT_S)
            while not received.empty():
                if isinstance(news := received.get(), Event):
                    view.take(news)
            raise AnswerFailedError(interrupted_line(view.progress)) from None
        view.summarize(session.call(partial(_failed, view.progress)))
    return result


async def map_while_awaited(session: "Session", mapping: Coroutine[Any, Any, Any]) -> Any:
    """Return the table of an awaited `piano.map`, and show in the cell how far that is."""
    here, context = asyncio.get_running_loop(), copy_context()
    view = BatchView(session)

    def pass_on(event: Event) -> None:
        here.call_soon_threadsafe(view.take, event, context=context)

    async def subscribe(piano: "Piano") -> Any:
        return piano.bus.subscribe(pass_on, *KINDS)

    unsubscribe = await asyncio.wrap_future(session.start(subscribe))
    try:
        result = await mapping
    except asyncio.CancelledError:
        view.say(interrupted_line(view.progress))
        raise
    finally:
        session.loop.loop.call_soon_threadsafe(unsubscribe)
        view.end()
    view.summarize(await asyncio.wrap_future(session.start(partial(_failed, view.progress))))
    return result


async def _failed(progress: BatchProgress | None, piano: "Piano") -> int:
    """Return how many rows of a batch have an error, also from before."""
    return (await piano.batch(progress.name)).failed if progress is not None else 0


class BatchView:
    """Shows how far one batch of this notebook is, in the cell or on a terminal. The live output ends empty."""

    def __init__(self, session: "Session", *, has_limit: bool = True) -> None:
        self._session, self._has_limit = session, has_limit
        self._handle = display({}, raw=True, display_id=True) if session.in_notebook else None
        self._is_terminal = not session.in_notebook and sys.stdout.isatty()
        self._loading = ""
        self._printed = False  #: whether the first line is on the terminal
        self._has_line = False  #: whether a line is there that changes
        self.progress: BatchProgress | None = None  #: the last that is known of it

    def take(self, event: Event) -> None:
        """Show an event, if it is about this batch."""
        if isinstance(event, BatchProgress) and self._is_this(event):
            self.progress, self._loading = event, ""
        elif isinstance(event, ModelLoading) and self.progress is not None and not self.progress.done:
            self._loading = event.note
        else:
            return
        self._draw(self.progress)

    def _is_this(self, event: BatchProgress) -> bool:
        """Return whether an event is about the batch that this shows: the next one that begins in this notebook."""
        if self.progress is not None:
            return event.batch_id == self.progress.batch_id
        has_begun = event.done + event.failed > 0 or event.batch_id in self._session.shown_batches
        if has_begun or event.notebook != notebook_of(self._session.shell).name:
            return False
        self._session.shown_batches.add(event.batch_id)
        return True

    def _draw(self, progress: BatchProgress) -> None:
        plan, now = plan_line(progress, has_limit=self._has_limit), self._loading or progress_line(progress)
        if self._handle is not None:
            self._handle.update({"text/html": bar_html(progress, plan, now), "text/plain": f"{plan}\n{now}"}, raw=True)
            return
        if not self._printed and progress.read is None:
            self._clear()
            print(terminal_text(plan))  # noqa: T201  On a terminal.
            self._printed = True
        if self._is_terminal:
            width = shutil.get_terminal_size().columns - 1
            sys.stdout.write(f"\r{truncated(terminal_text(now), width):{width}}\r")
            sys.stdout.flush()
            self._has_line = True

    def say(self, line: str) -> None:
        """Show a line that stays."""
        if self._handle is not None:
            display(Note(line))
        else:
            self._clear()
            print(terminal_text(line))  # noqa: T201  On a terminal.

    def summarize(self, failed: int) -> None:
        """Show what the batch has come to; `failed` is how many of its rows have an error."""
        if self.progress is not None:
            self.say(summary_line(self.progress, failed))

    def end(self) -> None:
        """Empty the live output."""
        if self._handle is not None:
            self._handle.update({}, raw=True)
        self._clear()
        if self.progress is not None:
            self._session.shown_batches.discard(self.progress.batch_id)

    def _clear(self) -> None:
        if self._has_line:
            sys.stdout.write(f"\r{' ' * (shutil.get_terminal_size().columns - 1)}\r")
            sys.stdout.flush()
            self._has_line = False

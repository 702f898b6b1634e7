"""Captures what the programs that an agent's code starts write: they inherit descriptors 1 and 2, not `sys.stdout`.

While the code runs, these descriptors lead into a pipe, which a thread empties, so that a program never waits. In a
kernel, `print` of any thread goes another way; in a terminal it does not, and so nothing is captured there.
"""

import codecs
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from piano_jupyter.agent_code import TextWriter

STANDARD = (1, 2)  #: the descriptors of the standard streams
CHUNK_BYTES = 1 << 16
MAX_DRAINED_CHUNKS = 64  #: that are read at once: a program may write faster than it is read


@contextmanager
def captured_programs(output: TextWriter) -> Iterator[TextWriter]:
    """Write what programs print to `output`, and yield a writer for what the code itself prints, to keep the order.

    What a program prints that runs on afterwards goes where it would have gone before.
    """
    if not _prints_elsewhere():
        yield output
        return
    with _uninterrupted():
        programs = _ProgramOutput(output)
    try:
        yield programs
    finally:
        with _uninterrupted():
            programs.end()


class _ProgramOutput:
    """The pipe behind the standard descriptors, from now on until `end`."""

    def __init__(self, output: TextWriter) -> None:
        self._output, self._has_ended, self._process = output, False, os.getpid()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._lock = threading.Lock()
        self._before = [os.dup(each) for each in STANDARD]
        self._pipe, self._into = os.pipe()
        os.set_blocking(self._pipe, False)
        threading.Thread(target=self._read_all, daemon=True, name="piano-programs").start()
        for each in STANDARD:
            os.dup2(self._into, each)

    def write(self, text: str) -> int:
        """Write what the code prints, after what programs have printed so far."""
        if os.getpid() != self._process:  # a fork has neither the thread nor the text, but the pipe
            os.write(STANDARD[0], text.encode("utf-8", "replace"))
            return len(text)
        with self._lock:
            self._drain()
            return self._output.write(text)

    def end(self) -> None:
        """Restore the descriptors, after which the thread passes on what still comes."""
        if os.getpid() != self._process:
            return
        for each, before in zip(STANDARD, self._before, strict=True):
            os.dup2(before, each)
        os.close(self._into)
        with self._lock:
            self._drain()
            self._output.write(self._decoder.decode(b"", final=True))
            self._has_ended = True

    def _drain(self) -> None:
        """Write what is in the pipe to the output; call it with the lock held."""
        with suppress(BlockingIOError):  # It is empty.
            for _ in range(MAX_DRAINED_CHUNKS):
                if self._has_ended or not (data := os.read(self._pipe, CHUNK_BYTES)):
                    break
                self._output.write(self._decoder.decode(data))

    def _read_all(self) -> None:
        """Read the pipe until nobody can write to it any more."""
        poll = select.poll()
        poll.register(self._pipe, select.POLLIN)
        try:
            while poll.poll():
                with self._lock:
                    self._drain()
                    has_ended = self._has_ended
                if has_ended and not self._pass_on():
                    return
        finally:
            for each in (self._pipe, *self._before):
                os.close(each)

    def _pass_on(self) -> bool:
        """Pass on what a program prints after the end; return whether there may be more."""
        with suppress(BlockingIOError):
            data = os.read(self._pipe, CHUNK_BYTES)
            with suppress(OSError):  # Nobody reads it any more; the program must not wait for that.
                os.write(self._before[0], data)
            return bool(data)
        return True


def _prints_elsewhere() -> bool:
    """Return whether `print` uses no standard descriptor, and these are open: so it is in a kernel, not on Windows."""
    if os.name != "posix":
        return False
    try:
        for each in STANDARD:
            os.fstat(each)
    except OSError:
        return False
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # It has no descriptor.
            if stream.fileno() in STANDARD:
                return False
    return True


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Keep an interrupt waiting, which would leave the descriptors as they are."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

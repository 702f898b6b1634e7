"""Code that an agent runs: what it prints belongs to its tool call, whatever else prints in this process meanwhile.

A proxy takes its place in `sys.stdout` and `sys.stderr` once and stays: the context of whoever prints says where a
text goes. Nothing is put there for a moment, and no proxy is ever freed, because CPython 3.11 and 3.12 crash when the
stream is freed while another thread is inside `print` (https://github.com/python/cpython/issues/130163).
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol


class TextWriter(Protocol):
    """Something that text is written to."""

    def write(self, text: str, /) -> int:
        """Take a text; return how many characters were taken."""


@dataclass(slots=True)
class _CallStreams:
    """Where the standard streams of one call lead: stream name -> writer. Over when the call has ended."""

    writers: dict[str, TextWriter]
    over: bool = False


_capture: ContextVar[_CallStreams | None] = ContextVar("capture", default=None)
#: Each stream's proxy, by its name and `id`: never freed, as neither is the stream.
_proxies: "dict[tuple[str, int], StandardStream]" = {}


def runs_here() -> bool:
    """Return whether this is code that an agent runs, or a task that such code has started."""
    return _capture.get() is not None


def left_behind() -> bool:
    """Return whether this is such a task, and the call that it was started in has ended."""
    capture = _capture.get()
    return capture is not None and capture.over


@contextmanager
def printed_to(stdout: TextWriter, stderr: TextWriter | None = None) -> Iterator[None]:
    """Run code of an agent: what this context prints goes to `stdout`, and where `stderr` is given, errors to that.

    What the code leaves running, such as a task on the event loop, prints to where all others print afterwards.
    """
    install()
    capture = _CallStreams({"stdout": stdout} if stderr is None else {"stdout": stdout, "stderr": stderr})
    token = _capture.set(capture)
    try:
        yield
    finally:
        capture.over = True
        _capture.reset(token)


def install() -> None:
    """Put the proxies in front of the standard streams of this moment, for good. Again, it changes nothing.

    A stream that somebody has put there since, as `redirect_stdout` and `%%capture` do, gets a proxy too; whoever put
    it there puts back what was there before, which is the first proxy.
    """
    streams = vars(sys)
    for name in ("stdout", "stderr"):
        while (stream := streams[name]) is not None and type(stream) is not StandardStream:
            proxy = _proxies.setdefault((name, id(stream)), StandardStream(name, stream))  # one for all threads
            if streams[name] is stream:  # without a call before the next line no other thread comes in between
                streams[name] = proxy


class StandardStream:
    """A standard stream as it was, but for what code of an agent writes."""

    __slots__ = ("__weakref__", "_name", "_stream", "write")

    _name: str
    _stream: Any
    write: Callable[[str], int]

    def __init__(self, name: str, stream: Any) -> None:
        object.__setattr__(self, "_name", name)
        object.__setattr__(self, "_stream", stream)
        self.write = self._pass_on

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each of them."""
        for line in lines:
            self.write(line)

    def _pass_on(self, text: str) -> int:
        written: int = self._stream.write(text)
        return written

    @property  # type: ignore[misc]  # `isinstance` asks for it: some look whether a stream is one of their own
    def __class__(self) -> Any:
        return type(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set it on the stream; a `write` that somebody sets, as IPython does in each cell, goes on top of our own."""
        if name == "write":
            object.__setattr__(self, name, value if isinstance(value, _ProxyWrite) else _ProxyWrite(self._name, value))
        else:
            setattr(self._stream, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._stream, name)

    def __dir__(self) -> list[str]:
        return dir(self._stream)

    def __repr__(self) -> str:
        return repr(self._stream)

    def __iter__(self) -> Any:
        return iter(self._stream)

    def __enter__(self) -> Any:
        self._stream.__enter__()
        return self

    def __exit__(self, *error: object) -> Any:
        return self._stream.__exit__(*error)


@dataclass(frozen=True, slots=True)
class _ProxyWrite:
    """How one writes to a proxy: to where the context says, by default as those do who are no agent's code."""

    name: str
    default: Callable[[str], int]

    def __call__(self, text: str) -> int:
        capture = _capture.get()
        writer = None if capture is None or capture.over else capture.writers.get(self.name)
        if writer is None:
            return self.default(text)
        if not isinstance(text, str):  # some find out in this way whether a stream takes bytes
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        return writer.write(text)

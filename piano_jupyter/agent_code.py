"""Code that an agent runs: what it prints belongs to its tool call, whatever else in this process prints meanwhile.

Proxies replace `sys.stdout` and `sys.stderr` once and stay there: the context of the code that prints decides where
its text goes. Streams are not replaced temporarily, and no proxy is ever freed, because CPython 3.11 and 3.12 crash if
a stream is freed while another thread is inside `print` (https://github.com/python/cpython/issues/130163).
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol


class TextWriter(Protocol):
    """Something that text can be written to."""

    def write(self, text: str, /) -> int:
        """Write a text; return how many characters were written."""


@dataclass(slots=True)
class _CallStreams:
    """Where the standard streams of one call lead, stream name -> writer, and whether the call has ended."""

    writers: dict[str, TextWriter]
    has_ended: bool = False


_capture: ContextVar[_CallStreams | None] = ContextVar("capture", default=None)
#: The proxy of each stream, by name and `id`; it is never freed, and neither is its stream.
_proxies: "dict[tuple[str, int], StandardStream]" = {}


def in_agent_code() -> bool:
    """Return whether the current code is run by an agent, or is a task that such code has started."""
    return _capture.get() is not None


def call_has_ended() -> bool:
    """Return whether the current code is such a task, and the call that started it has ended."""
    capture = _capture.get()
    return capture is not None and capture.has_ended


@contextmanager
def redirect_output(stdout: TextWriter, stderr: TextWriter | None = None) -> Iterator[None]:
    """Send what an agent's code prints in this context to `stdout`, and its errors to `stderr` if that is given.

    A task that the code leaves running prints to the ordinary streams afterwards.
    """
    install_proxies()
    capture = _CallStreams({"stdout": stdout} if stderr is None else {"stdout": stdout, "stderr": stderr})
    token = _capture.set(capture)
    try:
        yield
    finally:
        capture.has_ended = True
        _capture.reset(token)


def install_proxies() -> None:
    """Permanently put proxies in front of the current standard streams; calling it again changes nothing.

    A stream that somebody has set since then, like `redirect_stdout` and `%%capture`, gets a proxy, too; whoever set it
    later restores what was there before, which is the first proxy.
    """
    streams = vars(sys)
    for name in ("stdout", "stderr"):
        while (stream := streams[name]) is not None and type(stream) is not StandardStream:
            proxy = _proxies.setdefault((name, id(stream)), StandardStream(name, stream))  # the same for all threads
            if streams[name] is stream:  # no call before the next line, so no other thread can interfere
                streams[name] = proxy


class StandardStream:
    """A proxy that behaves like the standard stream, except for what an agent's code writes."""

    __slots__ = ("__weakref__", "_name", "_stream", "write")

    _name: str
    _stream: Any
    write: Callable[[str], int]

    def __init__(self, name: str, stream: Any) -> None:
        object.__setattr__(self, "_name", name)
        object.__setattr__(self, "_stream", stream)
        self.write = self._write_to_stream

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each line."""
        for line in lines:
            self.write(line)

    def _write_to_stream(self, text: str) -> int:
        written: int = self._stream.write(text)
        return written

    @property  # type: ignore[misc]  # for `isinstance`: some libraries check whether a stream is their own
    def __class__(self) -> Any:
        return type(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set it on the stream; a new `write`, as IPython sets in each cell, is wrapped in our own."""
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
    """The `write` of a proxy: to the writer of the current context, by default to the stream itself."""

    name: str
    default: Callable[[str], int]

    def __call__(self, text: str) -> int:
        capture = _capture.get()
        writer = None if capture is None or capture.has_ended else capture.writers.get(self.name)
        if writer is None:
            return self.default(text)
        if not isinstance(text, str):  # some libraries test this way whether a stream takes bytes
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        return writer.write(text)

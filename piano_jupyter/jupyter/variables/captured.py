"""What code on the main thread prints and displays, kept as text; what other threads print goes where it went."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Captured:
    """A text that grows: of one that is too long, its head and its tail."""

    def __init__(self, limit: int) -> None:
        self._half = max(limit // 2, 1)
        self._head: list[str] = []
        self._room = self._half  # characters that the head still takes
        self._tail = ""
        self._lost = 0

    def write(self, text: str) -> int:
        """Add to it."""
        kept = text[: self._room]
        self._head.append(kept)
        self._room -= len(kept)
        tail = self._tail + text[len(kept) :]
        self._lost += max(len(tail) - self._half, 0)
        self._tail = tail[-self._half :]
        return len(text)

    def text(self) -> str:
        """Return it."""
        gap = f"\n[... {self._lost:,} characters left out ...]\n" if self._lost else ""
        return "".join(self._head) + gap + self._tail


@contextmanager
def captured(shell: Any, kept: Captured) -> Iterator[None]:
    """Keep what this thread prints and displays."""
    before = sys.stdout, sys.stderr, shell.display_pub
    ours = _Stream(sys.stdout, kept), _Stream(sys.stderr, kept), _Publisher(shell.display_pub, kept)
    sys.stdout, sys.stderr, shell.display_pub = ours
    try:
        yield
    finally:
        if sys.stdout is ours[0]:  # else the code has set another, for good
            sys.stdout = before[0]
        if sys.stderr is ours[1]:
            sys.stderr = before[1]
        shell.display_pub = before[2]


class _Stream:
    """Standard output or error, as this thread and the others see it."""

    def __init__(self, stream: Any, kept: Captured) -> None:
        self._stream, self._kept, self._thread = stream, kept, threading.get_ident()

    def write(self, text: str) -> int:
        written: int = (self._kept if threading.get_ident() == self._thread else self._stream).write(text)
        return written

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Publisher:
    """What `display` gives its data to, as this thread and the others see it."""

    def __init__(self, real: Any, kept: Captured) -> None:
        self._real, self._kept, self._thread = real, kept, threading.get_ident()

    def publish(self, data: Any, *args: Any, **kwargs: Any) -> None:
        if threading.get_ident() != self._thread:
            self._real.publish(data, *args, **kwargs)
            return
        text = data.get("text/plain") or (f"[{', '.join(data)}, which has no text]" if data else "")
        self._kept.write(f"{text}\n" if text else "")

    def clear_output(self, *args: Any, **kwargs: Any) -> None:
        if threading.get_ident() != self._thread:
            self._real.clear_output(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

"""Captures what code on the main thread prints and displays, as text; the output of other threads is left alone."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from piano_jupyter.agent_code import TextWriter, redirect_output


class CapturedText:
    """A growing text of limited length: of a long one, the start and the end are kept."""

    def __init__(self, limit: int) -> None:
        self._half = max(limit // 2, 1)
        self._head = self._tail = ""
        self._left_out = 0

    def write(self, text: str) -> int:
        """Append text."""
        remaining = self._half - len(self._head)
        self._head += text[:remaining]
        tail = self._tail + text[remaining:]
        self._left_out += max(len(tail) - self._half, 0)
        self._tail = tail[-self._half :]
        return len(text)

    def text(self) -> str:
        """Return the text, with the number of characters left out."""
        gap = f"\n[... {self._left_out:,} characters left out ...]\n" if self._left_out else ""
        return self._head + gap + self._tail


@contextmanager
def captured(shell: Any, output: TextWriter) -> Iterator[None]:
    """Capture what an agent's code prints and displays on this thread."""
    before = shell.display_pub
    shell.display_pub = _CapturingPublisher(before, output)
    try:
        with redirect_output(output, output):
            yield
    finally:
        shell.display_pub = before


class _CapturingPublisher:
    """Replaces the publisher of `display`: captures on this thread, passes on from others."""

    def __init__(self, real: Any, output: TextWriter) -> None:
        self._real, self._output, self._thread = real, output, threading.get_ident()

    def publish(self, data: Any, *args: Any, **kwargs: Any) -> None:
        if threading.get_ident() != self._thread:
            self._real.publish(data, *args, **kwargs)
            return
        text = data.get("text/plain") or (f"[{', '.join(data)}, which has no text]" if data else "")
        self._output.write(f"{text}\n" if text else "")

    def clear_output(self, *args: Any, **kwargs: Any) -> None:
        if threading.get_ident() != self._thread:
            self._real.clear_output(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

"""What code on the main thread prints and displays, kept as text; what other threads print goes where it went."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from piano_jupyter.agent_code import redirect_output


class CapturedText:
    """A text that grows: of one that is too long, its head and its tail."""

    def __init__(self, limit: int) -> None:
        self._half = max(limit // 2, 1)
        self._head = self._tail = ""
        self._lost = 0

    def write(self, text: str) -> int:
        """Add to it."""
        room = self._half - len(self._head)
        self._head += text[:room]
        tail = self._tail + text[room:]
        self._lost += max(len(tail) - self._half, 0)
        self._tail = tail[-self._half :]
        return len(text)

    def text(self) -> str:
        """Return it."""
        gap = f"\n[... {self._lost:,} characters left out ...]\n" if self._lost else ""
        return self._head + gap + self._tail


@contextmanager
def captured(shell: Any, kept: CapturedText) -> Iterator[None]:
    """Keep what code of an agent prints and displays on this thread."""
    before = shell.display_pub
    shell.display_pub = _CapturingPublisher(before, kept)
    try:
        with redirect_output(kept, kept):
            yield
    finally:
        shell.display_pub = before


class _CapturingPublisher:
    """What `display` gives its data to, as this thread and the others see it."""

    def __init__(self, real: Any, kept: CapturedText) -> None:
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

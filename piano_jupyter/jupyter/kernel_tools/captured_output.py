"""Captures what code on the main thread prints and displays; the output of other threads is left alone.

What is displayed becomes text for the model; its figures and tables are kept for people.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from piano_jupyter.agent_code import TextWriter, redirect_output
from piano_jupyter.jupyter.kernel_tools.figures import ShownFigures
from piano_jupyter.text.carriage_returns import as_on_terminal


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
        """Return the text as a terminal shows it, with the number of characters left out."""
        gap = f"\n[... {self._left_out:,} characters left out ...]\n" if self._left_out else ""
        return as_on_terminal(self._head + gap + self._tail)


@contextmanager
def captured(shell: Any, output: TextWriter, figures: ShownFigures | None = None) -> Iterator[None]:
    """Capture what an agent's code prints and displays on this thread; `figures` keeps what it shows."""
    before = shell.display_pub
    shell.display_pub = _CapturingPublisher(before, output, figures or ShownFigures())
    try:
        with redirect_output(output, output):
            yield
    finally:
        shell.display_pub = before


class _CapturingPublisher:
    """Replaces the publisher of `display`: captures on this thread, passes on from others."""

    def __init__(self, real: Any, output: TextWriter, figures: ShownFigures) -> None:
        self._real, self._output, self._figures = real, output, figures
        self._thread = threading.get_ident()

    def publish(self, data: Any, *args: Any, **kwargs: Any) -> None:
        if threading.get_ident() != self._thread:
            self._real.publish(data, *args, **kwargs)
            return
        kept = self._figures.add(data, str((kwargs.get("transient") or {}).get("display_id") or ""))
        text = data.get("text/plain") or (f"[{', '.join(data)}, which has no text]" if data and not kept else "")
        self._output.write((f"{text}\n" if text else "") + kept)

    def clear_output(self, wait: bool = False, *args: Any, **kwargs: Any) -> None:  # noqa: FBT001, FBT002  IPython's.
        if threading.get_ident() != self._thread:
            self._real.clear_output(wait, *args, **kwargs)
        else:
            self._figures.clear(wait=wait)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

"""The figures and tables that an agent's code shows: kept for people, safe to show, up to a limit."""

import sys
from collections.abc import Mapping
from itertools import count
from typing import Any

from IPython.display import display

from piano_jupyter.attachments.attachment import TABLE, Attachment
from piano_jupyter.attachments.displayed import SHOWN_MIMES, displayed_attachment
from piano_jupyter.errors import PianoError

MAX_FIGURES = 20  # of one call
INLINE = "matplotlib_inline.backend_inline"  # the backend of notebooks


class ShownFigures:
    """What the code of one call has shown so far."""

    def __init__(self) -> None:
        self._kept: dict[str, Attachment] = {}  # by the id of its output
        self._numbers = count()
        self._clears_next = False

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        """The figures and tables, in order, each once."""
        return tuple({each.sha256: each for each in self._kept.values()}.values())

    def add(self, data: Mapping[str, Any], output_id: str = "") -> str:
        """Keep the figure or table in what was displayed; return what the model reads of it, a line or nothing."""
        try:
            found = displayed_attachment(data)
        except PianoError as error:
            return f"[a figure was not kept: {error}]\n"
        if found is None:
            return ""
        if self._clears_next:
            self._kept.clear()
            self._clears_next = False
        key = output_id or f"output {next(self._numbers)}"
        if key not in self._kept and len(self._kept) == MAX_FIGURES:
            return f"[a figure was not kept: a call shows at most {MAX_FIGURES}]\n"
        self._kept[key] = found
        return "" if found.mime == TABLE else f"[shown to the user: {found.label}]\n"

    def clear(self, *, wait: bool) -> None:
        """Forget what was shown, with `wait` only once something else is shown."""
        self._clears_next = wait
        if not wait:
            self._kept.clear()


def rich_output(shell: Any, value: Any) -> Mapping[str, Any]:
    """Return a value as the figure or table that a cell would show it as; empty if it has neither."""
    data, _ = shell.display_formatter.format(value, include=SHOWN_MIMES)
    return dict(data)


def open_figures() -> frozenset[int]:
    """Return the numbers of the figures that pyplot has open, where a cell would show them when it ends."""
    return frozenset(_pyplot().get_fignums()) if _pyplot() is not None else frozenset()


def show_new_figures(before: frozenset[int]) -> None:
    """Show the figures that code has opened and not shown, as a cell does when it ends, and close them."""
    for number in sorted(open_figures() - before):
        figure = _pyplot().figure(number)
        display(figure)
        _pyplot().close(figure)


def _pyplot() -> Any:
    """Return pyplot, if code has imported it and it draws into the notebook."""
    pyplot, inline = sys.modules.get("matplotlib.pyplot"), sys.modules.get(INLINE)
    return pyplot if pyplot is not None and inline is not None and "inline" in pyplot.get_backend() else None

"""The local variables of the function, or the frame of a debugger, that runs a magic."""

import sys
from collections.abc import Mapping
from types import FrameType
from typing import Any

#: Libraries whose functions stand between the caller and the magic.
BETWEEN = frozenset({"IPython", "piano_jupyter"})


def caller_variables(shell: Any) -> Mapping[str, Any]:
    """Return the local variables of the function that runs the magic; none if that is a cell itself."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  As IPython finds the variables of a caller.
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in BETWEEN:
        frame = frame.f_back
    if frame is None or frame.f_locals is frame.f_globals or frame.f_locals is shell.user_ns:
        return {}
    return dict(frame.f_locals)

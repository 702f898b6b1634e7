"""The variables of the function, or the frame of a debugger, that runs a magic."""

import sys
from collections.abc import Mapping
from types import FrameType
from typing import Any

#: Libraries whose functions stand between the caller and the magic.
BETWEEN = frozenset({"IPython", "piano_jupyter"})


def caller_variables(shell: Any) -> Mapping[str, Any]:
    """Return the variables of the code that runs the magic as it sees them; none if that is a cell itself.

    Of a function they are its own, those of the functions around it while these run, and the globals of its module.
    """
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  As IPython finds the variables of a caller.
    while frame is not None and str(frame.f_globals.get("__name__", "")).partition(".")[0] in BETWEEN:
        frame = frame.f_back
    if frame is None or frame.f_locals is shell.user_ns:
        return {}
    own: dict[str, Any] = {} if frame.f_globals is shell.user_ns else _without_internals(frame.f_globals)
    for each in reversed(_with_enclosing(frame)):
        own |= _without_internals(each.f_locals)
    return own


def _with_enclosing(frame: FrameType) -> list[FrameType]:
    """Return a frame and those of the functions that its code is written in, as far as they run."""
    found, outer = [frame], frame.f_back
    while outer is not None:
        is_around = any(each is found[-1].f_code for each in outer.f_code.co_consts)
        if is_around and outer.f_locals is not outer.f_globals:
            found.append(outer)
        outer = outer.f_back
    return found


def _without_internals(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return variables without what Python itself has put there, such as the iterator of a comprehension."""
    return {name: each for name, each in variables.items() if str(name).isidentifier() and not name.startswith("__")}

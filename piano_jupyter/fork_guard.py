"""ForkGuard: what is open in one process does not work in a fork of it, where none of its threads is.

A child that waits for them would wait for ever, so it is refused at once. What it has inherited is its parent's: it
closes and ends nothing.
"""

import inspect
import os
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from piano_jupyter.errors import PianoError

Guarded = TypeVar("Guarded")


class ForkGuard:
    """Knows the process in which it was made."""

    def __init__(self) -> None:
        self._pid = os.getpid()

    @property
    def forked(self) -> bool:
        """Whether this process is a fork of that one."""
        return os.getpid() != self._pid

    def check(self) -> None:
        """Raise PianoError in a fork."""
        if self.forked:
            raise PianoError(
                "this process was forked from the one where Piano is open, and Piano works only there: ask it there, "
                "or open another one in a new process (multiprocessing.get_context('spawn'))"
            )


def checks_for_forks(*left_out: str) -> Callable[[type[Guarded]], type[Guarded]]:
    """Have each public method of a class check its `fork_guard` first, but for those that are left out."""

    def decorate(cls: type[Guarded]) -> type[Guarded]:
        for name, method in list(vars(cls).items()):
            if inspect.isfunction(method) and not name.startswith("_") and name not in left_out:
                setattr(cls, name, _checked(method))
        return cls

    return decorate


def _checked(method: Callable[..., Any]) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(method):

        @wraps(method)
        async def checked(self: Any, *arguments: Any, **options: Any) -> Any:
            self.fork_guard.check()
            return await method(self, *arguments, **options)

        return checked

    @wraps(method)
    def checked_now(self: Any, *arguments: Any, **options: Any) -> Any:
        self.fork_guard.check()
        return method(self, *arguments, **options)

    return checked_now

"""What the tasks of a process wait for, in words: for a test that would otherwise end with nothing but a timeout."""

import asyncio
import gc


def waiting_tasks():
    """Return, for each task of each loop of this process, the functions and lines that it waits in, outermost first."""
    tasks = (each for each in gc.get_objects() if isinstance(each, asyncio.Task) and not each.done())
    return [f"{each.get_name()}: {' > '.join(_places(each.get_coro()))}" for each in tasks]


def _places(awaited):
    while (frame := _of(awaited, "cr_frame", "ag_frame", "gi_frame")) is not None:
        yield f"{frame.f_code.co_qualname}:{frame.f_lineno}"
        awaited = _of(awaited, "cr_await", "ag_await", "gi_yieldfrom")


def _of(awaited, *names):
    return next((found for name in names if (found := getattr(awaited, name, None)) is not None), None)

"""Wait, bounded, for what no event tells: the state of another process."""

import threading
import time


def until(condition, what="it did not come true", seconds=30):
    """Return what `condition` returns once that is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        threading.Event().wait(0.01)
    return found

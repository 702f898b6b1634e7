"""BatchPace: how fast a batch goes now, from what was answered in the last seconds."""

from collections import deque
from collections.abc import Callable

WINDOW_S = 8.0  #: over which the speed is measured


class BatchPace:
    """Rows and tokens a second, from the first note on. `now` is a clock that only goes forward, in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._samples: deque[tuple[float, int, int]] = deque()

    def note(self, rows: int, tokens: int) -> None:
        """Note how many rows were asked, and tokens written, since the start."""
        now = self._now()
        self._samples.append((now, rows, tokens))
        while len(self._samples) > 2 and now - self._samples[1][0] >= WINDOW_S:
            self._samples.popleft()

    @property
    def speed(self) -> tuple[float, float]:
        """Rows and tokens a second."""
        if not self._samples:
            return 0.0, 0.0
        (began, rows, tokens), (ended, all_rows, all_tokens) = self._samples[0], self._samples[-1]
        seconds = ended - began
        return ((all_rows - rows) / seconds, (all_tokens - tokens) / seconds) if seconds > 0 else (0.0, 0.0)

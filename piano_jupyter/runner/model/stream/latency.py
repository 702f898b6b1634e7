"""How long a model let one wait: until its first word, and how much of that it was being loaded."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from piano_jupyter.runner.model.protocol import LoadingNotice

TELL_AGAIN = 1.0  # seconds between two notes that a model loads
LONG_ENOUGH = 0.1  # seconds of writing that a speed can be told from


class Stopwatch:
    """Started when a request is sent. Times are those of `now`, in seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._sent = self._looked = now()
        self._loading_since: float | None = None
        self._loaded = 0.0  #: seconds of loading that are over
        self._told = float("-inf")
        self._began = 0.0  #: when the reply did

    def loading(self, note: str | None) -> LoadingNotice | None:
        """Take what is said of a model that is being loaded, None for one that is not; return it, if it is time to."""
        self._look(loading=note is not None)
        if not note or self._looked - self._told < TELL_AGAIN:
            return None
        self._told = self._looked
        since = self._sent if self._loading_since is None else self._loading_since
        return LoadingNotice(note=note, seconds=round(self._told - since, 1))

    def _look(self, *, loading: bool) -> None:
        """Note whether the model is being loaded now. What changed since the last look is taken to have begun then."""
        now = self._now()
        if loading and self._loading_since is None:
            self._loading_since = self._looked
        elif not loading and self._loading_since is not None:
            self._loaded += now - self._loading_since
            self._loading_since = None
        self._looked = now

    def first_word(self) -> dict[str, float]:
        """Note that the reply begins; return `first_token_s`, and `load_s` where it was loaded."""
        self._look(loading=False)
        self._began = self._looked
        taken = {"first_token_s": round(self._began - self._sent, 3), "load_s": round(self._loaded, 3)}
        return {name: seconds for name, seconds in taken.items() if seconds or name == "first_token_s"}

    def speed(self, usage: Mapping[str, Any]) -> dict[str, float]:
        """Note that the reply has ended; return its `tokens_per_second`, where its server does not tell it."""
        taken, tokens = self._now() - self._began, usage.get("completion_tokens", 0)
        if "tokens_per_second" in usage or taken < LONG_ENOUGH or tokens < 2:
            return {}
        return {"tokens_per_second": round((tokens - 1) / taken, 1)}

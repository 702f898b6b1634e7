"""Measures a reply: the time to the first token, how much of it was loading the model, and for how long it thought."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from piano_jupyter.runner.model.protocol import Delta, LoadingNotice, StreamRestarted

NOTICE_INTERVAL_S = 1.0  #: between two notices that a model is loading
MIN_MEASURED_S = 0.1  #: of streaming, to calculate a speed


class Stopwatch:
    """Measures one request, from when it is sent. `now` returns seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._sent_at = self._updated_at = now()
        self._loading_since: float | None = None
        self._load_s = 0.0  #: seconds spent loading so far
        self._noticed_at = float("-inf")
        self._started_at = 0.0  #: when the reply started
        self._begun_at: float | None = None  #: when its first piece came
        self._wrote_at: float | None = None  #: when its first text came
        self._thinks = False  #: whether it began with thoughts

    def loading(self, note: str | None) -> LoadingNotice | None:
        """Note what a loading model waits for (None: it is not loading); return a notice if one is due."""
        self._update(loading=note is not None)
        if not note or self._updated_at - self._noticed_at < NOTICE_INTERVAL_S:
            return None
        self._noticed_at = self._updated_at
        since = self._sent_at if self._loading_since is None else self._loading_since
        return LoadingNotice(note=note, seconds=round(self._noticed_at - since, 1))

    def _update(self, *, loading: bool) -> None:
        """Note whether the model is loading now. A change is assumed to have happened at the last update."""
        now = self._now()
        if loading and self._loading_since is None:
            self._loading_since = self._updated_at
        elif not loading and self._loading_since is not None:
            self._load_s += now - self._loading_since
            self._loading_since = None
        self._updated_at = now

    def first_token(self) -> dict[str, float]:
        """Note that the reply starts; return `first_token_s`, and `load_s` if the model was loaded."""
        self._update(loading=False)
        self._started_at = self._updated_at
        taken = {"first_token_s": round(self._started_at - self._sent_at, 3), "load_s": round(self._load_s, 3)}
        return {name: seconds for name, seconds in taken.items() if seconds or name == "first_token_s"}

    def take(self, piece: Delta | StreamRestarted) -> None:
        """Take in a piece of the reply: the model thinks until it writes."""
        if self._begun_at is None:
            self._begun_at = self._now()
        if isinstance(piece, StreamRestarted):  # what was taken for text may have been thoughts
            self._wrote_at = None
        elif self._wrote_at is None:
            self._thinks |= bool(piece.reasoning)
            self._wrote_at = self._now() if piece.text else None

    def thought(self) -> dict[str, float]:
        """Return `thought_s`, for how long the model thought before it wrote or called tools, if it did."""
        if self._begun_at is None or not self._thinks:
            return {}
        return {"thought_s": round((self._wrote_at or self._now()) - self._begun_at, 1)}

    def speed(self, usage: Mapping[str, Any]) -> dict[str, float]:
        """Note that the reply has ended; return its `tokens_per_second` unless the server reported them."""
        taken, tokens = self._now() - self._started_at, usage.get("completion_tokens", 0)
        if "tokens_per_second" in usage or taken < MIN_MEASURED_S or tokens < 2:
            return {}
        return {"tokens_per_second": round((tokens - 1) / taken, 1)}

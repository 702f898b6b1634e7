"""StoreNews: what a store tells on its own threads, for the loop of the store process."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial


class StoreNews:
    """The file in use, why nothing can be stored at present, and sentences for the user; told on any thread."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.problem = ""
        self.has_readers = True  #: whether a kernel is connected, or is about to be
        self._notices: deque[str] = deque()
        self._tell: Callable[[], object] = lambda: None

    def notify(self, sentence: str) -> None:
        """Keep a sentence until it is taken."""
        self._notices.append(sentence)
        self._tell()

    def set_state(self, name: str, problem: str) -> None:
        """Note which file is in use, and why nothing can be stored."""
        self.name, self.problem = name, problem
        self._tell()

    def follow(self, tell: Callable[[], None]) -> None:
        """Have a function called on the running loop whenever there is something new."""
        self._tell = partial(asyncio.get_running_loop().call_soon_threadsafe, tell)

    def take_notices(self) -> Iterator[str]:
        """Yield each sentence that was not taken yet."""
        while self._notices:
            yield self._notices.popleft()

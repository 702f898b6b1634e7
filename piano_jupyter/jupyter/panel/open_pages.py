"""OpenPages: the pages that show a panel, as far as the kernel can know. Not all of them say when they are closed."""

from collections.abc import Iterator

ASK_EVERY_S = 20.0  # whether a page is still there
SILENT_AFTER_S = 5.0  # without a reply: a page that was only slow says hello again


class OpenPages:
    """Which pages are open, the last active one last. Times are in seconds, of a clock that only goes forward."""

    def __init__(self) -> None:
        self._heard: dict[str, float] = {}  # when each page has said something last
        self._asked: float | None = None  # when the pages were asked last
        self._is_due = False

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._heard))

    def __reversed__(self) -> Iterator[str]:
        return reversed(tuple(self._heard))

    def __bool__(self) -> bool:
        return bool(self._heard)

    def hear(self, page: str, now: float) -> bool:
        """Note that a page has said something; return whether it was not known."""
        is_new = self._heard.pop(page, None) is None
        self._heard[page] = now
        self._is_due |= is_new and len(self._heard) > 1  # it may have taken the place of another one
        self._asked = now if self._asked is None else self._asked
        return is_new

    def forget(self, page: str) -> None:
        """Take in that a page was closed."""
        self._heard.pop(page, None)

    def are_to_be_asked(self, now: float) -> bool:
        """Return whether the pages are to be asked now if they are still there, and note that they are."""
        if self._asked is None or not self._heard:
            return False
        is_due = self._is_due or now - self._asked >= ASK_EVERY_S
        if is_due:
            self._asked, self._is_due = now, False
        return is_due

    def drop_silent(self, now: float) -> None:
        """Forget the pages that were asked and have not replied in time."""
        asked = self._asked
        if asked is not None and now - asked >= SILENT_AFTER_S:
            self._heard = {page: heard for page, heard in self._heard.items() if heard >= asked}

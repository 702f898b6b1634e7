"""Which thread a panel opens on."""

from typing import TYPE_CHECKING

from piano_jupyter.records import NEW_TITLE, Thread

if TYPE_CHECKING:
    from piano_jupyter.piano import Piano


async def newest_or_new_thread(piano: "Piano", besides: Thread | None = None) -> Thread:
    """Return the newest active thread of this notebook, apart from one of them; a new one if there is none."""
    for thread in await piano.threads("active", here=True):
        if besides is None or thread.id != besides.id:
            return thread
    return await piano.open_thread(NEW_TITLE)

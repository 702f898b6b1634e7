"""python -m piano_jupyter.store.server FILE: the store process of one database; kernels start it, nobody else need.

It tells on its standard output, which it then closes, that it is ready, or why it cannot start.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import time

from piano_jupyter.errors import PianoError, StoreLockedError
from piano_jupyter.store.duckdb.database_file import whole_path
from piano_jupyter.store.duckdb.duckdb_store import DuckDBStore
from piano_jupyter.store.server.election import STARTED
from piano_jupyter.store.server.store_news import StoreNews
from piano_jupyter.store.server.store_server import Delays, StoreServer
from piano_jupyter.store.server.wire import ERROR

LOCK_TIMEOUT_S = 1.0  #: for the lock of a process that was killed a moment ago
LOCK_RETRY_S = 0.05


def main() -> None:
    """Detach from whoever started it, then serve."""
    defaults = Delays()
    parser = argparse.ArgumentParser(prog="python -m piano_jupyter.store.server", description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--grace-s", type=float, default=defaults.grace_s)
    parser.add_argument("--idle-s", type=float, default=defaults.idle_s)
    options = parser.parse_args()
    if os.fork():
        os._exit(0)  # the kernel need not wait for a child that outlives it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(run(options.file, Delays(grace_s=options.grace_s, idle_s=options.idle_s)))


async def run(file: str, delays: Delays) -> None:
    """Open the database and serve it."""
    try:
        news = StoreNews(whole_path(file))
        store = await opened(news)
        server = StoreServer(store, news, delays)
        try:
            await server.listen()
        except PianoError:
            await store.close()
            raise
    except PianoError as error:
        tell(ERROR.pack(error))
        return
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.leave)
    tell(b"")
    await server.serve()


async def opened(news: StoreNews) -> DuckDBStore:
    """Return the store, open, which tells its news from now on. Raises StoreError."""
    ends = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        store = DuckDBStore(news.name, notify=news.notify, changed=news.set_state, saves_lost=lambda: news.has_readers)
        try:
            await store.open()
        except StoreLockedError:
            if time.monotonic() > ends:
                raise
            await asyncio.sleep(LOCK_RETRY_S)
        else:
            return store


def tell(error: bytes) -> None:
    """Tell whoever waits for the start that it is done: with an error, or with none."""
    with contextlib.suppress(BrokenPipeError):  # nobody waits any more
        os.write(1, STARTED + error)
    os.dup2(2, 1)


if __name__ == "__main__":
    main()

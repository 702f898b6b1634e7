"""Store servers: in this process for a while, over a real socket; and what waits for the end of a real process."""

import asyncio
import os
from contextlib import asynccontextmanager

from store_processes import HOLD, started

from piano_jupyter.store.duckdb.database_file import whole_path
from piano_jupyter.store.duckdb.duckdb_store import DuckDBStore
from piano_jupyter.store.server.remote_store import Listener
from piano_jupyter.store.server.store_news import StoreNews
from piano_jupyter.store.server.store_server import Delays, StoreServer

#: For processes that tests start: they do not wait for kernels that come back, and leave at once.
NO_DELAYS = ("--grace-s=0", "--idle-s=0")
CONNECT = "from piano_jupyter.store.server.remote_store import RemoteStore\n"


class Heard:
    """What a client was told."""

    def __init__(self):
        self.events, self.jobs, self.told = [], [], asyncio.Event()
        self.stirred, self.missed = asyncio.Event(), asyncio.Event()
        self.listener = Listener(self._event, self._recovered, self.stirred.set, self.missed.set)

    async def number(self, count):
        """Return once so many events have been told."""
        while len(self.events) < count:
            self.told.clear()
            await self.told.wait()

    def _event(self, event):
        self.events.append(event)
        self.told.set()

    def _recovered(self, jobs):
        self.jobs += jobs
        self.told.set()


@asynccontextmanager
async def served(path, *, version="", grace_s=0, idle_s=60):
    """Serve a database in this process."""
    news = StoreNews(whole_path(path))
    store = DuckDBStore(news.name, notify=news.notify, changed=news.set_state, saves_lost=lambda: news.has_readers)
    await store.open()
    server = StoreServer(store, news, Delays(grace_s=grace_s, idle_s=idle_s), version)
    await server.listen()
    serving = asyncio.create_task(server.serve())
    try:
        yield server
    finally:
        server.leave()
        await serving


async def ended(pid):
    """Return once a process has ended, which is nobody's child here."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ending, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_reader(process, ending.set)
    await ending.wait()
    loop.remove_reader(process)
    os.close(process)


@asynccontextmanager
async def killed_client(file, owner):
    """Have a process of its own that is connected; in the end it is killed."""
    with started(f"{CONNECT}store = RemoteStore(path, owner={owner!r})\n{HOLD}", file) as process:
        assert await asyncio.to_thread(process.stdout.readline) == "open\n"
        yield

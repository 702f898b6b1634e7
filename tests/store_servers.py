"""Store servers: in this process for a while, over a real socket; and what waits for the end of a real process."""

import asyncio
import os
from contextlib import asynccontextmanager

from piano_jupyter.store.duckdb.duckdb_store import DuckDBStore
from piano_jupyter.store.server.store_server import Delays, StoreServer

#: For processes that tests start: they do not wait for kernels that come back, and leave at once.
NO_DELAYS = ("--grace-s=0", "--idle-s=0")


@asynccontextmanager
async def served(path, *, version="", grace_s=0, idle_s=60):
    """Serve a database in this process."""
    store = DuckDBStore(path)
    await store.open()
    server = StoreServer(store, store.name, Delays(grace_s=grace_s, idle_s=idle_s), version)
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

"""Processes of their own that have a store, and one in this process for a while."""

import os
import re
import select
import signal
import subprocess
import sys
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import piano_jupyter
from piano_jupyter.store.duckdb.duckdb_store import DuckDBStore

ROOT = Path(piano_jupyter.__file__).parents[1]
END_TIMEOUT_S = 60
PRELUDE = """
import asyncio, atexit, os, resource, sys, warnings
from datetime import UTC, datetime
from piano_jupyter.clock import Clock
from piano_jupyter.errors import StoreError
from piano_jupyter.records import Job, Message
from piano_jupyter.store.duckdb.duckdb_store import DuckDBStore
clock = Clock()
path = sys.argv[1]
store = DuckDBStore(path)
def message(content="hi"):
    return Message(
        id=clock.new_id(), thread_id=clock.new_id(), role="user", content=content, inserted_at=clock.now()
    )
def job(message):
    return Job(
        id=clock.new_id(), thread_id=message.thread_id, message_id=message.id, agent_id=clock.new_id(), model="m",
        inserted_at=clock.now()
    )
"""


@contextmanager
def started(script, path, *launcher):
    """Run a script in a process of its own, in which `store` is not yet open; at the end it is killed."""
    with subprocess.Popen(
        [*launcher, sys.executable, "-c", PRELUDE + script, str(path)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def outcome(script, path, *launcher):
    """Run a script to its end and return what it printed."""
    with started(script, path, *launcher) as process:
        said, complaint = process.communicate(timeout=60)
    assert process.returncode == 0, complaint
    return said


@asynccontextmanager
async def opened(path):
    store = DuckDBStore(path)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


#: Opens the store, says so, and has it until a line comes.
HOLD = """
asyncio.run(store.open())
print("open", flush=True)
input()
"""
#: Opens the store, or says why not.
TRY = """
try:
    asyncio.run(store.open())
    print("opened")
except StoreError as error:
    print(type(error).__name__, error)
"""


def end_store_process(folder, number=signal.SIGTERM):
    """End the process that has the database of a folder open for kernels that are gone; it would leave by itself."""
    holder = re.search(rb"(\d+)\t", (folder / ".piano" / "piano.duckdb.lock").read_bytes())
    process = os.pidfd_open(int(holder[1]))
    signal.pidfd_send_signal(process, number)
    assert select.select([process], [], [], END_TIMEOUT_S)[0], "the store process did not end"
    os.close(process)

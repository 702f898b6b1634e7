"""Clients of a real store process, and an empty folder for its socket."""

import tempfile
from pathlib import Path

import pytest
from store_servers import NO_DELAYS, ended

from piano_jupyter import own_folders
from piano_jupyter.store.server.remote_store import RemoteStore


@pytest.fixture
def file(tmp_path):
    return tmp_path / "piano.duckdb"


@pytest.fixture
async def client(file):
    """`client(owner="a")` is a client that is open; a store process is started for the first, and gone in the end."""
    clients, processes = [], set()

    async def open_client(**options):
        store = RemoteStore(file, options=NO_DELAYS, **options)
        clients.append(store)
        await store.open()
        processes.add(store.server_pid)
        return store

    yield open_client
    processes |= {store.server_pid for store in clients} - {0}
    for store in clients:
        await store.close()
    for process in processes:
        await ended(process)


@pytest.fixture
def folders(monkeypatch):
    """Return a short folder in which nothing is yet, where sockets are kept from now on."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
        monkeypatch.setattr(own_folders, "TEMPORARY", Path("/nowhere"))
        monkeypatch.setattr(own_folders, "RUNTIME_FOLDERS", "/nowhere")
        yield Path(folder)

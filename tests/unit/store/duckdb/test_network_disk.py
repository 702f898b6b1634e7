"""A database on a disk that other hosts have too: named, and kept from two of them."""

import os
import sys
import time
from pathlib import Path

import pytest
from child import REFUSE
from store_processes import outcome, started

from piano_jupyter import Piano
from piano_jupyter.errors import StoreLockedError
from piano_jupyter.store.duckdb import lock
from piano_jupyter.store.duckdb.duckdb_store import DuckDBStore
from piano_jupyter.store.duckdb.network_disk import network_disk_of, network_mount

MOUNTS = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:21 / /proc rw - proc proc rw
30 22 0:40 / /home rw - nfs4 server:/home rw,vers=4.2
31 30 8:2 / /home/ada/fast rw - xfs /dev/sdb1 rw
32 22 0:41 / /mnt/my\040share rw - cifs //server/share rw
33 22 0:42 / /mnt/c rw - 9p C:\134 rw
34 22 0:43 / /mnt/ssh rw - fuse.sshfs ada@server: rw
35 22 0:44 / /mnt/secret rw - fuse.gocryptfs /home/x rw
36 22 0:45 / /mnt/stick rw - fuseblk /dev/sdc1 rw
37 22 0:46 / /mnt/odd rw - fuse odd rw
38 22 0:47 / /mnt/new rw - fuse.brandnew somewhere rw
39 22 0:48 / /mnt/over rw - nfs a:/x rw
40 22 8:3 / /mnt/over rw - ext4 /dev/sdd1 rw
""".strip().splitlines()


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/srv/x.duckdb", ""),
        ("/home/ada/p/.piano/piano.duckdb", "nfs4 at /home"),
        ("/homes/x.duckdb", ""),
        ("/home/ada/fast/x.duckdb", ""),
        ("/mnt/my share/x.duckdb", "cifs at /mnt/my share"),
        ("/mnt/c/Users/x.duckdb", "9p at /mnt/c"),
        ("/mnt/ssh/x.duckdb", "fuse.sshfs at /mnt/ssh"),
        ("/mnt/secret/x.duckdb", ""),
        ("/mnt/stick/x.duckdb", ""),
        ("/mnt/odd/x.duckdb", "fuse at /mnt/odd"),
        ("/mnt/new/x.duckdb", "fuse.brandnew at /mnt/new"),
        ("/mnt/over/x.duckdb", ""),
    ],
)
def test_the_mount_that_a_path_is_on_tells_whether_it_is_a_network_disk(path, told):
    assert network_mount(path, MOUNTS) == told


def test_where_nothing_tells_of_mounts_no_disk_is_one_of_the_network(tmp_path, monkeypatch):
    monkeypatch.setattr("piano_jupyter.store.duckdb.network_disk.MOUNTS", tmp_path / "none")

    assert network_disk_of(str(tmp_path)) == ""


def on_nfs(_path):
    return "nfs4 at /home"


def other_host(path, boot="3b2c", host="server9"):
    """Write what a process of another host leaves in the lock file."""
    path.write_bytes(f"piano_jupyter 77\t{host}\tpython -m ipykernel\t{boot}\n".encode())


async def test_a_history_on_a_network_disk_is_named_with_the_way_out(tmp_path, monkeypatch, scripted):
    monkeypatch.setattr("piano_jupyter.store.duckdb.network_disk.MOUNTS", tmp_path / "mounts")
    (tmp_path / "mounts").write_text(f"30 22 0:40 / {tmp_path} rw - nfs4 server:/home rw\n")
    async with Piano(database=tmp_path / "x.duckdb", workspace=tmp_path, model=scripted("hello")) as piano:
        answer = await piano.ask("hi")
        [notice] = piano.notices()
        again = piano.notices()
        status = await piano.status()

    assert answer.content == "hello"
    assert notice.startswith(f"database {tmp_path / 'x.duckdb'} is on a network disk (nfs4 at {tmp_path}), ")
    assert notice.endswith("put it on a local disk with PianoConfig.database")
    assert again == []
    assert status.warnings == [notice]


async def test_a_history_that_another_host_has_open_is_refused_until_that_host_is_silent(tmp_path):
    path = tmp_path / "x.duckdb"
    place = Path(f"{path}.lock")
    other_host(place)

    with pytest.raises(StoreLockedError, match=r"network disk \(nfs4 at /home\) and is open in process 77 .*server9"):
        await DuckDBStore(path, network_disk=on_nfs).open()
    assert not path.exists()
    assert b"server9" in place.read_bytes()

    silent = time.time() - lock.STALE_S - 1
    os.utime(place, (silent, silent))
    store = DuckDBStore(path, network_disk=on_nfs)
    await store.open()
    assert place.read_bytes().startswith(f"piano_jupyter {os.getpid()}\t".encode())
    await store.close()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["x.duckdb", "x.duckdb.backup", "x.duckdb.lock"]


async def test_the_same_name_of_another_machine_is_another_host(tmp_path):
    other_host(tmp_path / "x.duckdb.lock", host=os.uname().nodename)

    with pytest.raises(StoreLockedError, match="is open in process 77"):
        await DuckDBStore(tmp_path / "x.duckdb", network_disk=on_nfs).open()


@pytest.mark.parametrize("disk", ["", "nfs4 at /home"], ids=["local", "network"])
async def test_what_a_killed_process_of_this_machine_left_keeps_nobody_out(tmp_path, disk):
    path = tmp_path / "x.duckdb"
    script = f"asyncio.run(DuckDBStore(path, network_disk=lambda _: {disk!r}).open()); os.kill(os.getpid(), 9)"
    with started(script, path) as process:
        process.wait(60)
    assert b"piano_jupyter" in Path(f"{path}.lock").read_bytes()

    store = DuckDBStore(path, network_disk=lambda _: disk)
    await store.open()
    await store.close()


async def test_another_host_s_name_on_a_local_disk_is_an_old_one(tmp_path):
    other_host(tmp_path / "x.duckdb.lock")
    store = DuckDBStore(tmp_path / "x.duckdb", network_disk=lambda _: "")
    await store.open()
    await store.close()


async def test_who_has_a_history_on_a_network_disk_touches_its_lock_until_it_is_closed(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "REFRESH_S", 0.01)
    place = tmp_path / "x.duckdb.lock"
    store = DuckDBStore(tmp_path / "x.duckdb", network_disk=on_nfs)
    await store.open()
    os.utime(place, (0, 0))
    while place.stat().st_mtime < 1:
        os.sched_yield()
    await store.close()
    os.utime(place, (0, 0))

    assert place.read_bytes() == b""
    assert place.stat().st_mtime == 0


@pytest.mark.skipif(sys.platform != "linux", reason="a filter of system calls is Linux's")
def test_a_network_disk_without_locks_opens_nothing_and_is_named(tmp_path):
    script = f"""{REFUSE}
import errno
refuse({{'x86_64': 73, 'aarch64': 32}}, errno.ENOLCK)
try:
    asyncio.run(DuckDBStore(path, network_disk=lambda _: 'nfs at /home').open())
except StoreError as error:
    print(error, os.path.exists(path))
"""
    said = outcome(script, tmp_path / "x.duckdb")

    assert "cannot be locked (No locks available): it lies on a network disk (nfs at /home) that gives none" in said
    assert "put it on a local disk: set PianoConfig.database" in said
    assert said.endswith("False\n")

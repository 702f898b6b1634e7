"""Who may read a history, what git takes along of it, and what may not stand in its place."""

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from child import REFUSE, needs_root
from store_processes import TRY, opened, outcome, started

from piano_jupyter.errors import StoreError
from piano_jupyter.store.duckdb.duckdb_store import DuckDBStore
from piano_jupyter.store.duckdb.file_access import begin_private_thread

UNSHARE = "{'x86_64': 272, 'aarch64': 97}"
REFUSED = f"{REFUSE}\nimport errno\nrefuse({UNSHARE}, errno.EPERM)\n"
KEEP = """
os.umask(0o022)
asyncio.run(store.open())
asyncio.run(store.add_message(message()))
print("open", flush=True)
input()
"""


def rights(folder):
    """Return the rights of a folder and of all in it, by their names."""
    found = [folder, *sorted(folder.rglob("*"))]
    return {path.name: stat.S_IMODE(path.lstat().st_mode) for path in found}


@pytest.mark.parametrize("before", ["", REFUSED], ids=["umask of a thread", "as in a container"])
def test_a_history_is_its_user_s_alone_while_it_is_open(tmp_path, before):
    if before and sys.platform != "linux":
        pytest.skip("a filter of system calls is Linux's")
    path = tmp_path / ".piano" / "piano.duckdb"
    with started(before + KEEP, path) as holder:
        assert holder.stdout.readline() == "open\n", holder.stderr.read()
        while_open = rights(path.parent)

    assert while_open.pop(".piano") == 0o700
    assert while_open.keys() == {".gitignore", "piano.duckdb", "piano.duckdb.lock", "piano.duckdb.wal"}
    assert set(while_open.values()) == {0o600}


async def test_the_umask_of_the_process_stays_as_it_is(tmp_path):
    assert not begin_private_thread()  # not this one, which is the user's
    async with opened(tmp_path / "piano.duckdb"):
        (tmp_path / "mine").touch()
        umask = os.umask(0)
        os.umask(umask)

    assert stat.S_IMODE((tmp_path / "mine").stat().st_mode) == 0o666 & ~umask


async def test_an_existing_history_is_narrowed_when_it_is_opened_and_a_stranger_s_file_beside_one_is_not(tmp_path):
    path = tmp_path / ".piano" / "piano.duckdb"
    async with opened(path):
        pass
    (path.parent / "backup").mkdir(exist_ok=True)
    (path.parent / "backup" / "old.duckdb").touch()
    for each in (path.parent, *path.parent.rglob("*")):
        each.chmod(0o777)
    other = tmp_path / "data" / "chat.duckdb"
    other.parent.mkdir(mode=0o755)
    for name in ("chat.duckdb.wal", "figures.csv"):
        (other.parent / name).touch(mode=0o644)
    (other.parent / "chat.duckdb.wal").unlink()

    async with opened(path), opened(other):
        found, beside = rights(path.parent), rights(other.parent)

    folders = {name: found.pop(name) for name in (".piano", "backup")}
    assert set(folders.values()) == {0o700}
    assert set(found.values()) == {0o600}
    assert (beside["data"], beside["figures.csv"], beside["chat.duckdb"]) == (0o755, 0o644, 0o600)


def git(folder, *arguments):
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("older", ["", "*.lock\n"], ids=["new", "of an earlier version"])
async def test_git_neither_takes_a_conversation_along_nor_cleans_it_away(tmp_path, older):
    folder = tmp_path / ".piano"
    git(tmp_path, "init", "-q")
    folder.mkdir()
    if older:
        (folder / ".gitignore").write_text(older)
    async with opened(folder / "piano.duckdb"):
        pass
    (tmp_path / "scratch").touch()

    git(tmp_path, "add", "--all")
    git(tmp_path, "reset", "-q")
    git(tmp_path, "clean", "-ffd")

    assert git(tmp_path, "status", "--porcelain", "-uall") == ""
    assert (folder / "piano.duckdb").exists()
    assert not (tmp_path / "scratch").exists()
    git(tmp_path, "clean", "-fdx")
    assert not (folder / "piano.duckdb").exists()  # the manual says so


async def test_what_the_user_has_git_ignore_there_stays(tmp_path):
    folder = tmp_path / ".piano"
    folder.mkdir()
    (folder / ".gitignore").write_text("!piano.duckdb\n")
    async with opened(folder / "piano.duckdb"):
        pass

    assert (folder / ".gitignore").read_text() == "!piano.duckdb\n"


@pytest.mark.parametrize("linked", [".piano", ".piano/piano.duckdb"])
@pytest.mark.parametrize("is_there", [True, False], ids=["leads somewhere", "leads nowhere"])
async def test_a_symbolic_link_in_place_of_the_history_is_refused_and_not_followed(tmp_path, linked, is_there):
    target = tmp_path / "elsewhere"
    if is_there and linked == ".piano":
        target.mkdir()
    elif is_there:
        target.touch()
    place = tmp_path / "work" / linked
    place.parent.mkdir(parents=True)
    place.symlink_to(target)

    with pytest.raises(StoreError, match=rf"{linked} is a symbolic link, .* move it out of the way, or set Piano"):
        await DuckDBStore(tmp_path / "work" / ".piano" / "piano.duckdb").open()

    assert target.exists() == is_there
    assert not (target.is_dir() and list(target.iterdir()))


def make_pipe(place):
    os.mkfifo(place)


def make_socket(place):
    with socket.socket(socket.AF_UNIX) as made:
        folder = os.open(place.parent, os.O_RDONLY)  # the name of a socket is short
        made.bind(f"/proc/self/fd/{folder}/{place.name}" if sys.platform == "linux" else str(place))
        os.close(folder)


def make_device(place):
    os.mknod(place, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # /dev/zero


STRANGE = [
    pytest.param(make_pipe, "named pipe"),
    pytest.param(make_socket, "socket"),
    pytest.param(make_device, "device", marks=needs_root),
]


@pytest.mark.parametrize(("make_it", "word"), STRANGE)
@pytest.mark.parametrize("suffix", ["", ".wal"])
def test_a_pipe_a_socket_or_a_device_in_place_of_the_history_is_refused_at_once(tmp_path, make_it, word, suffix):
    path = tmp_path / ".piano" / "piano.duckdb"
    path.parent.mkdir()
    make_it(Path(f"{path}{suffix}"))

    said = outcome(TRY, path)

    assert said.startswith(f"StoreError database {path} cannot be opened: {path}{suffix} is a {word}, not a file; move")


async def test_a_link_that_leads_to_a_pipe_is_refused_at_once_too(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "chat.duckdb").symlink_to(tmp_path / "pipe")

    with pytest.raises(StoreError, match="is a named pipe, not a file"):
        await DuckDBStore(tmp_path / "chat.duckdb").open()

"""The lock of a database: who has it, through copies, children and kills; and where there can be none."""

import fcntl
import os
import re
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path

import duckdb
import pytest
from child import IS_ROOT, NOBODY, REFUSE, needs_root, users_folder
from store_processes import HOLD, TRY, opened, outcome, started

from piano_jupyter.errors import StoreError, StoreLockedError
from piano_jupyter.store.duckdb.duckdb_store import DuckDBStore
from piano_jupyter.store.duckdb.lock import release_lock, take_lock

READ = {
    "copytree": "import shutil; shutil.copytree(os.path.dirname(path), path + '.copy')",
    "zip": "import zipfile; zipfile.ZipFile(path + '.zip', 'w').write(path)",
    "read": "open(path, 'rb').read()",
}


@pytest.mark.parametrize("read", READ.values(), ids=READ)
async def test_a_file_stays_locked_when_its_process_reads_or_copies_it(tmp_path, read):
    path = tmp_path / "piano" / "piano.duckdb"
    read = read.replace("path + '.copy'", "os.path.dirname(path) + '.copy'")
    with started(
        f"asyncio.run(store.open())\n{read}\n" + HOLD.replace("asyncio.run(store.open())", ""), path
    ) as holder:
        assert holder.stdout.readline() == "open\n", holder.stderr.read()
        with pytest.raises(
            StoreLockedError, match=rf"is open in process {holder.pid} \(.*python.*\): stop that kernel"
        ):
            await DuckDBStore(path).open()


async def test_a_lock_goes_with_its_process_and_is_free_in_a_copy_of_the_folder(tmp_path):
    path = tmp_path / "here" / "piano.duckdb"
    with started(HOLD, path) as holder:
        assert holder.stdout.readline() == "open\n"
        (tmp_path / "copy").mkdir()
        shutil.copy(f"{path}.lock", tmp_path / "copy" / "piano.duckdb.lock")
        shutil.copy(path, tmp_path / "copy" / "piano.duckdb")
        async with opened(tmp_path / "copy" / "piano.duckdb") as copy:
            assert await copy.agents() == []
        holder.kill()
        holder.wait(30)

    async with opened(path) as store:
        assert await store.agents() == []
    assert Path(f"{path}.lock").read_bytes() == b""


CHILDREN = {
    "a command": "import subprocess; child = subprocess.Popen(['sleep', '60'], stdout=-3, stderr=-3).pid",
    "a command with all handles": (
        "import subprocess; child = subprocess.Popen(['sleep', '60'], stdout=-3, stderr=-3, close_fds=False).pid"
    ),
    "a fork": "child = os.fork()\nif not child: os.close(1); os.close(2); import time; time.sleep(60); os._exit(0)",
    "multiprocessing": (
        "import multiprocessing as mp, time; process = mp.get_context('fork').Process(target=time.sleep, args=(60,))"
        "\nprocess.start(); child = process.pid"
    ),
}


@pytest.mark.parametrize("start", CHILDREN.values(), ids=CHILDREN)
async def test_a_child_that_outlives_its_process_does_not_keep_the_lock(tmp_path, start):
    path = tmp_path / "piano.duckdb"
    script = (
        "asyncio.run(store.open())\nwarnings.simplefilter('ignore', DeprecationWarning)\n"
        f"{start}\nprint(child, flush=True)\ninput()"
    )
    with started(script, path) as holder:
        child = int(holder.stdout.readline())
        with pytest.raises(StoreLockedError, match=f"process {holder.pid} "):
            await DuckDBStore(path).open()
        holder.kill()
        holder.wait(30)
        try:
            os.kill(child, 0)  # it lives
            async with opened(path) as store:
                assert await store.agents() == []
        finally:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)


async def test_a_forked_child_can_open_another_file_while_its_parent_keeps_its_own(tmp_path):
    script = """
asyncio.run(store.open())
warnings.simplefilter("ignore", DeprecationWarning)
child = os.fork()
if child == 0:
    other = DuckDBStore(path + ".other")
    asyncio.run(other.open())
    grandchild = os.fork()
    if grandchild == 0:
        os._exit(0)
    assert os.waitpid(grandchild, 0)[1] == 0
    asyncio.run(other.close())
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print("open", flush=True)
input()
asyncio.run(store.close())
"""
    path = tmp_path / "piano.duckdb"
    with started(script, path) as parent:
        assert parent.stdout.readline() == "open\n"
        with pytest.raises(StoreLockedError, match=f"process {parent.pid} "):
            await DuckDBStore(path).open()
        async with opened(f"{path}.other") as store:
            assert await store.agents() == []
        _, complaint = parent.communicate("\n", timeout=60)

    assert (parent.returncode, complaint) == (0, "")


def make_link(place, other):
    place.symlink_to(other)


def make_second_name(place, other):
    os.link(other, place)


def make_pipe(place, _other):
    os.mkfifo(place)


def make_folder(place, _other):
    place.mkdir()


def make_file_of_somebody_else(place, _other):
    place.write_text("version = 1\n")


@pytest.mark.parametrize("left", [b"", bytes(99), b"piano_jupyter "])
async def test_a_lock_file_whose_content_a_power_cut_has_lost_is_taken(tmp_path, left):
    (tmp_path / "piano.duckdb.lock").write_bytes(left)

    async with opened(tmp_path / "piano.duckdb"):
        assert (tmp_path / "piano.duckdb.lock").read_bytes().startswith(b"piano_jupyter ")


@pytest.mark.parametrize("make_it", [make_link, make_second_name, make_pipe, make_folder, make_file_of_somebody_else])
async def test_what_lies_in_the_lock_s_place_and_is_none_is_refused_and_left_as_it_is(tmp_path, make_it):
    other, place = tmp_path / "other", tmp_path / "piano.duckdb.lock"
    other.write_text("")
    make_it(place, other)
    before = place.lstat()

    with pytest.raises(StoreError, match=r"piano\.duckdb\.lock is a link, or no lock file of Piano's; move it"):
        await DuckDBStore(tmp_path / "piano.duckdb").open()

    assert other.read_text() == ""
    assert (place.lstat().st_ino, place.lstat().st_size) == (before.st_ino, before.st_size)
    assert not (tmp_path / "piano.duckdb").exists()


def test_a_lock_file_that_is_deleted_while_it_is_being_locked_is_made_again(tmp_path, monkeypatch):
    place, locked, flock = tmp_path / "x.lock", [], fcntl.flock

    def delete_first(file, how):
        if not locked:
            place.unlink()
        locked.append(how)
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", delete_first)
    file = take_lock(str(place), "x")

    with pytest.raises(StoreLockedError, match=rf"x is open in process {os.getpid()} "):
        take_lock(str(place), "x")
    release_lock(file)
    assert len(locked) == 4  # the deleted file, the new one, the second taker, and unlocking


def test_a_lock_that_tells_nothing_or_tells_of_another_machine_is_told_as_it_is(tmp_path):
    place = tmp_path / "x.lock"
    file = take_lock(str(place), "x")
    place.write_bytes(b"piano_jupyter 77\tserver9\tpython -m ipykernel\n")
    with pytest.raises(StoreLockedError, match=r"open in process 77 \(python -m ipykernel\) on server9: stop"):
        take_lock(str(place), "x")
    place.write_bytes(b"")
    with pytest.raises(StoreLockedError, match="open in another process: stop"):
        take_lock(str(place), "x")
    release_lock(file)


def test_a_lock_file_keeps_no_line_of_a_killed_kernel_before(tmp_path, monkeypatch):
    place = tmp_path / "x.lock"
    place.write_bytes(b"piano_jupyter 77\tserver9\tpython\n" + b"notebook\tOld.ipynb\n" * 20)
    monkeypatch.setenv("JPY_SESSION_NAME", "/home/ada/New.ipynb")
    file = take_lock(str(place), "x")
    told = place.read_text()
    release_lock(file)

    assert told.startswith(f"piano_jupyter {os.getpid()}\t")
    assert told.splitlines()[1:] == ["notebook\tNew.ipynb", f"namespace\t{Path('/proc/self/ns/pid').readlink()}"]


def test_a_secret_in_the_command_line_is_not_written_into_the_lock_file(tmp_path):
    path = tmp_path / "piano.duckdb"
    script = "asyncio.run(store.open()); print(open(path + '.lock').read())"
    with started(f"key = 'ghp_{'a1B2' * 9}'\n{script}", path) as process:
        said, complaint = process.communicate(timeout=60)

    assert complaint == ""
    assert said.startswith(f"piano_jupyter {process.pid}\t")
    assert "ghp_a1B2a1" not in said


#: What is used is imported first: where the interpreter is, others may not be able to read.
AS_NOBODY = f"""
first = DuckDBStore(":memory:")
asyncio.run(first.open()); asyncio.run(first.close())
os.setgroups([]); os.setresgid({NOBODY}, {NOBODY}, {NOBODY}); os.setresuid({NOBODY}, {NOBODY}, {NOBODY})
"""


@needs_root
async def test_the_lock_of_an_ordinary_user_keeps_root_out_and_root_s_file_is_root_s_alone():
    with users_folder() as (folder, _):
        path = folder / "piano.duckdb"
        with started(AS_NOBODY + HOLD, path) as holder:
            assert holder.stdout.readline() == "open\n", holder.stderr.read()
            with pytest.raises(StoreLockedError, match=f"process {holder.pid} "):
                await DuckDBStore(path).open()
        (folder / "roots").mkdir(mode=0o777)
        with started("os.umask(0)\n" + HOLD, folder / "roots" / "piano.duckdb") as holder:
            assert holder.stdout.readline() == "open\n"
            said = outcome(AS_NOBODY + TRY, folder / "roots" / "piano.duckdb")
        assert said.startswith("StoreError")
        assert "piano.duckdb.lock): allow it, or" in said


FLOCK, FCNTL = "{'x86_64': 73, 'aarch64': 32}", "{'x86_64': 72, 'aarch64': 25}"


@pytest.mark.skipif(sys.platform != "linux", reason="a filter of system calls is Linux's")
@pytest.mark.parametrize("call", [FLOCK, FCNTL], ids=["flock", "fcntl"])
@pytest.mark.parametrize("error", ["ENOLCK", "EOPNOTSUPP", "ENOSYS", "EIO"])
def test_a_file_system_without_locks_is_named_and_no_file_is_called_damaged(tmp_path, call, error):
    said = outcome(f"{REFUSE}\nimport errno\nrefuse({call}, errno.{error})\n{TRY}", tmp_path / "piano.duckdb")

    assert re.match(r"StoreError database \S+ cannot be locked \(.+\): its file system may have none", said), said
    assert "put it on a local disk: set PianoConfig.database" in said
    assert "damaged" not in said


@pytest.mark.skipif(sys.platform != "linux", reason="a filter of system calls is Linux's")
@pytest.mark.parametrize("error", ["EAGAIN", "EACCES"])
def test_a_lock_that_duckdb_finds_taken_for_a_moment_is_said_to_be(tmp_path, error):
    said = outcome(f"{REFUSE}\nimport errno\nrefuse({FCNTL}, errno.{error})\n{TRY}", tmp_path / "piano.duckdb")

    assert said.startswith("StoreLockedError another process has had database")
    assert said.endswith("try again\n")


RAW_HOLD = "import duckdb\nheld = duckdb.connect(path)\nprint('open', flush=True)\ninput()"


async def test_another_program_that_has_the_file_is_named_by_duckdb(tmp_path):
    path = tmp_path / "piano.duckdb"
    with started(RAW_HOLD, path) as holder:
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(StoreLockedError, match=rf"is open in process {holder.pid} \(.*python"):
            await DuckDBStore(path).open()


@needs_root
@pytest.mark.skipif(shutil.which("unshare") is None, reason="util-linux makes a namespace of processes")
def test_a_holder_in_another_container_is_not_process_0(tmp_path):
    path = tmp_path / "piano.duckdb"
    with started(RAW_HOLD, path) as holder:
        assert holder.stdout.readline() == "open\n"
        by_duckdb = outcome(TRY, path, "unshare", "--pid", "--fork", "--mount-proc")
    with started(HOLD, path) as holder:
        assert holder.stdout.readline() == "open\n"
        by_piano = outcome(TRY, path, "unshare", "--pid", "--fork", "--mount-proc")

    told = f"StoreLockedError database {path} is open in a process of another container, which cannot be seen from here"
    assert by_duckdb.startswith(told)
    assert by_piano.startswith(f"{told} (python")


def checksum(block):
    """Return DuckDB's checksum of a header."""
    words = (int.from_bytes(block[at : at + 8], "little") for at in range(0, len(block), 8))
    result = 5381
    for word in words:
        result ^= word * 0xBF58476D1CE4E5B9 % 2**64
    return result.to_bytes(8, "little")


async def test_a_file_of_a_newer_duckdb_says_to_upgrade(tmp_path):
    path = tmp_path / "piano.duckdb"
    async with opened(path):
        pass
    whole = path.read_bytes()
    header = whole[8:12] + (2000).to_bytes(8, "little") + whole[20:4096]
    path.write_bytes(checksum(header) + header + whole[4096:])

    with pytest.raises(
        StoreError, match=r"was written by a newer DuckDB .*pip install -U piano_jupyter duckdb"
    ) as refused:
        await DuckDBStore(path).open()
    assert "damaged" not in str(refused.value)
    assert path.read_bytes()[8:] == header + whole[4096:]


@pytest.mark.parametrize("length", [1, 20_000])
async def test_j5_a_file_that_was_cut_off_is_damaged(tmp_path, length):
    path = tmp_path / "piano.duckdb"
    async with opened(path):
        pass
    path.write_bytes(path.read_bytes()[:length])

    with pytest.raises(StoreError, match=r"is damaged or not one of DuckDB's .*: move it out of the way"):
        await DuckDBStore(path).open()


@pytest.mark.parametrize("sign", ["?", "\\"])
async def test_a_sign_in_the_path_that_duckdb_reads_as_something_else_is_named(tmp_path, sign):
    path = tmp_path / f"what{sign}now" / "piano.duckdb"

    with pytest.raises(StoreError, match=r"DuckDB reads .* in a path as the begin of") as refused:
        await DuckDBStore(path).open()
    assert "damaged" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["a b", "a*b", "a[b]", "a#b", "a%20b", "md:a", "a'b", 'a"b', "a\nb", "ü", "temp", ":memory"]
)
async def test_any_other_name_is_a_name(tmp_path, name):
    async with opened(tmp_path / name) as store:
        assert await store.agents() == []

    assert (tmp_path / name).is_file()


LIMITS = {
    "memory": (
        "RLIMIT_AS",
        "int(open('/proc/self/statm').read().split()[0]) * 4096 + 2_000_000",
        "too little memory to",
    ),
    "files": ("RLIMIT_NOFILE", "3", "Too many open files"),
}


@pytest.mark.skipif(sys.platform != "linux", reason="the size of a process is read from /proc")
@pytest.mark.parametrize(("limit", "value", "told"), LIMITS.values(), ids=LIMITS)
def test_a_limit_that_is_reached_while_opening_is_named(tmp_path, limit, value, told):
    script = f"""
from piano_jupyter.store.duckdb import database, error_messages as faults, migrate, operations
path = path.encode().decode()
soft, hard = resource.getrlimit(resource.{limit})
resource.setrlimit(resource.{limit}, ({value}, hard))
try:
    database.Database(path)
except StoreError as error:
    told = error
resource.setrlimit(resource.{limit}, (soft, hard))
print(told)
"""
    said = outcome(script, tmp_path / "piano.duckdb")

    assert told in said
    assert "damaged" not in said


async def test_tables_that_do_not_fit_are_not_called_damaged(tmp_path):
    path = tmp_path / "piano.duckdb"
    async with opened(path):
        pass
    with duckdb.connect(path) as connection:
        connection.execute("DROP TABLE decisions; DROP TABLE approvals; DROP TABLE jobs")

    with pytest.raises(StoreError, match=r"does not fit this piano_jupyter .*approvals") as refused:
        await DuckDBStore(path).open()
    assert "damaged" not in str(refused.value)


@pytest.mark.parametrize("error", [KeyError("ours"), duckdb.ConversionException("ours"), MemoryError("ours")])
async def test_an_error_of_ours_while_opening_stays_one_and_lets_go_of_the_file(tmp_path, monkeypatch, error):
    path = tmp_path / "piano.duckdb"

    def fail():
        raise error

    with monkeypatch.context() as context:
        context.setattr("piano_jupyter.store.duckdb.database.migrations", fail)
        with pytest.raises((KeyError, MemoryError, StoreError), match="ours") as refused:
            await DuckDBStore(path).open()
    assert "damaged" not in str(refused.value)

    assert outcome(TRY, path) == "opened\n"


async def test_a_folder_where_the_log_should_be_is_not_called_damage(tmp_path):
    path = tmp_path / "piano.duckdb"
    async with opened(path):
        pass
    Path(f"{path}.wal").mkdir()

    with pytest.raises(StoreError, match=r"cannot be opened .*Is a directory"):
        await DuckDBStore(path).open()


@pytest.mark.skipif(
    not IS_ROOT, reason="only root can become somebody else, and of one's own files Piano sets the mode"
)
def test_a_lock_file_that_may_not_be_written_is_named(tmp_path):
    with users_folder() as (folder, user):
        path = folder / "piano.duckdb"
        Path(f"{path}.lock").touch(mode=0o444)
        said = outcome((AS_NOBODY if user else "") + TRY, path)

    assert said.startswith(
        f"StoreError database {path} cannot be written (Permission denied: {path}.lock): allow it, or"
    )


@pytest.mark.parametrize("suffix", [".wal", ".wal.checkpoint", ".wal.recovery", ".tmp"])
@pytest.mark.parametrize("is_linked", [True, False], ids=["over a link", "as it is named"])
async def test_a_link_in_place_of_what_duckdb_keeps_beside_a_file_is_named_and_not_followed(
    tmp_path, suffix, is_linked
):
    """A checkout can bring one along, and DuckDB would write through it."""
    (tmp_path / "profile").write_text("mine")
    database = tmp_path / "p.duckdb"
    Path(f"{database}{suffix}").symlink_to(tmp_path / "profile")
    if is_linked:
        (tmp_path / "link.duckdb").symlink_to(database)

    with pytest.raises(StoreError, match=rf"p\.duckdb{re.escape(suffix)} is a link, .* move it out of the way"):
        await DuckDBStore(tmp_path / "link.duckdb" if is_linked else database).open()
    assert (tmp_path / "profile").read_text() == "mine"
    assert not database.exists()

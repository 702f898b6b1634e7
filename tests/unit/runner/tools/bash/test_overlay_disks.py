"""What is applied of a command's changes on full disks, between disks, beside another command, or after a kill."""

import asyncio
import os
import signal
import stat
import subprocess
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from child import needs_root, run_child


@contextmanager
def mounted(folder, size):
    """Mount a small disk on a new folder."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture
def cache_on(tmp_path_factory, monkeypatch):
    """Have Piano's cache, where the overlays are, on a disk of its own of a given size."""

    @contextmanager
    def cache_on(size):
        with mounted(tmp_path_factory.mktemp("disks") / "cache", size) as folder:
            monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
            yield folder

    return cache_on


def contents(folder):
    """Return the files in a folder with the beginnings of their contents, without Piano's own."""
    files = (each for each in folder.rglob("*") if each.is_file() and ".piano" not in each.parts)
    return {str(each.relative_to(folder)): each.read_text()[:4] for each in files}


@needs_root
async def test_k12_when_the_disk_of_the_overlay_is_full_the_command_is_told_and_no_file_is_half_changed(
    run, cache_on, tmp_path
):
    (tmp_path / "large").write_text("old" * 1_000_000)
    (tmp_path / "a").write_text("old")
    with cache_on("1m"):
        text = await run("echo new >a; echo more >>large; mv a b")

    assert "No space left on device" in text
    assert (tmp_path / "large").read_text() == "old" * 1_000_000
    assert contents(tmp_path) == {"large": "oldo", "b": "new\n"}


@needs_root
async def test_k12_where_the_cache_is_on_a_disk_that_can_hold_no_overlay_another_one_is_used(
    run, tmp_path, tmp_path_factory, monkeypatch
):
    disk = tmp_path_factory.mktemp("disk")
    for each in ("lower", "upper", "work", "cache"):
        (disk / each).mkdir()
    options = f"lowerdir={disk}/lower,upperdir={disk}/upper,workdir={disk}/work"
    subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", disk / "cache"], check=True)  # noqa: ASYNC221
    try:
        monkeypatch.setenv("XDG_CACHE_HOME", str(disk / "cache"))
        run.bash.approves = True
        await run("touch a; touch .envrc")
        layers = run.bash.tool.layers("write")
    finally:
        subprocess.run(["umount", "-l", disk / "cache"], check=True)  # noqa: ASYNC221

    assert f"held back in /var/tmp/piano_jupyter-{os.getuid()}/commands/" in run.bash.asked[0]
    assert layers[0].startswith("sandbox: bubblewrap")
    assert contents(tmp_path) == {"a": "", ".envrc": ""}


@needs_root
async def test_k12_when_there_is_no_room_for_an_overlay_nothing_is_run(run, cache_on, tmp_path):
    await run(":")
    with cache_on("1m,nr_inodes=6"):  # for the folders above, and no more
        text = await run("touch a")

    assert text.startswith("no_sandbox: nothing was run: there is no sandbox (there is no folder for what commands")
    assert contents(tmp_path) == {}


FILLING = "echo new >a; head -c 3M /dev/zero >b; echo new >c; mv d e; rm other"


@pytest.fixture
def small_workspace(tmp_path):
    """A workspace on a disk that is almost full."""
    with mounted(tmp_path / "disk", "2m") as workspace:
        for name, size in (("a", 1), ("b", 1), ("d/moved", 1_200_000), ("other", 1)):
            (workspace / name).parent.mkdir(exist_ok=True)
            (workspace / name).write_text("o" * size)
        yield workspace


@needs_root
async def test_k12_when_the_disk_of_the_workspace_is_full_each_file_is_the_old_or_the_new_one_and_none_is_lost(
    bash_of, sandboxed, small_workspace
):
    bash = bash_of(workspace=str(small_workspace))

    _, text = await bash(FILLING, mode="write")

    assert (
        "not applied: 'b' (No space left on device); 'd/moved' (where it was moved to, it could not be written); "
        "'e/moved' (No space left on device); kept for 7 days in"
    ) in text
    assert contents(small_workspace) == {"a": "new\n", "b": "o", "c": "new\n", "d/moved": "oooo"}


@needs_root
async def test_k12_control_without_an_overlay_a_full_disk_leaves_half_of_a_file(bash_of, small_workspace):
    await bash_of(workspace=str(small_workspace))(FILLING)

    assert 1 < (small_workspace / "b").stat().st_size < 3 << 20


@needs_root
async def test_k12_changes_on_another_disk_are_copied_with_modes_times_attributes_and_holes(run, cache_on, tmp_path):
    (tmp_path / "old").write_text("old")
    touch = "touch -h -d 2001-02-03T04:05:06Z"
    with cache_on("8m") as cache:
        other_disk = cache.stat().st_dev != tmp_path.stat().st_dev
        await run(
            f"echo new >old; chmod 640 old; {touch} old; ln -s old link; {touch} link; ln old twin; "
            "truncate -s 100M sparse; echo end >>sparse; "
            """python3 -c 'import os; os.setxattr("old", "user.note", b"kept")'"""
        )

    old, sparse = (tmp_path / "old").stat(), (tmp_path / "sparse").stat()
    assert other_disk
    assert ((tmp_path / "old").read_text(), stat.S_IMODE(old.st_mode), old.st_mtime) == ("new\n", 0o640, 981173106)
    assert [(each, os.getxattr(tmp_path / "old", each)) for each in os.listxattr(tmp_path / "old")] == [
        ("user.note", b"kept")
    ]
    assert ((tmp_path / "link").readlink(), (tmp_path / "link").lstat().st_mtime) == (Path("old"), 981173106)
    assert (tmp_path / "twin").read_text() == "new\n"
    assert (sparse.st_size, sparse.st_blocks < 1000) == (100 * (1 << 20) + 4, True)


async def test_k13_of_two_commands_at_once_one_changes_the_file_that_both_write_and_the_other_is_told(paused, tmp_path):
    (tmp_path / "both").write_text("old")
    first, go_on = await paused("echo 1 >both; echo 1 >one; $pause", thread=1)
    second, _ = await paused("echo 2 >both; echo 2 >two; $pause", thread=2)
    go_on()

    texts = [text for _, text in (await asyncio.wait_for(first, 60), await asyncio.wait_for(second, 60))]

    told = ["conflict: somebody else changed 'both' while the command ran" in text for text in texts]
    assert sorted(told) == [False, True]
    assert contents(tmp_path) == {"both": f"{told.index(False) + 1}\n", "one": "1\n", "two": "2\n"}


async def test_k13_control_without_overlays_the_later_command_wins_and_nobody_is_told(paused, tmp_path):
    first, go_on = await paused("echo 1 >both; $pause; echo 1 >both", mode="full", thread=1)
    second, _ = await paused("echo 2 >both; $pause; echo 2 >both", mode="full", thread=2)
    go_on()

    texts = [text for _, text in (await asyncio.wait_for(first, 60), await asyncio.wait_for(second, 60))]

    assert not any("conflict" in text for text in texts)


#: A kernel that is killed before a certain system call, while it applies what a command has changed.
KILLED = """
import asyncio
from uuid import uuid4

workspace, event, which = sys.argv[1:]
seen = 0

def killer(name, arguments):
    global seen
    if name == event and (event != "os.rename" or str(arguments[0]).isdigit()) and (seen := seen + 1) == int(which):
        os.kill(os.getpid(), 9)

async def main():
    tool = BashTool(PianoConfig(workspace=workspace))
    call = ToolCallContext(thread_id=UUID(int=1), call_id=uuid4(), mode="write", say=print)
    command = "for i in {1..9}; do echo new >$i; done; rm gone; echo evil >.envrc"
    await run_tool(tool.tool(), {"command": command}, call=call, timeout=60, output_limit=4000)

sys.addaudithook(killer)
asyncio.run(main())
"""


#: The same with files that are written where they are.
KILLED_IN_PLACE = """
from piano_jupyter.runner.tools.bash import changes

def written_in_place(name, status, source, target, *, root):
    os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, dir_fd=target)
    os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)

changes.move_file = written_in_place
"""


def test_k14_control_a_file_that_is_written_in_place_is_neither_old_nor_new_after_such_a_kill(
    bash_of, sandboxed, tmp_path
):
    (tmp_path / "1").write_text("old")

    assert run_child(KILLED_IN_PLACE + KILLED, tmp_path, "os.rename", 1) == -signal.SIGKILL
    assert contents(tmp_path)["1"] == ""


@pytest.mark.parametrize(
    ("event", "is_on_another_disk"),
    [("os.rename", False), pytest.param("os.truncate", True, marks=needs_root)],
    ids=["renamed", "copied"],
)
@pytest.mark.parametrize("which", [1, 5])
async def test_k14_a_kernel_that_is_killed_while_changes_are_applied_leaves_each_file_old_or_new(
    run, cache_on, tmp_path, event, is_on_another_disk, which
):
    for name in (*"123456789", "gone"):
        (tmp_path / name).write_text("old")
    with cache_on("8m") if is_on_another_disk else nullcontext(Path(os.environ["XDG_CACHE_HOME"])) as cache:
        assert run_child(KILLED, tmp_path, event, which) == -signal.SIGKILL
        left = contents(tmp_path)
        [overlay] = cache.glob("piano_jupyter/commands/*")
        await run("true")
        kept = overlay.exists()
        os.utime(overlay, (0, 0))
        await run("echo on >on")

        assert left == {**{name: "new\n" if int(name) < which else "old" for name in "123456789"}, "gone": "old"}
        assert (kept, overlay.exists()) == (True, False)
        assert [each.name for each in tmp_path.rglob("*.tmp")] == []

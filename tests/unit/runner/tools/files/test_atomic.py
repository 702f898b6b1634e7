"""Files are written completely or not at all: if killed, on a full disk, without hard links, with other owners."""

import fcntl
import os
import signal
import subprocess
from contextlib import contextmanager

import pytest
from child import needs_root, run_child, users_folder

from piano_jupyter.errors import ToolError
from piano_jupyter.runner.tools.files import atomic
from piano_jupyter.runner.tools.files.workspace import Workspace
from piano_jupyter.safe_files import closing_descriptor

#: The child process kills itself just before a system call, at an audit event of Python.
KILLED = """
import tempfile
ws, tool, event, which = sys.argv[1:]
seen = 0
def killer(name, args):
    global seen
    if name == event and (seen := seen + 1) == int(which):
        os.kill(os.getpid(), 9)
tempfile.gettempdir()  # else it tries out a file, and removes it
create, edit = file_tools(PianoConfig(workspace=ws, tool_output_limit=1000))[1:]
sys.addaudithook(killer)
if tool == "edit":
    edit("d/f", [{"old_text": "old", "new_text": "new"}])
else:
    create("d/new", "new")
which = 0  # coverage renames its own file at the end
print("done")
"""


@pytest.fixture
def ws(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/f").write_text("old\n" + "x" * 100_000)
    return tmp_path


@contextmanager
def mounted(folder, size):
    """Yield a small separate file system."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def files(ws):
    return sorted(str(each.relative_to(ws)) for each in ws.rglob("*") if each.is_file())


def write(sandbox, path, data):
    with sandbox.find(path) as found:
        sandbox.replace(found, data)


@pytest.mark.parametrize("event", ["os.rename", "os.chown", "os.chmod"])
def test_b9_a_kill_before_the_rename_leaves_the_old_content_and_the_next_use_cleans_up(ws, event):
    before = (ws / "d/f").read_bytes()

    assert run_child(KILLED, ws, "edit", event, 1) == -signal.SIGKILL

    assert (ws / "d/f").read_bytes() == before
    assert len(files(ws)) == 2, "the kill came too early or too late"
    Workspace(ws).make("other", b"")
    assert files(ws) == ["d/f", "other"]


@pytest.mark.parametrize(("event", "there"), [("os.link", False), ("os.remove", True)])
def test_b9_a_kill_while_a_file_is_created_leaves_the_complete_file_or_none(ws, event, there):
    assert run_child(KILLED, ws, "create", event, 1) == -signal.SIGKILL

    assert (ws / "d/new").exists() == there
    assert not there or (ws / "d/new").read_text() == "new"
    Workspace(ws).make("other", b"")
    assert files(ws) == ["d/f", *["d/new"] * there, "other"]


def test_b9_without_a_kill_the_edit_is_made(ws):
    assert run_child(KILLED, ws, "edit", "os.rename", 2) == "done"
    assert (ws / "d/f").read_text().startswith("new\n")


@needs_root
def test_b9_a_kill_leaves_nothing_on_another_file_system_in_the_workspace(ws):
    with mounted(ws / "m", "1m"):
        (ws / "m/f").write_text("old")
        code = KILLED.replace('"d/f"', '"m/f"')

        assert (
            run_child(code, ws, "edit", "os.rename", 2) == -signal.SIGKILL
        )  # the first attempt finds another file system

        assert len(files(ws / "m")) == 2
        write(Workspace(ws), "m/f", b"new")
        assert files(ws / "m") == ["f"]
        assert (ws / "m/f").read_text() == "new"
        Workspace(ws).make("m/g", b"made")
        assert (ws / "m/g").read_text() == "made"


def test_temporary_files_of_a_running_process_are_not_removed(ws):
    sandbox = Workspace(ws)
    sandbox.make("first", b"")
    living = ws / ".piano/tmp/.piano-0123456789ab.tmp"
    living.write_text("being written")
    holder = os.open(living.parent, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_SH)
    sandbox.make("second", b"")
    assert living.exists()
    os.close(holder)
    sandbox.make("third", b"")

    assert not living.exists()


def test_a_folder_that_another_program_keeps_locked_is_an_error_after_a_limited_wait(ws, monkeypatch):
    monkeypatch.setattr(atomic, "LOCK_TIMEOUT_S", 0.0)
    (ws / ".piano").touch()  # so that temporary files are in the file's own folder, which commands see
    with closing_descriptor(os.open(ws / "d", os.O_RDONLY)) as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)

        for call in (lambda: write(Workspace(ws), "d/f", b"new"), lambda: Workspace(ws).make("d/g", b"new")):
            with pytest.raises(ToolError, match=r"^in_use: 'd/[fg]': another program holds a lock on the folder; "):
                call()

    write(Workspace(ws), "d/f", b"new")
    assert (ws / "d/f").read_text() == "new"
    assert files(ws) == [".piano", "d/f"]


@needs_root
def test_b11_a_full_disk_leaves_the_old_content_and_is_an_error(tmp_path):
    with mounted(tmp_path / "ws", "64k"):
        ws = tmp_path / "ws"
        (ws / "f").write_text("old")
        sandbox = Workspace(ws)
        sandbox.make("small", b"")

        for call in (lambda: write(sandbox, "f", b"x" * 100_000), lambda: sandbox.make("g", b"x" * 100_000)):
            with pytest.raises(ToolError, match=r"^no_space: '[fg]': no space left on device$"):
                call()
        assert (ws / "f").read_text() == "old"
        assert files(ws) == ["f", "small"]
        write(sandbox, "f", b"new")
        assert (ws / "f").read_text() == "new"


def test_new_files_are_created_without_hard_links_and_never_overwrite_another(ws):
    said = run_child(
        """
refuse({"x86_64": 265, "aarch64": 37}, 1)
create = file_tools(PianoConfig(workspace=sys.argv[1], tool_output_limit=1000))[1]
folder = os.open(sys.argv[1] + "/d", os.O_RDONLY)
try:
    os.link("f", "l", src_dir_fd=folder, dst_dir_fd=folder)
except PermissionError:
    print(create("d/new", "new"))
from piano_jupyter.runner.tools.files.atomic import create_file
try:
    create_file(folder, "f", b"lost", staging=folder)
except FileExistsError as error:
    print(error.filename)
""",
        ws,
    )

    assert said == "created 'd/new': 1 lines, 3 bytes\nf"
    assert (ws / "d/new").read_text() == "new"
    assert (ws / "d/f").read_text().startswith("old")
    assert files(ws) == ["d/f", "d/new"]


def test_file_tools_cannot_do_what_the_user_has_no_permission_for():
    with users_folder() as (ws, user):
        (ws / "closed").touch(0o600)
        (ws / "closed").chmod(0)
        (ws / "folder").mkdir(0o555)
        (ws / "folder").chmod(0o555)
        for name in ("closed", "folder") if user else ():
            os.chown(ws / name, user, user)
        said = run_child(
            """
read, create, edit = file_tools(PianoConfig(workspace=sys.argv[1], tool_output_limit=1000))
for call in (lambda: read("closed"), lambda: create("folder/x", ""), lambda: create("own", "x"),
             lambda: edit("own", [{"old_text": "x", "new_text": "y"}]), lambda: read("own")):
    try:
        print(call())
    except Exception as error:
        print(error)
print(beneath.resolver_name())
""",
            ws,
            user=user,
        )
        (ws / "folder").chmod(0o755)

    assert said.splitlines()[:5] == [
        "no_permission: 'closed': permission denied",
        "no_permission: 'folder/x': permission denied",
        "created 'own': 1 lines, 1 bytes",
        "edited 'own' at line 1",
        "1\ty",
    ]


@needs_root
def test_a_file_of_another_owner_loses_its_setuid_bits_when_a_user_replaces_it():
    with users_folder() as (ws, user):
        (ws / "f").write_text("x")
        (ws / "f").chmod(0o4755)
        said = run_child(
            """
edit = file_tools(PianoConfig(workspace=sys.argv[1], tool_output_limit=1000))[2]
print(edit("f", [{"old_text": "x", "new_text": "y"}]), oct(os.stat(sys.argv[1] + "/f").st_mode))
""",
            ws,
            user=user,
        )

    assert said == "edited 'f' at line 1 0o100755"


def test_an_edited_file_loses_its_setuid_bits(ws):
    (ws / "d/f").chmod(0o6751)

    write(Workspace(ws), "d/f", b"new")

    assert (ws / "d/f").stat().st_mode & 0o7777 == 0o751


def test_a_file_with_a_hard_link_outside_the_workspace_can_be_read_but_not_written():
    with users_folder() as (folder, user):
        (folder / "ws").mkdir()
        (folder / "outside").write_text("x")
        for name in ("ws", "outside") if user else ():
            os.chown(folder / name, user, user)
        (folder / "ws/f").hardlink_to(folder / "outside")
        said = run_child(
            """
read, create, edit = file_tools(PianoConfig(workspace=sys.argv[1], tool_output_limit=1000))
edits = [{"old_text": "x", "new_text": "y"}]
for call in (lambda: edit("f", edits), lambda: create("f", "y"), lambda: read("f"),
             lambda: os.unlink(sys.argv[1] + "/../outside"), lambda: edit("f", edits)):
    try:
        print(call())
    except Exception as error:
        print(error)
""",
            folder / "ws",
            user=user,
        )

    linked = "linked: 'f' has another name (a hard link), maybe outside the workspace, so tools cannot write it; "
    linked += "write a file with a new name, or tell the user"
    assert said.splitlines() == [linked, linked, "1\tx", "None", "edited 'f' at line 1"]


def test_a_file_that_a_killed_create_file_left_with_two_names_can_be_edited(ws):
    assert run_child(KILLED, ws, "create", "os.remove", 1) == -signal.SIGKILL
    assert (ws / "d/new").stat().st_nlink == 2

    write(Workspace(ws), "d/new", b"newer")

    assert (ws / "d/new").read_text() == "newer"
    assert files(ws) == ["d/f", "d/new"]

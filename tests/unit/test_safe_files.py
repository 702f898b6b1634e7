"""Files that Piano reads and writes for the user, while a command plants links in the workspace."""

import errno
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from child import IS_ROOT, needs_root, run_child, users_folder

from piano_jupyter.errors import PianoError
from piano_jupyter.safe_files import check_writable, read_file, write_file


@pytest.fixture
def places(tmp_path):
    """A workspace, and a folder outside with a file that must not change."""
    workspace, outside = tmp_path / "workspace", tmp_path / "outside"
    workspace.mkdir()
    outside.mkdir()
    (outside / "profile").write_text("mine\n")
    return workspace, outside


def write(path, data, workspace, *, replace=True, **given):
    write_file(Path(path), data, workspace=workspace, replace=replace, **given)


def everything(folder):
    return sorted(str(each.relative_to(folder)) for each in folder.rglob("*"))


def test_a_link_in_a_files_place_is_replaced_and_its_target_stays_unchanged(places):
    workspace, outside = places
    file = workspace / "talk.md"
    file.symlink_to(outside / "profile")

    write(file, b"new", workspace)

    assert (file.is_symlink(), file.read_bytes()) == (False, b"new")
    assert (outside / "profile").read_text() == "mine\n"
    assert everything(workspace) == ["talk.md"]


@pytest.mark.parametrize("target", ["profile", "nothing"])
def test_a_link_counts_as_an_existing_file_whatever_its_target(places, target):
    workspace, outside = places
    (workspace / "talk.md").symlink_to(outside / target)

    with pytest.raises(PianoError, match=r"talk\.md exists \(it is a link\); say so"):
        write(workspace / "talk.md", b"", workspace, replace=False, advice="say so")
    with pytest.raises(PianoError, match=r"talk\.md exists \(it is a link\); name another file"):
        check_writable(workspace / "talk.md", workspace=workspace, replace=False)
    assert everything(outside) == ["profile"]


@pytest.mark.parametrize("path", ["data/talk.md", "data/new/talk.md", "deep/data/talk.md", "data/../outside/talk.md"])
@pytest.mark.parametrize("absolute", [True, False], ids=["absolute", "relative"])
def test_a_link_that_leads_out_of_the_workspace_is_named_and_not_followed(places, path, absolute):
    workspace, outside = places
    (workspace / "deep").mkdir()
    (workspace / "data").symlink_to(outside if absolute else "../outside")
    (workspace / "deep/data").symlink_to(outside if absolute else "../../outside")
    named = "workspace/deep/data" if path.startswith("deep") else "workspace/data"

    with pytest.raises(PianoError, match=rf"{named} is a link that leads out of the workspace"):
        write(workspace / path, b"new", workspace, make_folders=True)
    with pytest.raises(PianoError, match=rf"{named} is a link that leads out of the workspace"):
        check_writable(workspace / path, workspace=workspace, replace=True)
    assert everything(outside) == ["profile"]


def test_files_outside_of_the_workspace_are_not_read_through_a_link_in_it(places):
    workspace, outside = places
    (workspace / "prompt.md").symlink_to(outside / "profile")
    (workspace / "data").symlink_to(outside)

    for path, named in (("prompt.md", "prompt.md"), ("data/profile", "data")):
        with pytest.raises(PianoError, match=rf"{named} is a link that leads out of the workspace"):
            read_file(workspace / path, workspace=workspace, max_bytes=100)


def test_a_link_that_stays_in_the_workspace_is_followed(places):
    workspace, _ = places
    (workspace / "runs/may").mkdir(parents=True)
    (workspace / "latest").symlink_to("runs/may")
    (workspace / "whole").symlink_to(workspace / "runs/may")
    (workspace / "prompt.md").symlink_to("latest/a.md")

    write(workspace / "latest/a.md", b"a", workspace)
    write(workspace / "whole/b.md", b"b", workspace)

    assert everything(workspace / "runs") == ["may", "may/a.md", "may/b.md"]
    assert read_file(workspace / "prompt.md", workspace=workspace, max_bytes=100) == b"a"


def test_links_outside_of_the_workspace_are_the_users_own_and_are_followed(places, tmp_path):
    workspace, outside = places
    (tmp_path / "out").symlink_to("outside")
    (tmp_path / "alias").symlink_to(workspace)

    write(tmp_path / "out/talk.md", b"new", workspace)
    write(tmp_path / "alias/talk.md", b"new", tmp_path / "alias")

    assert read_file(tmp_path / "out/talk.md", workspace=workspace, max_bytes=3) == b"new"
    assert (outside / "talk.md").read_bytes() == (workspace / "talk.md").read_bytes() == b"new"


def test_a_users_link_into_the_workspace_cannot_lead_out_of_it_again(places, tmp_path):
    workspace, outside = places
    (tmp_path / "out").symlink_to(workspace / "results/today")
    (workspace / "results").symlink_to(outside)
    (outside / "today").mkdir()

    with pytest.raises(PianoError, match="workspace/results is a link that leads out of the workspace"):
        write(tmp_path / "out/talk.md", b"new", workspace)
    assert everything(outside / "today") == []


def test_a_path_is_relative_to_the_working_directory_and_may_contain_dots(places, monkeypatch):
    workspace, outside = places
    (workspace / "sub").mkdir()
    monkeypatch.chdir(workspace / "sub")

    write("talk.md", b"1", workspace)
    write("../talk.md", b"2", workspace)
    write("../../outside/talk.md", b"3", workspace)

    assert [(workspace / "sub/talk.md").read_text(), (workspace / "talk.md").read_text()] == ["1", "2"]
    assert (outside / "talk.md").read_text() == "3"


def test_what_is_not_a_file_is_neither_replaced_nor_waited_for(places):
    workspace, _ = places
    os.mkfifo(workspace / "pipe")
    (workspace / "folder").mkdir()
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(workspace / "socket"))
    listening.close()

    for name, what in (("pipe", "a named pipe"), ("socket", "a socket"), ("folder", "a folder")):
        with pytest.raises(PianoError, match=rf"{name} is {what}"):
            write(workspace / name, b"", workspace)
    for name in ("pipe", "folder"):
        with pytest.raises(PianoError, match=rf"{name} is a "):
            read_file(workspace / name, workspace=workspace, max_bytes=1)
    assert everything(workspace) == ["folder", "pipe", "socket"]


def test_a_loop_of_links_is_an_error_in_one_sentence(places):
    workspace, _ = places
    (workspace / "a").symlink_to("b")
    (workspace / "b").symlink_to("a")

    with pytest.raises(PianoError, match=r"a/talk\.md cannot be written: too many levels of symbolic links"):
        write(workspace / "a/talk.md", b"", workspace)


def test_a_file_that_is_replaced_keeps_its_permissions_and_a_new_one_gets_the_usual_ones(places):
    workspace, _ = places
    (workspace / "talk.md").touch(0o600)
    (workspace / "other").touch()
    os.link(workspace / "talk.md", workspace / "twin")

    write(workspace / "talk.md", b"new", workspace)
    write(workspace / "fresh.md", b"new", workspace, replace=False)

    assert stat.S_IMODE((workspace / "talk.md").stat().st_mode) == 0o600
    assert (workspace / "fresh.md").stat().st_mode == (workspace / "other").stat().st_mode
    assert (workspace / "twin").read_bytes() == b""


@needs_root
def test_a_file_that_root_replaces_keeps_its_owner(places):
    workspace, _ = places
    (workspace / "talk.md").touch()
    os.chown(workspace / "talk.md", 1234, 1234)

    write(workspace / "talk.md", b"new", workspace)

    assert (workspace / "talk.md").stat().st_uid == 1234


def test_missing_folders_are_created_on_request_and_otherwise_named_in_the_error(places):
    workspace, _ = places

    with pytest.raises(PianoError, match=r"^there is no folder .*workspace/a/b; create it first$"):
        write(workspace / "a/b/talk.md", b"", workspace)
    with pytest.raises(PianoError, match=r"talk\.md cannot be read: no such file or directory$"):
        read_file(workspace / "a/b/talk.md", workspace=workspace, max_bytes=1)
    write(workspace / "a/b/talk.md", b"new", workspace, make_folders=True)

    assert (workspace / "a/b/talk.md").read_bytes() == b"new"


def test_no_descriptor_is_left_open(places):
    workspace, outside = places
    (workspace / "data").symlink_to(outside)
    before = len([*Path("/dev/fd").iterdir()])

    write(workspace / "a/b/talk.md", b"new", workspace, make_folders=True)
    read_file(workspace / "a/../a/b/talk.md", workspace=workspace, max_bytes=10)
    for path in ("data/x", "a", "none/x"):
        with pytest.raises(PianoError):
            write(workspace / path, b"", workspace)

    assert len([*Path("/dev/fd").iterdir()]) == before


REFUSED = """
from piano_jupyter.errors import PianoError
from piano_jupyter.safe_files import write_file

ws = Path(sys.argv[1])
try:
    write_file(ws / sys.argv[2], b"x" * 300_000, workspace=ws, replace=True)
except PianoError as error:
    print(error)
"""


def test_a_folder_without_permission_is_an_error_and_no_temporary_file_is_left():
    with users_folder() as (workspace, user):
        (workspace / "closed").mkdir()
        (workspace / "closed/talk.md").write_text("old")
        (workspace / "closed").chmod(0o555)
        if user is not None:
            os.chown(workspace / "closed", user, user)

        said = run_child(REFUSED, workspace, "closed/talk.md", user=user)

        assert said == f"{workspace}/closed/talk.md cannot be written: permission denied"
        assert everything(workspace) == ["closed", "closed/talk.md"]
        assert (workspace / "closed/talk.md").read_text() == "old"


@pytest.mark.skipif(not IS_ROOT, reason="only a machine's own root can mount")
@pytest.mark.parametrize(("option", "says"), [("size=64k", "no space left on device"), ("ro", "read-only file system")])
def test_a_full_or_read_only_disk_is_an_error_and_no_temporary_file_is_left(tmp_path, option, says):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path], check=True)
    try:
        (tmp_path / "talk.md").write_text("old")
        subprocess.run(["mount", "-o", f"remount,{option}", tmp_path], check=True)

        said = run_child(REFUSED, tmp_path, "talk.md")

        assert said == f"{tmp_path}/talk.md cannot be written: {says}"
        assert everything(tmp_path) == ["talk.md"]
        assert (tmp_path / "talk.md").read_text() == "old"
    finally:
        subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.parametrize("path", ["talk.md", "data/talk.md"])
def test_links_are_not_followed_out_of_the_workspace_for_another_user_either(path):
    with users_folder() as (workspace, user), users_folder() as (outside, _):
        (outside / "talk.md").write_text("mine\n")
        (workspace / "data").symlink_to(outside)
        (workspace / "talk.md").symlink_to(outside / "talk.md")

        run_child(REFUSED, workspace, path, user=user)

        assert (outside / "talk.md").read_text() == "mine\n"


def test_a_name_that_is_taken_at_the_last_moment_counts_as_an_existing_file(places, monkeypatch):
    workspace, _ = places
    link = os.link

    def late(*given, **options):
        (workspace / "talk.md").write_text("theirs")
        link(*given, **options)

    monkeypatch.setattr(os, "link", late)

    with pytest.raises(PianoError, match=r"talk\.md cannot be written: file exists"):
        write(workspace / "talk.md", b"new", workspace, replace=False)
    assert everything(workspace) == ["talk.md"]
    assert (workspace / "talk.md").read_text() == "theirs"


def test_a_new_file_is_written_without_hard_links_too(places, monkeypatch):
    workspace, _ = places

    def none(*_, **__):
        raise OSError(errno.EPERM, "no")

    monkeypatch.setattr(os, "link", none)

    write(workspace / "talk.md", b"new", workspace, replace=False)

    assert (workspace / "talk.md").read_bytes() == b"new"
    assert everything(workspace) == ["talk.md"]


def test_it_can_be_imported_on_a_system_without_these_flags():
    flags = ("O_CLOEXEC", "O_NOFOLLOW", "O_DIRECTORY", "O_PATH", "O_NONBLOCK", "O_NOCTTY")
    code = f"import os\nfor each in {flags}: delattr(os, each)\nimport piano_jupyter.safe_files"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_it_works_on_a_system_without_o_path(places):
    workspace, outside = places
    code = (
        "import os, sys\ndel os.O_PATH\nfrom pathlib import Path\nfrom piano_jupyter.safe_files import write_file\n"
        "ws = Path(sys.argv[1])\nwrite_file(ws / 'a/talk.md', b'new', workspace=ws, replace=True, make_folders=True)\n"
        "write_file(ws / 'data/talk.md', b'new', workspace=ws, replace=True)"
    )
    (workspace / "data").symlink_to(outside)

    ran = subprocess.run([sys.executable, "-c", code, workspace], capture_output=True, text=True, check=False)

    assert "data is a link that leads out of the workspace" in ran.stderr
    assert everything(workspace) == ["a", "a/talk.md", "data"]
    assert everything(outside) == ["profile"]

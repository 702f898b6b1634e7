"""What file tools can access."""

import os
import resource
import socket
import time
from pathlib import Path

import pytest
from child import IS_ROOT, needs_root

from piano_jupyter.errors import ToolError
from piano_jupyter.runner.tools.files.beneath import OpenAt2Resolver, StepwiseResolver, resolver_name
from piano_jupyter.runner.tools.files.workspace import Workspace, open_regular

OUTSIDE = "outside_workspace: file tools can access only the workspace; give a path relative to it"
WAYS = [OpenAt2Resolver, StepwiseResolver] if resolver_name() == "openat2" else [StepwiseResolver]


@pytest.fixture
def root(tmp_path):
    """A workspace beside a folder with a secret, with links into and out of itself."""
    for folder in ("ws/sub", "ws/.piano", "ws/.git", "outside"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "outside" / "secret").write_text("s")
    (tmp_path / "ws" / "sub" / "a.txt").write_text("a")
    (tmp_path / "ws" / "out").symlink_to(tmp_path / "outside")
    (tmp_path / "ws" / "up").symlink_to("../outside")
    (tmp_path / "ws" / "nowhere").symlink_to(tmp_path / "outside" / "missing")
    (tmp_path / "ws" / "in").symlink_to("sub")
    (tmp_path / "ws" / "loop").symlink_to("loop")
    return tmp_path / "ws"


@pytest.fixture(params=WAYS, ids=lambda way: way.name)
def way(request):
    return request.param()


@pytest.fixture
def sandbox(root, way):
    return Workspace(root, resolver=way)


def read(sandbox, path):
    with sandbox.find(path) as found, found.open() as file:
        return file.read()


def write(sandbox, path, data):
    with sandbox.find(path) as found:
        sandbox.replace(found, data)


def said(call, *arguments):
    with pytest.raises(ToolError) as caught:
        call(*arguments)
    return str(caught.value)


def code(call, *arguments):
    return said(call, *arguments).partition(":")[0]


def names(folder):
    return [each.name for each in folder.iterdir()]


def test_a_path_in_the_workspace_is_found_relative_and_absolute(root, sandbox):
    for path in ("sub/a.txt", "./sub//a.txt", "sub/../sub/a.txt", str(root / "sub" / "a.txt")):
        assert sandbox.locate(path).names == ("sub", "a.txt")
        assert read(sandbox, path) == b"a"
    assert sandbox.locate(".").names == ()
    assert sandbox.locate("new/b.txt").names == ("new", "b.txt")


def test_a_link_in_the_workspace_is_followed_if_the_kernel_can_do_it_safely(root, way):
    sandbox = Workspace(root, resolver=way)

    if way.name == "openat2":
        assert sandbox.locate("in/a.txt").names == ("sub", "a.txt")
        assert read(sandbox, "in/a.txt") == b"a"
    else:
        assert code(read, sandbox, "in/a.txt") == "bad_path"


def test_a_workspace_that_is_a_link_can_be_used_by_both_names(root, tmp_path, way):
    (tmp_path / "link").symlink_to(root)

    for path in ("sub/a.txt", str(tmp_path / "link" / "sub" / "a.txt"), str(root / "sub" / "a.txt")):
        assert read(Workspace(tmp_path / "link", resolver=way), path) == b"a"


@pytest.mark.parametrize("path", ["../outside/secret", "../outside/missing", "..", "sub/../../outside/secret"])
def test_a1_a_path_that_leads_out_is_an_error(sandbox, path):
    assert said(read, sandbox, path) == OUTSIDE
    assert said(sandbox.make, path, b"") == OUTSIDE


def test_a2_an_absolute_path_outside_is_the_same_error_whether_or_not_it_exists(root, sandbox):
    paths = ["/etc/passwd", "/no/such/file", f"/proc/self/{'root'}/etc/passwd", "/proc/self/environ", "/dev/mem"]
    paths += [str(root.parent / "outside/secret"), f"{root}/../outside/secret", f"{root}x/secret"]

    assert {said(read, sandbox, path) for path in paths} == {OUTSIDE}
    assert {said(sandbox.locate, path) for path in paths} == {OUTSIDE}


def test_a2_the_kernels_environment_cannot_be_read_if_the_workspace_is_the_root_folder(way, tmp_path):
    machine = Workspace(Path("/"), resolver=way)

    assert said(read, machine, f"/proc/{os.getpid()}/environ") == OUTSIDE
    (tmp_path / "f").write_text("x")
    assert read(machine, str(tmp_path / "f")) == b"x"


def test_a3_a_link_that_leads_out_is_an_error(root, way):
    sandbox = Workspace(root, resolver=way)
    paths = ["out/secret", "out/missing", "up/secret", "up", "nowhere", "out/../ws/sub/a.txt"]
    refusals = {code(read, sandbox, path) for path in paths[: -1 if way.name == "walk" else None]}

    assert refusals == {"outside_workspace" if way.name == "openat2" else "bad_path"}
    assert code(sandbox.make, "up/new", b"") in refusals
    assert names(root.parent / "outside") == ["secret"]


def test_a6_a_pipe_is_an_error_at_once(root, sandbox):
    os.mkfifo(root / "pipe")
    begun = time.monotonic()

    assert code(read, sandbox, "pipe") == "not_a_regular_file"
    assert time.monotonic() - begun < 0.2


def test_a7_a_socket_and_a_folder_are_not_files(root, sandbox):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "socket"))

        assert said(read, sandbox, "socket").startswith("not_a_regular_file: 'socket'")
        assert "socket" in said(read, sandbox, "socket")
    assert said(read, sandbox, "sub") == "not_a_regular_file: 'sub' is a folder"


@needs_root
def test_a7_a_device_is_not_opened(root, sandbox):
    os.mknod(root / "device", 0o020666, os.makedev(1, 5))  # as /dev/zero

    assert code(read, sandbox, "device") == "not_a_regular_file"


@pytest.mark.parametrize(
    "path",
    ["", " ", "a\0b", "a\nb", "~", "~/x", "~root/x", "$HOME/x", "x/${HOME}", "%2e%2e/x", "a ", "x" * 5000, "\udcff"],
)
def test_a9_a_path_that_needs_expanding_or_is_not_valid_is_an_error(sandbox, path):
    assert code(sandbox.locate, path) == "bad_path"


@pytest.mark.parametrize("path", ["A$B.class", "100%.txt", "ünï cödé 🎹.txt", "a~", "...", "-rf", "con"])
def test_an_unusual_name_is_valid(sandbox, path):
    assert sandbox.make(path, b"odd") == (path,)
    assert read(sandbox, path) == b"odd"


def test_pianos_own_data_cannot_be_accessed(root, way):
    (root / "db").symlink_to(".piano")
    (root / ".piano/piano.duckdb").touch()
    (root / "data").mkdir()
    (root / "data/mine.duckdb.wal").touch()
    sandbox = Workspace(root, str(root / "data/mine.duckdb"), resolver=way)

    assert code(read, sandbox, ".piano/piano.duckdb") == "private"
    assert code(read, sandbox, "data/mine.duckdb.wal") == "private"
    assert code(sandbox.make, "data/mine.duckdb", b"") == "private"
    assert code(sandbox.make, ".piano/tmp/x", b"") == "private"
    assert code(read, sandbox, "db/piano.duckdb") == ("private" if way.name == "openat2" else "bad_path")
    with sandbox.find(".") as found:
        assert ".piano/" not in list(found.entries())


def test_a_protected_folder_cannot_be_written_through_a_link(root, way):
    (root / "hooks").symlink_to(".git")
    sandbox = Workspace(root, resolver=way)
    (root / ".git/config").write_text("old")

    assert code(sandbox.make, "hooks/pre-commit", b"") == ("protected" if way.name == "openat2" else "bad_path")
    assert code(write, sandbox, "hooks/config", b"new") == ("protected" if way.name == "openat2" else "bad_path")
    assert names(root / ".git") == ["config"]


def test_a_missing_or_impossible_path_is_an_error_with_the_reason(root, sandbox):
    assert code(read, sandbox, "none") == "not_found"
    assert code(read, sandbox, "sub/a.txt/x") == "not_found"
    assert code(read, sandbox, "loop") == "bad_path"
    assert code(read, sandbox, "x" * 300) == "bad_path"
    assert code(Workspace(root / "gone").locate, "a") == "not_found"


def test_a_file_that_this_process_may_have_locked_is_not_opened_but_a_log_is(root, sandbox):
    with (root / "data.db").open("w+b"):
        os.link(root / "data.db", root / "same.db")

        assert code(read, sandbox, "data.db") == "in_use"
        assert code(read, sandbox, "same.db") == "in_use"
    with (root / "run.log").open("ab"):
        assert read(sandbox, "run.log") == b""
    assert read(sandbox, "data.db") == b""


def test_open_regular_opens_any_file_unless_a_link_leads_out_of_its_folder(root):
    with open_regular(root.parent / "outside/secret", "secret") as file:
        assert file.read() == b"s"
    assert code(open_regular, root / "nowhere", "nowhere") in {"outside_workspace", "bad_path"}
    assert said(open_regular, root / "sub", "the skill") == "not_a_regular_file: 'the skill' is a folder"


def test_a_new_file_is_created_with_its_folders_and_never_overwrites_another(root, sandbox):
    assert sandbox.make("new/deep/b.txt", b"b") == ("new", "deep", "b.txt")

    assert (root / "new" / "deep" / "b.txt").read_bytes() == b"b"
    assert code(sandbox.make, "sub/a.txt", b"lost") == "exists"
    assert code(sandbox.make, "sub", b"lost") == "exists"
    assert code(sandbox.make, "sub/a.txt/b.txt", b"b") == "not_found"
    assert (root / "sub" / "a.txt").read_text() == "a"
    assert names(root / "new" / "deep") == ["b.txt"]
    assert names(root / "sub") == ["a.txt"]


def test_a_new_file_has_the_usual_mode_and_group_of_its_folder(root, sandbox):
    (root / "sub").chmod(0o2775)
    os.chown(root / "sub", -1, 4242 if IS_ROOT else -1)
    (root / "sub/plain").touch()

    sandbox.make("sub/made", b"")

    made, plain = ((root / "sub" / name).stat() for name in ("made", "plain"))
    assert (made.st_mode, made.st_uid, made.st_gid) == (plain.st_mode, plain.st_uid, plain.st_gid)


def test_a_file_is_replaced_completely_and_keeps_its_mode(root, sandbox):
    (root / "sub" / "a.txt").chmod(0o751)

    write(sandbox, "sub/a.txt", b"new")

    assert (root / "sub" / "a.txt").read_bytes() == b"new"
    assert (root / "sub" / "a.txt").stat().st_mode & 0o7777 == 0o751
    assert names(root / "sub") == ["a.txt"]


@needs_root
def test_a_replaced_file_keeps_its_owner_but_loses_its_setuid_bits(root, sandbox):
    os.chown(root / "sub/a.txt", 4242, 4343)
    (root / "sub/a.txt").chmod(0o6755)

    write(sandbox, "sub/a.txt", b"new")

    after = (root / "sub/a.txt").stat()
    assert (after.st_uid, after.st_gid, after.st_mode & 0o7777) == (4242, 4343, 0o755)


def test_a_file_that_somebody_changes_while_it_is_edited_is_not_replaced(root, sandbox):
    with sandbox.find("sub/a.txt") as found:
        (root / "sub" / "a.txt").write_text("theirs")

        assert code(sandbox.replace, found, b"ours") == "stale"
    assert (root / "sub" / "a.txt").read_text() == "theirs"


def test_nothing_is_written_through_a_link_in_place_of_pianos_folder(root, sandbox):
    (root / ".piano").rmdir()
    (root / ".piano").symlink_to("../outside")

    write(sandbox, "sub/a.txt", b"new")

    assert (root / "sub/a.txt").read_bytes() == b"new"
    assert names(root.parent / "outside") == ["secret"]
    assert names(root / "sub") == ["a.txt"]


def test_a_failed_write_leaves_the_old_content_and_no_temporary_file(root, sandbox):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        refusals = code(write, sandbox, "sub/a.txt", b"new" * 4096), code(sandbox.make, "sub/b", b"new" * 4096)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert refusals == ("no_space", "no_space")
    assert (root / "sub" / "a.txt").read_text() == "a"
    assert names(root / "sub") == ["a.txt"]
    assert names(root / ".piano/tmp") == []

"""Where a tool may reach."""

import os
import resource

import pytest

from piano_jupyter.errors import ToolError
from piano_jupyter.runner.sandbox import beneath, open_regular, replace, writable, write_new


@pytest.fixture
def root(tmp_path):
    """A workspace beside a folder with a secret, with links into and out of itself."""
    for folder in ("ws/sub", "ws/.piano", "ws/.git", "outside"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "outside" / "secret").write_text("s")
    (tmp_path / "ws" / "sub" / "a.txt").write_text("a")
    (tmp_path / "ws" / "out").symlink_to(tmp_path / "outside")
    (tmp_path / "ws" / "nowhere").symlink_to(tmp_path / "outside" / "missing")
    (tmp_path / "ws" / "in").symlink_to("sub")
    (tmp_path / "ws" / "loop").symlink_to("loop")
    return tmp_path / "ws"


def code(call, *arguments):
    with pytest.raises(ToolError) as caught:
        call(*arguments)
    return str(caught.value).partition(":")[0]


def names(folder):
    return [each.name for each in folder.iterdir()]


def test_a_path_in_the_workspace_is_found_relative_absolute_and_through_a_link(root):
    there = (root / "sub" / "a.txt").resolve()

    for path in ("sub/a.txt", "./sub//a.txt", "sub/../sub/a.txt", "in/a.txt", str(root / "sub" / "a.txt"), str(there)):
        assert beneath(root, path) == there
    assert beneath(root, ".") == root.resolve()
    assert beneath(root, "new/b.txt") == root.resolve() / "new" / "b.txt"


def test_a_workspace_that_is_itself_a_link_is_reached_by_both_names(root, tmp_path):
    (tmp_path / "link").symlink_to(root)

    for path in ("sub/a.txt", str(tmp_path / "link" / "sub" / "a.txt"), str(root / "sub" / "a.txt")):
        assert beneath(tmp_path / "link", path) == (root / "sub" / "a.txt").resolve()


def test_outside_is_refused_in_the_same_words_whether_or_not_something_is_there(root, tmp_path):
    paths = [
        "../outside/secret",
        "../outside/missing",
        "..",
        "sub/../../outside/secret",
        "../outside/../ws/sub/a.txt",
        "out/secret",
        "out/missing",
        "out/../ws/sub/a.txt",
        "nowhere",
        "/etc/passwd",
        "/no/such/file",
        "/proc/self/root/etc/passwd",
        "/proc/self/environ",
        "/dev/mem",
        str(tmp_path / "outside" / "secret"),
        f"{root}/../outside/secret",
        f"{root}x/secret",
    ]

    said = set()
    for path in paths:
        with pytest.raises(ToolError) as caught:
            beneath(root, path)
        said.add(str(caught.value))

    assert said == {
        "outside_workspace: file tools reach only what is in the workspace; give a path relative to it",
    }


@pytest.mark.parametrize(
    "path",
    ["", " ", "a\0b", "a\nb", "~", "~/x", "~root/x", "$HOME/x", "x/${HOME}", "%2e%2e/x", "a ", "x" * 5000, "\udcff"],
)
def test_a_path_that_would_need_expanding_or_is_no_path_is_refused(root, path):
    assert code(beneath, root, path) == "bad_path"


@pytest.mark.parametrize("path", ["A$B.class", "100%.txt", "ünï cödé 🎹.txt", "a~", "...", "-rf", "con"])
def test_an_odd_name_is_a_name(root, path):
    assert beneath(root, path) == root.resolve() / path


def test_pianos_own_data_is_not_reached_and_what_runs_by_itself_is_not_written(root):
    (root / "db").symlink_to(".piano")

    assert code(beneath, root, ".piano/piano.duckdb") == "private"
    assert code(beneath, root, "db/piano.duckdb") == "private"
    for path in (
        ".git/hooks/pre-commit",
        "sub/.git/config",
        ".agents/skills/x/SKILL.md",
        "AGENTS.md",
        ".mcp.json",
        ".env",
    ):
        assert beneath(root, path)
        assert code(writable, root, path) == "protected"
    assert writable(root, "sub/.gitignore")


def test_only_a_regular_file_is_opened_and_nothing_is_waited_for(root):
    os.mkfifo(root / "pipe")
    (root / "null").symlink_to("/dev/null")

    assert code(open_regular, root / "pipe", "pipe") == "not_a_regular_file"
    assert code(open_regular, root / "sub", "sub") == "not_a_regular_file"
    assert code(open_regular, root / "null", "null") == "not_a_regular_file"
    assert code(open_regular, root / "none", "none") == "not_found"
    assert code(open_regular, root / "loop", "loop") == "bad_path"
    assert code(open_regular, root / ("x" * 300), "x") == "bad_path"
    with open_regular(root / "sub" / "a.txt", "a.txt") as file:
        assert file.read() == b"a"


def test_a_file_that_this_process_may_have_locked_is_not_opened_but_a_log_is(root):
    with (root / "data.db").open("w+b"):
        os.link(root / "data.db", root / "same.db")

        assert code(open_regular, root / "data.db", "data.db") == "in_use"
        assert code(open_regular, root / "same.db", "same.db") == "in_use"
    with (root / "run.log").open("ab"), open_regular(root / "run.log", "run.log") as file:
        assert file.read() == b""
    open_regular(root / "data.db", "data.db").close()


def test_a_new_file_is_written_with_its_folders_and_never_over_another(root):
    write_new(root / "new" / "deep" / "b.txt", b"b", "b.txt")

    assert (root / "new" / "deep" / "b.txt").read_bytes() == b"b"
    assert code(write_new, root / "sub" / "a.txt", b"lost", "a.txt") == "exists"
    assert (root / "sub" / "a.txt").read_text() == "a"
    assert code(write_new, root / "sub" / "a.txt" / "b.txt", b"b", "b.txt") == "exists"
    assert names(root / "new" / "deep") == ["b.txt"]
    assert names(root / "sub") == ["a.txt"]


def test_a_new_file_has_the_mode_that_the_user_gives_to_files(root):
    (root / "plain").touch()

    write_new(root / "made", b"", "made")

    assert (root / "made").stat().st_mode == (root / "plain").stat().st_mode


def test_a_file_is_replaced_whole_and_keeps_its_mode(root):
    file = root / "sub" / "a.txt"
    file.chmod(0o751)

    replace(file, b"new", "a.txt")

    assert file.read_bytes() == b"new"
    assert file.stat().st_mode & 0o7777 == 0o751
    assert names(root / "sub") == ["a.txt"]


def test_a_write_that_fails_leaves_the_old_content_and_no_rest(root):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        said = code(replace, root / "sub" / "a.txt", b"new" * 4096, "a.txt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert said == "no_space"
    assert (root / "sub" / "a.txt").read_text() == "a"
    assert names(root / "sub") == ["a.txt"]

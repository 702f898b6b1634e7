"""Files in the workspace that a command must not create."""

import os
import subprocess
import sys

import pytest
from child import needs_root, run_child, users_folder

from piano_jupyter.runner.tools.bash.guards import MAX_FOLDERS, WorkspaceGuard


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A workspace that is the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".piano").mkdir()
    return tmp_path


def made(here, *paths, guards=None):
    """Return which files are still there after a command has created them."""
    guards = guards or WorkspaceGuard(here)
    before = guards.scan()
    for path in paths:
        (here / path).parent.mkdir(parents=True, exist_ok=True)
        (here / path).touch()
    guards.quarantine_new(before, "call")
    return [path for path in paths if (here / path).exists()]


def test_a19_a_file_that_shadows_a_module_is_quarantined(here):
    paths = ["pytest.py", "json.pyc", "conftest.py", "yaml/__init__.py", "x.pth"]

    assert made(here, *paths) == []
    assert sorted(each.name for each in (here / ".piano/quarantine/call").rglob("*") if each.is_file()) == sorted(
        ["pytest.py", "json.pyc", "conftest.py", "__init__.py", "x.pth"]
    )


def test_a19_a_link_to_a_package_with_such_a_name_is_quarantined(here):
    guards = WorkspaceGuard(here)
    (here / "mine").mkdir()
    (here / "mine/__init__.py").touch()
    before = guards.scan()
    (here / "yaml").symlink_to("mine")
    (here / "other").symlink_to("mine")

    guards.quarantine_new(before, "call")

    assert not (here / "yaml").is_symlink()
    assert (here / "other").is_symlink()


def test_a17_skills_are_read_only_and_new_ones_are_quarantined(here):
    skills = (("skills",), ("team", "skills"))
    (here / "skills").mkdir()
    guards = WorkspaceGuard(here, skills=skills)

    assert guards.scan().overrides.read_only == ("skills",)
    assert made(here, "team/skills/x.md", "team/x.md", guards=guards) == ["team/x.md"]

    (here / "other").mkdir()
    before = guards.scan()
    (here / "team/skills").symlink_to("../other")
    guards.quarantine_new(before, "again")

    assert not (here / "team/skills").is_symlink()


def test_a_folder_with_only_the_name_of_a_module_stays(here):
    paths = ["site/index.html", "platform/notes.py", "test/__init__.py", "report.py", "src/json.py", "json.txt"]

    assert made(here, *paths) == paths


def test_a17_the_history_database_is_hidden_and_the_kernels_files_beside_it_stay(here):
    (here / "data").mkdir()
    (here / "data/chat.duckdb").touch()
    guards = WorkspaceGuard(here, ("data", "chat.duckdb"))

    assert guards.scan().overrides.hidden == (".piano", "data/chat.duckdb")
    assert made(here, "data/chat.duckdb.wal", guards=guards) == ["data/chat.duckdb.wal"]
    assert guards.scan().overrides.hidden == (".piano", "data/chat.duckdb", "data/chat.duckdb.wal")


def test_a17_git_and_folders_protected_before_are_scanned_however_many_folders_there_are(here):
    guards = WorkspaceGuard(here)
    (here / ".git").mkdir()
    (here / ".git/config").touch()
    (here / "zoo").mkdir()
    (here / "zoo/.env").touch()
    guards.scan()
    for number in range(2 * MAX_FOLDERS):
        (here / f"a{number}").mkdir()

    found = guards.scan().overrides

    assert {".git/config", "zoo/.env"} <= set(found.read_only)
    assert ".git/config" in WorkspaceGuard(here).scan().overrides.read_only
    assert made(here, ".git/hooks/pre-commit", "zoo/AGENTS.md", guards=guards) == []


@pytest.mark.parametrize("path", ["lib/pytest.py", "lib/yaml/__init__.py", "notes/pytest.py", "notes/yaml/__init__.py"])
def test_a19_a_module_in_a_folder_of_sys_path_or_beside_a_notebook_is_quarantined(here, monkeypatch, path):
    monkeypatch.setattr(sys, "path", [str(here / "lib"), *sys.path])
    for name in ("lib/mine.py", "notes/day.ipynb"):
        (here / name).parent.mkdir()
        (here / name).touch()
    guards = WorkspaceGuard(here)

    assert made(here, path, guards=guards) == []
    assert made(here, path, guards=guards) == []  # now that the folders are known
    assert made(here, "other/pytest.py", "lib/report.py", guards=guards) == ["other/pytest.py", "lib/report.py"]


def test_d7_startup_files_are_quarantined_if_the_home_folder_is_in_the_workspace(here):
    paths = [".xprofile", ".config/autostart/x.desktop", ".ssh/authorized_keys", "bin/ls"]

    assert made(here, *paths, guards=WorkspaceGuard(here, home=())) == []
    assert made(here, *(f"ada/{path}" for path in paths), guards=WorkspaceGuard(here, home=("ada",))) == []
    assert made(here, *paths, guards=WorkspaceGuard(here)) == paths


def test_a17_a_folder_with_the_history_database_in_it_cannot_be_moved_away(here):
    (here / "data/own").mkdir(parents=True)
    (here / "data/own/chat.duckdb").touch()

    assert WorkspaceGuard(here, ("data", "own", "chat.duckdb")).scan().overrides.not_movable == ("data", "data/own")


def test_a_folder_of_pianos_own_below_the_workspace_is_hidden_and_cannot_be_moved_away(here):
    (here / "notes/may/.piano").mkdir(parents=True)

    shields = WorkspaceGuard(here).scan().overrides

    assert shields.hidden == (".piano", "notes/may/.piano")
    assert shields.not_movable == ("notes", "notes/may")


def test_the_folder_of_a_database_is_read_only_unless_it_is_pianos_own(here):
    for name in ("data/own", "notes/.piano"):
        (here / name).mkdir(parents=True)
        (here / name / "chat.duckdb").touch()

    assert WorkspaceGuard(here, ("data", "own", "chat.duckdb")).scan().overrides.read_only == ("data/own",)
    assert WorkspaceGuard(here, ("notes", ".piano", "chat.duckdb")).scan().overrides.read_only == ()


@pytest.mark.parametrize("path", ["repo/.git/hooks/pre-commit", "repo/.env", "repo/skills/x.md", "repo/.vscode/x"])
def test_protected_files_that_come_with_a_replaced_folder_are_quarantined(here, path):
    (here / path).parent.mkdir(parents=True)
    (here / path).touch()
    (here / "repo/mine").touch()
    guards = WorkspaceGuard(here, skills=(("repo", "skills"),))
    before = guards.scan()

    (here / "repo").rename(here / "other")
    (here / path).parent.mkdir(parents=True)
    (here / path).write_text("evil")
    guards.quarantine_new(before, "call")

    assert not (here / path).exists()
    assert (here / "other/mine").exists()


@pytest.mark.parametrize("target", ["dotfiles/bashrc", "../elsewhere"])
def test_a_startup_file_that_is_a_link_is_restored(here, target):
    (here / "dotfiles").mkdir()
    (here / "dotfiles/bashrc").touch()
    (here / ".xprofile").symlink_to(target)
    guards = WorkspaceGuard(here, home=())
    before = guards.scan()
    (here / ".xprofile").unlink()
    (here / ".xprofile").write_text("evil")

    guards.quarantine_new(before, "call")

    assert os.readlink(here / ".xprofile") == target  # noqa: PTH115
    assert before.overrides.not_movable == (("dotfiles",) if target.startswith("dotfiles") else ())


def test_keys_that_the_user_gets_later_are_hidden_from_the_next_command(here):
    guards = WorkspaceGuard(here, home=())
    before = guards.scan().overrides
    (here / ".ssh").mkdir()
    (here / ".profile").touch()

    after = guards.scan().overrides

    assert ".ssh" not in before.hidden
    assert ".ssh" in after.hidden
    assert ".profile" in after.read_only
    assert after != before  # so that a new sandbox is started


CLOSED = """
here = Path(sys.argv[1])
os.chdir(here)
(here / ".piano").mkdir()
(here / "kept").mkdir(0o311)
(here / "kept/AGENTS.md").touch()
guards = WorkspaceGuard(here)
before = guards.scan()
for name in ("d/.vscode", "d/.piano"):
    (here / name).mkdir(parents=True)
(here / "d/AGENTS.md").touch()
(here / "d/.vscode/tasks.json").touch()
(here / "AGENTS.md").touch()
folder = here / sys.argv[2]
folder.chmod(int(sys.argv[3], 8))
told = guards.quarantine_new(before, "call")
mode = stat.S_IMODE(folder.stat().st_mode) if folder.exists() else 0
here.chmod(0o755)
(here / "d").chmod(0o755)
kept = stat.S_IMODE((here / "kept").stat().st_mode)
left = [name for name in ("AGENTS.md", "d/AGENTS.md", "d/.vscode", "d/.piano") if (here / name).exists()]
print(left, oct(mode), oct(kept), all("was moved to" in each for each in told))
"""


@pytest.mark.parametrize("mode", ["555", "311", "111", "666", "0"])
@pytest.mark.parametrize("folder", [".", "d", "d/.vscode"])
def test_new_files_are_quarantined_from_a_folder_that_the_command_made_unreadable(folder, mode):
    with users_folder() as (here, user):
        left, now, kept, told = run_child(CLOSED, here, folder, mode, user=user).rsplit(maxsplit=3)
        (here / "kept").chmod(0o755)

    assert (left, kept, told) == ("[]", "0o311", "True")
    assert now in {oct(int(mode, 8)), oct(int(mode, 8) | 0o700), "0o0"}


@needs_root
@pytest.mark.parametrize("size", ["1m", "4k"])
def test_what_cannot_be_moved_to_the_quarantine_is_renamed_in_place(tmp_path, size):
    """On another file system, or if a command has filled the disk."""
    workspace = tmp_path if size == "1m" else tmp_path / "m"
    (tmp_path / "m").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},nr_inodes=5", "tmpfs", tmp_path / "m"], check=True)
    try:
        guards = WorkspaceGuard(workspace)
        before = guards.scan()
        for name in ("AGENTS.md", ".env", ".envrc", ".mcp.json"):
            (tmp_path / "m" / name).touch()
        told = guards.quarantine_new(before, "call")

        assert sorted(each.name[:18] for each in (tmp_path / "m").iterdir()) == [".piano-quarantine-"] * 4
        assert all(".piano-quarantine-" in each for each in told)
    finally:
        subprocess.run(["umount", tmp_path / "m"], check=True)


def test_what_one_of_two_parallel_commands_makes_is_quarantined_for_both(here):
    guards = WorkspaceGuard(here, home=())
    (here / ".bashrc").symlink_to("mine")
    first = guards.begin_command()
    (here / "json.py").touch()
    (here / ".bashrc").unlink()
    (here / ".bashrc").symlink_to("evil")
    second = guards.begin_command()
    guards.quarantine_new(first, "first")
    assert not (here / "json.py").exists()
    (here / "json.py").touch()
    (here / ".bashrc").unlink()
    (here / ".bashrc").symlink_to("evil")

    guards.quarantine_new(second, "second")
    third = guards.begin_command()
    guards.quarantine_new(third, "third")

    assert not (here / "json.py").exists()
    assert os.readlink(here / ".bashrc") == "mine"  # noqa: PTH115

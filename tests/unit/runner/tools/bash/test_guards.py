"""What a command made in the workspace that tools do not make."""

import sys

import pytest

from piano_jupyter.runner.tools.bash.guards import MOST_FOLDERS, Guards


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A workspace that is the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".piano").mkdir()
    return tmp_path


def made(here, *paths, guards=None):
    """Return which files are still there after a command made them."""
    guards = guards or Guards(here)
    before = guards.look()
    for path in paths:
        (here / path).parent.mkdir(parents=True, exist_ok=True)
        (here / path).touch()
    guards.take_away(before, "call")
    return [path for path in paths if (here / path).exists()]


def test_a19_what_a_command_makes_in_place_of_a_module_is_taken_away(here):
    paths = ["pytest.py", "json.pyc", "conftest.py", "yaml/__init__.py", "x.pth"]

    assert made(here, *paths) == []
    assert sorted(each.name for each in (here / ".piano/quarantine/call").rglob("*") if each.is_file()) == sorted(
        ["pytest.py", "json.pyc", "conftest.py", "__init__.py", "x.pth"]
    )


def test_a19_a_link_to_a_package_of_such_a_name_is_taken_away(here):
    guards = Guards(here)
    (here / "mine").mkdir()
    (here / "mine/__init__.py").touch()
    before = guards.look()
    (here / "yaml").symlink_to("mine")
    (here / "other").symlink_to("mine")

    guards.take_away(before, "call")

    assert not (here / "yaml").is_symlink()
    assert (here / "other").is_symlink()


def test_a17_skills_are_shown_read_only_and_what_a_command_makes_of_them_is_taken_away(here):
    skills = (("skills",), ("team", "skills"))
    (here / "skills").mkdir()
    guards = Guards(here, skills=skills)

    assert guards.look().shields.guarded == ("skills",)
    assert made(here, "team/skills/x.md", "team/x.md", guards=guards) == ["team/x.md"]

    (here / "other").mkdir()
    before = guards.look()
    (here / "team/skills").symlink_to("../other")
    guards.take_away(before, "again")

    assert not (here / "team/skills").is_symlink()


def test_a_folder_that_only_has_the_name_of_a_module_stays(here):
    paths = ["site/index.html", "platform/notes.py", "test/__init__.py", "report.py", "src/json.py", "json.txt"]

    assert made(here, *paths) == paths


def test_a17_the_history_database_is_hidden_and_what_the_kernel_makes_of_it_meanwhile_is_not_taken_away(here):
    (here / "data").mkdir()
    (here / "data/chat.duckdb").touch()
    guards = Guards(here, ("data", "chat.duckdb"))

    assert guards.look().shields.hidden == (".piano", "data/chat.duckdb")
    assert made(here, "data/chat.duckdb.wal", guards=guards) == ["data/chat.duckdb.wal"]
    assert guards.look().shields.hidden == (".piano", "data/chat.duckdb", "data/chat.duckdb.wal")


def test_a17_many_folders_do_not_hide_that_of_git_or_one_that_was_guarded_before(here):
    guards = Guards(here)
    (here / ".git").mkdir()
    (here / ".git/config").touch()
    (here / "zoo").mkdir()
    (here / "zoo/.env").touch()
    guards.look()
    for number in range(2 * MOST_FOLDERS):
        (here / f"a{number}").mkdir()

    found = guards.look().shields

    assert {".git/config", "zoo/.env"} <= set(found.guarded)
    assert ".git/config" in Guards(here).look().shields.guarded
    assert made(here, ".git/hooks/pre-commit", "zoo/AGENTS.md", guards=guards) == []


@pytest.mark.parametrize("path", ["lib/pytest.py", "lib/yaml/__init__.py", "notes/pytest.py", "notes/yaml/__init__.py"])
def test_a19_a_module_in_a_folder_of_sys_path_or_beside_a_notebook_is_taken_away(here, monkeypatch, path):
    monkeypatch.setattr(sys, "path", [str(here / "lib"), *sys.path])
    for name in ("lib/mine.py", "notes/day.ipynb"):
        (here / name).parent.mkdir()
        (here / name).touch()
    guards = Guards(here)

    assert made(here, path, guards=guards) == []
    assert made(here, path, guards=guards) == []  # now that the folders are known
    assert made(here, "other/pytest.py", "lib/report.py", guards=guards) == ["other/pytest.py", "lib/report.py"]


def test_d7_what_would_start_with_the_users_shell_is_taken_away_where_home_is_in_the_workspace(here):
    paths = [".zshenv", ".config/autostart/x.desktop", ".ssh/authorized_keys", "bin/ls"]

    assert made(here, *paths, guards=Guards(here, home=())) == []
    assert made(here, *(f"ada/{path}" for path in paths), guards=Guards(here, home=("ada",))) == []
    assert made(here, *paths, guards=Guards(here)) == paths


def test_a17_a_folder_with_the_history_database_in_it_cannot_be_moved_away(here):
    (here / "data/own").mkdir(parents=True)
    (here / "data/own/chat.duckdb").touch()

    assert Guards(here, ("data", "own", "chat.duckdb")).look().shields.fixed == ("data", "data/own")

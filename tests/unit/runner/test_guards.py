"""What a command made in the workspace that tools do not make."""

import pytest

from piano_jupyter.runner.guards import Guards


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

"""Links that a sandboxed command plants where Piano itself writes later."""

import asyncio
import os
import site
from pathlib import Path

import duckdb
import pytest
from sandboxing import wait_until

from piano_jupyter.errors import PianoError, ToolError
from piano_jupyter.jupyter.magic.user_files import read_text, write_text
from piano_jupyter.runner.model.cassette import Cassette
from piano_jupyter.runner.tools.bash.guards import WorkspaceGuard
from piano_jupyter.runner.tools.files.shadowing import shadows_import
from piano_jupyter.runner.tools.files.workspace import Workspace

KEY = {"method": "POST", "path": "/chat/completions", "body": None}
ANSWER = {"status": 200, "headers": {}, "body": "alias ls=evil"}


@pytest.fixture
def outside(tmp_path_factory):
    """A folder outside of the workspace, with a startup file of the user's shell."""
    folder = tmp_path_factory.mktemp("home")
    (folder / ".bashrc").write_text("mine\n")
    return folder


async def test_a_recording_goes_through_no_link_that_a_command_plants(sandboxed_bash, tmp_path, outside):
    path = tmp_path / "talk.jsonl"
    cassette = Cassette(path, recording=True, workspace=lambda: tmp_path)

    plant = f"for each in talk.jsonl talk.jsonl.{os.getpid()} .talk.jsonl.{os.getpid()}.part; do "
    assert (await sandboxed_bash(f"{plant} ln -sf {outside}/.bashrc $each; done"))[0]
    cassette.add(KEY, ANSWER)

    assert (outside / ".bashrc").read_text() == "mine\n"
    assert not path.is_symlink()
    assert Cassette(path, recording=False, workspace=lambda: tmp_path).find(KEY) == ANSWER


async def test_a_recording_survives_a_command_that_replaces_each_temporary_file_with_a_link(
    sandboxed_bash, tmp_path, outside
):
    cassette = Cassette(tmp_path / "talk.jsonl", recording=True, workspace=lambda: tmp_path)
    plant = f"shopt -s nullglob; touch begun; while [ ! -e over ]; do for each in .piano-*.tmp; do ln -sfT {outside}"
    planting = asyncio.create_task(sandboxed_bash(f"{plant}/.bashrc $each; done; done"))
    await asyncio.to_thread(wait_until, (tmp_path / "begun").exists, "the command did not begin")

    for _ in range(300):
        cassette.add(KEY, ANSWER)
    (tmp_path / "over").touch()
    await planting

    assert (outside / ".bashrc").read_text() == "mine\n"
    assert os.listdir(outside) == [".bashrc"]  # noqa: PTH208


async def test_an_export_follows_no_folder_that_a_command_replaced_with_a_link(sandboxed_bash, tmp_path, outside):
    (tmp_path / "results").mkdir()
    (outside / ".forward").write_text("mine\n")
    workspace = str(tmp_path)
    write_text(f"{tmp_path}/results/.forward", "one", workspace, force=False)

    assert (await sandboxed_bash(f"rm -r results && ln -s {outside} results && ln -s {outside}/.bashrc talk.md"))[0]

    with pytest.raises(PianoError, match="results is a link that leads out of the workspace"):
        write_text(f"{tmp_path}/results/.forward", "two", workspace, force=True)
    with pytest.raises(PianoError, match=r"talk\.md is a link that leads out of the workspace"):
        read_text(f"{tmp_path}/talk.md", workspace)
    write_text(f"{tmp_path}/talk.md", "two", workspace, force=True)
    assert (outside / ".bashrc").read_text() == (outside / ".forward").read_text() == "mine\n"


async def test_nothing_is_quarantined_through_a_link(sandboxed_bash, tmp_path, outside):
    (tmp_path / ".piano").symlink_to(outside)  # as a cloned repository may contain it

    ok, text = await sandboxed_bash("echo evil >AGENTS.md; mkdir deep; echo evil >deep/CLAUDE.md")

    assert ok
    assert "'AGENTS.md' was moved to .piano-quarantine-" in text
    assert sorted(os.listdir(outside)) == [".bashrc"]  # noqa: PTH208
    assert not (tmp_path / "AGENTS.md").exists()
    taken = next(tmp_path.glob(".piano-quarantine-*"))
    assert (taken / "deep/CLAUDE.md").read_text() == "evil\n"


async def test_a_command_that_replaces_pianos_own_folder_gets_nothing_moved_elsewhere(
    sandboxed_bash, tmp_path, outside
):
    (tmp_path / "real").mkdir()
    (tmp_path / ".piano").symlink_to("real")

    ok, text = await sandboxed_bash(f"ln -sfT {outside} .piano; echo evil >AGENTS.md")

    assert ok
    assert "'.piano' was moved to" in text
    assert (tmp_path / ".piano").readlink() == Path("real")
    assert os.listdir(outside) == [".bashrc"]  # noqa: PTH208
    assert not (tmp_path / "AGENTS.md").exists()


def test_a_quarantine_that_leads_elsewhere_is_not_used_and_the_file_is_renamed(tmp_path, outside):
    (tmp_path / ".piano").mkdir()
    (tmp_path / ".piano/quarantine").symlink_to(outside)
    guards = WorkspaceGuard(tmp_path)
    before = guards.scan()
    (tmp_path / "AGENTS.md").touch()

    (told,) = guards.quarantine_new(before, "call")

    assert "'AGENTS.md' was moved to .piano-quarantine-" in told
    assert os.listdir(outside) == [".bashrc"]  # noqa: PTH208
    assert not (tmp_path / "AGENTS.md").exists()


async def test_no_link_can_be_planted_where_duckdb_writes_beside_a_database_in_the_workspace(
    bash_of, sandboxed, tmp_path, outside
):
    database = tmp_path / "data/own/chat.duckdb"
    database.parent.mkdir(parents=True)
    with duckdb.connect(str(database)) as connection:
        connection.execute("CREATE TABLE said (words VARCHAR)")
    bash = bash_of(database=str(database))

    plant = f"ln -s {outside}/.bashrc chat.duckdb.wal; ln -s {outside} chat.duckdb.tmp"
    await bash(f"cd data/own; {plant}; cd ../..; mv data x; mkdir -p data/own; cd data/own; {plant}", mode="write")
    with duckdb.connect(str(database)) as connection:
        connection.execute("INSERT INTO said VALUES ('alias ls=evil')")

        assert (outside / ".bashrc").read_text() == "mine\n"
    assert os.listdir(outside) == [".bashrc"]  # noqa: PTH208
    assert (await bash("touch data/mine mine", mode="write"))[0]


async def test_no_command_runs_if_the_database_is_in_the_workspace_itself(bash_of, sandboxed, tmp_path):
    bash = bash_of(database=str(tmp_path / "chat.duckdb"))

    ok, text = await bash("touch chat.duckdb.wal", mode="write")

    assert not ok
    assert text.startswith("unsafe: nothing was run: the database 'chat.duckdb' is in the workspace itself")
    assert not (tmp_path / "chat.duckdb.wal").exists()
    assert (await bash("true", mode="read"))[0]
    assert (await bash_of(database=":memory:")("true", mode="write"))[0]


async def test_what_a_command_planted_is_quarantined_when_the_kernel_ends_during_it(bash_of, sandboxed, tmp_path):
    bash = bash_of()
    running = asyncio.create_task(bash("touch json.py AGENTS.md begun; sleep 60", mode="write"))
    await asyncio.to_thread(wait_until, (tmp_path / "begun").exists, "the command did not begin")

    bash.tool.stop()  # as at exit, when nobody waits for the call any more
    left = sorted(os.listdir(tmp_path))  # noqa: PTH208
    await running

    assert left == [".piano", "begun"]


async def test_nothing_can_be_planted_in_pianos_own_folders_if_settings_put_them_into_the_workspace(
    bash_of, sandboxed, tmp_path, outside, monkeypatch
):
    bash = bash_of()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg/cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg/data"))
    (tmp_path / "xdg/cache/piano_jupyter").mkdir(parents=True)
    (tmp_path / "xdg/cache/piano_jupyter/model.gguf").write_text("weights")

    plant = f"ln -sT {outside} xdg/$each/piano_jupyter/fetching; touch xdg/$each/piano_jupyter/x.json"
    moved = "mv xdg x; mkdir -p xdg/data/piano_jupyter; touch xdg/data/piano_jupyter/x.json"
    _, text = await bash(f"for each in cache data; do {plant}; done; {moved}; cat xdg/cache/*/model.gguf", mode="write")

    assert "weights" not in text
    assert sorted(each.name for each in (tmp_path / "xdg").rglob("*") if not each.is_dir()) == ["model.gguf"]
    with pytest.raises(ToolError, match=r"^private: "):
        Workspace(tmp_path).make("xdg/data/piano_jupyter/databases/x.json", b"")


def test_a_command_cannot_create_the_folder_of_the_users_own_packages_in_the_workspace(tmp_path, monkeypatch):
    monkeypatch.setattr(site, "ENABLE_USER_SITE", True)
    packages = tmp_path / ".own/lib/python3/site-packages"
    monkeypatch.setattr(site, "getusersitepackages", lambda: str(packages))
    guards = WorkspaceGuard(tmp_path)
    before = guards.begin_command()
    packages.mkdir(parents=True)
    (packages / "usercustomize.py").touch()

    guards.quarantine_new(before, "call")

    assert not packages.exists()
    assert shadows_import((*packages.relative_to(tmp_path).parts, "usercustomize.py"), tmp_path)

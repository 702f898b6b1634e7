"""Links that a sandboxed command plants where Piano itself writes later."""

import os
import site

import duckdb
import pytest

from piano_jupyter.errors import PianoError, ToolError
from piano_jupyter.jupyter.magic.user_files import read_text, write_text
from piano_jupyter.runner.model.cassette import Cassette
from piano_jupyter.runner.tools.files.workspace import Workspace

KEY = {"method": "POST", "path": "/chat/completions", "body": None}
ANSWER = {"status": 200, "headers": {}, "body": "alias ls=evil"}


@pytest.fixture
def outside(tmp_path_factory):
    """A folder outside of the workspace, with a startup file of the user's shell."""
    folder = tmp_path_factory.mktemp("home")
    (folder / ".bashrc").write_text("mine\n")
    return folder


async def test_a_recording_goes_through_no_link_that_a_command_plants(bash, sandboxed_bash, tmp_path, outside):
    bash.approves = True
    path = tmp_path / "talk.jsonl"
    cassette = Cassette(path, recording=True, workspace=lambda: tmp_path)

    plant = f"for each in talk.jsonl talk.jsonl.{os.getpid()} .talk.jsonl.{os.getpid()}.part; do "
    assert (await sandboxed_bash(f"{plant} ln -sf {outside}/.bashrc $each; done"))[0]
    cassette.add(KEY, ANSWER)

    assert (outside / ".bashrc").read_text() == "mine\n"
    assert not path.is_symlink()
    assert Cassette(path, recording=False, workspace=lambda: tmp_path).find(KEY) == ANSWER


async def test_an_export_follows_no_folder_that_a_command_replaced_with_a_link(bash, sandboxed_bash, tmp_path, outside):
    bash.approves = True
    (tmp_path / "results").mkdir()
    (outside / ".forward").write_text("mine\n")
    workspace = str(tmp_path)
    write_text(f"{tmp_path}/results/a.md", "one", workspace, force=False)

    assert (await sandboxed_bash(f"rm -r results && ln -s {outside} results && ln -s {outside}/.bashrc talk.md"))[0]

    with pytest.raises(PianoError, match="results is a link that leads out of the workspace"):
        write_text(f"{tmp_path}/results/.forward", "two", workspace, force=True)
    with pytest.raises(PianoError, match=r"talk\.md is a link that leads out of the workspace"):
        read_text(f"{tmp_path}/talk.md", workspace)
    write_text(f"{tmp_path}/talk.md", "two", workspace, force=True)
    assert (outside / ".bashrc").read_text() == (outside / ".forward").read_text() == "mine\n"


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


async def test_no_link_can_be_planted_beside_a_database_in_the_workspace_itself(bash_of, sandboxed, tmp_path, outside):
    bash = bash_of(database=str(tmp_path / "chat.duckdb"))
    (tmp_path / "chat.duckdb").write_text("kept")

    _, text = await bash(f"cat chat.duckdb; ln -s {outside} chat.duckdb.wal; touch mine", mode="write")

    assert "kept" not in text
    assert sorted(os.listdir(tmp_path)) == ["chat.duckdb", "mine"]  # noqa: PTH208


async def test_a_command_cannot_create_the_folder_of_the_users_own_packages_in_the_workspace(
    sandboxed_bash, tmp_path, monkeypatch
):
    monkeypatch.setattr(site, "ENABLE_USER_SITE", True)
    packages = tmp_path / ".own/lib/python3/site-packages"
    monkeypatch.setattr(site, "getusersitepackages", lambda: str(packages))

    await sandboxed_bash(f"mkdir -p {packages}; touch {packages}/usercustomize.py")

    assert not (packages / "usercustomize.py").exists()

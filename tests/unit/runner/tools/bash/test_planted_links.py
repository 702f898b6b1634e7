"""Links that a sandboxed command plants where Piano itself writes a moment later."""

import asyncio
import os
from pathlib import Path

import pytest
from sandboxing import wait_until

from piano_jupyter.errors import PianoError
from piano_jupyter.jupyter.magic.user_files import read_text, write_text
from piano_jupyter.runner.model.cassette import Cassette
from piano_jupyter.runner.tools.bash.guards import Guards

KEY = {"method": "POST", "path": "/chat/completions", "body": None}
ANSWER = {"status": 200, "headers": {}, "body": "alias ls=evil"}


@pytest.fixture
def outside(tmp_path_factory):
    """A folder outside of the workspace, with a file that starts with the user's shell."""
    folder = tmp_path_factory.mktemp("home")
    (folder / ".bashrc").write_text("mine\n")
    return folder


async def test_a_recording_goes_through_no_link_that_a_command_plants(boxed, tmp_path, outside):
    path = tmp_path / "talk.jsonl"
    cassette = Cassette(path, recording=True, workspace=lambda: tmp_path)

    plant = f"for each in talk.jsonl talk.jsonl.{os.getpid()} .talk.jsonl.{os.getpid()}.part; do "
    assert (await boxed(f"{plant} ln -sf {outside}/.bashrc $each; done"))[0]
    cassette.add(KEY, ANSWER)

    assert (outside / ".bashrc").read_text() == "mine\n"
    assert not path.is_symlink()
    assert Cassette(path, recording=False, workspace=lambda: tmp_path).find(KEY) == ANSWER


async def test_a_recording_holds_while_a_command_exchanges_each_temporary_file_for_a_link(boxed, tmp_path, outside):
    cassette = Cassette(tmp_path / "talk.jsonl", recording=True, workspace=lambda: tmp_path)
    plant = f"shopt -s nullglob; touch begun; while [ ! -e over ]; do for each in .piano-*.tmp; do ln -sfT {outside}"
    planting = asyncio.create_task(boxed(f"{plant}/.bashrc $each; done; done"))
    await asyncio.to_thread(wait_until, (tmp_path / "begun").exists, "the command did not begin")

    for _ in range(300):
        cassette.add(KEY, ANSWER)
    (tmp_path / "over").touch()
    await planting

    assert (outside / ".bashrc").read_text() == "mine\n"
    assert os.listdir(outside) == [".bashrc"]  # noqa: PTH208


async def test_an_export_follows_no_folder_that_a_command_exchanged_for_a_link(boxed, tmp_path, outside):
    (tmp_path / "results").mkdir()
    workspace = str(tmp_path)
    write_text(f"{tmp_path}/results/.bashrc", "one", workspace, force=False)

    assert (await boxed(f"rm -r results && ln -s {outside} results && ln -s {outside}/.bashrc talk.md"))[0]

    with pytest.raises(PianoError, match="results is a link that leads out of the workspace"):
        write_text(f"{tmp_path}/results/.bashrc", "two", workspace, force=True)
    with pytest.raises(PianoError, match=r"talk\.md is a link that leads out of the workspace"):
        read_text(f"{tmp_path}/talk.md", workspace)
    write_text(f"{tmp_path}/talk.md", "two", workspace, force=True)
    assert (outside / ".bashrc").read_text() == "mine\n"


async def test_what_is_taken_away_goes_through_no_link_of_the_quarantine(boxed, tmp_path, outside):
    (tmp_path / ".piano").symlink_to(outside)  # as a checkout may bring it along

    ok, text = await boxed("echo evil >AGENTS.md; mkdir deep; echo evil >deep/CLAUDE.md")

    assert ok
    assert "'AGENTS.md' was taken away to .piano-quarantine-" in text
    assert sorted(os.listdir(outside)) == [".bashrc"]  # noqa: PTH208
    assert not (tmp_path / "AGENTS.md").exists()
    taken = next(tmp_path.glob(".piano-quarantine-*"))
    assert (taken / "deep/CLAUDE.md").read_text() == "evil\n"


async def test_a_command_that_exchanges_pianos_own_folder_gets_nothing_moved_elsewhere(boxed, tmp_path, outside):
    (tmp_path / "real").mkdir()
    (tmp_path / ".piano").symlink_to("real")

    ok, text = await boxed(f"ln -sfT {outside} .piano; echo evil >AGENTS.md")

    assert ok
    assert "'.piano' was taken away" in text
    assert (tmp_path / ".piano").readlink() == Path("real")
    assert os.listdir(outside) == [".bashrc"]  # noqa: PTH208
    assert not (tmp_path / "AGENTS.md").exists()


def test_a_quarantine_that_leads_elsewhere_is_told_of_and_not_used(tmp_path, outside):
    (tmp_path / ".piano").mkdir()
    (tmp_path / ".piano/quarantine").symlink_to(outside)
    guards = Guards(tmp_path)
    before = guards.look()
    (tmp_path / "AGENTS.md").touch()

    told = guards.take_away(before, "call")

    assert told == ["protected: tools do not make 'AGENTS.md', and it could not be taken away: Not a directory"]
    assert os.listdir(outside) == [".bashrc"]  # noqa: PTH208

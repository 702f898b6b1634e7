"""Long outputs are not kept where a command could plant a link."""

import os
from uuid import UUID

from piano_jupyter.runner.tools.bash.private_folder import private_folder


async def test_long_outputs_are_not_kept_where_a_command_could_plant_a_link(
    sandboxed_bash, tmp_path, tmp_path_factory, monkeypatch
):
    outside = tmp_path_factory.mktemp("home")
    (outside / ".bashrc").write_text("mine\n")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    there = tmp_path / "cache/piano_jupyter/spill"
    there.mkdir(parents=True)
    (there / str(UUID(int=1))).symlink_to(outside)  # the folder of the thread

    ok, text = await sandboxed_bash("cat /spill/.bashrc; head -c 100000 /dev/zero | tr '\\0' x; ls /spill")

    assert ok
    assert "mine" not in text
    assert "bytes left out; all of it: sed -n 1,200p /spill/" in text
    assert os.listdir(outside) == [".bashrc"]  # noqa: PTH208


def test_long_outputs_stay_in_the_cache_where_commands_cannot_see_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))

    assert private_folder("spill/thread", tmp_path) == tmp_path / ".cache/piano_jupyter/spill/thread"

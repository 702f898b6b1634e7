"""Links that an agent's command in the sandbox plants where the kernel itself writes a moment later."""

import json

import pytest
from sandboxing import why_no_sandbox

from piano_jupyter.testing import tool_call


@pytest.mark.skipif(bool(why_no_sandbox()), reason="a command runs unasked in a sandbox only")
def test_neither_a_recording_nor_an_export_goes_through_a_link_that_a_command_plants_with_an_approval(
    kernel_of, stub_model, tmp_path, tmp_path_factory
):
    kernel = kernel_of(stdin=True).load()
    start_file = tmp_path_factory.mktemp("home") / ".bashrc"
    start_file.write_text("mine\n")
    pid = kernel.process.pid
    names = ["talk.jsonl", f"talk.jsonl.{pid}", "out.md", f".out.md.{pid}.part"]
    stub_model.says(tool_call("bash", command=f"for each in {' '.join(names)}; do ln -sf {start_file} $each; done"))
    stub_model.says("planted")

    kernel.run("%piano record talk.jsonl\n%piano agent Assistant --tools bash")
    answer = kernel.run("%%piano\ngo", answers=["y"])
    refused = kernel.run("%piano export out.md")
    forced = kernel.run("%piano export out.md --force")

    assert answer.text.endswith("planted")
    assert start_file.read_text() == "mine\n"
    assert (tmp_path / names[1]).is_symlink()  # so it was planted
    assert "out.md exists (it is a link); --force replaces it" in refused.stream
    assert "to out.md" in forced.text
    assert "planted" in (tmp_path / "out.md").read_text()
    assert not (tmp_path / "talk.jsonl").is_symlink()
    assert len([json.loads(line) for line in (tmp_path / "talk.jsonl").read_text().splitlines()]) > 2

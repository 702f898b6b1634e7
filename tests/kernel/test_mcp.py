"""MCP servers in a real kernel: list, approve, call, deny, cancel, trust the workspace's file, restart, be killed."""

import json

import psutil
from tab_completion import offered_for
from tiny_mcp import tiny_server
from waiting import until

from piano_jupyter.testing import tool_call

ADD = tool_call("tiny__add", a=1, b=2)


def set_server(kernel, *args, **more):
    """Set the tiny server, and give the agent its tools; only this kernel's settings know it."""
    kernel.run(f"%config PianoConfig.mcp_servers = {{'tiny': {tiny_server(*args, **more)!r}}}")
    kernel.run("%piano agent Assistant --tools tiny.add,tiny.wait,tiny.picture")


def test_tools_are_listed_approved_called_and_denied(kernel_of, stub_model):
    kernel = kernel_of(stdin=True).load()
    stub_model.says(ADD, "3.", ADD, "no.", tool_call("tiny__picture"), "shown")
    set_server(kernel)

    servers, one, tools = (kernel.run(f"%piano {line}").text for line in ("mcp", "mcp tiny", "tools"))
    assert servers.splitlines()[-1].split()[:3] == ["tiny", "running", "10"]
    words = [" ".join(line.split()) for line in one.splitlines()]
    assert "tiny.add only reads, destroys nothing Add two numbers." in words
    assert '{{mcp("tiny", "docs://a")}} a page' in words
    assert "MCP servers  tiny running" in kernel.run("%piano").text
    looks = (['mcp("tiny", "look", a_file="")'], "mcp('tiny', 'lo")
    assert offered_for(kernel, f"%%piano\nsum up {{{{{looks[1]}") == looks
    assert ["tiny.add", "a,", "b", "asks"] in [line.split()[:4] for line in tools.splitlines()]

    first = kernel.run("%%piano\n1 + 2?", answers=["y"])
    second = kernel.run("%%piano\n1 + 2?", answers=["n"])
    third = kernel.run("%%piano\na picture", answers=["a"])

    assert first.prompts[0].startswith(
        "Assistant wants to run tiny.add (the MCP server 'tiny' runs with your rights, outside any sandbox; it says of "
    )
    assert first.prompts[0].endswith("[y]es / [a]lways (allow tiny.add) / [N]o ")
    assert first.text.endswith("3.")
    assert second.text.endswith("no.")
    assert "the rule 'allow tiny.picture' is added" in third.stream
    results = [each["content"] for each in stub_model.requests[-1]["messages"] if each["role"] == "tool"]
    assert [each.split()[0] for each in results] == ["3", "denied:", "here"]


def test_the_file_of_a_workspace_counts_once_exactly_it_is_trusted(kernel_of, stub_model, tmp_path):
    kernel = kernel_of(stdin=True).load()
    file = tmp_path / ".mcp.json"
    file.write_text(json.dumps({"mcpServers": {"tiny": tiny_server(env={"A_KEY": "k3y-k3y-k3y-k3y-k3y"})}}))

    assert "not trusted" in kernel.run("%piano mcp").text
    assert "no tool named 'tiny.add'" in kernel.run("%piano agent Assistant --tools tiny.add").stream
    unsure = kernel.run("%piano mcp trust", answers=["n"])
    assert unsure.text == "nothing was changed"
    assert "tiny_mcp_server.py" in unsure.stream
    assert "with A_KEY" in unsure.stream
    assert "k3y-k3y" not in unsure.stream
    assert kernel.run("%piano mcp trust", answers=["y"]).text == ".mcp.json is trusted until it changes: tiny"
    assert "running" in kernel.run("%piano mcp").text
    assert kernel.run("%piano mcp trust").text == ".mcp.json is trusted already"

    file.write_text(file.read_text().replace("A_KEY", "B_KEY"))
    assert "not trusted" in kernel.run("%piano mcp").text
    file.write_text(file.read_text().replace("B_KEY", "A_KEY"))
    kernel.restart()
    kernel.load()
    assert "running" in kernel.run("%piano mcp").text
    stub_model.says("Summed up.")
    kernel.run('%%piano\n{{mcp("tiny", "look", a_file="b.txt")}} Then read {{mcp("tiny", "docs://a")}}.')
    asked = stub_model.requests[-1]["messages"][-1]["content"]
    assert asked == "Look at {'a-file': 'b.txt'}.<U+202E> Then read the text of docs://a."


def test_s11_servers_end_with_a_kernel_that_is_killed(kernel_of, tmp_path):
    kernel = kernel_of().load()
    set_server(kernel, "stays", tmp_path / "processes")
    numbers = [int(each) for each in (tmp_path / "processes").read_text().split()]

    assert all(map(psutil.pid_exists, numbers))
    kernel.kill()
    until(lambda: not any(map(psutil.pid_exists, numbers)))


def test_an_interrupt_cancels_a_call_and_the_restarted_kernel_starts_the_server_again(kernel_of, stub_model, tmp_path):
    kernel = kernel_of().load()
    stub_model.says(tool_call("tiny__wait"), ADD, "3.")
    kernel.run("%config PianoConfig.rules = ['allow tiny.*']")
    set_server(kernel, "", tmp_path / "said")

    started = kernel.start("%%piano\nwait")
    until((tmp_path / "said").exists)
    kernel.manager.interrupt_kernel()
    assert kernel.finish(started).status == "error"
    until(lambda: (tmp_path / "said").read_text() == "cancelled")

    kernel.restart()
    kernel.load()
    kernel.run("%config PianoConfig.rules = ['allow tiny.*']")
    kernel.run(f"%config PianoConfig.mcp_servers = {{'tiny': {tiny_server()!r}}}")
    assert kernel.run("%%piano\n1 + 2?").text.endswith("3.")

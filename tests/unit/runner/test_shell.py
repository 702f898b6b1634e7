"""bash, called as a model calls it."""

import asyncio
import re
import socket
import sys
import threading
import time
from uuid import UUID, uuid4

import psutil
import pytest

from piano_jupyter.config import PianoConfig
from piano_jupyter.runner.bash_tool import BashTool
from piano_jupyter.runner.bwrap import Bubblewrap
from piano_jupyter.runner.environment import clean_environment
from piano_jupyter.runner.tools import run_tool
from piano_jupyter.tool import Calling


@pytest.fixture
async def bash(tmp_path):
    """Run a command in an empty workspace, outside any sandbox; return whether it went well, and its text."""
    made = BashTool(PianoConfig(workspace=str(tmp_path), tool_output_limit=2000))

    async def bash(command, *, mode="full", **arguments):
        calling = Calling(thread_id=UUID(int=1), call_id=uuid4(), mode=mode, say=print)
        given = {"command": command, **arguments}
        result = await run_tool(made.tool(), given, calling=calling, timeout=60, output_limit=2000)
        return result.ok, result.text

    yield bash
    await made.aclose()


@pytest.fixture
def boxed(bash):
    """The same, inside the sandbox; skipped where there is none."""
    if why := Bubblewrap().why_not(BashTool(PianoConfig())._box("write")):
        pytest.skip(f"no sandbox here: {why}")
    return lambda command, **given: bash(command, mode="write", **given)


def wait_until(condition, what):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, what
        threading.Event().wait(0.01)


def wait_until_gone(pid):
    """Wait until a process runs no more; who is to reap it is not our concern."""

    def gone():
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    wait_until(gone, f"process {pid} survived")


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("echo hi; echo there >&2; pwd | wc -l", "hi\nthere\n1"),
        ("true", "[exit code 0, nothing printed]"),
        ("exit 7", "[exit code 7]"),
        ("echo no; kill -9 $$", "no\n[exit code 137]"),
        ("-x", "bash: line 1: -x: command not found\n[exit code 127]"),
        ("cat; read x || echo nobody; test -t 0 || echo no terminal", "nobody\nno terminal"),
        (r"printf '10%%\r50%%\r100%%\n'; printf '\033[31mred\033[0m\r\n'", "100%\nred"),
        (r"printf 'a\377b'", "a\ufffdb"),
    ],
)
async def test_a_command_gives_what_it_prints_and_its_exit_code(bash, command, text):
    assert await bash(command) == (True, text)


async def test_c12_the_folder_is_kept_between_calls_and_variables_are_not(bash, tmp_path):
    assert await bash("pwd; mkdir d; cd d; X=1") == (True, str(tmp_path.resolve()))
    assert await bash("pwd; echo ${X:-unset}") == (True, f"{tmp_path.resolve()}/d\nunset")


async def test_bash_knows_no_key_and_no_token(bash, monkeypatch):
    for name in ("OPENAI_API_KEY", "GH_TOKEN", "JPY_SESSION_NAME", "AWS_PROFILE", "SSH_AUTH_SOCK", "BASH_ENV"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("LC_TIME", "C")

    _, text = await bash("env")

    assert "secret" not in text
    assert {"PAGER=cat", "GIT_TERMINAL_PROMPT=0", "LC_TIME=C"} <= set(text.split("\n"))
    assert clean_environment({"PATH": "/p"})["PATH"].endswith("/p")


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("echo \0", "bad_command: a command cannot hold the character NUL"),
    ],
)
async def test_a_command_that_cannot_be_started_is_refused(bash, command, text):
    assert await bash(command) == (False, text)


async def test_much_output_keeps_its_head_and_its_tail(bash):
    ok, text = await bash("echo begin; yes | head -c 50000000; echo end")

    assert ok
    assert len(text) <= 2000
    assert text.startswith("begin\ny\n")
    assert text.endswith("y\nend")
    assert re.search(r"\[\.\.\. 49,99\d,\d+", text)


async def test_a_child_in_the_background_ends_with_the_call(bash):
    ok, text = await bash("sleep 300 & echo $!")

    assert ok
    wait_until_gone(int(text))


async def test_a_child_that_leaves_the_session_ends_with_the_call(bash):
    ok, text = await bash("setsid nohup sleep 300 >/dev/null 2>&1 & echo $!")

    assert ok
    wait_until_gone(int(text))


async def test_a_command_that_takes_too_long_is_ended_with_what_it_printed(bash):
    ok, text = await bash("echo $$; sleep 300", timeout=0)  # The least is a second.

    lines = text.split("\n")
    assert (ok, lines[0]) == (False, "ended: the command was ended after 1 s; it had printed:")
    wait_until_gone(int(lines[1]))


async def test_a_command_that_ignores_the_signal_is_killed(bash):
    ok, text = await bash('trap "" TERM INT HUP; echo $$; sleep 300', timeout=1)

    assert not ok
    wait_until_gone(int(text.split("\n")[1]))


async def test_a_cancelled_command_is_ended_with_its_children(bash, tmp_path):
    call = asyncio.create_task(bash("sleep 300 & echo $! $$ > pids.tmp; mv pids.tmp pids; wait"))
    await asyncio.to_thread(wait_until, (tmp_path / "pids").exists, "bash did not begin")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    for pid in (tmp_path / "pids").read_text().split():
        wait_until_gone(int(pid))


async def test_c14_a_call_that_is_cancelled_while_its_sandbox_starts_is_over_at_once(boxed):
    for moment in range(12):  # milliseconds
        call = asyncio.create_task(boxed("sleep 300"))
        await asyncio.wait({call}, timeout=moment / 1000)
        begun = time.monotonic()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert time.monotonic() - begun < 1

    assert await boxed("echo hi") == (True, "hi")


async def test_a_boxed_command_gives_what_it_prints_and_its_exit_code(boxed):
    assert await boxed("echo hi; echo there >&2; exit 7") == (True, "hi\nthere\n[exit code 7]")
    assert await boxed("kill -9 $$") == (True, "[exit code 137]")
    assert await boxed("echo again") == (True, "again")


async def test_c12_the_folder_of_a_boxed_shell_is_kept(boxed, tmp_path):
    assert await boxed("mkdir d; cd d") == (True, "[exit code 0, nothing printed]")
    assert await boxed("pwd") == (True, f"{tmp_path.resolve()}/d")


async def test_only_the_workspace_can_be_changed(boxed, bash, tmp_path):
    outside = tmp_path.parent / "outside"

    assert (await boxed("echo in > inside; cat inside"))[1] == "in"
    await boxed(f"echo out > {outside}")
    assert (tmp_path / "inside").read_text() == "in\n"
    assert not outside.exists()
    await bash(f"echo out > {outside}")
    assert outside.exists()  # the same command, without the box


async def test_in_mode_read_nothing_can_be_changed(boxed, bash, tmp_path):
    _, text = await bash("echo x > f", mode="read")

    assert "Read-only" in text
    assert not (tmp_path / "f").exists()


@pytest.mark.parametrize("command", ["mount -o remount,rw,bind /", "unshare -Urm true", "mount -t tmpfs none /mnt"])
async def test_d1_d2_the_box_cannot_be_opened_from_inside(boxed, command):
    assert "[exit code " in (await boxed(command))[1]


async def test_d3_d4_neither_the_kernel_nor_its_environment_is_seen(boxed, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")

    _, text = await boxed("env; cat /proc/*/environ | tr '\\0' '\\n'; ls -d /proc/[0-9]* | wc -l")

    assert "secret" not in text
    assert int(text.split("\n")[-1]) < 10


async def test_d5_a_unix_socket_is_refused_and_a_pair_is_not(boxed):
    code = "import socket; socket.socketpair(); socket.socket(socket.AF_UNIX)"

    assert "PermissionError" in (await boxed(f"{sys.executable} -c '{code}'"))[1]


async def test_d6_a_port_of_this_machine_is_out_of_reach(boxed, bash):
    with socket.create_server(("127.0.0.1", 0)) as server:
        command = f"exec 3<>/dev/tcp/127.0.0.1/{server.getsockname()[1]} && echo reached"

        assert "reached" not in (await boxed(command))[1]
        assert "reached" in (await bash(command))[1]


async def test_d7_the_home_folder_is_empty(boxed):
    assert (await boxed('ls -A "$HOME" | grep -v -e "^\\.pyenv$" -e "^\\.cache$" | wc -l'))[1] == "0"


async def test_c2_what_leaves_the_session_ends_with_the_call(boxed):
    assert await boxed("setsid nohup sleep 300 >/dev/null 2>&1 & echo hi") == (True, "hi")
    assert (await boxed("pgrep -c sleep || true"))[1].split("\n")[0] == "0"


async def test_c3_a_boxed_command_that_takes_too_long_is_ended_with_what_it_printed(boxed):
    ok, text = await boxed('trap "" TERM; echo begun; sleep 300', timeout=1)

    assert (ok, "begun" in text) == (False, True)
    assert await boxed("echo again") == (True, "again")


async def test_a17_a18_what_a_command_writes_under_a_protected_name_does_not_stay(boxed, tmp_path):
    (tmp_path / ".git" / "hooks").mkdir(parents=True)
    (tmp_path / "AGENTS.md").write_text("mine")

    await boxed(
        "echo evil > .git/hooks/pre-commit; echo evil > AGENTS.md; mkdir .vscode; echo evil > .vscode/tasks.json"
    )

    assert not (tmp_path / ".git" / "hooks" / "pre-commit").exists()
    assert (tmp_path / "AGENTS.md").read_text() == "mine"
    assert not (tmp_path / ".vscode").exists()


async def test_a17_a18_a_command_neither_changes_nor_makes_a_skill(boxed, tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "tea.md").write_text("Boil water.")
    (tmp_path / "skills").symlink_to("docs")

    await boxed("echo evil > docs/tea.md; echo evil > skills/more.md; ln -sfn /tmp skills; mv docs other")
    (tmp_path / "skills").unlink()
    _, told = await boxed("mkdir skills && echo evil > skills/evil.md")

    assert [each.name for each in (tmp_path / "docs").iterdir()] == ["tea.md"]
    assert (tmp_path / "docs" / "tea.md").read_text() == "Boil water."
    assert not (tmp_path / "skills").exists()
    assert "'skills' was taken away" in told


async def test_c14_nothing_is_left_of_sandboxes_that_are_cancelled_while_they_start(boxed, tmp_path):
    for step in range(40):
        call = asyncio.create_task(boxed("sleep 300"))
        await asyncio.wait({call}, timeout=step / 2000)  # at each of the first 20 ms
        call.cancel()
        await asyncio.wait({call})

    def left():
        return [
            each for each in psutil.process_iter(["name", "cmdline"]) if str(tmp_path) in (each.info["cmdline"] or [])
        ]

    wait_until(lambda: not left(), "a part of a sandbox survived")

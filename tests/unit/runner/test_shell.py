"""bash, called as a model calls it."""

import asyncio
import threading
import time

import psutil
import pytest

from piano_jupyter.runner import shell
from piano_jupyter.runner.builtin_tools import builtin_tools
from piano_jupyter.runner.shell import clean_environment
from piano_jupyter.runner.tools import run_tool


@pytest.fixture
def bash(tmp_path):
    """Run a command in an empty workspace; return whether it went well, and its text."""

    async def bash(command, *, knob=60.0, **arguments):
        tools = builtin_tools(lambda: tmp_path, timeout=lambda: knob, output_limit=lambda: 2000)
        result = await run_tool(tools[-1], {"command": command, **arguments}, timeout=knob, output_limit=2000)
        return result.ok, result.text

    return bash


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


async def test_each_call_begins_in_the_workspace_anew(bash, tmp_path):
    assert await bash("pwd; cd /; X=1") == (True, str(tmp_path.resolve()))
    assert await bash("pwd; echo ${X:-unset}") == (True, f"{tmp_path.resolve()}\nunset")


async def test_bash_knows_no_key_and_no_token(bash, monkeypatch):
    for name in ("OPENAI_API_KEY", "GH_TOKEN", "JPY_SESSION_NAME", "AWS_PROFILE", "SSH_AUTH_SOCK", "BASH_ENV"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("LC_TIME", "C")

    _, text = await bash("env")

    assert "secret" not in text
    assert {"PAGER=cat", "GIT_TERMINAL_PROMPT=0", "LC_TIME=C"} <= set(text.split("\n"))
    assert clean_environment({"PATH": "/p"})["PATH"] == "/p"


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (
            "echo " + "x" * 1_000_000,
            "bad_command: bash cannot start this command: it is too long; put it into a file first",
        ),
        ("echo \0", "bad_command: bash cannot start this command: embedded null byte"),
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
    assert "[... 49,998,2" in text


async def test_a_command_that_never_stops_printing_is_ended(bash, monkeypatch):
    monkeypatch.setattr(shell, "FLOOD", 1 << 20)

    ok, text = await bash("yes")

    assert (ok, text.split("\n")[:2]) == (
        False,
        ["ended: the command was ended after 1,048,576 bytes of output; it had printed:", "y"],
    )


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


async def test_a_command_gets_no_longer_than_tools_may_run(bash):
    ok, text = await bash("echo here; sleep 300", knob=0.6, timeout=1e9)

    assert (ok, text) == (False, "ended: the command was ended after 0.3 s; it had printed:\nhere")


async def test_a_cancelled_command_is_ended_with_its_children(bash, tmp_path):
    call = asyncio.create_task(bash("sleep 300 & echo $! $$ > pids.tmp; mv pids.tmp pids; wait"))
    await asyncio.to_thread(wait_until, (tmp_path / "pids").exists, "bash did not begin")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    for pid in (tmp_path / "pids").read_text().split():
        wait_until_gone(int(pid))


def test_bash_runs_on_a_loop_that_is_not_the_main_threads(bash):
    results = []

    thread = threading.Thread(target=lambda: results.append(asyncio.run(bash("echo hi"))))
    thread.start()
    thread.join(30)

    assert results == [(True, "hi")]

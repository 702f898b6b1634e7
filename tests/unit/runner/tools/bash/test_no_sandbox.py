"""Without a sandbox, or when it stops working: rows D9 and D11 of the list of bad inputs."""

import asyncio
import os
import re
import select
import shutil
import signal
import stat
from pathlib import Path

import pytest
from sandboxing import FORBIDDEN

from piano_jupyter import Piano
from piano_jupyter.events import ApprovalRequested
from piano_jupyter.runner.tools.bash.bwrap import Bubblewrap
from piano_jupyter.runner.tools.bash.cgroup import CgroupLimits
from piano_jupyter.tool import ToolAssessment, Verdict

MISSING, FAILS, PLANTED = "bubblewrap is not installed", "bubblewrap fails here (", "bubblewrap is not started from "


@pytest.fixture
def missing(tmp_path_factory, monkeypatch):
    """A PATH without bubblewrap."""
    folder = tmp_path_factory.mktemp("bin")
    for name in ("bash", "sed"):
        (folder / name).symlink_to(shutil.which(name))
    monkeypatch.setenv("PATH", str(folder))


@pytest.fixture
def forbid(tmp_path_factory, monkeypatch, sandboxed):
    """Let the system forbid user namespaces to bubblewrap, or allow them again."""
    folder = tmp_path_factory.mktemp("bin")
    forbidden = folder / "forbidden"
    words = [shutil.which("bwrap"), *FORBIDDEN[1:]]
    program = folder / "bwrap"
    program.write_text(
        f'#!/bin/sh\n[ -e {forbidden} ] && exec {" ".join(words)} {words[0]} "$@"\nexec {words[0]} "$@"\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def forbid(now):
        forbidden.touch() if now else forbidden.unlink()

    return forbid


@pytest.fixture
def planted(missing, tmp_path, monkeypatch):
    """A PATH whose only bubblewrap is in the workspace, where a command may have put it."""
    folder = tmp_path / "node_modules/.bin"
    folder.mkdir(parents=True)
    shutil.copy(shutil.which("true", path="/usr/bin:/bin"), folder / "bwrap")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return f"{folder}: its path leads into the workspace, which commands can change"


@pytest.fixture(params=[MISSING, FAILS, PLANTED])
def why(request):
    """Why there is no sandbox."""
    if request.param == PLANTED:
        return PLANTED + request.getfixturevalue("planted")
    if request.param == MISSING:
        request.getfixturevalue("missing")
    else:
        request.getfixturevalue("forbid")(now=True)
    return request.param


async def asked(events):
    """Return the next approval request."""
    async with asyncio.timeout(10):
        async for event in events:
            if isinstance(event, ApprovalRequested):
                return event
    raise AssertionError


async def test_d9_without_a_sandbox_the_status_says_why_and_each_command_asks_and_file_tools_work(
    why, tmp_path, scripted, asks_for
):
    (tmp_path / "note").write_text("a note")
    same = [asks_for("bash", command="echo ran >>made")]
    calls = [asks_for("read_file", path="note")], same, same, same, [asks_for("create_file", path="new", content="")]
    model = scripted(*calls, "done")
    async with Piano(database=":memory:", workspace=tmp_path, model=model) as piano:
        await piano.update_agent("Assistant", enabled_tools=["read_file", "create_file", "bash"])
        events = piano.events()
        status, verdicts = await piano.status(), await piano.tool_verdicts()
        job = await piano.send("go")
        made = []
        for allowed in (False, True, False):
            request = await asked(events)
            made.append((tmp_path / "made").exists())
            assert request.reason.startswith(f"there is no sandbox here: {why}")
            await (piano.approve if allowed else piano.deny)(request)
        await piano.wait(job)
        results = [call.result for call in await piano.tool_calls(piano.thread)]

        [layer] = [each for each in status.layers if each.startswith("no sandbox: ")]
        assert layer.removeprefix("no sandbox: ").startswith(why)
        assert layer.endswith("; commands need your approval, and run with your rights")
        assert str(verdicts["bash"]) == "ask"
        assert "a note" in results[0]
        assert [each.split(":")[0] for each in results[1:4]] == ["denied", "[exit code 0, nothing printed]", "denied"]
        assert made == [False, False, True]
        assert (tmp_path / "made").read_text() == "ran\n"
        assert (tmp_path / "new").exists()


async def test_d9_in_mode_read_no_command_runs_without_a_sandbox(why, bash_of, tmp_path):
    bash = bash_of()

    opinion = bash.tool.judge({"command": "echo ran >made"}, "read")
    ran = await bash("echo ran >made", mode="read")

    assert opinion.verdict is Verdict.DENY
    assert opinion.reason.startswith(f"no_sandbox: in mode read bash runs only in a sandbox: {why}")
    assert bash.tool.layers("read")[0].endswith("; commands are not run")
    assert ran[0] is False
    assert not (tmp_path / "made").exists()


async def test_d9_a_command_that_nobody_was_asked_about_is_not_run_without_a_sandbox(why, bash_of, tmp_path):
    bash = bash_of()
    bash.tool.judge({"command": "echo another"}, "write")

    ok, text = await bash("echo ran >made", mode="write")

    assert not ok
    assert text.startswith(f"no_sandbox: nothing was run: there is no sandbox ({why}")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("mode", ["write", "read"])
async def test_d11_a_call_whose_sandbox_no_longer_starts_is_an_error_and_the_next_one_asks(
    bash_of, forbid, tmp_path, monkeypatch, mode
):
    monkeypatch.setattr("piano_jupyter.runner.tools.bash.bwrap.RETRY_AFTER_S", 0)
    bash, call = bash_of(), {"command": "echo ran; echo ran >made"}
    assert bash.tool.judge(call, mode) == ToolAssessment(Verdict.ALLOW)
    assert (await bash("kill -9 $$", mode=mode))[1] == "[exit code 137]"  # so that the next call starts a new sandbox

    forbid(now=True)
    refused = await bash(**call, mode=mode)
    after = bash.tool.judge(call, mode)
    forbid(now=False)
    again = bash.tool.judge(call, mode), await bash("echo again", mode=mode)

    assert refused[0] is False
    assert refused[1].startswith(f"no_sandbox: nothing was run: there is no sandbox ({FAILS}")
    assert not (tmp_path / "made").exists()
    assert after.verdict is (Verdict.ASK if mode == "write" else Verdict.DENY)
    assert again == (ToolAssessment(Verdict.ALLOW), (True, "again"))


async def test_d11_a_sandbox_whose_program_is_gone_after_the_check_is_an_error(
    bash_of, sandboxed, tmp_path, monkeypatch
):
    bubblewrap = Bubblewrap()
    bash = bash_of(bubblewrap)
    assert bash.tool.judge({"command": "echo ran >made"}, "write").verdict is Verdict.ALLOW
    bubblewrap.launcher = (str(Path(tmp_path, "gone")),)

    ok, text = await bash("echo ran >made", mode="write")

    assert not ok
    assert text.startswith("no_sandbox: nothing was run")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(("failures", "runs"), [(2, True), (3, False)])
async def test_d11_a_sandbox_that_fails_to_start_is_tried_again_before_the_call_is_refused(
    bash_of, sandboxed, tmp_path, failures, runs
):
    counter = tmp_path / "starts"
    launcher = tmp_path.parent / "launcher"
    launcher.write_text(f'#!/bin/bash\necho >>{counter}\n[ $(wc -l <{counter}) -gt {failures} ] && exec "$@"\nexit 1\n')
    launcher.chmod(0o755)
    bubblewrap = Bubblewrap()
    bash = bash_of(bubblewrap)
    assert (await bash("true", mode="write"))[0]
    bubblewrap.launcher = (str(launcher),)

    ok, text = await bash("echo it runs", mode="write")

    assert ok == runs
    assert text == "it runs" or text.startswith("no_sandbox: nothing was run")


def parent_of(process):
    return int(re.search(r"^PPid:\s*(\d+)$", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)[1])


async def test_d11_a_sandbox_that_ends_before_its_command_begins_is_tried_again(bash_of, sandboxed, monkeypatch):
    ended = []

    def end_once(_, process):
        if not ended:
            ended.append(process)
            bubblewrap = os.pidfd_open(parent_of(parent_of(process)))
            os.kill(process, signal.SIGKILL)
            assert select.select([bubblewrap], [], [], 20)[0]  # it ends last
            os.close(bubblewrap)

    monkeypatch.setattr(CgroupLimits, "add_process", end_once)

    assert await bash_of()("echo it runs", mode="write") == (True, "it runs")
    assert ended


async def test_d11_control_outside_the_sandbox_the_same_command_changes_the_machine(bash_of, tmp_path, forbid):
    forbid(now=True)

    assert await bash_of()("echo ran >made", mode="full") == (True, "[exit code 0, nothing printed]")
    assert (tmp_path / "made").exists()

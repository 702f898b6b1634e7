"""The processes and resources of a bash command, in the sandbox and outside: section C of the list of bad inputs."""

import asyncio
import os
import re
import secrets
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from child import ROOT
from sandboxing import run_in, running, wait_until

from piano_jupyter.runner.tools.bash.bwrap import Bubblewrap, SandboxLimits
from piano_jupyter.runner.tools.bash.cgroup import CgroupLimits, remove_empty_groups
from piano_jupyter.runner.tools.bash.marked_processes import MARK_VARIABLE, kill_group, kill_marked
from piano_jupyter.runner.tools.bash.output import MAX_SPILL_BYTES, CommandOutput
from piano_jupyter.runner.tools.bash.sandboxed_command import (
    SandboxedCommand,
    counts_processes_per_sandbox,
    ulimit_commands,
)

MB = 1 << 20
#: Starts up to 2,000 child processes, and prints how many there are when the system allows no more.
BOMB = """python3 -c '
import os, time
for number in range(2000):
    try:
        child = os.fork()
    except OSError as error:
        print(number, "fork:", error.strerror)
        raise SystemExit(1)
    if not child:
        time.sleep(60)
        os._exit(0)
print(2000)
'"""


@pytest.fixture
def sleeper():
    """A command that sleeps for a long time, with unique arguments to find its process."""
    return f"sleep {secrets.randbelow(10**9) + 10**9}"


@pytest.fixture
def skip_without_sandbox(request, mode):
    """Skip the tests in the sandbox if there is none."""
    if mode != "full":
        request.getfixturevalue("sandboxed")


async def gone(sleeper, seconds=10.0):
    return await asyncio.to_thread(wait_until, lambda: not running(sleeper), f"{sleeper} survived", seconds)


async def test_c1_a_background_process_is_not_waited_for_and_ends_with_the_call(either, sleeper):
    begun = time.monotonic()

    assert await either(f"{sleeper} & echo hi") == (True, "hi")
    assert time.monotonic() - begun < 2.5
    await gone(sleeper)


@pytest.mark.parametrize("end", ["by itself", "timeout", "cancel"])
async def test_c2_a_process_that_leaves_the_session_ends_with_the_call(either, sleeper, end):
    stays = "" if end == "by itself" else "sleep 300"
    call = asyncio.create_task(either(f"setsid nohup {sleeper} >/dev/null 2>&1 & echo hi; {stays}", timeout=1))
    if end == "cancel":
        await asyncio.to_thread(wait_until, lambda: running(sleeper), "bash did not begin")
        call.cancel()
    await asyncio.wait({call})

    assert call.cancelled() == (end == "cancel")
    await gone(sleeper)


def test_c2_a_process_that_is_just_running_another_program_is_looked_at_again(monkeypatch):
    process = subprocess.Popen(["sleep", "300"], env={MARK_VARIABLE: "a-mark"}, start_new_session=True)
    read, looks = Path.read_bytes, []

    def once_without(path):  # the moment is too short to meet it
        looks.append(path)
        return b"" if path.parent.name == str(process.pid) and looks.count(path) == 1 else read(path)

    monkeypatch.setattr(Path, "read_bytes", once_without)
    try:
        kill_marked("a-mark")
        assert process.wait(10) < 0
    finally:
        process.kill()


async def test_c3_a_command_that_ignores_all_signals_is_killed_in_time(either, sleeper):
    await either("true")
    begun = time.monotonic()

    ok, text = await either(f'trap "" TERM INT HUP; echo begun; {sleeper}', timeout=1)

    assert time.monotonic() - begun < 1 + 3
    assert (ok, text) == (False, "ended: the command was ended after 1 s; it printed:\nbegun")
    await gone(sleeper)
    assert await either("echo again") == (True, "again")


KERNEL = """
import asyncio, sys
from uuid import UUID
from piano_jupyter.config import PianoConfig
from piano_jupyter.runner.tools.bash.bash_tool import BashTool
from piano_jupyter.tool import ToolCallContext, current_call

current_call.set(ToolCallContext(thread_id=UUID(int=1), call_id=UUID(int=2), mode=sys.argv[1], say=print))
asyncio.run(BashTool(PianoConfig(workspace=sys.argv[2])).bash(sys.stdin.read(), 60))
"""


#: How a simple shell tool would do it.
PLAIN = "import subprocess, sys; subprocess.run(['bash', '-c', sys.stdin.read()])"


@pytest.mark.parametrize(("code", "mode", "survivors"), [(KERNEL, "write", 0), (KERNEL, "full", 0), (PLAIN, "", 3)])
def test_c4_when_the_kernel_is_killed_nothing_of_a_command_survives(
    skip_without_sandbox, sleeper, tmp_path, code, mode, survivors
):
    command = f"trap '' TERM INT HUP; setsid nohup {sleeper} & ({sleeper} &); {sleeper}"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "XDG_CACHE_HOME": str(tmp_path)}
    words = [sys.executable, "-c", code, mode, str(tmp_path)]

    def asleep():
        return [each for each in running(sleeper) if each.name() == "sleep"]

    with subprocess.Popen(words, stdin=subprocess.PIPE, env=environment, text=True) as kernel:
        kernel.stdin.write(command)
        kernel.stdin.close()
        wait_until(lambda: len(asleep()) == 3, "bash did not begin", 30)
        kernel.kill()
        kernel.wait()
        if survivors:
            left = asleep()
            for each in running(sleeper):
                each.kill()
            assert len(left) == survivors
        wait_until(lambda: not running(sleeper), "something survived", 1)


def memory(name):
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)[1]) << 10


@pytest.mark.parametrize("mode", ["write", "full"])
async def test_c5_half_a_gigabyte_of_output_is_cut_for_the_model_and_limited_on_the_disk(
    bash_of, skip_without_sandbox, mode
):
    bash = bash_of()
    Path("/proc/self/clear_refs").write_text("5")  # the peak is measured from here
    before, begun = memory("VmRSS"), time.process_time()

    ok, text = await bash("yes | head -c 500000000", mode=mode)
    grown, took = memory("VmHWM") - before, time.process_time() - begun
    told = re.search(
        r"\[\.\.\. ([\d,]+) of 500,000,000 bytes left out; its first 67,108,864 bytes: (sed .*) \.\.\.\]", text
    )
    _, read = await bash(told[2], mode=mode)
    _, size = await bash(f"stat -c %s {told[2].split()[-1]}", mode=mode)

    assert ok
    assert 25_000 < len(text) <= 30_000
    assert text.startswith("y\ny\n")
    assert text.endswith("\ny")
    assert int(told[1].replace(",", "")) > 499_000_000
    assert grown < 32 * MB
    assert took < 3  # CPU time of this process; the wall time depends on what else runs
    assert read.split() == ["y"] * 200
    assert int(size) == MAX_SPILL_BYTES


@pytest.mark.parametrize("mode", ["write", "full"])
async def test_c6_endless_binary_output_becomes_text_and_stops_at_the_limit(
    bash_of, skip_without_sandbox, monkeypatch, mode
):
    monkeypatch.setattr("piano_jupyter.runner.tools.bash.output.MAX_OUTPUT_BYTES", 16 * MB)

    ok, text = await bash_of()("cat /dev/urandom", mode=mode)

    assert not ok
    assert text.startswith("ended: the command was ended after 16,777,216 bytes of output; it printed:\n")
    assert "\ufffd" in text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", text)
    assert len(text) <= 30_000


async def result_of(command, spec, launcher, output):
    """Run a command in a read-only sandbox."""
    sandbox = await SandboxedCommand.start(Bubblewrap(launcher), replace(spec, writable=False), None)
    try:
        return await sandbox.run(spec.workspace, command.encode(), 60, output)
    finally:
        await sandbox.close()


def require_pids_limit(limits):
    cgroups = CgroupLimits(limits)
    held = "pids" in cgroups.controllers
    cgroups.remove()
    if os.geteuid() == 0 and not held:
        pytest.skip("root's processes are counted by a control group only, and none can be made here")


async def test_c7_a_fork_bomb_stops_at_the_named_limit_while_the_kernel_keeps_running(bash_of, sandboxed):
    require_pids_limit(SandboxLimits())
    bash, gaps = bash_of(bash_processes=50), []

    async def beat():
        while True:
            begun = time.monotonic()
            await asyncio.sleep(0)
            gaps.append(time.monotonic() - begun)

    beating = asyncio.create_task(beat())
    ok, text = await bash(BOMB, mode="write")
    beating.cancel()

    assert ok
    started, *_ = text.split()
    assert 30 < int(started) < 50
    assert text.endswith("[exit code 1]\n[limit: 50 processes (bash_processes)]")
    assert max(gaps) < 1
    assert await bash("echo again", mode="write") == (True, "again")


async def test_c7_the_limit_on_processes_applies_to_every_user(spec, launcher, tmp_path):
    require_pids_limit(spec.limits)

    async def started(processes):
        limited = replace(spec, limits=SandboxLimits(processes=processes))
        ran = await result_of(BOMB.replace("2000", "200"), limited, launcher, CommandOutput(2000, tmp_path, ""))
        return ran.exit_code, int(ran.output.split()[0])

    held, weak = await started(50), await started(500)

    assert held[0] == 1
    assert 30 < held[1] < 50
    assert weak == (0, 200)


async def test_d3_a_command_does_not_learn_the_kernels_process_id(spec, launcher, tmp_path):
    require_pids_limit(spec.limits)
    reading = "for each in cgroup cmdline environ mounts status; do cat /proc/{[0-9]*,self}/$each; done; ps -ef; env"

    ran = await result_of(reading, spec, launcher, CommandOutput(1_000_000, tmp_path, ""))

    assert re.search(r":/(?:.*/)?piano-[0-9a-f]{16}\n", ran.output) or os.geteuid()
    assert not re.search(rf"\b{os.getpid()}\b", ran.output)


def test_empty_control_groups_are_removed_unless_they_are_new(tmp_path, monkeypatch):
    empty, used, other = (tmp_path / name for name in ("piano-0123456789abcdef", f"piano-{'a' * 16}", "piano-mine"))
    for each in (empty, used, other):
        each.mkdir()
    (used / "a process").touch()  # what is not empty is not removed

    remove_empty_groups(tmp_path)
    new = empty.exists()
    monkeypatch.setattr("piano_jupyter.runner.tools.bash.cgroup.STARTUP_TIMEOUT_S", -1)
    remove_empty_groups(tmp_path)

    assert new
    assert [empty.exists(), used.exists(), other.exists()] == [False, True, True]


@pytest.mark.skipif(not counts_processes_per_sandbox(), reason="this kernel counts a user's processes together")
def test_c7_without_a_control_group_the_limit_on_processes_applies_to_all_but_root(spec, launcher):
    spec = replace(spec, limits=SandboxLimits(processes=50))
    root = os.geteuid() == 0 and not launcher

    code, said = run_in(spec, ulimit_commands(spec) + BOMB.replace("2000", "200"), launcher)

    assert code == (0 if root else 1)
    assert (int(said.split()[0]) < 50) != root


LIMIT_CASES = [
    ("python3 -c 'bytearray(64 << 30)'", "MemoryError", "0.25 GiB of memory (bash_memory)"),
    ("head -c 64G /dev/zero >big", "File size limit exceeded", "0.015625 GiB per file"),
    ("head -c 64G /dev/zero >/dev/shm/big", "No space left on device", "0.0078125 GiB each in /tmp, /dev/shm"),
    ("head -c 64G /dev/zero >/tmp/big", "No space left on device", "0.0078125 GiB each in /tmp, /dev/shm"),
    ("head -c 64G /dev/zero >~/big", "No space left on device", "0.0078125 GiB each in /tmp, /dev/shm"),
]


@pytest.fixture
def small(bash_of, sandboxed, monkeypatch):
    """Run a command in a sandbox with small limits."""
    small = partial(SandboxLimits, file_bytes=16 * MB, tmpfs_bytes=8 * MB)
    monkeypatch.setattr("piano_jupyter.runner.tools.bash.bash_tool.SandboxLimits", small)
    bash = bash_of(bash_memory=0.25)
    return lambda command: bash(command, mode="write")


@pytest.mark.parametrize(("command", "says", "limit"), LIMIT_CASES, ids=["memory", "a file", "shm", "tmp", "home"])
async def test_c8_a_command_that_uses_too_much_is_stopped_and_the_limit_is_named(small, tmp_path, command, says, limit):
    ok, text = await small(command)

    assert ok
    assert says in text
    assert re.search(r"\[exit code \d+\]", text)
    assert text.split("\n")[-1].startswith(f"[limit: {limit}")
    assert sum(each.stat().st_size for each in tmp_path.iterdir() if each.is_file()) <= 16 * MB
    assert await small("echo again") == (True, "again")


async def test_c8_a_command_that_uses_little_gets_no_note_about_limits(small):
    text = (await small("head -c 4M /dev/zero >big; head -c 4M /dev/zero >/tmp/big; python3 -c 'bytearray(1 << 20)'"))[
        1
    ]

    assert text == "[exit code 0, nothing printed]"


async def test_c8_processes_that_use_too_much_memory_together_are_stopped(small):
    cgroups = CgroupLimits(SandboxLimits())
    held = "memory" in cgroups.controllers
    cgroups.remove()
    if not held:
        pytest.skip("memory is counted together by a control group only, and none can be made here")
    takes = "python3 -c 'import time; taken = bytearray(150 << 20); time.sleep(60)'"

    ok, text = await small(f"{takes} & {takes} & wait -n; echo one is gone")

    assert ok
    assert "one is gone" in text
    assert text.endswith("[limit: 0.25 GiB of memory (bash_memory)]")


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("cat", r"\[exit code 0, nothing printed\]"),
        (sys.executable, r"\[exit code 0, nothing printed\]"),
        (f"{sys.executable} -c 'input()'", r"(?s).*EOFError.*\[exit code 1\]"),
        ("read x", r"\[exit code 1\]"),
        ("test -t 0 || test -t 1 || echo no terminal", "no terminal"),
        ("exec </dev/tty && echo a terminal", r"(?s).*/dev/tty.*\[exit code 1\]"),
        ("git init -q && git -c user.name=a -c user.email=b commit --allow-empty", r"(?s).*empty commit message.*"),
        ("sudo -k ls", r"(?s).*\[exit code \d+\]"),
        ("echo text >f; less f; echo $PAGER $GIT_TERMINAL_PROMPT $GIT_EDITOR", r"(?s).*cat 0 true"),
    ],
)
async def test_c9_a_command_that_waits_for_input_ends(either, command, says):
    ok, text = await either(command)  # it would be given up after 60 s

    assert ok
    assert re.fullmatch(says, text)


@pytest.mark.parametrize("timeout", [0, -1, float("-inf"), float("nan"), "1"])
async def test_c10_an_invalid_or_too_short_timeout_becomes_one_second(either, timeout):
    assert (await either("sleep 60", timeout=timeout))[1].startswith("ended: the command was ended after 1 s")


@pytest.mark.parametrize(("timeout", "seconds"), [(None, 120), ("30", 30), (600, 600), (1e9, 600), (1e999, 600)])
async def test_c10_the_timeout_is_two_minutes_by_default_and_at_most_ten(bash, timeout, seconds):
    tool = bash.tool.tool()
    given = {} if timeout is None else {"timeout": float(timeout)}

    assert tool.seconds(given) == tool.seconds({"timeout": seconds})
    assert await bash("echo hi", **({} if timeout is None else {"timeout": timeout})) == (True, "hi")


async def test_c10_the_setting_limits_the_timeout(bash_of):
    bash = bash_of(bash_timeout=1.0)

    assert (await bash("sleep 60", timeout=1e9))[1].startswith("ended: the command was ended after 1 s")


TOO_LONG = "bad_command: bash cannot start this command: it is too long; put it into a file first"


@pytest.mark.parametrize(
    ("command", "result"),
    [
        ("exit 7", (True, "[exit code 7]")),
        ("echo no; kill -9 $$", (True, "no\n[exit code 137]")),
        ("kill -TERM $BASHPID", (True, "[exit code 143]")),
        ("echo " + "x" * MB, (False, TOO_LONG)),
        ("echo \0", (False, "bad_command: a command cannot contain the character NUL")),
        ("echo \ud800", (False, "bad_command: the command has an incomplete character at position 5")),
    ],
    ids=["exit", "KILL", "TERM", "1 MB", "NUL", "surrogate"],
)
async def test_c11_the_exit_code_is_reported_and_an_invalid_command_is_an_error(either, command, result):
    assert await either(command) == result
    assert await either("echo again") == (True, "again")


async def test_c11_a_long_command_that_the_system_cannot_start_runs_in_the_sandbox(bash, sandboxed_bash):
    command = f": {'x' * 500_000}; echo hi"

    assert await bash(command) == (False, TOO_LONG)
    assert await sandboxed_bash(command) == (True, "hi")


async def test_c14_nothing_is_left_of_a_command_that_is_cancelled_while_it_starts(bash, sleeper):
    for step in range(10):
        call = asyncio.create_task(bash(f"setsid {sleeper} & {sleeper}"))
        await asyncio.wait({call}, timeout=step / 1000)  # at each of the first 10 ms
        call.cancel()
        await asyncio.wait({call})

    await gone(sleeper)


def test_c2_a_marked_process_is_found_even_if_its_id_is_lower_than_that_of_bash():
    with subprocess.Popen(["sleep", "300"], env={MARK_VARIABLE: "call"}) as child:
        with subprocess.Popen(["true"], start_new_session=True) as bash:
            kill_group(bash.pid, "call")

        assert child.wait(5) == -9

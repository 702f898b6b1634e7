"""bash, called as a model calls it."""

import asyncio
import re
import socket
import sys
import time

import psutil
import pytest
from sandboxing import wait_until, wait_until_gone

from piano_jupyter.runner.tools.bash.environment import ALLOWED_VARIABLES, NON_INTERACTIVE, clean_environment
from piano_jupyter.runner.tools.bash.marked_processes import MARK_VARIABLE

MADE = {"OLDPWD", "PWD", "SHLVL", "_", MARK_VARIABLE}  #: set by bash itself and by Piano


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("echo hi; echo there >&2; pwd | wc -l", "hi\nthere\n1"),
        ("true", "[exit code 0, nothing printed]"),
        ("-x", "bash: line 1: -x: command not found\n[exit code 127]"),
        (r"printf '10%%\r50%%\r100%%\n'; printf '\033[31mred\033[0m\r\n'", "100%\nred"),
        (r"printf 'a\377b'", "a\ufffdb"),
    ],
)
async def test_c6_the_result_of_a_command_is_its_output_as_plain_text_and_its_exit_code(either, command, text):
    assert await either(command) == (True, text)


async def test_c12_the_folder_is_kept_between_calls_and_variables_are_not(bash, tmp_path):
    assert await bash("pwd; mkdir d; cd d; X=1") == (True, str(tmp_path.resolve()))
    assert await bash("pwd; echo ${X:-unset}") == (True, f"{tmp_path.resolve()}/d\nunset")


async def test_d4_bash_gets_no_key_and_no_token(either, monkeypatch):
    for name in ("OPENAI_API_KEY", "GH_TOKEN", "A_SECRET", "JPY_SESSION_NAME", "JUPYTER_PORT", "AWS_PROFILE"):
        monkeypatch.setenv(name, "secret")
    for name in ("SSH_AUTH_SOCK", "BASH_ENV", "PROMPT_COMMAND", "BASH_FUNC_ls%%", "LD_PRELOAD"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("LC_TIME", "C")

    text = "\n".join([(await either(command))[1] for command in ("env", "declare -x")])  # in one call they may be cut
    names = set(re.findall(r"^(?:declare -x )?(\w+)=", text, re.MULTILINE))

    assert "left out" not in text
    assert "secret" not in text
    assert {"PAGER=cat", "GIT_TERMINAL_PROMPT=0", "LC_TIME=C"} <= set(text.split("\n"))
    assert {each for each in names if not each.startswith(("LC_", "GIT_"))} <= ALLOWED_VARIABLES | set(
        NON_INTERACTIVE
    ) | MADE
    assert clean_environment({"PATH": "/p"})["PATH"].endswith("/p")


async def test_c14_a_cancelled_command_is_ended_with_its_children(bash, tmp_path):
    call = asyncio.create_task(bash("sleep 300 & echo $! $$ > pids.tmp; mv pids.tmp pids; wait"))
    await asyncio.to_thread(wait_until, (tmp_path / "pids").exists, "bash did not begin")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    for pid in (tmp_path / "pids").read_text().split():
        wait_until_gone(int(pid))


async def test_c14_a_call_that_is_cancelled_while_its_sandbox_starts_ends_at_once(sandboxed_bash):
    for moment in range(12):  # milliseconds
        call = asyncio.create_task(sandboxed_bash("sleep 300"))
        await asyncio.wait({call}, timeout=moment / 1000)
        begun = time.monotonic()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert time.monotonic() - begun < 1

    assert await sandboxed_bash("echo hi") == (True, "hi")


async def test_c12_the_folder_of_a_sandboxed_shell_is_kept(sandboxed_bash, tmp_path):
    assert await sandboxed_bash("mkdir d; cd d") == (True, "[exit code 0, nothing printed]")
    assert await sandboxed_bash("pwd") == (True, f"{tmp_path.resolve()}/d")


async def test_only_the_workspace_can_be_changed(sandboxed_bash, bash, tmp_path):
    outside = tmp_path.parent / "outside"

    assert (await sandboxed_bash("echo in > inside; cat inside"))[1] == "in"
    await sandboxed_bash(f"echo out > {outside}")
    assert (tmp_path / "inside").read_text() == "in\n"
    assert not outside.exists()
    await bash(f"echo out > {outside}")
    assert outside.exists()  # the same command, without the sandbox


async def test_in_mode_read_nothing_can_be_changed(sandboxed_bash, bash, tmp_path):
    _, text = await bash("echo x > f", mode="read")

    assert "Read-only" in text
    assert not (tmp_path / "f").exists()


@pytest.mark.parametrize("command", ["mount -o remount,rw,bind /", "unshare -Urm true", "mount -t tmpfs none /mnt"])
async def test_d1_d2_the_sandbox_cannot_be_opened_from_inside(sandboxed_bash, command):
    assert "[exit code " in (await sandboxed_bash(command))[1]


async def test_d3_d4_neither_the_kernel_nor_its_environment_is_visible(sandboxed_bash, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")

    _, text = await sandboxed_bash("env; cat /proc/*/environ | tr '\\0' '\\n'; ls -d /proc/[0-9]* | wc -l")

    assert "secret" not in text
    assert int(text.split("\n")[-1]) < 10


async def test_d5_a_unix_socket_is_forbidden_and_a_socket_pair_is_not(sandboxed_bash):
    code = "import socket; socket.socketpair(); socket.socket(socket.AF_UNIX)"

    assert "PermissionError" in (await sandboxed_bash(f"{sys.executable} -c '{code}'"))[1]


async def test_d6_a_port_of_this_machine_cannot_be_reached(sandboxed_bash, bash):
    with socket.create_server(("127.0.0.1", 0)) as server:
        command = f"exec 3<>/dev/tcp/127.0.0.1/{server.getsockname()[1]} && echo reached"

        assert "reached" not in (await sandboxed_bash(command))[1]
        assert "reached" in (await bash(command))[1]


async def test_d7_the_home_folder_is_empty(sandboxed_bash):
    assert (await sandboxed_bash('ls -A "$HOME" | grep -v -e "^\\.pyenv$" -e "^\\.cache$" | wc -l'))[1] == "0"


async def test_a17_a18_what_a_command_writes_to_a_protected_name_does_not_stay(sandboxed_bash, tmp_path):
    (tmp_path / ".git" / "hooks").mkdir(parents=True)
    (tmp_path / "AGENTS.md").write_text("mine")

    await sandboxed_bash(
        "echo evil > .git/hooks/pre-commit; echo evil > AGENTS.md; mkdir .vscode; echo evil > .vscode/tasks.json"
    )

    assert not (tmp_path / ".git" / "hooks" / "pre-commit").exists()
    assert (tmp_path / "AGENTS.md").read_text() == "mine"
    assert not (tmp_path / ".vscode").exists()


async def test_a17_a18_a_command_can_neither_change_nor_create_a_skill(sandboxed_bash, tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "tea.md").write_text("Boil water.")
    (tmp_path / "skills").symlink_to("docs")

    await sandboxed_bash("echo evil > docs/tea.md; echo evil > skills/more.md; ln -sfn /tmp skills; mv docs other")
    (tmp_path / "skills").unlink()
    _, told = await sandboxed_bash("mkdir skills && echo evil > skills/evil.md")

    assert [each.name for each in (tmp_path / "docs").iterdir()] == ["tea.md"]
    assert (tmp_path / "docs" / "tea.md").read_text() == "Boil water."
    assert not (tmp_path / "skills").exists()
    assert "because the user did not approve it: 'skills/evil.md' would become part of your skills" in told


async def test_c14_nothing_is_left_of_sandboxes_that_are_cancelled_while_they_start(sandboxed_bash, tmp_path):
    for step in range(40):
        call = asyncio.create_task(sandboxed_bash("sleep 300"))
        await asyncio.wait({call}, timeout=step / 2000)  # at each of the first 20 ms
        call.cancel()
        await asyncio.wait({call})

    def left():
        return [
            each for each in psutil.process_iter(["name", "cmdline"]) if str(tmp_path) in (each.info["cmdline"] or [])
        ]

    wait_until(lambda: not left(), "a part of a sandbox survived")


async def test_with_more_names_than_can_be_hidden_no_command_runs(sandboxed_bash, tmp_path, monkeypatch):
    monkeypatch.setattr("piano_jupyter.runner.tools.bash.workspace_commands.MAX_HIDDEN", 3)
    for number in range(4):
        (tmp_path / f"project{number}/.piano").mkdir(parents=True)

    ok, text = await sandboxed_bash("ls")

    assert not ok
    assert re.fullmatch(
        r"too_many: nothing was run: the workspace has 4 names that a command must not see, such as "
        r"'project\d/\.piano', but at most 3 can be hidden; tell the user to choose a smaller workspace",
        text,
    )

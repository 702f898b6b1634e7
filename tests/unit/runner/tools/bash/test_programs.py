"""Piano starts no program outside the sandbox that a command or another user could have written."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from child import NOBODY, ROOT, needs_root, run_child
from sandboxing import run_in, running, wait_until

from piano_jupyter.runner.tools.bash import programs
from piano_jupyter.runner.tools.bash.bwrap import Bubblewrap, SandboxSpec
from piano_jupyter.runner.tools.bash.environment import git_identity
from piano_jupyter.runner.tools.bash.programs import ProgramNotFoundError, find_program

LEADS_IN = "its path leads into the workspace, which commands can change"
#: A command that puts programs on PATH with the names of all that Piano starts.
PLANT = """mkdir -p bin; printf '#!/bin/sh\\ntouch %s/ran-$(basename "$0")\\n' "$PWD" >bin/bwrap; chmod +x bin/bwrap
for each in bash sh git grep kill python; do cp bin/bwrap bin/$each; done"""

#: Acts like bubblewrap before version 0.5, which could not set the permissions of a file.
OLD = """#!/bin/sh
case "$1" in --help) {0} --help | grep -v -e --perms; exit;; esac
for each; do [ "$each" != --perms ] || exit 1; done
exec {0} "$@"
"""


@pytest.fixture
def folders(common):
    """A workspace and a folder beside it that may be on PATH."""
    for name in ("workspace", "tools"):
        (common / name).mkdir()
        (common / name).chmod(0o755)
    common.chmod(0o755)
    return common / "workspace", common / "tools"


def put(folder, name="tool"):
    """Put a program into a folder."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("#!/bin/sh\n")
    (folder / name).chmod(0o755)
    return folder / name


def on_path(monkeypatch, *folders):
    monkeypatch.setenv("PATH", os.pathsep.join(map(str, folders)))


def ran(workspace):
    return sorted(each.name for each in workspace.glob("ran-*"))


async def test_a_program_that_a_command_put_on_path_is_not_started_by_the_next_piano(
    sandboxed_bash, bash_of, tmp_path, monkeypatch
):
    assert await sandboxed_bash(PLANT) == (True, "[exit code 0, nothing printed]")
    on_path(monkeypatch, tmp_path / "bin", os.environ["PATH"])
    git_identity.cache_clear()
    later = bash_of()

    status = later.tool.layers("write")
    sandboxed = await later("echo $BASH_VERSION", mode="write")
    bare = await later("echo $BASH_VERSION", mode="full")

    assert status[0].startswith("sandbox: bubblewrap ")
    assert status[3].startswith(
        ("memory: 8 GiB per process and in total", "memory: 8 GiB per process but not in total")
    )
    assert sandboxed == bare
    assert sandboxed[1][0].isdigit()
    assert ran(tmp_path) == []
    await later("git status", mode="full")
    assert ran(tmp_path) == ["ran-git"]  # what the user approved runs as in the user's own shell


async def test_an_unsandboxed_command_is_an_error_if_a_command_could_have_written_the_only_bash(
    bash_of, tmp_path, monkeypatch
):
    monkeypatch.setattr(programs, "SYSTEM_BASH", ())
    put(tmp_path / "bin", "bash")
    on_path(monkeypatch, tmp_path / "bin")

    ok, text = await bash_of()("echo ran", mode="full")

    assert (ok, text) == (
        False,
        f"bad_command: no command can be run: bash is not started from {tmp_path / 'bin'}: {LEADS_IN}",
    )


def test_the_shell_in_the_sandbox_of_an_old_bubblewrap_does_not_come_from_path_either(
    spec, sandboxed, tmp_path, monkeypatch
):
    assert run_in(spec, f"cd {spec.workspace} && {PLANT}")[0] == 0
    old = put(tmp_path / "old", "bwrap")
    old.write_text(OLD.format(shutil.which("bwrap")))
    on_path(monkeypatch, old.parent, os.environ["PATH"])
    bubblewrap = Bubblewrap()
    spec = SandboxSpec(
        workspace=spec.workspace, writable=True, environment=(("PATH", f"{spec.workspace}/bin:/usr/bin:/bin"),)
    )
    assert bubblewrap.unavailable_reason(spec) == ""

    with bubblewrap.start(spec, ["--norc", "-c", "echo $BASH_VERSION"], stdout=subprocess.PIPE) as process:
        printed = process.stdout.read()

    assert printed[:1].isdigit()
    assert ran(Path(spec.workspace)) == []


KERNEL = """
import asyncio, sys
from pathlib import Path
from piano_jupyter.runner.tools.bash.unsandboxed import run_unsandboxed
from piano_jupyter.runner.tools.bash.output import CommandOutput

workspace = Path(sys.argv[1])
output = CommandOutput(2000, workspace / "spill", "spill")
asyncio.run(run_unsandboxed(sys.argv[2], folder=str(workspace), workspace=workspace, timeout_s=60, output=output))
"""


def test_the_watcher_of_a_killed_kernel_uses_no_program_on_path(tmp_path):
    put(tmp_path / "bin", "grep").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran-grep\n")
    sleeper = f"/bin/sleep {os.getpid()}{os.getpid()}"
    environment = os.environ | {
        "PATH": f"{tmp_path}/bin{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
        "BASH_FUNC_kill%%": f"() {{ touch {tmp_path}/ran-kill; }}",
    }

    def asleep():
        return [each for each in running(sleeper) if each.name() == "sleep"]

    with subprocess.Popen([sys.executable, "-c", KERNEL, tmp_path, f"setsid {sleeper}"], env=environment) as kernel:
        wait_until(asleep, "the command did not begin", 30)
        kernel.kill()
        kernel.wait()
    wait_until(lambda: not running(sleeper), "the command survived")

    assert ran(tmp_path) == []


def test_git_is_not_asked_who_commits_if_a_command_could_have_written_it(tmp_path, monkeypatch):
    put(tmp_path / "bin", "git").write_text("#!/bin/sh\necho user.name evil\n")
    on_path(monkeypatch, tmp_path / "bin")
    elsewhere = tmp_path / "elsewhere"

    assert git_identity(str(tmp_path)) == {}
    assert git_identity(str(elsewhere))["GIT_AUTHOR_NAME"] == "evil"  # for another workspace it is no danger


def test_d14_no_library_in_the_workspace_is_loaded_into_git_or_bubblewrap(folders, monkeypatch):
    workspace, tools = folders
    for name in ("git", "bwrap"):
        put(tools, name).write_text('#!/bin/sh\necho "user.name ${LD_LIBRARY_PATH-none} ${LD_PRELOAD-none}"\n')
    on_path(monkeypatch, tools)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(workspace))
    bubblewrap = Bubblewrap()
    bubblewrap.unavailable_reason(SandboxSpec(workspace=str(workspace), writable=True))

    assert git_identity(str(workspace))["GIT_AUTHOR_NAME"] == "none none"
    assert bubblewrap.version == "user.name none none"


def test_d14_a_program_in_the_workspace_is_skipped_and_the_one_found_is_cached(folders, monkeypatch):
    workspace, tools = folders
    put(workspace / "bin")
    beside = put(tools)
    on_path(monkeypatch, ".", "", "bin", "node_modules/.bin", workspace / "bin", tools)
    monkeypatch.chdir(workspace)
    put(workspace)

    assert find_program("tool", str(workspace)) == str(beside)
    put(tools / "earlier")
    beside.unlink()
    assert find_program("tool", str(workspace)) == str(beside)
    with pytest.raises(ProgramNotFoundError, match=r"^other is not installed$"):
        find_program("other", str(workspace))
    put(tools, "other")
    assert find_program("other", str(workspace)) == str(tools / "other")  # a program installed later is found


def test_d14_control_a_plain_search_finds_the_program_in_the_workspace(folders):
    workspace, tools = folders
    put(tools)

    found = shutil.which("tool", path=os.pathsep.join(map(str, (put(workspace / "bin").parent, tools))))

    assert found == str(workspace / "bin/tool")


def test_d14_no_link_on_the_way_to_a_program_leads_into_or_through_the_workspace(folders, monkeypatch):
    workspace, tools = folders
    put(workspace / "bin")
    (tools / "program").mkdir()
    (tools / "program/tool").symlink_to(workspace / "bin/tool")
    (tools / "folder").symlink_to("../workspace/bin")
    put(tools / "real")
    (workspace / "back").symlink_to(tools / "real")
    (tools / "through").symlink_to(workspace / "back")
    (workspace.parent / "same").symlink_to("workspace")

    for folder in (tools / "program", tools / "folder", tools / "through", workspace.parent / "same/bin"):
        on_path(monkeypatch, folder)
        with pytest.raises(ProgramNotFoundError) as refused:
            find_program("tool", str(workspace.parent / "same"))
        assert str(refused.value) == f"tool is not started from {folder}: {LEADS_IN}"
    (tools / "harmless").symlink_to("real/../real")
    on_path(monkeypatch, tools / "harmless")
    assert find_program("tool", str(workspace)) == str(tools / "harmless/tool")


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o757])
def test_d14_a_program_in_a_folder_that_others_can_write_to_is_not_started(folders, monkeypatch, mode):
    workspace, tools = folders
    put(tools / "bin")
    on_path(monkeypatch, tools / "bin")
    (tools / "bin").chmod(mode)

    with pytest.raises(ProgramNotFoundError) as refused:
        find_program("tool", str(workspace))

    assert str(refused.value) == f"tool is not started from {tools / 'bin'}: other users can write to {tools / 'bin'}"
    (tools / "bin").chmod(0o755)
    tools.chmod(mode)
    if mode == 0o1777:  # like /tmp, where others cannot replace our files
        assert find_program("tool", str(workspace)) == str(tools / "bin/tool")
    else:
        with pytest.raises(ProgramNotFoundError, match=f"other users can write to {tools}$"):
            find_program("tool", str(workspace))


def test_d14_a_program_that_others_can_write_is_not_started(folders, monkeypatch):
    workspace, tools = folders
    put(tools).chmod(0o757)
    on_path(monkeypatch, tools)

    with pytest.raises(ProgramNotFoundError, match=f"other users can write to {tools / 'tool'}$"):
        find_program("tool", str(workspace))


@needs_root
def test_d14_a_program_of_another_user_is_not_started_nor_one_that_their_group_can_write(folders, monkeypatch):
    workspace, tools = folders
    put(tools)
    on_path(monkeypatch, tools)
    for place in (tools, tools / "tool"):
        os.chown(place, NOBODY, NOBODY)
        with pytest.raises(ProgramNotFoundError, match=f"{place} belongs to another user$"):
            find_program("tool", str(workspace))
        os.chown(place, 0, 0)
    os.chown(tools, 0, 4343)
    tools.chmod(0o775)
    with pytest.raises(ProgramNotFoundError, match=f"other users can write to {tools}$"):
        find_program("tool", str(workspace))
    os.chown(tools, 0, 0)

    assert find_program("tool", str(workspace)) == str(tools / "tool")


@needs_root
def test_d14_a_user_starts_the_systems_and_their_own_programs_but_not_another_users(folders):
    workspace, tools = folders
    put(tools / "own")
    put(tools / "theirs")
    for name, owner in (("own", NOBODY), ("theirs", 4242)):
        os.chown(tools / name, owner, owner)
        os.chown(tools / name / "tool", owner, owner)
    code = """
for name, folder in (("tool", "own"), ("tool", "theirs"), ("bash", "own"), ("sed", "own")):
    os.environ["PATH"] = sys.argv[2] + "/" + folder + ":/usr/bin"
    try:
        print(find_program(name, sys.argv[1]))
    except Exception as error:
        print(error)
"""

    assert run_child(code, workspace, tools, user=NOBODY).splitlines() == [
        str(tools / "own/tool"),
        f"tool is not started from {tools / 'theirs'}: {tools / 'theirs'} belongs to another user",
        "/bin/bash",
        shutil.which("sed", path="/usr/bin"),
    ]

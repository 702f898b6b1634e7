"""Ways out of the sandbox. Each attack runs twice: in the sandbox, and in one without that defence (`weak`).

All run as the user who runs the tests, and as another one where that is root: capabilities are root's weakness.
"""

import os
import re
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from sandboxing import run_in

from piano_jupyter.runner.tools.bash.workspace_index import WorkspaceIndex
from piano_jupyter.runner.tools.files.workspace import home_parts_in
from piano_jupyter.runner.tools.files.write_hazards import WriteHazards

NO_CAP_DROP = [("--cap-drop", "ALL")]


def test_d1_a_read_only_folder_cannot_be_mounted_writable(spec, launcher, common):
    attack = f"mount -o remount,rw,bind {common}/readable && touch {common}/readable/x"

    held = run_in(spec, attack, launcher)
    there = (common / "readable" / "x").exists()
    root = ("--unshare-user", "--uid", "0", "--gid", "0", "--cap-add", "ALL")
    weak = run_in(spec, attack, launcher, without=NO_CAP_DROP, also=root, seccomp=False, disable_userns=False)

    assert held[0] != 0
    assert not there
    assert weak == (0, "")


@pytest.mark.parametrize(
    "weaker", [{"seccomp": False}, {"disable_userns": False}], ids=["without seccomp", "without disable-userns"]
)
def test_d2_a_new_namespace_cannot_be_created(spec, launcher, common, weaker):
    attack = f"unshare -Urm bash -c 'mount -o remount,rw,bind {common}/readable && touch {common}/readable/x'"

    held = run_in(spec, attack, launcher)
    still = run_in(spec, attack, launcher, **weaker)  # one of the two is enough
    none = {"seccomp": False, "disable_userns": False}
    weak = run_in(spec, "unshare -Urm true", launcher, without=NO_CAP_DROP, **none)

    assert held[0] != 0
    assert still[0] != 0
    assert not (common / "readable" / "x").exists()
    assert weak == (0, "")


def test_d3_no_process_of_the_host_can_be_seen_or_killed(spec, launcher):
    us = os.getpid()
    read = f"cat /proc/{us}/environ /proc/{us}/{'root'}/etc/passwd; cat /proc/[0-9]*/environ | tr '\\0' '\\n'"
    victim = subprocess.Popen([*launcher, "sleep", "60"])
    try:
        _, seen = run_in(spec, read, launcher)
        held = run_in(spec, f"kill -9 {victim.pid}", launcher)
        alive = victim.poll() is None
        weak = run_in(spec, f"kill -9 {victim.pid}", launcher, without=[("--unshare-pid",)])
        end = victim.wait(5)
    finally:
        victim.kill()

    assert seen.count("No such file or directory") == 2
    assert set(_names(seen)) <= {"PATH", "HOME", "TMPDIR", "PWD", "SHLVL", "_", "OLDPWD"}
    assert held[0] != 0
    assert alive
    assert (weak[0], end) == (0, -9)


def test_d3_bubblewraps_command_line_which_names_folders_of_the_host_cannot_be_read(spec, launcher):
    attack = "cat /proc/1/cmdline; cat /proc/1/task/1/cmdline; cat /proc/1/environ /proc/1/task/1/environ"
    spec = replace(spec, readable=(*spec.readable, "/nowhere/of-the-host"))
    masks = [("--ro-bind", "/dev/null", f"/proc/1/{name}") for name in ("cmdline", "task/1/cmdline")]

    held, weak = run_in(spec, attack, launcher), run_in(spec, attack, launcher, without=masks)

    assert "of-the-host" not in held[1]
    assert re.sub("cat: .*: Permission denied", "", held[1]).strip() == ""
    assert weak[1].count("/nowhere/of-the-host") == 4  # twice in the bind arguments, in each of the two


def test_d3_another_process_of_the_sandbox_cannot_be_traced_or_read(spec, launcher):
    attack = (  # its own child, because others are protected on some systems anyway
        "python3 -c 'import ctypes, os, signal; libc = ctypes.CDLL(None, use_errno=True);"
        "child = os.fork() or signal.pause();"
        "print(libc.ptrace(16, child, 0, 0), ctypes.get_errno());"
        "os.kill(child, 9)'"
    )

    held, weak = run_in(spec, attack, launcher), run_in(spec, attack, launcher, seccomp=False)

    assert held == (0, "-1 1")
    assert weak == (0, "0 0")


def test_d5_a_unix_socket_of_the_host_cannot_be_connected_to(spec, launcher, common):
    path = common / "workspace" / "docker.sock"
    attack = f'python3 -c \'import socket; socket.socket(socket.AF_UNIX).connect("{path}"); print("in")\''
    with socket.socket(socket.AF_UNIX) as host:
        host.bind(str(path))
        path.chmod(0o777)
        host.listen()
        held, weak = run_in(spec, attack, launcher), run_in(spec, attack, launcher, seccomp=False)

    assert held[0] == 1
    assert held[1].endswith("PermissionError: [Errno 1] Operation not permitted")
    assert weak == (0, "in")


def test_d5_communication_between_a_commands_own_processes_works(spec, launcher):
    script = """
import asyncio, multiprocessing, socket, threading
a, b = socket.socketpair()
a.send(b"pair")
print(b.recv(4).decode())
with multiprocessing.get_context("fork").Pool(2) as pool:
    print(pool.map(abs, [-1, -2]))
async def main():
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    await asyncio.open_connection(*server.sockets[0].getsockname())
    process = await asyncio.create_subprocess_exec("echo", "child", stdout=asyncio.subprocess.PIPE)
    print((await process.stdout.read()).decode().strip())
    await process.wait()
asyncio.run(main())
threading.Thread(target=print, args=("thread",)).start()
"""
    assert run_in(spec, f"python3 -W ignore - <<'E'\n{script}\nE", launcher) == (0, "pair\n[1, 2]\nchild\nthread")


def test_d6_no_port_of_the_host_can_be_reached(spec, launcher):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        attack = f"exec 3<>/dev/tcp/127.0.0.1/{port} && echo in"
        held, weak = run_in(spec, attack, launcher), run_in(spec, attack, launcher, without=[("--unshare-net",)])

    assert "Connection refused" in held[1]
    assert weak == (0, "in")


SECRETS = (
    *(".ssh/id_ed25519", ".aws/credentials", ".local/share/jupyter/runtime/kernel-1.json", ".netrc", ".bash_history"),
    *(".mozilla/firefox/logins.json", ".cargo/credentials.toml", ".claude/.credentials.json", ".kaggle/kaggle.json"),
)


@pytest.fixture
def home(common, monkeypatch):
    """A home folder that contains keys."""
    home = common / "home"
    for name in SECRETS:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("secret")
    monkeypatch.setenv("HOME", str(home))
    return home


def test_d7_the_home_folder_is_empty_in_the_sandbox(spec, launcher, home):
    attack = f"cd {home} && cat {' '.join(SECRETS)}; cat ~/{' ~/'.join(SECRETS)}; ls -A ~"

    _, held = run_in(spec, attack, launcher)
    _, weak = run_in(replace(spec, readable=tuple(str(home / name) for name in SECRETS)), attack, launcher)

    assert "secret" not in held
    assert weak.count("secret") == len(SECRETS)


def test_d7_the_keys_are_hidden_if_the_home_folder_is_one_of_the_readable_paths(spec, launcher, home):
    (home / "data.csv").write_text("a,b")
    (home / "data.csv").chmod(0o644)

    _, held = run_in(replace(spec, readable=(str(home),)), f"cd {home}; cat data.csv {' '.join(SECRETS)}", launcher)

    assert "a,b" in held
    assert "secret" not in held


def hidden_in(workspace, home):
    return WorkspaceIndex(WriteHazards(workspace=workspace, home=home)).refresh().hidden


def test_d7_the_keys_are_hidden_if_the_workspace_is_the_home_folder(spec, launcher, home):
    home.chmod(0o777)
    (home / "work").mkdir(0o777)
    spec = replace(spec, workspace=str(home))
    moved = f"cd {home}; mv .cargo c2; mv .ssh work/; cat c2/* work/.ssh/*; "
    attack = f"cd {home}; cat {' '.join(SECRETS)}; touch mine; ls"

    _, held = run_in(replace(spec, hidden=hidden_in(home, ())), moved + attack, launcher)
    _, weak = run_in(spec, attack, launcher)

    assert "secret" not in held
    assert "mine" in held
    assert weak.count("secret") == len(SECRETS)


@pytest.mark.parametrize("is_workspace", [True, False], ids=["workspace", "readable"])
def test_d7_the_keys_are_hidden_if_the_home_folder_is_a_link(spec, launcher, home, common, monkeypatch, is_workspace):
    (common / "linked").symlink_to(home)
    monkeypatch.setenv("HOME", str(common / "linked"))
    home.chmod(0o777)
    wide = replace(spec, workspace=str(home), hidden=hidden_in(home, home_parts_in(home)))
    spec = wide if is_workspace else replace(spec, readable=(str(home),))

    _, held = run_in(spec, f"cd {home} && cat {' '.join(SECRETS)}; ls", launcher)

    assert "secret" not in held


def test_d12_only_the_workspace_can_be_damaged(spec, launcher, common):
    for path in (common / "readable" / "kept", common / "workspace" / "mine", common / "beside"):
        path.write_text("kept")
        path.chmod(0o666)
    (common / "readable").chmod(0o777)
    careful = "[ $HOME = /home/piano ] && ! touch /usr/x 2>/dev/null || exit 99; "  # only in a sandbox
    every = "for each in *; do [ $each = usr ] || rm -rf ./$each; done"  # /usr is large, and as read-only as /etc

    code, said = run_in(
        spec, f"{careful} cd /; {every}; find /etc /home /tmp -delete; dd if=/dev/zero of=/dev/sda", launcher
    )
    wide = replace(spec, workspace=str(common), readable=())
    weak = run_in(wide, f"rm {common}/readable/kept", launcher)

    assert code != 99
    assert "Read-only file system" in said
    assert list((common / "workspace").iterdir()) == []
    assert (common / "beside").read_text() == "kept"
    assert weak[0] == 0
    assert not (common / "readable" / "kept").exists()


def _names(environment):
    return [line.split("=")[0] for line in environment.split("\n") if "=" in line]


def test_d1_no_setting_of_the_system_can_be_changed_not_even_by_root(spec, launcher):
    setting = "/proc/sys/kernel/core_pattern"  # a value that starts with | is a program that the system runs as root
    attack = f'was=$(cat {setting}) && printf "%s\\n" "$was" >{setting}'  # as it was

    held = run_in(spec, attack, launcher)

    assert held[0] != 0
    assert "Read-only file system" in held[1] or "Permission denied" in held[1]
    if not launcher and os.geteuid() == 0 and os.access(setting, os.W_OK):
        assert run_in(spec, attack, without=[("--ro-bind-try", "/proc/sys", "/proc/sys")]) == (0, "")


def test_c2_the_memory_of_the_first_process_which_outlives_a_command_cannot_be_written(spec, launcher):
    attack = "exec 9<>/proc/1/mem && exec 8<>/proc/1/task/1/mem"

    held = run_in(spec, attack, launcher)
    masks = [("--ro-bind", "/dev/null", f"/proc/1/{name}") for name in ("mem", "task/1/mem")]
    weak = run_in(spec, attack, launcher, without=masks)

    assert held[0] != 0
    assert weak[0] == 0 or _is_shielded_anyway()


def _is_shielded_anyway():
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    return scope.exists() and scope.read_text().strip() != "0"

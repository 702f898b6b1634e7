"""What bubblewrap is asked for: what a command in the sandbox can see, change and reach; and whether it works here.

Everything is an allow list. The system, the kernel's own Python and the folders of `readable_paths` are read-only; the
home folder is an empty one; the network is an empty one; the environment is `environment.py`'s. The workspace stands at
its own path, writable or not, but for what `guards.py` found in it.

The first two processes in it outlive a command: bubblewrap's own, and the shell that reads the commands. Whoever wrote
into their memory could act between two calls, so that of the first is not there (nor is bubblewrap's command line), and
the second runs a program that nobody may read, whose processes the system shields from others of the same user.

Not covered: devices such as GPUs are not there; what is written to the workspace counts towards no quota; bubblewrap
before 0.5 cannot shield the shell; the table of mounts tells from which folders of the host they come, and the host's
name is its own, as `/etc/hosts` knows it.
"""

import os
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from piano_jupyter.runner.tools.bash.guards import MountOverrides
from piano_jupyter.runner.tools.bash.programs import ProgramNotFoundError, program
from piano_jupyter.runner.tools.bash.seccomp import filter_file
from piano_jupyter.runner.tools.files.protected import KEYS, STARTERS
from piano_jupyter.runner.tools.files.shadowing import user_packages

HOME = "/home/piano"  #: the empty home folder
SPILL = "/spill"  #: where long outputs are read again
SHELL = "/run/bash"  #: the shell that nobody may read
#: Of /proc. bubblewrap leaves the system's settings writable to root, one of them a program that the system would run.
SETTINGS = ("/proc/sys", "/proc/acpi", "/proc/fs", "/proc/scsi")
#: Of the first process: its memory, and bubblewrap's own command line, which names folders of the host.
FIRST = tuple(f"/proc/1/{task}{name}" for task in ("", "task/1/") for name in ("mem", "cmdline"))
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix/store", "/gnu/store")
ETC = (
    *("R", "alternatives", "bash.bashrc", "ca-certificates", "ca-certificates.conf", "crypto-policies", "fonts"),
    *("group", "host.conf", "hosts", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "locale.alias"),
    *("magic", "mime.types", "networks", "nsswitch.conf", "os-release", "passwd", "perl", "pki/ca-trust"),
    *("pki/tls/certs", "profile", "protocols", "python3", "services", "ssl/certs", "ssl/openssl.cnf", "terminfo"),
    "timezone",
)
ETC_STARTS = ("java-", "python3.")  #: names that carry a version
NO_WORKSPACE = (*SYSTEM, "/boot", "/dev", "/etc", "/proc", "/run", "/sys", "/var/lib", "/var/run")
AGAIN = 10.0  #: seconds after which it is tried again whether bubblewrap works


class SandboxUnavailableError(Exception):
    """The sandbox did not start; the text says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SandboxLimits:
    """What a sandbox may use, in bytes where it is not a number of processes."""

    memory: int = 8 << 30  #: of each process, and of all together where the system can hold it
    processes: int = 512
    file: int = 4 << 30  #: of one file
    tmpfs: int = 1 << 30  #: of /tmp, of /dev/shm and of the home folder, each


@dataclass(frozen=True, kw_only=True, slots=True)
class SandboxSpec:
    """A sandbox, described."""

    workspace: str
    writable: bool
    spill: str = os.devnull  #: the folder of long outputs
    shields: MountOverrides = field(default_factory=MountOverrides)
    environment: tuple[tuple[str, str], ...] = ()
    readable: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()  #: of the kernel's Python
    limits: SandboxLimits = field(default_factory=SandboxLimits)


def arguments(box: SandboxSpec, *, seccomp: int | None, disable_userns: bool) -> list[str]:
    """Return bwrap's arguments, without the command. `seccomp` is the filter's descriptor."""
    size = ["--size", str(box.limits.tmpfs)]
    found = ["--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-net"]
    found += ["--unshare-cgroup-try", "--cap-drop", "ALL", "--die-with-parent", "--new-session", "--clearenv"]
    if disable_userns:
        found.append("--disable-userns")
    if seccomp is not None:
        found += ["--seccomp", str(seccomp)]
    for name, value in {**dict(box.environment), "HOME": HOME, "TMPDIR": "/tmp"}.items():  # noqa: S108  its own /tmp
        found += ["--setenv", name, value]
    for path in SYSTEM:
        here = Path(path)
        found += ["--symlink", str(here.readlink()), path] if here.is_symlink() else _binds("--ro-bind-try", path)
    versioned = sorted(each.name for each in Path("/etc").iterdir() if each.name.startswith(ETC_STARTS))
    found += _binds("--ro-bind-try", *(f"/etc/{name}" for name in (*ETC, *versioned)))
    found += ["--proc", "/proc", *_binds("--ro-bind-try", *SETTINGS)]
    for path in FIRST:
        found += ["--ro-bind", os.devnull, path]
    found += ["--dev", "/dev", "--size", str(1 << 16), "--tmpfs", "/run"]
    for path in ("/dev/shm", "/tmp", HOME):  # noqa: S108
        found += [*size, "--tmpfs", path]
    found += _binds("--ro-bind-try", *box.readable, *box.prefixes)
    found += [*_workspace_in(box), "--ro-bind", box.spill, SPILL]
    return [*found, "--remount-ro", "/dev", "--remount-ro", "/"]


def _workspace_in(box: SandboxSpec) -> list[str]:
    """Return what shows the workspace, and shields parts of it: read-only, hidden, or at least not to be moved away."""
    prefixes = [Path(each) for each in box.prefixes if Path(each).is_relative_to(box.workspace)]
    above = {folder for each in prefixes for folder in each.parents if Path(box.workspace) in folder.parents}
    fixed = [*map(str, sorted(above))]  # else one could be moved away, and another Python put into its place
    fixed += [f"{box.workspace}/{name}" for name in box.shields.fixed]
    guarded = [f"{box.workspace}/{name}" for name in box.shields.guarded]
    hidden = [f"{box.workspace}/{name}" for name in box.shields.hidden]
    found = _binds("--bind" if box.writable else "--ro-bind", box.workspace, *fixed)
    found += _binds("--ro-bind", *guarded, *_at_home(STARTERS, box), *map(str, prefixes))
    for path in (*hidden, *_at_home(KEYS, box)):
        found += ["--tmpfs", path, "--remount-ro", path] if Path(path).is_dir() else ["--ro-bind", os.devnull, path]
    return found


def _at_home(names: Collection[str], box: SandboxSpec) -> list[str]:
    """Return where those names of the home folder lead that can be seen in a box."""
    home = Path(os.path.realpath(Path.home()))  # as the workspace is: it may be reached through a link
    found = [os.path.realpath(home / name) for name in sorted(names) if (home / name).exists()]
    shown = [each for each in (box.workspace, *box.readable) if home.is_relative_to(each)]
    return [path for path in found if any(Path(path).is_relative_to(each) for each in shown)]


def _binds(how: str, *paths: str) -> list[str]:
    """Return what shows these paths where they are outside, too."""
    return [word for path in paths for word in (how, path, path)]


@cache
def python_prefixes() -> tuple[str, ...]:
    """Return the folders that the kernel's Python consists of, but none that holds the whole home folder."""
    found = [sys.prefix, sys.base_prefix, str(Path(os.path.realpath(sys.executable)).parents[1])]
    found += user_packages()
    found += [os.path.realpath(each) for each in found]
    homes = Path.home(), Path(os.path.realpath(Path.home()))
    none = {each for each in found if each in SYSTEM or any(home.is_relative_to(each) for home in homes)}
    return tuple(each for each in dict.fromkeys(found) if each not in none)


class Bubblewrap:
    """The program `bwrap`, and whether it works. `launcher` are words to put before it."""

    def __init__(self, launcher: tuple[str, ...] = ()) -> None:
        self.launcher = launcher
        self.version = ""
        self._disable_userns = self._shields_shell = False
        self._known: dict[tuple[str | None, str], tuple[str, float]] = {}

    def why_not(self, box: SandboxSpec) -> str:
        """Return why there is no sandbox for this workspace, "" where there is one. It is tried once."""
        key = os.environ.get("PATH"), box.workspace
        why, asked = self._known.get(key, ("", 0.0))
        if not asked or (why and time.monotonic() - asked > AGAIN):
            self._known[key] = why, _ = self._try(box), time.monotonic()
        return why

    def forget(self) -> None:
        """Try again the next time: it failed."""
        self._known.clear()

    def start(
        self, box: SandboxSpec, words: Sequence[str], *, keep: Sequence[int] = (), **how: Any
    ) -> subprocess.Popen[bytes]:
        """Start bash in a sandbox with these words; it keeps these descriptors.

        Raises SandboxUnavailableError and OSError.
        """
        try:
            bwrap, bash = (program(each, box.workspace) for each in ("bwrap", "bash"))
        except ProgramNotFoundError as error:
            raise SandboxUnavailableError(str(error)) from error
        with ExitStack() as opened:
            shell, inside, given = [], os.path.realpath(bash), list(keep)
            seccomp = filter_file()
            if seccomp is not None:
                opened.callback(os.close, seccomp)
                given.append(seccomp)
            if self._shields_shell:
                given.append(opened.enter_context(Path(bash).open("rb")).fileno())
                shell, inside = ["--perms", "0111", "--ro-bind-data", str(given[-1]), SHELL], SHELL
            options = arguments(box, seccomp=seccomp, disable_userns=self._disable_userns)
            return subprocess.Popen(  # noqa: S603  bwrap, and what it is told is ours
                [*self.launcher, bwrap, *options, *shell, "--", inside, *words],
                pass_fds=given,
                env={},  # bwrap's own, which stays readable as that of process 1
                stdin=subprocess.DEVNULL,
                **how,
            )

    def _try(self, box: SandboxSpec) -> str:
        if sys.platform != "linux":
            return "bubblewrap is for Linux only"
        if any(Path(each).is_relative_to(box.workspace) for each in NO_WORKSPACE):
            return f"the workspace {box.workspace} holds the system itself"
        try:
            bwrap = program("bwrap", box.workspace)
        except ProgramNotFoundError as error:
            return str(error)
        try:
            self.version = _output([bwrap, "--version"]).removeprefix("bubblewrap").strip()
            known = _output([bwrap, "--help"])
            self._disable_userns, self._shields_shell = "--disable-userns" in known, "--perms" in known
            pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            with self.start(box, ["--norc", "-c", ":"], **pipes) as process:
                try:
                    _, said = process.communicate(timeout=10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    raise
        except (OSError, subprocess.TimeoutExpired, SandboxUnavailableError) as error:
            return f"bubblewrap cannot be run: {error}"
        if process.returncode:
            return why_failed(said.decode("utf-8", "replace")) or f"bubblewrap ended with {process.returncode}"
        return ""


def why_failed(printed: str) -> str:
    """Return a sentence of what bwrap said as it failed."""
    lines = [line.removeprefix("bwrap: ").strip() for line in printed.splitlines() if line.strip()]
    return f"bubblewrap fails here ({lines[-1][:300].rstrip('.')})" if lines else ""


def _output(words: list[str]) -> str:
    ran = subprocess.run(words, env={}, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603  bwrap
    return ran.stdout

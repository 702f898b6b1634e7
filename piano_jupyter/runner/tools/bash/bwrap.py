"""The arguments for bubblewrap: what a sandboxed command can see, change and reach; and whether bubblewrap works.

Everything is an allow list. The system, the kernel's own Python and the folders of `readable_paths` are read-only; the
home folder and the network are empty; the environment comes from `environment.py`. The workspace is mounted at its own
path, writable or not, except for the overrides that `guards.py` finds.

Two processes in the sandbox outlive a command: bubblewrap itself, and the shell that reads the commands. A command that
wrote to their memory could act between two calls. So the memory of the first is not mounted (nor is bubblewrap's
command line), and the second runs an unreadable program, which the system protects from the user's other processes.

Limitations: devices such as GPUs are missing; what is written to the workspace counts towards no quota; bubblewrap
before 0.5 cannot protect the shell; the mount table reveals which folders of the host are mounted, and `/etc/hosts`
the host's name.
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

from piano_jupyter.own_folders import own_folders
from piano_jupyter.runner.tools.bash.guards import MountOverrides
from piano_jupyter.runner.tools.bash.programs import ProgramNotFoundError, find_program
from piano_jupyter.runner.tools.bash.seccomp import filter_file
from piano_jupyter.runner.tools.files.protected import KEY_NAMES, STARTUP_NAMES
from piano_jupyter.runner.tools.files.shadowing import user_packages

SANDBOX_HOME = "/home/piano"  #: the empty home folder
SANDBOX_SPILL = "/spill"  #: where a command can read long outputs again
SANDBOX_SHELL = "/run/bash"  #: the shell, which cannot be read
#: bubblewrap leaves the system's settings writable to root; one of them names a program that the system would run.
KERNEL_SETTINGS = ("/proc/sys", "/proc/acpi", "/proc/fs", "/proc/scsi")
#: The first process's memory, and its command line, which names folders of the host.
FIRST_PROCESS_FILES = tuple(f"/proc/1/{task}{name}" for task in ("", "task/1/") for name in ("mem", "cmdline"))
SYSTEM_FOLDERS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix/store", "/gnu/store")
ETC_NAMES = (
    *("R", "alternatives", "bash.bashrc", "ca-certificates", "ca-certificates.conf", "crypto-policies", "fonts"),
    *("group", "host.conf", "hosts", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "locale.alias"),
    *("magic", "mime.types", "networks", "nsswitch.conf", "os-release", "passwd", "perl", "pki/ca-trust"),
    *("pki/tls/certs", "profile", "protocols", "python3", "services", "ssl/certs", "ssl/openssl.cnf", "terminfo"),
    "timezone",
)
ETC_PREFIXES = ("java-", "python3.")  #: of names that contain a version
FORBIDDEN_WORKSPACES = (*SYSTEM_FOLDERS, "/boot", "/dev", "/etc", "/proc", "/run", "/sys", "/var/lib", "/var/run")
RETRY_AFTER_S = 10.0  #: options long a failed check of bubblewrap is remembered


class SandboxUnavailableError(Exception):
    """The sandbox did not start; the text says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SandboxLimits:
    """How much a sandbox may use."""

    memory_bytes: int = 8 << 30  #: for each process, and for all together where the system can limit that
    processes: int = 512
    file_bytes: int = 4 << 30  #: for one file
    tmpfs_bytes: int = 1 << 30  #: for each of /tmp, /dev/shm and the home folder


@dataclass(frozen=True, kw_only=True, slots=True)
class SandboxSpec:
    """The description of a sandbox."""

    workspace: str
    writable: bool
    spill: str = os.devnull  #: the folder for long outputs
    overrides: MountOverrides = field(default_factory=MountOverrides)
    environment: tuple[tuple[str, str], ...] = ()
    readable: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()  #: the folders of the kernel's Python
    limits: SandboxLimits = field(default_factory=SandboxLimits)


def bwrap_arguments(spec: SandboxSpec, *, seccomp: int | None, disable_userns: bool) -> list[str]:
    """Return bwrap's arguments, without the command. `seccomp` is the filter's descriptor."""
    size = ["--size", str(spec.limits.tmpfs_bytes)]
    arguments = ["--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-net"]
    arguments += ["--unshare-cgroup-try", "--cap-drop", "ALL", "--die-with-parent", "--new-session", "--clearenv"]
    if disable_userns:
        arguments.append("--disable-userns")
    if seccomp is not None:
        arguments += ["--seccomp", str(seccomp)]
    for name, value in {**dict(spec.environment), "HOME": SANDBOX_HOME, "TMPDIR": "/tmp"}.items():  # noqa: S108  its own /tmp
        arguments += ["--setenv", name, value]
    for path in SYSTEM_FOLDERS:
        folder = Path(path)
        arguments += (
            ["--symlink", str(folder.readlink()), path] if folder.is_symlink() else _binds("--ro-bind-try", path)
        )
    versioned = sorted(each.name for each in Path("/etc").iterdir() if each.name.startswith(ETC_PREFIXES))
    arguments += _binds("--ro-bind-try", *(f"/etc/{name}" for name in (*ETC_NAMES, *versioned)))
    arguments += ["--proc", "/proc", *_binds("--ro-bind-try", *KERNEL_SETTINGS)]
    for path in FIRST_PROCESS_FILES:
        arguments += ["--ro-bind", os.devnull, path]
    arguments += ["--dev", "/dev", "--size", str(1 << 16), "--tmpfs", "/run"]
    for path in ("/dev/shm", "/tmp", SANDBOX_HOME):  # noqa: S108
        arguments += [*size, "--tmpfs", path]
    arguments += _binds("--ro-bind-try", *spec.readable, *spec.prefixes)
    arguments += [*_workspace_arguments(spec), "--ro-bind", spec.spill, SANDBOX_SPILL]
    return [*arguments, "--remount-ro", "/dev", "--remount-ro", "/"]


def _workspace_arguments(spec: SandboxSpec) -> list[str]:
    """Return the mounts of the workspace and of its protected parts: read-only, hidden, or at least not movable."""
    prefixes = [Path(each) for each in spec.prefixes if Path(each).is_relative_to(spec.workspace)]
    above = {folder for each in prefixes for folder in each.parents if Path(spec.workspace) in folder.parents}
    not_movable = [*map(str, sorted(above))]  # otherwise one could be moved away and replaced by another Python
    not_movable += [f"{spec.workspace}/{name}" for name in spec.overrides.not_movable]
    read_only = [f"{spec.workspace}/{name}" for name in spec.overrides.read_only]
    hidden = [f"{spec.workspace}/{name}" for name in spec.overrides.hidden]
    arguments = _binds("--bind" if spec.writable else "--ro-bind", spec.workspace, *not_movable)
    arguments += _binds("--ro-bind", *read_only, *_visible_home_paths(STARTUP_NAMES, spec), *map(str, prefixes))
    for path in (*hidden, *_visible_home_paths(KEY_NAMES, spec), *_readable_own_folders(spec)):
        arguments += ["--tmpfs", path, "--remount-ro", path] if Path(path).is_dir() else ["--ro-bind", os.devnull, path]
    return arguments


def _visible_home_paths(names: Collection[str], spec: SandboxSpec) -> list[str]:
    """Return the real paths of those names in the home folder that are visible in the sandbox."""
    home = Path(os.path.realpath(Path.home()))  # like the workspace, because home may be a link
    paths = [os.path.realpath(home / name) for name in sorted(names) if (home / name).exists()]
    visible = [each for each in (spec.workspace, *spec.readable) if home.is_relative_to(each)]
    return [path for path in paths if any(Path(path).is_relative_to(each) for each in visible)]


def _readable_own_folders(spec: SandboxSpec) -> list[str]:
    """Return Piano's own folders that are in folders which the user has made readable."""
    real = dict.fromkeys(os.path.realpath(each) for each in own_folders())
    return [each for each in real if Path(each).is_dir() and any(map(Path(each).is_relative_to, spec.readable))]


def _binds(option: str, *paths: str) -> list[str]:
    """Return the arguments that mount each path at its own place."""
    return [word for path in paths for word in (option, path, path)]


@cache
def python_prefixes() -> tuple[str, ...]:
    """Return the folders of the kernel's Python, except those that contain the whole home folder."""
    prefixes = [sys.prefix, sys.base_prefix, str(Path(os.path.realpath(sys.executable)).parents[1])]
    prefixes += user_packages()
    prefixes += [os.path.realpath(each) for each in prefixes]
    homes = Path.home(), Path(os.path.realpath(Path.home()))
    excluded = {each for each in prefixes if each in SYSTEM_FOLDERS or any(home.is_relative_to(each) for home in homes)}
    return tuple(each for each in dict.fromkeys(prefixes) if each not in excluded)


class Bubblewrap:
    """The program `bwrap`, and whether it works. `launcher` is a command to run it with."""

    def __init__(self, launcher: tuple[str, ...] = ()) -> None:
        self.launcher = launcher
        self.version = ""
        self._disable_userns = self._can_hide_shell = False
        self._results: dict[tuple[str | None, str], tuple[str, float]] = {}

    def unavailable_reason(self, spec: SandboxSpec) -> str:
        """Return why the sandbox does not work for this workspace, "" if it does. The answer is cached."""
        key = os.environ.get("PATH"), spec.workspace
        why, checked_at = self._results.get(key, ("", 0.0))
        if not checked_at or (why and time.monotonic() - checked_at > RETRY_AFTER_S):
            self._results[key] = why, _ = self._check(spec), time.monotonic()
        return why

    def forget_checks(self) -> None:
        """Forget all results, so that the next call checks again."""
        self._results.clear()

    def start(
        self, spec: SandboxSpec, arguments: Sequence[str], *, keep: Sequence[int] = (), **popen_options: Any
    ) -> subprocess.Popen[bytes]:
        """Start bash in a sandbox with these arguments; it inherits the descriptors in `keep`.

        Raises SandboxUnavailableError and OSError.
        """
        try:
            bwrap, bash = (find_program(each, spec.workspace) for each in ("bwrap", "bash"))
        except ProgramNotFoundError as error:
            raise SandboxUnavailableError(str(error)) from error
        with ExitStack() as stack:
            shell, program, descriptors = [], os.path.realpath(bash), list(keep)
            seccomp = filter_file()
            if seccomp is not None:
                stack.callback(os.close, seccomp)
                descriptors.append(seccomp)
            if self._can_hide_shell:
                descriptors.append(stack.enter_context(Path(bash).open("rb")).fileno())
                shell, program = (
                    ["--perms", "0111", "--ro-bind-data", str(descriptors[-1]), SANDBOX_SHELL],
                    SANDBOX_SHELL,
                )
            options = bwrap_arguments(spec, seccomp=seccomp, disable_userns=self._disable_userns)
            return subprocess.Popen(  # noqa: S603  bwrap, with our own arguments
                [*self.launcher, bwrap, *options, *shell, "--", program, *arguments],
                pass_fds=descriptors,
                env={},  # readable in the sandbox as the environment of process 1
                stdin=subprocess.DEVNULL,
                **popen_options,
            )

    def _check(self, spec: SandboxSpec) -> str:
        if sys.platform != "linux":
            return "bubblewrap works only on Linux"
        if any(Path(each).is_relative_to(spec.workspace) for each in FORBIDDEN_WORKSPACES):
            return f"the workspace {spec.workspace} contains system folders"
        try:
            bwrap = find_program("bwrap", spec.workspace)
        except ProgramNotFoundError as error:
            return str(error)
        try:
            self.version = _output_of([bwrap, "--version"]).removeprefix("bubblewrap").strip()
            help_text = _output_of([bwrap, "--help"])
            self._disable_userns, self._can_hide_shell = "--disable-userns" in help_text, "--perms" in help_text
            pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            with self.start(spec, ["--norc", "-c", ":"], **pipes) as process:
                try:
                    _, stderr = process.communicate(timeout=10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    raise
        except (OSError, subprocess.TimeoutExpired, SandboxUnavailableError) as error:
            return f"bubblewrap cannot be run: {error}"
        if process.returncode:
            return failure_reason(stderr.decode("utf-8", "replace")) or f"bubblewrap ended with {process.returncode}"
        return ""


def failure_reason(printed: str) -> str:
    """Return a sentence about bwrap's error output, "" if it printed nothing."""
    lines = [line.removeprefix("bwrap: ").strip() for line in printed.splitlines() if line.strip()]
    return f"bubblewrap fails here ({lines[-1][:300].rstrip('.')})" if lines else ""


def _output_of(arguments: list[str]) -> str:
    ran = subprocess.run(arguments, env={}, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603  bwrap
    return ran.stdout

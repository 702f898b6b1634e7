"""The arguments for bubblewrap: what a sandboxed command can see, change and reach; and whether bubblewrap works.

Everything is an allow list. The system, the kernel's own Python and the folders of `readable_paths` are read-only; the
home folder and the network are empty; the environment comes from `environment.py`. At the path of the workspace is the
workspace itself, read-only, or its overlay, with what is hidden in it.

Limitations: devices such as GPUs are missing; what is written to the workspace counts towards no quota; the mount
table reveals which folders of the host are mounted, and `/etc/hosts` the host's name; other disks that are mounted in
the workspace are read-only; files of other owners or groups can be read, but not changed; Linux before 5.11 has no
overlay for users other than root.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from piano_jupyter.own_folders import own_folders
from piano_jupyter.runner.tools.bash.overlay import MOUNT_SCRIPT, Overlay
from piano_jupyter.runner.tools.bash.private_folder import overlay_folders, private_folder
from piano_jupyter.runner.tools.bash.programs import ProgramNotFoundError, find_program
from piano_jupyter.runner.tools.bash.seccomp import filter_file
from piano_jupyter.runner.tools.files.shadowing import user_packages
from piano_jupyter.runner.tools.files.write_hazards import hidden_home_names

SANDBOX_HOME = "/home/piano"  #: the empty home folder
SANDBOX_SPILL = "/spill"  #: where a command can read long outputs again
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
    hidden: tuple[str, ...] = ()  #: paths in the workspace that are shown as empty
    environment: tuple[tuple[str, str], ...] = ()
    readable: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()  #: the folders of the kernel's Python
    limits: SandboxLimits = field(default_factory=SandboxLimits)


def bwrap_arguments(spec: SandboxSpec, *, writable: str | None, seccomp: int | None, disable_userns: bool) -> list[str]:
    """Return bwrap's arguments, without the command.

    `writable` is the folder that commands write to in place of the workspace, None if they may not write, and
    `seccomp` the filter's descriptor.
    """
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
    arguments += [*_workspace_arguments(spec, writable), "--ro-bind", spec.spill, SANDBOX_SPILL]
    return [*arguments, "--remount-ro", "/dev", "--remount-ro", "/"]


def _workspace_arguments(spec: SandboxSpec, writable: str | None) -> list[str]:
    """Return the mounts of the workspace, or of what stands for it, and over what is hidden in it."""
    arguments = ["--bind" if writable else "--ro-bind", writable or spec.workspace, spec.workspace]
    arguments += _binds("--ro-bind-try", *_mounts_in(spec.workspace)) if writable else []
    for path in (*_hidden_paths(spec), *_readable_keys(spec), *_readable_own_folders(spec)):
        arguments += ["--tmpfs", path, "--remount-ro", path] if Path(path).is_dir() else ["--ro-bind", os.devnull, path]
    return arguments


def _hidden_paths(spec: SandboxSpec) -> list[str]:
    """Return what is hidden in the workspace; of a link its target, if that is there and in the workspace, too."""
    paths = dict.fromkeys(os.path.realpath(f"{spec.workspace}/{name}") for name in spec.hidden)
    return [each for each in paths if Path(each).is_relative_to(spec.workspace) and Path(each).exists()]


def _mounts_in(workspace: str) -> list[str]:
    """Return where other disks are mounted in the workspace: an overlay does not contain them."""
    with Path("/proc/self/mountinfo").open(encoding="utf-8", errors="surrogateescape") as lines:
        places = [re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), line.split(" ", 5)[4]) for line in lines]
    return sorted(each for each in set(places) if each.startswith(f"{workspace}/"))


def _readable_keys(spec: SandboxSpec) -> list[str]:
    """Return what is hidden in the home folder, if the user has made all of that readable."""
    home = Path(os.path.realpath(Path.home()))  # like the workspace, because home may be a link
    if not any(home.is_relative_to(each) for each in spec.readable):
        return []
    named = [Path(each) for each in spec.readable]
    hidden = [home / name for name in hidden_home_names(home)]
    hidden = [each for each in hidden if not any(readable.is_relative_to(each) for readable in named)]
    return list(dict.fromkeys(os.path.realpath(each) for each in hidden if each.exists()))


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
    """The program `bwrap`, and whether it works.

    `launcher` is a command to run it with; without `renames_folders` an overlay lets nobody rename its folders.
    """

    def __init__(self, launcher: tuple[str, ...] = (), *, renames_folders: bool = True) -> None:
        self.launcher = launcher
        self._renames_folders = renames_folders
        self.version = ""
        self._disable_userns = False
        self._results: dict[tuple[str | None, str, bool], tuple[str, float]] = {}
        self._overlay_folders: dict[str, Path] = {}  #: of a workspace, if the cache can hold none

    def unavailable_reason(self, spec: SandboxSpec) -> str:
        """Return why the sandbox does not work for this workspace, "" if it does. The answer is cached."""
        key = os.environ.get("PATH"), spec.workspace, spec.writable
        why, checked_at = self._results.get(key, ("", 0.0))
        if not checked_at or (why and time.monotonic() - checked_at > RETRY_AFTER_S):
            self._results[key] = why, _ = self._check(spec), time.monotonic()
        return why

    def forget_checks(self) -> None:
        """Forget all results, so that the next call checks again."""
        self._results.clear()

    def new_overlay(self, workspace: str) -> Overlay:
        """Make an overlay of a workspace, on the disk that was found to hold one. Raises OSError."""
        known = self._overlay_folders.get(workspace)
        return Overlay(workspace, known or private_folder("commands", Path(workspace), outside=True))

    def start(
        self,
        spec: SandboxSpec,
        arguments: Sequence[str],
        *,
        overlay: Overlay | None = None,
        keep: Sequence[int] = (),
        **popen_options: Any,
    ) -> subprocess.Popen[bytes]:
        """Start bash in a sandbox with these arguments; it inherits the descriptors in `keep`.

        Raises SandboxUnavailableError and OSError.
        """
        try:
            bwrap, bash = (find_program(each, spec.workspace) for each in ("bwrap", "bash"))
            mount = _mount_command(overlay, bash) if overlay else []
        except ProgramNotFoundError as error:
            raise SandboxUnavailableError(str(error)) from error
        with ExitStack() as stack:
            descriptors, seccomp = list(keep), filter_file()
            if seccomp is not None:
                stack.callback(os.close, seccomp)
                descriptors.append(seccomp)
            writable = str(overlay.merged) if overlay else None
            options = bwrap_arguments(spec, writable=writable, seccomp=seccomp, disable_userns=self._disable_userns)
            if overlay:  # or the command would run as root, by name
                options += ["--uid", str(os.getuid()), "--gid", str(os.getgid())]
            helper = _rename_helper(spec, overlay) if self._renames_folders else []
            shell = [*helper, os.path.realpath(bash), *arguments]
            return subprocess.Popen(  # noqa: S603  bwrap, with our own arguments
                [*self.launcher, *mount, bwrap, *options, "--", *shell],
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
            self._disable_userns = "--disable-userns" in help_text
            if not spec.writable:
                return self._try(spec, None)
            reasons: list[str] = []
            for folder in overlay_folders(Path(spec.workspace)):
                if not (reason := self._try(spec, folder)):
                    if reasons:
                        self._overlay_folders[spec.workspace] = folder
                    return ""
                reasons.append(reason)
        except (OSError, subprocess.TimeoutExpired, SandboxUnavailableError) as error:
            return f"bubblewrap cannot be run: {error}"
        return reasons[0]

    def _try(self, spec: SandboxSpec, folder: Path | None) -> str:
        """Start a sandbox, with an overlay in this folder; return why that fails, "" if it does not."""
        with ExitStack() as stack:
            overlay = Overlay(spec.workspace, folder) if folder else None
            if overlay:
                stack.callback(overlay.remove)
            pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            process = stack.enter_context(self.start(spec, ["--norc", "-c", ":"], overlay=overlay, **pipes))
            try:
                _, stderr = process.communicate(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        if process.returncode:
            return failure_reason(stderr.decode("utf-8", "replace")) or f"bubblewrap ended with {process.returncode}"
        return ""


def _mount_command(overlay: Overlay, bash: str) -> list[str]:
    """Return the command that mounts an overlay in a new user namespace. Raises ProgramNotFoundError."""
    unshare, mount = (find_program(each, overlay.workspace) for each in ("unshare", "mount"))
    shell = [os.path.realpath(bash), "--noprofile", "--norc", "-c", MOUNT_SCRIPT, "bash"]
    names = [mount, str(overlay.folder), overlay.workspace]
    return [unshare, "--user", "--map-root-user", "--mount", "--", *shell, *names]


def _rename_helper(spec: SandboxSpec, overlay: Overlay | None) -> list[str]:
    """Return the command that lets bash rename folders of an overlay; [] where Python is not visible."""
    python = os.path.realpath(sys.executable)
    visible = [each for each in (*SYSTEM_FOLDERS, *spec.prefixes) if os.access(python, os.X_OK)]
    if (
        overlay is None
        or Path(python).is_relative_to(spec.workspace)
        or not any(map(Path(python).is_relative_to, visible))
    ):
        return []
    return [python, "-I", "-S", "-c", _rename_helper_source()]


@cache
def _rename_helper_source() -> str:
    return (Path(__file__).parent / "rename_folders.py").read_text(encoding="utf-8")


def failure_reason(printed: str) -> str:
    """Return a sentence about bwrap's error output, "" if it printed nothing."""
    lines = [re.sub(r"^(?:bwrap|unshare|mount): ", "", line).strip() for line in printed.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("dmesg(1)")] or lines  # where there may be more
    return f"bubblewrap fails here ({lines[-1][:300].rstrip('.')})" if lines else ""


def _output_of(arguments: list[str]) -> str:
    ran = subprocess.run(arguments, env={}, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603  bwrap
    return ran.stdout

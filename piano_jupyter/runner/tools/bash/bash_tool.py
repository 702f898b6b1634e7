"""The tool `bash`: whether a command may run, where it runs, and what the model is told of it."""

import asyncio
import os
import platform
import re
import secrets
import signal
from collections.abc import Hashable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from piano_jupyter.config import PianoConfig
from piano_jupyter.records import Mode
from piano_jupyter.runner.tools.bash import bwrap, seccomp
from piano_jupyter.runner.tools.bash.bwrap import Bubblewrap, SandboxLimits, SandboxSpec, SandboxUnavailableError
from piano_jupyter.runner.tools.bash.cgroup import CgroupLimits
from piano_jupyter.runner.tools.bash.environment import clean_environment, git_identity
from piano_jupyter.runner.tools.bash.guards import MOST_SHIELDS, PRIVATE, WorkspaceGuard
from piano_jupyter.runner.tools.bash.output import CommandOutput, CommandResult, spill_folder
from piano_jupyter.runner.tools.bash.shell import GRACE, LONGEST_COMMAND, ShellPool, counts_apart
from piano_jupyter.runner.tools.bash.unsandboxed import run_bare
from piano_jupyter.runner.tools.files.skill_folders import roots_in
from piano_jupyter.runner.tools.files.workspace import home_in, inside, own_folders, refused
from piano_jupyter.tool import Tool, ToolAssessment, Verdict, calling, tool

SHORTEST = 1.0  #: seconds that a command gets at least
MOST_JUDGED = 1000  #: commands of which it is remembered that they were judged without a sandbox
AFTER = GRACE + 8  #: seconds beyond its own limit after which a call is given up
#: What a program prints when it runs into a limit, and what the limit is called.
LIMITS = (
    ("memory", r"MemoryError|[Cc]annot allocate memory|[Oo]ut of memory|bad_alloc"),
    ("pids", r"fork: .*(?:unavailable|retry)|can't start new thread|BlockingIOError: \[Errno 11\]"),
    ("file", r"File size limit exceeded|File too large"),
    ("tmpfs", r"No space left on device"),
)


class BashTool:
    """bash in a sandbox where the mode wants one, without where it does not or the user said yes."""

    def __init__(self, config: PianoConfig, bubblewrap: Bubblewrap | None = None) -> None:
        self._config = config
        self._bubblewrap = bubblewrap or Bubblewrap()
        self._shells = ShellPool(self._bubblewrap)
        self._folders: dict[tuple[str, str], str] = {}  #: where each thread's commands outside the sandbox stand
        self._guards: dict[Hashable, WorkspaceGuard] = {}
        self._bare: dict[Hashable, bool] = {}  #: calls that were judged while there was no sandbox

    def tool(self) -> Tool:
        """Return the tool that a model calls."""
        return replace(tool(self.bash), judge=self.judge, subject="command", seconds=self._longest)

    def judge(self, arguments: Mapping[str, Any], mode: Mode) -> ToolAssessment:
        """Return what to do with a call: in a sandbox it may run, without one the user is asked."""
        if mode == "full":
            return ToolAssessment(Verdict.ASK, f"it runs with your rights, outside any sandbox{self._elsewhere()}")
        call, why = _call(arguments.get("command")), self._bubblewrap.why_not(self._box(mode))
        self._bare.pop(call, None)
        if not why:
            return ToolAssessment(Verdict.ALLOW)
        if mode == "read":
            return ToolAssessment(Verdict.DENY, f"no_sandbox: in mode read bash runs only in a sandbox: {why}")
        self._bare[call] = True
        if len(self._bare) > MOST_JUDGED:
            del self._bare[next(iter(self._bare))]
        return ToolAssessment(
            Verdict.ASK, f"there is no sandbox here: {why}; it runs with your rights{self._elsewhere()}"
        )

    async def bash(self, command: str, timeout: float = 120) -> str:
        """Run a command with bash; return what it prints, and its exit code if that is not 0.

        The first one starts in the workspace, each other in the folder where the one before ended; variables are not
        kept. Nobody is at the keyboard: a command that asks a question ends. What is left in the background ends with
        the call. Unless the user allowed more, it runs in a sandbox: without a network, with an empty home folder and
        a /tmp that does not last, and only the workspace can be changed.

        command: for example "python -m pytest -q".
        timeout: seconds that it may take, 600 at most.
        """
        text = _encoded(command)
        now = calling.get()
        mode: Mode = now.mode if now else "write"
        thread = str(now.thread_id) if now else "none"
        seconds = self._seconds(timeout)
        box = self._box(mode)
        bare = mode == "full" or self._runs_bare(command, box)
        spill = spill_folder(thread, self._workspace())
        output = CommandOutput(self._config.tool_output_limit, spill, str(spill) if bare else bwrap.SPILL)
        try:
            if bare:
                ran = await self._outside(command, thread, seconds, output)
            else:
                ran = await self._inside(text, (thread, mode), replace(box, spill=str(spill)), seconds, output)
        finally:
            output.close()
        printed = ran.output.strip("\n")
        notes = [f"[{note}]" for note in ran.notes]
        if ran.ended:
            told = [f"the command was {ran.ended}; it had printed:", printed or "(nothing)", *notes]
            raise refused("ended", "\n".join(told))
        code = f"[exit code {ran.exit_code}]" if ran.exit_code else ""
        return "\n".join(each for each in (printed, code, *notes) if each) or "[exit code 0, nothing printed]"

    def layers(self, mode: Mode) -> list[str]:
        """Return what holds commands in a mode, and what is missing and why, a sentence each."""
        if mode == "full":
            return ["no sandbox in mode full: commands run with your rights, and each is asked about"]
        box = self._box(mode)
        why = self._bubblewrap.why_not(box)
        if why:
            then = "are not run" if mode == "read" else "are asked about, and run with your rights"
            return [f"no sandbox: {why}; commands {then}"]
        return list(self._in_force(box))

    async def aclose(self) -> None:
        """End all shells."""
        await self._shells.aclose()

    def stop(self) -> None:
        """End all shells from any thread, without the loop, and take away what they made that tools do not make."""
        self._shells.stop()
        for guards in self._guards.values():
            guards.end_all()

    def _seconds(self, timeout: float) -> float:
        return min(max(SHORTEST, timeout), max(SHORTEST, self._config.bash_timeout))  # in this order, NaN is the least

    def _longest(self, arguments: Mapping[str, Any]) -> float:
        return self._seconds(arguments.get("timeout", 120)) + AFTER

    def _runs_bare(self, command: str, box: SandboxSpec) -> bool:
        """Return whether there is no sandbox and the user was told so. Raises ToolError where nobody was."""
        why, asked = self._bubblewrap.why_not(box), self._bare.pop(_call(command), False)
        if why and not (asked and box.writable):
            raise _no_sandbox(why)
        return bool(why)

    def _elsewhere(self) -> str:
        """Return where a command outside the sandbox would run, if not in the workspace: the last may have left it."""
        workspace, now = str(self._workspace()), calling.get()
        folder = self._folders.get((workspace, str(now.thread_id)), workspace) if now else workspace
        return f", in {folder!r}" if folder != workspace else ""

    async def _outside(self, command: str, thread: str, seconds: float, output: CommandOutput) -> CommandResult:
        workspace = self._workspace()
        key = (str(workspace), thread)
        folder = self._folders.get(key, str(workspace))
        ran = await run_bare(command, folder=folder, workspace=workspace, seconds=seconds, output=output)
        self._folders[key] = ran.folder
        return ran

    async def _inside(
        self, command: bytes, key: Hashable, box: SandboxSpec, seconds: float, output: CommandOutput
    ) -> CommandResult:
        workspace, named = Path(box.workspace), self._config.database
        database = inside(workspace, named) if named != ":memory:" else ()
        skills, own = roots_in(workspace, self._config.skills_paths), own_folders(workspace)
        known = workspace, database, home_in(workspace), skills, own
        guards = self._guards.setdefault(known, WorkspaceGuard(*known))
        await asyncio.to_thread(_prepare, guards, box)
        before, taken = guards.begin() if box.writable else guards.look(), list[str]()
        try:
            box = replace(box, shields=before.shields)
            ran = await self._shells.run((box.workspace, key), box, command, seconds, output)
        except SandboxUnavailableError as error:
            self._bubblewrap.forget()
            raise _no_sandbox(str(error)) from error
        finally:
            if box.writable:
                taken = guards.take_away(before, str(_call(secrets.token_hex(8))))
        limit = _run_into(ran, box.limits)
        return replace(ran, notes=(*ran.notes, *limit, *taken))

    def _box(self, mode: Mode) -> SandboxSpec:
        config, workspace = self._config, str(self._workspace())
        return SandboxSpec(
            workspace=workspace,
            writable=mode == "write",
            environment=tuple(sorted({**clean_environment(os.environ), **git_identity(workspace)}.items())),
            readable=tuple(os.path.realpath(Path(each).expanduser()) for each in config.readable_paths),
            prefixes=bwrap.python_prefixes(),
            limits=SandboxLimits(memory=int(config.bash_memory * (1 << 30)), processes=config.bash_processes),
        )

    def _workspace(self) -> Path:
        return Path(os.path.realpath(self._config.workspace))

    def _in_force(self, box: SandboxSpec) -> Iterator[str]:
        limits, caps = box.limits, CgroupLimits(box.limits)
        held = caps.held
        caps.remove()
        may = "the workspace is writable" if box.writable else "the workspace is read-only"
        yield f"sandbox: bubblewrap {self._bubblewrap.version}: {may}, the home folder hidden, the network cut off"
        machine = platform.machine()
        none = f"no filter for {machine}: Unix sockets of the system that a command can see are open to it"
        yield f"system calls: {'filtered (seccomp)' if seccomp.program(machine) else none}"
        together = "and for all together" if "memory" in held else "but not for all together: no control group here"
        yield f"memory: {_size(limits.memory)} a process, {together}"
        if "pids" in held or (os.geteuid() and counts_apart()):
            yield f"processes: {limits.processes} at most"
        else:
            yield "processes: no limit: neither a control group can be made here, nor does the system count them apart"


def _prepare(guards: WorkspaceGuard, box: SandboxSpec) -> None:
    """Look into a workspace, which may take a while. Raises ToolError where not all of it can be shielded.

    Nor can a database that has no folder in the workspace which could be shown read-only.
    """
    if box.writable:
        if len(guards.database) == 1:
            raise refused(
                "unsafe",
                f"nothing was run: the database {guards.database[0]!r} lies in the workspace itself, where a command "
                f"could put a link in place of what DuckDB writes beside it; tell the user to set "
                f"PianoConfig.database to a file in .piano (the default), in another folder, or to ':memory:'",
            )
        for parts in ((PRIVATE,), *guards.own):
            with suppress(OSError):  # A workspace that nobody can write.
                Path(box.workspace, *parts).mkdir(parents=True, exist_ok=True)  # What is there can be hidden.
    names = guards.look().shields.names
    if len(names) > MOST_SHIELDS:
        raise refused(
            "too_many",
            f"nothing was run: the workspace has {len(names):,} names that a command must not change or see, "
            f"{names[0]!r} for one, and {MOST_SHIELDS} at most can be kept from it; tell the user to choose "
            f"a smaller workspace",
        )


def _encoded(command: str) -> bytes:
    """Return a command as bash reads it. Raises ToolError for one that it cannot."""
    try:
        data = command.encode()
    except UnicodeEncodeError as error:
        raise refused("bad_command", f"the command has half a character at position {error.start}") from error
    if b"\0" in data:
        raise refused("bad_command", "a command cannot hold the character NUL")
    if len(data) > LONGEST_COMMAND:
        raise refused("bad_command", "bash cannot start this command: it is too long; put it into a file first")
    return data


def _no_sandbox(why: str) -> Exception:
    told = f"nothing was run: there is no sandbox ({why}); call it again, then the user is asked about it"
    return refused("no_sandbox", told)


def _call(otherwise: Hashable) -> Hashable:
    """Return what tells this call from others."""
    now = calling.get()
    return now.call_id if now else otherwise


def _run_into(ran: CommandResult, limits: SandboxLimits) -> list[str]:
    """Return a note about each limit that a command seems to have run into."""
    names = {
        "memory": f"{_size(limits.memory)} of memory (bash_memory)",
        "pids": f"{limits.processes} processes (bash_processes)",
        "file": f"{_size(limits.file)} a file",
        "tmpfs": f"{_size(limits.tmpfs)} each in /tmp, /dev/shm and the home folder, if the disk is not full",
    }
    failed = ran.exit_code or ran.ended
    told = {limit for limit, pattern in LIMITS if failed and re.search(pattern, ran.output)}
    if ran.exit_code == 128 + signal.SIGXFSZ:
        told.add("file")
    return [f"limit: {sentence}" for limit, sentence in names.items() if limit in told.union(ran.capped)]


def _size(size: int) -> str:
    return f"{size / (1 << 30):g} GiB"

"""The tool `bash`: whether a command may run, where it runs, and what the model reads about it."""

import asyncio
import os
import platform
import re
import signal
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from piano_jupyter.config import PianoConfig
from piano_jupyter.records import Mode
from piano_jupyter.runner.tools.bash import bwrap, seccomp
from piano_jupyter.runner.tools.bash.bwrap import Bubblewrap, SandboxLimits, SandboxSpec, SandboxUnavailableError
from piano_jupyter.runner.tools.bash.cgroup import CgroupLimits
from piano_jupyter.runner.tools.bash.environment import clean_environment, git_identity
from piano_jupyter.runner.tools.bash.output import CommandOutput, CommandResult
from piano_jupyter.runner.tools.bash.private_folder import private_folder
from piano_jupyter.runner.tools.bash.sandboxed_command import (
    KILL_GRACE_S,
    MAX_COMMAND_BYTES,
    counts_processes_per_sandbox,
)
from piano_jupyter.runner.tools.bash.unsandboxed import run_unsandboxed
from piano_jupyter.runner.tools.bash.workspace_changes import WorkspaceChanges
from piano_jupyter.runner.tools.bash.workspace_commands import WorkspaceCommands
from piano_jupyter.runner.tools.files.server_programs import server_programs_in
from piano_jupyter.runner.tools.files.skill_folders import skill_roots_in
from piano_jupyter.runner.tools.files.workspace import home_parts_in, parts_inside, piano_folders_in, tool_error
from piano_jupyter.runner.tools.files.write_hazards import WriteHazards
from piano_jupyter.runner.tools.files.write_rules import WriteRules
from piano_jupyter.tool import NeedsApproval, Tool, ToolAssessment, Verdict, current_call, tool

MIN_TIMEOUT_S = 1.0  #: the shortest timeout that a command can have
MAX_JUDGED_CALLS = 1000  #: how many calls that were judged without a sandbox are remembered
EXTRA_TIME_S = KILL_GRACE_S + 8  #: how long after its own timeout a call is given up
#: Each limit, and what programs print when they reach it.
LIMIT_MESSAGES = (
    ("memory", r"MemoryError|[Cc]annot allocate memory|[Oo]ut of memory|bad_alloc"),
    ("pids", r"fork: .*(?:unavailable|retry)|can't start new thread|BlockingIOError: \[Errno 11\]"),
    ("file", r"File size limit exceeded|File too large"),
    ("tmpfs", r"No space left on device"),
    ("owner", r"Value too large for defined data type"),
    ("links", r"hardlink different from source"),
    ("repository", r"not a git repository: /"),
)


class BashTool:
    """bash in a sandbox; outside it in mode full, or where there is no sandbox and the user has approved the call."""

    def __init__(self, config: PianoConfig, bubblewrap: Bubblewrap | None = None) -> None:
        self._config = config
        self._bubblewrap = bubblewrap or Bubblewrap()
        self._sandbox = WorkspaceCommands(self._bubblewrap)
        self._current_folders: dict[tuple[str, str], str] = {}  #: where each thread's unsandboxed commands are
        self._judged_unsandboxed: dict[Hashable, bool] = {}  #: calls judged while there was no sandbox

    def tool(self) -> Tool:
        """Return the tool that a model calls."""
        return replace(tool(self.bash), judge=self.judge, subject="command", seconds=self._call_timeout)

    def judge(self, arguments: Mapping[str, Any], mode: Mode) -> ToolAssessment:
        """Return whether a call may run: in a sandbox it may; without one the user is asked."""
        if mode == "full":
            return ToolAssessment(
                Verdict.ASK, f"it runs with your rights, outside any sandbox{self._current_folder_note()}"
            )
        call, reason = _call_id(arguments.get("command")), self._bubblewrap.unavailable_reason(self._spec(mode))
        self._judged_unsandboxed.pop(call, None)
        if not reason:
            return ToolAssessment(Verdict.ALLOW)
        if mode == "read":
            return ToolAssessment(Verdict.DENY, f"no_sandbox: in mode read bash runs only in a sandbox: {reason}")
        self._judged_unsandboxed[call] = True
        if len(self._judged_unsandboxed) > MAX_JUDGED_CALLS:
            del self._judged_unsandboxed[next(iter(self._judged_unsandboxed))]
        return ToolAssessment(
            Verdict.ASK, f"there is no sandbox here: {reason}; it runs with your rights{self._current_folder_note()}"
        )

    async def bash(self, command: str, timeout: float = 120) -> str | NeedsApproval:
        """Run a command with bash; return what it prints, and its exit code if that is not 0.

        The first command starts in the workspace, each later one in the folder where the previous one ended; variables
        are not kept. Nobody is at the keyboard: a command that waits for input ends. Background processes end with the
        call. Unless the user allows more, the command runs in a sandbox: without a network, with an empty home folder
        and a temporary /tmp, and it can change only the workspace, where its changes appear when it is over. Changes to
        files that run by themselves or instruct agents need the user's approval then.

        command: for example "python -m pytest -q".
        timeout: how many seconds it may take, at most 600.
        """
        data = _encode_command(command)
        call = current_call.get()
        mode: Mode = call.mode if call else "write"
        thread = str(call.thread_id) if call else "none"
        timeout_s = self._timeout(timeout)
        rules = WriteRules([*self._config.rules, *(call.rules if call else ())], self._workspace())
        spec = await asyncio.to_thread(self._spec, mode)  # like the next, it may start programs
        unsandboxed = mode == "full" or await asyncio.to_thread(self._runs_unsandboxed, command, spec)
        spill = private_folder(f"spill/{thread}", self._workspace())
        output = CommandOutput(
            self._config.tool_output_limit, spill, str(spill) if unsandboxed else bwrap.SANDBOX_SPILL
        )
        changes: WorkspaceChanges | None = None
        try:
            if unsandboxed:
                result = await self._run_unsandboxed(command, thread, timeout_s, output)
            else:
                spec = replace(spec, spill=str(spill))
                result, changes = await self._run_in_sandbox(data, (thread, mode), spec, rules, timeout_s, output)
        finally:
            output.close()
        text = _result_text(result)
        if changes is not None and changes.needs_approval:
            return NeedsApproval(
                text=text,
                ok=not result.ended,
                question="may it also make these changes?",
                reason=changes.reason,
                accept=changes.accept,
                refuse=changes.refuse,
            )
        if result.ended:
            raise tool_error("ended", text)
        return text

    def layers(self, mode: Mode) -> list[str]:
        """Return the layers of protection in a mode, and which are missing and why, one sentence each."""
        if mode == "full":
            return ["no sandbox in mode full: commands run with your rights, and each needs your approval"]
        spec = self._spec(mode)
        reason = self._bubblewrap.unavailable_reason(spec)
        if reason:
            consequence = "are not run" if mode == "read" else "need your approval, and run with your rights"
            return [f"no sandbox: {reason}; commands {consequence}"]
        return list(self._active_layers(spec))

    async def aclose(self) -> None:
        """End all commands."""
        await self._sandbox.aclose()

    def stop(self) -> None:
        """End all commands from any thread, without the event loop; what they have changed is not applied."""
        self._sandbox.stop()

    def _timeout(self, timeout: float) -> float:
        longest_s = max(MIN_TIMEOUT_S, self._config.bash_timeout)
        return min(max(MIN_TIMEOUT_S, timeout), longest_s)  # in this order, NaN becomes the minimum

    def _call_timeout(self, arguments: Mapping[str, Any]) -> float:
        return self._timeout(arguments.get("timeout", 120)) + EXTRA_TIME_S

    def _runs_unsandboxed(self, command: str, spec: SandboxSpec) -> bool:
        """Return whether a command runs outside the sandbox because there is none.

        Raises ToolError unless the user was asked about that.
        """
        reason = self._bubblewrap.unavailable_reason(spec)
        was_asked = self._judged_unsandboxed.pop(_call_id(command), False)
        if reason and not (was_asked and spec.writable):
            raise _no_sandbox_error(reason)
        return bool(reason)

    def _current_folder_note(self) -> str:
        """Return where a command outside the sandbox would run, if an earlier one has left the workspace."""
        workspace, call = str(self._workspace()), current_call.get()
        folder = self._current_folders.get((workspace, str(call.thread_id)), workspace) if call else workspace
        return f", in {folder!r}" if folder != workspace else ""

    async def _run_unsandboxed(
        self, command: str, thread: str, timeout_s: float, output: CommandOutput
    ) -> CommandResult:
        workspace = self._workspace()
        key = (str(workspace), thread)
        folder = self._current_folders.get(key, str(workspace))
        result = await run_unsandboxed(command, folder=folder, workspace=workspace, timeout_s=timeout_s, output=output)
        self._current_folders[key] = result.folder
        return result

    async def _run_in_sandbox(
        self,
        command: bytes,
        key: Hashable,
        spec: SandboxSpec,
        rules: WriteRules,
        timeout_s: float,
        output: CommandOutput,
    ) -> tuple[CommandResult, WorkspaceChanges | None]:
        try:
            result, changes = await self._sandbox.run(key, spec, self._hazards(spec), rules, command, timeout_s, output)
        except SandboxUnavailableError as error:
            self._bubblewrap.forget_checks()
            raise _no_sandbox_error(str(error)) from error
        notes = (*result.notes, *_limit_notes(result, spec.limits), *(changes.notes if changes else ()))
        return replace(result, notes=notes), changes

    def _hazards(self, spec: SandboxSpec) -> WriteHazards:
        workspace, database = Path(spec.workspace), self._config.database
        return WriteHazards(
            workspace=workspace,
            database=parts_inside(workspace, database) if database != ":memory:" else (),
            home=home_parts_in(workspace),
            skills=skill_roots_in(workspace, self._config.skills_paths),
            programs=server_programs_in(workspace, self._config.mcp_servers),
            own=piano_folders_in(workspace),
            readable=tuple(filter(None, (parts_inside(workspace, each) for each in (*spec.readable, *spec.prefixes)))),
            readable_names=tuple(os.path.abspath(os.path.expanduser(each)) for each in self._config.readable_paths),  # noqa: PTH100, PTH111  Path would resolve links, or raise without a home.
            visible=(*bwrap.SYSTEM_FOLDERS, *spec.readable, *spec.prefixes),
            allows_git=True,
        )

    def _spec(self, mode: Mode) -> SandboxSpec:
        config, workspace = self._config, str(self._workspace())
        return SandboxSpec(
            workspace=workspace,
            writable=mode == "write",
            environment=tuple(sorted({**clean_environment(os.environ), **git_identity(workspace)}.items())),
            readable=tuple(os.path.realpath(Path(each).expanduser()) for each in config.readable_paths),
            prefixes=bwrap.python_prefixes(),
            limits=SandboxLimits(memory_bytes=int(config.bash_memory * (1 << 30)), processes=config.bash_processes),
        )

    def _workspace(self) -> Path:
        return Path(os.path.realpath(self._config.workspace))

    def _active_layers(self, spec: SandboxSpec) -> Iterator[str]:
        limits, cgroups = spec.limits, CgroupLimits(spec.limits)
        controllers = cgroups.controllers
        cgroups.remove()
        access = "the workspace is writable" if spec.writable else "the workspace is read-only"
        yield f"sandbox: bubblewrap {self._bubblewrap.version}: {access}, the home folder is hidden, no network"
        if spec.writable:
            yield "changes of commands: applied when a command is over; files that act by themselves need your approval"
        machine = platform.machine()
        no_filter = f"no filter for {machine}, so commands can connect to the system's Unix sockets that they can see"
        yield f"system calls: {'filtered (seccomp)' if seccomp.filter_program(machine) else no_filter}"
        together = "and in total" if "memory" in controllers else "but not in total (no control group here)"
        yield f"memory: {_size(limits.memory_bytes)} per process {together}"
        if "pids" in controllers or (os.geteuid() and counts_processes_per_sandbox()):
            yield f"processes: at most {limits.processes}"
        else:
            yield "processes: no limit (no control group here, and the system counts all your processes together)"


def _result_text(result: CommandResult) -> str:
    """Return what the model reads about a command."""
    printed, notes = result.output.strip("\n"), [f"[{note}]" for note in result.notes]
    if result.ended:
        return "\n".join([f"the command was {result.ended}; it printed:", printed or "(nothing)", *notes])
    code = f"[exit code {result.exit_code}]" if result.exit_code else ""
    return "\n".join(each for each in (printed, code, *notes) if each) or "[exit code 0, nothing printed]"


def _encode_command(command: str) -> bytes:
    """Return a command as bytes. Raises ToolError for one that bash cannot read."""
    try:
        data = command.encode()
    except UnicodeEncodeError as error:
        raise tool_error("bad_command", f"the command has an incomplete character at position {error.start}") from error
    if b"\0" in data:
        raise tool_error("bad_command", "a command cannot contain the character NUL")
    if len(data) > MAX_COMMAND_BYTES:
        raise tool_error("bad_command", "bash cannot start this command: it is too long; put it into a file first")
    return data


def _no_sandbox_error(reason: str) -> Exception:
    message = f"nothing was run: there is no sandbox ({reason}); call it again, and the user is asked for approval"
    return tool_error("no_sandbox", message)


def _call_id(default: Hashable) -> Hashable:
    """Return the id of the current call, or `default` outside a call."""
    call = current_call.get()
    return call.call_id if call else default


def _limit_notes(result: CommandResult, limits: SandboxLimits) -> list[str]:
    """Return a note about each limit that a command seems to have reached."""
    names = {
        "memory": f"{_size(limits.memory_bytes)} of memory (bash_memory)",
        "pids": f"{limits.processes} processes (bash_processes)",
        "file": f"{_size(limits.file_bytes)} per file",
        "tmpfs": f"{_size(limits.tmpfs_bytes)} each in /tmp, /dev/shm and the home folder, unless the disk is full",
        "owner": "files of another owner or group can be read here, but not changed",
        "links": "two names of one file look like two files here; use git clone --no-hardlinks",
        "repository": "the repository of this worktree or submodule is outside the workspace, out of sight; the user "
        "can name its folder in readable_paths, to be read, and commits in mode full",
    }
    failed = result.exit_code or result.ended
    reached = {limit for limit, pattern in LIMIT_MESSAGES if failed and re.search(pattern, result.output)}
    if result.exit_code == 128 + signal.SIGXFSZ:
        reached.add("file")
    return [f"limit: {limit_text}" for limit, limit_text in names.items() if limit in reached.union(result.limits_hit)]


def _size(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 30):g} GiB"

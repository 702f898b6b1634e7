"""A persistent sandboxed bash for each thread: it starts at the first command and runs one command after another.

In the sandbox a small loop reads the folder and the text of a command from a private socket, runs it in a subshell
without that socket, kills whatever else is alive in the sandbox, and reports the exit code and the folder where the
command ended. A report counts only if the kernel confirms that the loop's own process wrote it.
"""

import asyncio
import fcntl
import os
import signal
import socket
import struct
import subprocess
from collections.abc import Hashable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from piano_jupyter.runner.tools.bash.bwrap import Bubblewrap, SandboxSpec, SandboxUnavailableError, failure_reason
from piano_jupyter.runner.tools.bash.cgroup import CgroupLimits
from piano_jupyter.runner.tools.bash.output import CommandOutput, CommandResult

START_TIMEOUT_S = 10.0  #: for the loop to report that it is ready
KILL_GRACE_S = 2.0  #: between SIGTERM and SIGKILL at a timeout
KILL_TIMEOUT_S = 1.0  #: for a killed sandbox to end
IDLE_TIMEOUT_S = 300.0  #: after which an unused shell is closed
MAX_SHELLS = 8
MAX_COMMAND_BYTES = 1 << 20
MAX_REPORT_BYTES = 1 << 16
PIPE_BYTES = 1 << 20  #: how much a command may print before Piano has to read

#: One line, so that bash counts the lines of a command from 1. SIGTERM ends the commands, not the loop.
COMMAND_LOOP = (
    "trap : TERM; exec {__output}>&2 2>/dev/null; %(limits)s"
    r"printf 'ready\0\0\0' >&%(private)d; "
    "while IFS= read -r -d '' -u %(private)d __folder && IFS= read -r -d '' -u %(private)d __command; do "
    '__gone=; cd -- "$__folder" || { cd -- "$1"; __gone=1; }; : >/run/folder; '
    '(set --; trap \'printf "%%s\\0" "$PWD" >/run/folder\' EXIT; '
    'eval -- "$__command") </dev/null 2>&$__output {__output}>&- %(private)d>&-; '
    "__code=$?; while kill -9 -1; do :; done; "
    "IFS= read -r -d '' __folder </run/folder || __folder=$PWD; "
    r"""printf '%%s\0%%s\0%%s\0' $__code "$__gone" "$__folder" >&%(private)d; done"""
)


class BashShell:
    """One sandbox that runs the command loop."""

    def __init__(
        self, spec: SandboxSpec, process: subprocess.Popen[bytes], report_socket: socket.socket, output_pipe: int
    ) -> None:
        self.spec = spec
        self._loop = asyncio.get_running_loop()
        self._process, self._report_socket, self._output_pipe = process, report_socket, output_pipe
        self._loop_pid: int | None = None  #: the process id of the loop, outside the sandbox
        self._report_buffer = b""
        self._output = CommandOutput(2000, Path(os.devnull), "")  #: collects what bwrap prints until the loop is ready
        self._report: asyncio.Future[list[bytes]] = self._loop.create_future()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self.cgroups = CgroupLimits(spec.limits)
        report_socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._loop.add_reader(report_socket, self._read_report)
        self._loop.add_reader(output_pipe, self._read_output)

    @classmethod
    async def start(cls, bubblewrap: Bubblewrap, spec: SandboxSpec) -> "BashShell":
        """Start a sandbox. Raises SandboxUnavailableError.

        The sandbox dies with the thread that starts it, so call this on the event loop's thread, not in a worker.
        """
        report_socket, loop_socket = socket.socketpair()
        output_read, output_write = os.pipe()
        try:
            for descriptor in (report_socket.fileno(), output_read):
                os.set_blocking(descriptor, False)
            with suppress(OSError):  # If the user may not have such a large pipe, it stays smaller.
                fcntl.fcntl(output_read, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
            script = COMMAND_LOOP % {"limits": ulimit_commands(spec), "private": loop_socket.fileno()}
            process = bubblewrap.start(  # It returns within two milliseconds.
                spec,
                ["--noprofile", "--norc", "-c", script, "bash", spec.workspace],
                keep=[loop_socket.fileno()],
                stdout=output_write,
                stderr=output_write,
                start_new_session=True,  # so that bubblewrap and its first children can be killed together
            )
        except (OSError, SandboxUnavailableError) as error:
            report_socket.close()
            os.close(output_read)
            raise SandboxUnavailableError(str(error)) from error
        finally:
            loop_socket.close()
            os.close(output_write)
        shell = cls(spec, process, report_socket, output_read)
        try:
            await shell._become_ready()
        except BaseException:
            await shell.close()
            raise
        return shell

    async def _become_ready(self) -> None:
        await self._wait_for_report(START_TIMEOUT_S)
        if not self._report.done():
            self._drain()
            raise SandboxUnavailableError(
                failure_reason(self._output.text()) or f"bubblewrap was not ready within {START_TIMEOUT_S:g} s"
            )
        if self._loop_pid is not None:
            self.cgroups.add_process(self._loop_pid)

    @property
    def alive(self) -> bool:
        """Whether it can run commands."""
        return not self.ended.done() and self._process.poll() is None

    async def run(self, folder: str, command: bytes, timeout_s: float, output: CommandOutput) -> CommandResult:
        """Run a command; none of its processes survives, however the call ends."""
        self._output, self._report, timed_out = output, self._loop.create_future(), False
        message = os.fsencode(folder) + b"\0" + command + b"\0"
        sending = asyncio.ensure_future(self._loop.sock_sendall(self._report_socket, message))
        try:
            await self._wait_for_report(timeout_s)
            if not self._report.done() and self.alive and not output.flood_reason:
                timed_out = True
                self._signal(signal.SIGTERM)
                await self._wait_for_report(KILL_GRACE_S)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            if not self._report.done():
                await self.kill()
        self._drain()
        reason = output.flood_reason or (f"after {timeout_s:g} s" if timed_out else "")
        ended = f"ended {reason}" if reason else ""
        limits_hit = tuple(self.cgroups.new_hits())
        if not self._report.done():  # Either the command or Piano killed the loop.
            return CommandResult(
                output.text(), None if ended else self._exit_code(), folder, ended, limits_hit=limits_hit
            )
        code, gone, end_folder = self._report.result()
        notes = (f"the folder {folder!r} is gone, so this ran in the workspace",) if gone else ()
        return CommandResult(
            output.text(), None if ended else int(code), os.fsdecode(end_folder), ended, notes, limits_hit
        )

    async def kill(self) -> None:
        """Kill the sandbox and wait until it has ended."""
        self.kill_now()
        await asyncio.wait({self.ended}, timeout=KILL_TIMEOUT_S)

    def kill_now(self) -> None:
        """Kill the sandbox, from any thread, without waiting."""
        if self._process.poll() is None:
            if self._loop_pid is None:
                self._kill_bubblewrap()
                with suppress(OSError):  # A process that has left its session ends when this is closed.
                    self._report_socket.shutdown(socket.SHUT_RDWR)
            else:
                self._signal(signal.SIGKILL)  # This includes the namespace's first process, and all others end with it.

    async def close(self) -> None:
        """End the sandbox and release its resources."""
        await self.kill()
        self.reap()
        for descriptor in (self._report_socket.fileno(), self._output_pipe):
            self._loop.remove_reader(descriptor)
        self._report_socket.close()
        os.close(self._output_pipe)

    def reap(self) -> None:
        """Wait for the killed process to end, and remove its control groups."""
        try:
            self._process.wait(KILL_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._kill_bubblewrap()
            self._process.wait(KILL_TIMEOUT_S)
        self.cgroups.remove()

    def _kill_bubblewrap(self) -> None:
        """Kill bubblewrap and its child together: killed alone, bubblewrap leaves a child that waits forever."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        """Send a signal to the sandbox's session, which contains its first process, the loop and the commands."""
        with suppress(ProcessLookupError, PermissionError):
            if self._loop_pid is not None:
                os.killpg(os.getpgid(self._loop_pid), number)

    def _read_report(self) -> None:
        try:
            data, ancillary, _, _ = self._report_socket.recvmsg(MAX_REPORT_BYTES, socket.CMSG_SPACE(12))
        except BlockingIOError:
            return
        except OSError:
            data, ancillary = b"", []
        if not data or len(self._report_buffer) > MAX_REPORT_BYTES:
            self._end()
            return
        writer = next(
            (struct.unpack("3i", value)[0] for _, kind, value in ancillary if kind == socket.SCM_CREDENTIALS), 0
        )
        if self._loop_pid is None:
            self._loop_pid = writer
        if writer != self._loop_pid:
            return
        self._report_buffer += data
        parts = self._report_buffer.split(b"\0")
        if len(parts) > 3 and not self._report.done():
            self._report_buffer = b""
            self._report.set_result(parts[:3])

    def _read_output(self) -> bool:
        """Read a piece of the output; return whether there was one."""
        try:
            data = os.read(self._output_pipe, PIPE_BYTES // 4)
        except BlockingIOError:
            return False
        if not data:
            self._loop.remove_reader(self._output_pipe)
        self._output.feed(data)
        if self._output.flood_reason:
            self.kill_now()
        return bool(data)

    def _drain(self) -> None:
        """Read the rest of the output, after all processes that print have ended."""
        while self._read_output():
            pass

    async def _wait_for_report(self, timeout_s: float) -> None:
        """Wait for the report or the end of the sandbox, whichever comes first."""
        either: set[asyncio.Future[Any]] = {self._report, self.ended}
        await asyncio.wait(either, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)

    def _exit_code(self) -> int:
        with suppress(subprocess.TimeoutExpired):
            code = self._process.wait(KILL_TIMEOUT_S)
            return code if code >= 0 else 128 - code
        return 128 + signal.SIGKILL

    def _end(self) -> None:
        self._loop.remove_reader(self._report_socket)
        if not self.ended.done():
            self.ended.set_result(None)


@dataclass(slots=True)
class _ThreadShell:
    """A thread's shell and current folder."""

    folder: str
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    shell: BashShell | None = None
    close_timer: asyncio.TimerHandle | None = None

    async def close(self) -> None:
        """Close the shell, if there is one."""
        shell, self.shell = self.shell, None
        if shell is not None:
            await shell.close()

    def cancel_close(self) -> None:
        """Cancel the closing of an idle shell."""
        if self.close_timer is not None:
            self.close_timer.cancel()


class ShellPool:
    """The open shells, by key."""

    def __init__(self, bubblewrap: Bubblewrap) -> None:
        self._bubblewrap = bubblewrap
        self._thread_shells: dict[Hashable, _ThreadShell] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(
        self, key: Hashable, spec: SandboxSpec, command: bytes, timeout_s: float, output: CommandOutput
    ) -> CommandResult:
        """Run a command in this key's shell, in the folder where the last one ended. Raises SandboxUnavailableError."""
        thread_shell = self._thread_shells.setdefault(key, _ThreadShell(spec.workspace))
        async with thread_shell.lock:
            thread_shell.cancel_close()
            shell = await self._shell(thread_shell, spec)
            try:
                result = await shell.run(thread_shell.folder, command, timeout_s, output)
                thread_shell.folder = result.folder
                return result
            finally:
                if shell.alive:
                    loop = asyncio.get_running_loop()
                    thread_shell.close_timer = loop.call_later(IDLE_TIMEOUT_S, self._close_later, thread_shell)
                else:
                    await thread_shell.close()

    async def aclose(self) -> None:
        """Close all shells."""
        for thread_shell in self._thread_shells.values():
            thread_shell.cancel_close()
            await thread_shell.close()
        await asyncio.gather(*self._tasks)

    def stop(self) -> None:
        """Kill all shells from any thread, without the event loop, when the process exits."""
        for thread_shell in list(self._thread_shells.values()):
            if thread_shell.shell is not None:
                thread_shell.shell.kill_now()
                thread_shell.shell.reap()

    async def _shell(self, thread_shell: _ThreadShell, spec: SandboxSpec) -> BashShell:
        """Return the thread's shell; start a new one if there is none with this spec."""
        if thread_shell.shell is not None and thread_shell.shell.alive and thread_shell.shell.spec == spec:
            return thread_shell.shell
        await thread_shell.close()
        others = [each for each in self._thread_shells.values() if each.shell is not None and not each.lock.locked()]
        if len(others) >= MAX_SHELLS:
            oldest = min(others, key=lambda each: each.close_timer.when() if each.close_timer else 0.0)
            await self._close(oldest)
        thread_shell.shell = await BashShell.start(self._bubblewrap, spec)
        return thread_shell.shell

    def _close_later(self, thread_shell: _ThreadShell) -> None:
        task = asyncio.get_running_loop().create_task(self._close(thread_shell), name="close an idle shell")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _close(self, thread_shell: _ThreadShell) -> None:
        async with thread_shell.lock:
            await thread_shell.close()


def ulimit_commands(spec: SandboxSpec) -> str:
    """Return the commands that set the limits of each process, which it cannot raise again."""
    limits = spec.limits
    values = {"c": 0, "f": limits.file_bytes >> 10, "v": limits.memory_bytes >> 10}
    if counts_processes_per_sandbox():
        values["u"] = limits.processes
    return "".join(f"ulimit -{name} {value}; " for name, value in values.items())


def counts_processes_per_sandbox() -> bool:
    """Return whether the kernel counts a sandbox's processes separately from the user's others: since Linux 5.14."""
    numbers = os.uname().release.split(".")
    return tuple(int("".join(filter(str.isdecimal, each)) or 0) for each in numbers[:2]) >= (5, 14)

"""Runs one command in a sandbox of its own, which ends with it.

In the sandbox a shell reads the folder and the text of the command from a private socket, once it is ready and its
control groups are set, and reports the folder where the command ended. That report counts for nothing else, so it does
not matter that a command could write one. Everything that a command has started ends with the sandbox: its first
process dies, and the system with it all others, before the call returns.
"""

import asyncio
import fcntl
import os
import select
import signal
import socket
import struct
import subprocess
from contextlib import suppress
from pathlib import Path

from piano_jupyter.runner.tools.bash.bwrap import Bubblewrap, SandboxSpec, SandboxUnavailableError, failure_reason
from piano_jupyter.runner.tools.bash.cgroup import CgroupLimits
from piano_jupyter.runner.tools.bash.output import CommandOutput, CommandResult
from piano_jupyter.runner.tools.bash.overlay import Overlay

START_TIMEOUT_S = 10.0  #: for the shell to report that it is ready
KILL_GRACE_S = 2.0  #: between SIGTERM and SIGKILL at a timeout
KILL_TIMEOUT_S = 5.0  #: for a killed sandbox to end
MAX_COMMAND_BYTES = 1 << 20
MAX_REPORT_BYTES = 1 << 16
PIPE_BYTES = 1 << 20  #: how much a command may print before Piano has to read

#: One line, so that bash counts the lines of a command from 1. SIGTERM ends the command, not this shell.
COMMAND_SCRIPT = (
    "trap : TERM; exec {__output}>&2 2>/dev/null; %(limits)s"
    r"printf 'ready\0' >&%(private)d; "
    "IFS= read -r -d '' -u %(private)d __folder && IFS= read -r -d '' -u %(private)d __command || exit; "
    'cd -- "$__folder" || { cd -- "$1"; printf gone >&%(private)d; }; '
    r"""(set --; trap 'printf "\0%%s\0" "$PWD" >&%(private)d' EXIT; """
    'eval -- "$__command") </dev/null 2>&$__output {__output}>&-'
)


class SandboxedCommand:
    """A sandbox that waits for its command, and then runs it."""

    def __init__(
        self,
        cgroups: CgroupLimits,
        process: subprocess.Popen[bytes],
        report_socket: socket.socket,
        output_pipe: int,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._process, self._report_socket, self._output_pipe = process, report_socket, output_pipe
        self._shell_pid: int | None = None  #: the process id of the shell, outside the sandbox
        self._first_process: int | None = None  #: a descriptor of the sandbox's first process
        self._report = b""
        self._output = CommandOutput(2000, Path(os.devnull), "")  #: collects what bwrap prints until the shell is ready
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._cgroups = cgroups
        report_socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._process_end = os.pidfd_open(process.pid)
        self._loop.add_reader(report_socket, self._read_report)
        self._loop.add_reader(output_pipe, self._read_output)
        self._loop.add_reader(self._process_end, self._end)

    @classmethod
    async def start(cls, bubblewrap: Bubblewrap, spec: SandboxSpec, overlay: Overlay | None) -> "SandboxedCommand":
        """Start a sandbox. Raises SandboxUnavailableError.

        The sandbox dies with the thread that starts it, so call this on the event loop's thread, not in a worker.
        """
        cgroups = await asyncio.to_thread(CgroupLimits, spec.limits)  # the system takes its time
        report_socket, shell_socket = socket.socketpair()
        output_read, output_write = os.pipe()
        try:
            for descriptor in (report_socket.fileno(), output_read):
                os.set_blocking(descriptor, False)
            with suppress(OSError):  # If the user may not have such a large pipe, it stays smaller.
                fcntl.fcntl(output_read, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
            script = COMMAND_SCRIPT % {"limits": ulimit_commands(spec), "private": shell_socket.fileno()}
            process = bubblewrap.start(  # It returns within two milliseconds.
                spec,
                ["--noprofile", "--norc", "-c", script, "bash", spec.workspace],
                overlay=overlay,
                keep=[shell_socket.fileno()],
                stdout=output_write,
                stderr=output_write,
                start_new_session=True,  # so that bubblewrap and its first children can be killed together
            )
        except (OSError, SandboxUnavailableError) as error:
            report_socket.close()
            os.close(output_read)
            await asyncio.to_thread(cgroups.remove)
            raise SandboxUnavailableError(str(error)) from error
        finally:
            shell_socket.close()
            os.close(output_write)
        command = cls(cgroups, process, report_socket, output_read)
        try:
            await command._become_ready()
        except BaseException:
            await command.close()
            raise
        return command

    async def _become_ready(self) -> None:
        await asyncio.wait({self._ready, self._ended}, timeout=START_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        if self._shell_pid is None:
            self._drain()
            raise SandboxUnavailableError(
                failure_reason(self._output.text()) or f"bubblewrap was not ready within {START_TIMEOUT_S:g} s"
            )
        await asyncio.to_thread(self._cgroups.add_process, self._shell_pid)  # the system takes its time
        try:
            self._first_process = os.pidfd_open(_first_process_of(self._shell_pid))
        except (OSError, LookupError, ValueError) as error:  # of a process that is gone, the system says 0 and nothing
            self._drain()
            raise SandboxUnavailableError(
                failure_reason(self._output.text()) or "bubblewrap ended before the command began"
            ) from error

    async def run(self, folder: str, command: bytes, timeout_s: float, output: CommandOutput) -> CommandResult:
        """Run the command; none of its processes survives, however the call ends."""
        self._output, timed_out = output, False
        message = os.fsencode(folder) + b"\0" + command + b"\0"
        sending = asyncio.ensure_future(self._loop.sock_sendall(self._report_socket, message))
        try:
            await asyncio.wait({self._ended}, timeout=timeout_s)
            if not self._ended.done() and not output.flood_reason:
                timed_out = True
                self._signal_command(signal.SIGTERM)
                await asyncio.wait({self._ended}, timeout=KILL_GRACE_S)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            await self._kill()
        self._drain()
        self._read_report()
        gone, _, rest = self._report.partition(b"\0")
        end_folder, was_reported, _ = rest.rpartition(b"\0")
        reason = output.flood_reason or (f"after {timeout_s:g} s" if timed_out else "")
        return CommandResult(
            output.text(),
            None if reason else self._exit_code(),
            os.fsdecode(end_folder.rpartition(b"\0")[2]) if was_reported else folder,
            f"ended {reason}" if reason else "",
            (f"the folder {folder!r} is gone, so this ran in the workspace",) if gone == b"gone" else (),
            tuple(self._cgroups.new_hits()),
        )

    async def close(self) -> None:
        """End the sandbox and release its resources."""
        await self._kill()
        self._loop.remove_reader(self._process_end)
        os.close(self._process_end)
        await asyncio.to_thread(self.reap)  # to remove control groups takes its time, too
        for descriptor in (self._report_socket.fileno(), self._output_pipe):
            self._loop.remove_reader(descriptor)
        self._report_socket.close()
        os.close(self._output_pipe)

    def kill_now(self) -> None:
        """Kill the sandbox, from any thread, without waiting."""
        with suppress(ProcessLookupError, PermissionError):
            if self._first_process is not None:
                signal.pidfd_send_signal(self._first_process, signal.SIGKILL)  # all others in the sandbox end with it
            elif self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)  # killed alone, it leaves a child that waits forever

    def reap(self) -> None:
        """Wait for the killed sandbox to end, and remove its control groups."""
        if self._first_process is not None:
            select.select([self._first_process], [], [], KILL_TIMEOUT_S)
            os.close(self._first_process)
            self._first_process = None
        self._process.wait(KILL_TIMEOUT_S)
        self._cgroups.remove()

    async def _kill(self) -> None:
        """Kill the sandbox and wait until each of its processes has ended."""
        self.kill_now()
        if self._first_process is not None:
            gone = self._loop.create_future()
            self._loop.add_reader(self._first_process, _resolve, gone)
            await asyncio.wait({gone}, timeout=KILL_TIMEOUT_S)
            self._loop.remove_reader(self._first_process)
        await asyncio.wait({self._ended}, timeout=KILL_TIMEOUT_S)

    def _signal_command(self, number: signal.Signals) -> None:
        """Send a signal to the sandbox's session, which contains its first process, the shell and the command."""
        with suppress(ProcessLookupError, PermissionError):
            if self._shell_pid is not None:
                os.killpg(os.getpgid(self._shell_pid), number)

    def _read_report(self) -> None:
        try:
            data, ancillary, _, _ = self._report_socket.recvmsg(MAX_REPORT_BYTES, socket.CMSG_SPACE(12))
        except OSError:
            return
        if not data or len(self._report) > MAX_REPORT_BYTES:
            self._loop.remove_reader(self._report_socket)
            return
        if self._shell_pid is None:
            for _, kind, value in ancillary:
                if kind == socket.SCM_CREDENTIALS:
                    self._shell_pid = struct.unpack("3i", value)[0]
            self._ready.set_result(None)
            return
        self._report += data

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

    def _exit_code(self) -> int:
        code = self._process.wait(KILL_TIMEOUT_S)
        return code if code >= 0 else 128 - code

    def _end(self) -> None:
        self._loop.remove_reader(self._process_end)
        _resolve(self._ended)


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def _first_process_of(process: int) -> int:
    """Return the first process of the namespace that a process is in."""
    while True:
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
        )
        if status["NSpid"].split()[-1] == "1":
            return process
        process = int(status["PPid"])


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

"""A sandboxed bash that stays: one for each thread, started at its first command and fed one command after the other.

In the sandbox a small loop reads the folder and the text of a command from a private descriptor, runs it in a subshell
that does not have that descriptor, kills whatever else is alive in the sandbox, and reports the exit code and the
folder where the command ended. A report counts only if the kernel vouches that the loop's own process wrote it.
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

from piano_jupyter.runner.tools.bash.bwrap import Bubblewrap, SandboxSpec, SandboxUnavailableError, why_failed
from piano_jupyter.runner.tools.bash.cgroup import CgroupLimits
from piano_jupyter.runner.tools.bash.output import CommandOutput, CommandResult

STARTING = 10.0  #: seconds until the loop must say that it is ready
GRACE = 2.0  #: seconds between TERM and KILL at a timeout
ENDING = 1.0  #: seconds until a sandbox that was killed must be gone
IDLE = 300.0  #: seconds after which a shell that nobody uses is closed
MOST_SHELLS = 8
LONGEST_COMMAND = 1 << 20  #: bytes
LONGEST_REPORT = 1 << 16  #: bytes
PIPE = 1 << 20  #: bytes that a command may print while nobody reads

#: One line, so that bash counts the lines of a command from 1. TERM is for the commands, the loop goes on.
LOOP = (
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
    """One sandbox with the loop in it."""

    def __init__(self, box: SandboxSpec, process: subprocess.Popen[bytes], private: socket.socket, pipe: int) -> None:
        self.box = box
        self._loop = asyncio.get_running_loop()
        self._process, self._private, self._pipe = process, private, pipe
        self._bash: int | None = None  #: the loop's process, as it is called out here
        self._got = b""
        self._output = CommandOutput(2000, Path(os.devnull), "")  #: before the loop is ready, it takes what bwrap says
        self._report: asyncio.Future[list[bytes]] = self._loop.create_future()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self.caps = CgroupLimits(box.limits)
        private.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._loop.add_reader(private, self._read_private)
        self._loop.add_reader(pipe, self._read_output)

    @classmethod
    async def start(cls, bubblewrap: Bubblewrap, box: SandboxSpec) -> "BashShell":
        """Start a sandbox. Raises SandboxUnavailableError.

        It dies with the thread that starts it: so that is the loop's, and no worker's.
        """
        private, inner = socket.socketpair()
        pipe, output = os.pipe()
        try:
            for descriptor in (private.fileno(), pipe):
                os.set_blocking(descriptor, False)
            with suppress(OSError):  # More than the user may have: then it is smaller.
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE)
            script = LOOP % {"limits": limits_of(box), "private": inner.fileno()}
            process = bubblewrap.start(  # It returns within two milliseconds.
                box,
                ["--noprofile", "--norc", "-c", script, "bash", box.workspace],
                keep=[inner.fileno()],
                stdout=output,
                stderr=output,
                start_new_session=True,  # so that what it has begun to start can be reached, too
            )
        except (OSError, SandboxUnavailableError) as error:
            private.close()
            os.close(pipe)
            raise SandboxUnavailableError(str(error)) from error
        finally:
            inner.close()
            os.close(output)
        shell = cls(box, process, private, pipe)
        try:
            await shell._become_ready()
        except BaseException:
            await shell.close()
            raise
        return shell

    async def _become_ready(self) -> None:
        await self._first_of(STARTING)
        if not self._report.done():
            self._drain()
            raise SandboxUnavailableError(
                why_failed(self._output.text()) or f"bubblewrap was not ready within {STARTING:g} s"
            )
        if self._bash is not None:
            self.caps.add(self._bash)

    @property
    def alive(self) -> bool:
        """Whether it takes commands."""
        return not self.ended.done() and self._process.poll() is None

    async def run(self, folder: str, command: bytes, seconds: float, output: CommandOutput) -> CommandResult:
        """Run a command; nothing of it is left alive, however the call ends."""
        self._output, self._report, timed_out = output, self._loop.create_future(), False
        message = os.fsencode(folder) + b"\0" + command + b"\0"
        sending = asyncio.ensure_future(self._loop.sock_sendall(self._private, message))
        try:
            await self._first_of(seconds)
            if not self._report.done() and self.alive and not output.flood:
                timed_out = True
                self._signal(signal.SIGTERM)
                await self._first_of(GRACE)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            if not self._report.done():
                await self.kill()
        self._drain()
        why = output.flood or (f"after {seconds:g} s" if timed_out else "")
        ended = f"ended {why}" if why else ""
        capped = tuple(self.caps.hit())
        if not self._report.done():  # The command killed the loop, or we did.
            return CommandResult(output.text(), None if ended else self._exit_code(), folder, ended, capped=capped)
        code, gone, there = self._report.result()
        notes = (f"the folder {folder!r} is gone: this ran in the workspace",) if gone else ()
        return CommandResult(output.text(), None if ended else int(code), os.fsdecode(there), ended, notes, capped)

    async def kill(self) -> None:
        """End the sandbox and all that is in it."""
        self.kill_now()
        await asyncio.wait({self.ended}, timeout=ENDING)

    def kill_now(self) -> None:
        """Have the kernel end the sandbox, from any thread."""
        if self._process.poll() is None:
            if self._bash is None:
                self._kill_start()
                with suppress(OSError):  # What has left its session already reads its end here.
                    self._private.shutdown(socket.SHUT_RDWR)
            else:
                self._signal(signal.SIGKILL)  # To the namespace's first process, too: all the others go with it.

    async def close(self) -> None:
        """End the sandbox and let go of what belongs to it."""
        await self.kill()
        self.bury()
        for descriptor in (self._private.fileno(), self._pipe):
            self._loop.remove_reader(descriptor)
        self._private.close()
        os.close(self._pipe)

    def bury(self) -> None:
        """Wait for the process that was killed, and remove its control groups."""
        try:
            self._process.wait(ENDING)
        except subprocess.TimeoutExpired:
            self._kill_start()
            self._process.wait(ENDING)
        self.caps.remove()

    def _kill_start(self) -> None:
        """Kill bubblewrap, and what it has cloned: that waits for it for ever where it is killed alone."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        """Signal the sandbox's session: the first process began it, the loop and the commands are in it."""
        with suppress(ProcessLookupError, PermissionError):
            if self._bash is not None:
                os.killpg(os.getpgid(self._bash), number)

    def _read_private(self) -> None:
        try:
            data, about, _, _ = self._private.recvmsg(LONGEST_REPORT, socket.CMSG_SPACE(12))
        except BlockingIOError:
            return
        except OSError:
            data, about = b"", []
        if not data or len(self._got) > LONGEST_REPORT:
            self._end()
            return
        writer = next((struct.unpack("3i", value)[0] for _, kind, value in about if kind == socket.SCM_CREDENTIALS), 0)
        if self._bash is None:
            self._bash = writer
        if writer != self._bash:
            return
        self._got += data
        parts = self._got.split(b"\0")
        if len(parts) > 3 and not self._report.done():
            self._got = b""
            self._report.set_result(parts[:3])

    def _read_output(self) -> bool:
        """Take a piece of what was printed; return whether there was one."""
        try:
            data = os.read(self._pipe, PIPE // 4)
        except BlockingIOError:
            return False
        if not data:
            self._loop.remove_reader(self._pipe)
        self._output.feed(data)
        if self._output.flood:
            self.kill_now()
        return bool(data)

    def _drain(self) -> None:
        """Take the rest: nobody is left who would print more."""
        while self._read_output():
            pass

    async def _first_of(self, seconds: float) -> None:
        """Wait for the report or the sandbox's end."""
        either: set[asyncio.Future[Any]] = {self._report, self.ended}
        await asyncio.wait(either, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)

    def _exit_code(self) -> int:
        with suppress(subprocess.TimeoutExpired):
            code = self._process.wait(ENDING)
            return code if code >= 0 else 128 - code
        return 128 + signal.SIGKILL

    def _end(self) -> None:
        self._loop.remove_reader(self._private)
        if not self.ended.done():
            self.ended.set_result(None)


@dataclass(slots=True)
class _ThreadShell:
    """A thread's shell, and the folder that it is in."""

    folder: str
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    shell: BashShell | None = None
    closing: asyncio.TimerHandle | None = None

    async def close(self) -> None:
        """Close the shell, if there is one."""
        shell, self.shell = self.shell, None
        if shell is not None:
            await shell.close()

    def keep(self) -> None:
        """Do not close it for being idle."""
        if self.closing is not None:
            self.closing.cancel()


class ShellPool:
    """The shells that are open, by whatever they belong to."""

    def __init__(self, bubblewrap: Bubblewrap) -> None:
        self._bubblewrap = bubblewrap
        self._places: dict[Hashable, _ThreadShell] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(
        self, key: Hashable, box: SandboxSpec, command: bytes, seconds: float, output: CommandOutput
    ) -> CommandResult:
        """Run a command in the shell of this key, where its last command ended. Raises SandboxUnavailableError."""
        place = self._places.setdefault(key, _ThreadShell(box.workspace))
        async with place.lock:
            place.keep()
            shell = await self._shell(place, box)
            try:
                ran = await shell.run(place.folder, command, seconds, output)
                place.folder = ran.folder
                return ran
            finally:
                if shell.alive:
                    loop = asyncio.get_running_loop()
                    place.closing = loop.call_later(IDLE, self._close_later, place)
                else:
                    await place.close()

    async def aclose(self) -> None:
        """Close all."""
        for place in self._places.values():
            place.keep()
            await place.close()
        await asyncio.gather(*self._tasks)

    def stop(self) -> None:
        """End all from any thread, without the loop: for the process's exit."""
        for place in list(self._places.values()):
            if place.shell is not None:
                place.shell.kill_now()
                place.shell.bury()

    async def _shell(self, place: _ThreadShell, box: SandboxSpec) -> BashShell:
        """Return the place's shell, a new one where there is none that is as the box says."""
        if place.shell is not None and place.shell.alive and place.shell.box == box:
            return place.shell
        await place.close()
        others = [each for each in self._places.values() if each.shell is not None and not each.lock.locked()]
        if len(others) >= MOST_SHELLS:
            oldest = min(others, key=lambda each: each.closing.when() if each.closing else 0.0)
            await self._close(oldest)
        place.shell = await BashShell.start(self._bubblewrap, box)
        return place.shell

    def _close_later(self, place: _ThreadShell) -> None:
        task = asyncio.get_running_loop().create_task(self._close(place), name="close an idle shell")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _close(self, place: _ThreadShell) -> None:
        async with place.lock:
            await place.close()


def limits_of(box: SandboxSpec) -> str:
    """Return the commands that set the limits of each process; none can be raised again."""
    limits = box.limits
    values = {"c": 0, "f": limits.file >> 10, "v": limits.memory >> 10}
    if counts_apart():
        values["u"] = limits.processes
    return "".join(f"ulimit -{name} {value}; " for name, value in values.items())


def counts_apart() -> bool:
    """Return whether the kernel counts a sandbox's processes apart from the user's others: since Linux 5.14."""
    numbers = os.uname().release.split(".")
    return tuple(int("".join(filter(str.isdecimal, each)) or 0) for each in numbers[:2]) >= (5, 14)

"""How bash is run: with a clean environment, nobody at the keyboard, bounded output, and nothing left behind.

It does not know what may run: whoever calls it has asked.
"""

import asyncio
import errno
import os
import secrets
import shutil
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from piano_jupyter.runner.sandbox import refused

#: What bash may know of the kernel's environment, beside LC_*: no key and no token is among them.
KNOWN = {
    "CONDA_PREFIX",
    "CUDA_VISIBLE_DEVICES",
    "HOME",
    "LANG",
    "LD_LIBRARY_PATH",
    "LOGNAME",
    "PATH",
    "TMPDIR",
    "TZ",
    "USER",
    "VIRTUAL_ENV",
}
#: So that no program waits for a key press.
QUIET = {
    "DEBIAN_FRONTEND": "noninteractive",
    "EDITOR": "true",
    "GIT_EDITOR": "true",
    "GIT_PAGER": "cat",
    "GIT_TERMINAL_PROMPT": "0",
    "NO_COLOR": "1",
    "PAGER": "cat",
    "PIP_NO_INPUT": "1",
    "TERM": "dumb",
}
MARK = "PIANO_CALL"  #: in the environment of all that a call starts
GRACE = 2.0  #: seconds between TERM and KILL at a timeout
GRACE_AT_CANCEL = 0.5  #: the same when the user does not want to wait
DRAIN = 0.5  #: seconds that children may still print after bash has ended
FLOOD = 1 << 30  #: bytes of output after which a command is ended


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of a command."""

    output: str  #: both streams as they came, without the middle if it was too long
    exit_code: int | None  #: None where it was ended from here
    ended: str = ""  #: why it was ended from here


async def run_bash(command: str, *, cwd: Path, seconds: float, limit: int) -> Ran:
    """Run a command in a session of its own; whatever it started ends with the call, however the call ends.

    Raises ToolError where it cannot be started.
    """
    mark = secrets.token_hex(8)
    output = _Output(limit)
    try:
        process = await _start(command, cwd, mark, output)
        exited = asyncio.ensure_future(process.wait())
        output.listen(lambda: _signal(process.pid, signal.SIGKILL))
        timed_out = False
        try:
            await asyncio.wait({exited}, timeout=seconds)
            timed_out = not exited.done()
            if timed_out:
                _signal(process.pid, signal.SIGTERM)
            await asyncio.wait({exited, output.closed}, timeout=GRACE if timed_out else DRAIN)
        except asyncio.CancelledError:
            _signal(process.pid, signal.SIGTERM)
            await asyncio.wait({exited, output.closed}, timeout=GRACE_AT_CANCEL)
            raise
        finally:
            _kill(process.pid, mark)
            await asyncio.wait({exited, output.closed}, timeout=1.0)
            exited.cancel()
    finally:
        output.close()
    if timed_out:
        return Ran(output.text(), None, f"ended after {seconds:g} s")
    if output.total > FLOOD:
        return Ran(output.text(), None, f"ended after {FLOOD:,} bytes of output")
    code = process.returncode
    return Ran(output.text(), 128 - code if code is not None and code < 0 else code)


def clean_environment(given: Mapping[str, str]) -> dict[str, str]:
    """Return what bash may know, by an allow list."""
    kept = {name: value for name, value in given.items() if name in KNOWN or name.startswith("LC_")}
    return {"PATH": os.defpath} | kept | QUIET


async def _start(command: str, cwd: Path, mark: str, output: "_Output") -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(
            *("bash", "-c", "--", command),
            executable=shutil.which("bash"),  # found first: else a closed folder on PATH hides why it cannot start
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output.send,
            stderr=output.send,
            cwd=cwd,
            env=clean_environment(os.environ) | {MARK: mark},
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        too_long = isinstance(error, OSError) and error.errno == errno.E2BIG
        why = "it is too long; put it into a file first" if too_long else str(error)
        raise refused("bad_command", f"bash cannot start this command: {why}") from error
    finally:
        os.close(output.send)


class _Output:
    """A pipe of our own, of which the head and the tail are kept: asyncio would wait until its own is closed."""

    def __init__(self, limit: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._receive, self.send = os.pipe()
        os.set_blocking(self._receive, False)
        self._half = max(limit - 200, 100) // 2  # The rest is for the notes.
        self._head, self._tail = bytearray(), bytearray()
        self.total = 0
        self.closed = self._loop.create_future()

    def listen(self, flooded: Callable[[], None]) -> None:
        self._flooded = flooded
        self._loop.add_reader(self._receive, self._read)

    def _read(self) -> None:
        with suppress(BlockingIOError):
            data = os.read(self._receive, 1 << 16)
            if not data:
                self._loop.remove_reader(self._receive)
                self.closed.set_result(None)
            room = self._half - len(self._head)
            self._head += data[:room]
            self._tail += data[room:]
            del self._tail[: -self._half]
            self.total += len(data)
            if self.total > FLOOD:
                self._flooded()

    def close(self) -> None:
        self._loop.remove_reader(self._receive)
        self.closed.cancel()
        os.close(self._receive)

    def text(self) -> str:
        left_out = self.total - len(self._head) - len(self._tail)
        if not left_out:
            return _as_seen(self._head + self._tail)
        head, tail = _as_seen(self._head).rstrip("\ufffd"), _as_seen(self._tail).lstrip("\ufffd")
        return f"{head}\n[... {left_out:,} bytes left out ...]\n{tail}"


def _as_seen(data: bytearray) -> str:
    """Return output as a terminal shows it: of a line that was written over, what stood there last."""
    lines = data.decode("utf-8", "replace").split("\n")
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines)


def _signal(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _kill(group: int, mark: str) -> None:
    """Kill the group, and those that left it: they still carry the call's mark in their environment."""
    _signal(group, signal.SIGKILL)
    wanted = f"{MARK}={mark}".encode()
    for _ in range(5):  # One may have forked while the others were looked up.
        left = [process for process in _younger(group) if wanted in _environment(process)]
        for process in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        if not left:
            return


def _younger(process: int) -> list[int]:
    """Return the processes that were started after this one, where the system lists them."""
    with suppress(FileNotFoundError):
        return [
            int(each.name) for each in Path("/proc").iterdir() if each.name.isdecimal() and int(each.name) > process
        ]
    return []


def _environment(process: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{process}/environ").read_bytes()
    return b""

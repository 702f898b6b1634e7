"""bash with the user's rights, outside any sandbox: nobody at the keyboard, bounded output, nothing left behind.

It does not know what may run: whoever calls it has asked. Where the kernel itself is killed, a watcher beside it ends
what runs: it holds a pipe that the kernel closes by dying.
"""

import asyncio
import errno
import os
import secrets
import signal
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from piano_jupyter.runner.tools.bash.environment import clean_environment
from piano_jupyter.runner.tools.bash.output import CommandOutput, CommandResult
from piano_jupyter.runner.tools.bash.programs import ProgramNotFoundError, program
from piano_jupyter.runner.tools.files.workspace import refused
from piano_jupyter.safe_files import held_open

MARK = "PIANO_CALL"  #: in the environment of all that a call starts
GRACE = 2.0  #: seconds between TERM and KILL at a timeout
GRACE_AT_CANCEL = 0.5  #: the same when the user does not want to wait
DRAIN = 0.5  #: seconds that children may still print after bash has ended
#: Runs the command, and leaves in a file in which folder it ended.
SCRIPT = """there=$1 __command=$2; set --; trap 'printf %s "$PWD" >"$there"' EXIT; eval -- "$__command\""""


#: Reads the number of the command's group, then that the call is over; if that never comes, it kills them.
WATCH = """group=; while IFS= read -r said; do [ "$said" = over ] && exit; group=$said; done
[ "$group" ] && kill -9 -- "-$group"; for round in 1 2 3; do for each in /proc/[0-9]*/environ; do
[[ $(<"$each") == *"$1"* ]] || continue; each=${each#/proc/}; kill -9 "${each%/environ}"; done; done"""


async def run_bare(
    command: str, *, folder: str, workspace: Path, seconds: float, output: CommandOutput
) -> CommandResult:
    """Run a command in a session of its own; whatever it started ends with the call, however the call ends.

    Raises ToolError where it cannot be started.
    """
    cwd = _there(folder, workspace)
    notes = () if cwd == folder else (f"the folder {folder!r} is gone: this ran in the workspace",)
    mark = secrets.token_hex(8)
    try:
        bash = program("bash", str(workspace))
    except ProgramNotFoundError as error:
        raise refused("bad_command", f"no command can be run: {error}") from error
    async with _watched(bash, mark) as tell:
        with tempfile.TemporaryDirectory(prefix="piano-") as private:
            left = Path(private, "folder")
            pipe = _Pipe(output)
            try:
                process = await _start(bash, [SCRIPT, "bash", str(left), command], cwd, mark, pipe)
                tell(process.pid)
                exited = asyncio.ensure_future(process.wait())
                pipe.listen(lambda: _signal(process.pid, signal.SIGKILL))
                timed_out = False
                try:
                    await asyncio.wait({exited}, timeout=seconds)
                    timed_out = not exited.done()
                    if timed_out:
                        _signal(process.pid, signal.SIGTERM)
                    await asyncio.wait({exited, pipe.closed}, timeout=GRACE if timed_out else DRAIN)
                except asyncio.CancelledError:
                    _signal(process.pid, signal.SIGTERM)
                    await asyncio.wait({exited, pipe.closed}, timeout=GRACE_AT_CANCEL)
                    raise
                finally:
                    kill_group(process.pid, mark)
                    await asyncio.wait({exited, pipe.closed}, timeout=1.0)
                    exited.cancel()
            finally:
                pipe.close()
            cwd = _told(left) or cwd
    if timed_out or output.flood:
        return CommandResult(output.text(), None, cwd, f"ended {output.flood or f'after {seconds:g} s'}", notes)
    code = process.returncode
    return CommandResult(output.text(), 128 - code if code is not None and code < 0 else code, cwd, notes=notes)


@asynccontextmanager
async def _watched(bash: str, mark: str) -> AsyncIterator[Callable[[int], None]]:
    """Have what carries the mark, and the group that the watcher is told of, killed if this process is killed."""
    hears, says = os.pipe()

    def tell(what: object) -> None:
        with suppress(BrokenPipeError):  # somebody has killed the watcher
            os.write(says, f"{what}\n".encode())

    with held_open(hears), held_open(says):
        watcher = await asyncio.create_subprocess_exec(
            *(bash, "-c", WATCH, "bash", f"{MARK}={mark}"),
            env={},
            stdin=hears,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield tell
        finally:
            tell("over")
            await watcher.wait()


async def _start(bash: str, words: list[str], cwd: str, mark: str, pipe: "_Pipe") -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(
            *("bash", "-c", "--", *words),
            executable=bash,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=pipe.send,
            stderr=pipe.send,
            cwd=cwd,
            env=clean_environment(os.environ) | {MARK: mark},
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        too_long = isinstance(error, OSError) and error.errno == errno.E2BIG
        why = "it is too long; put it into a file first" if too_long else str(error)
        raise refused("bad_command", f"bash cannot start this command: {why}") from error
    except asyncio.CancelledError:  # asyncio has ended bash, but not what that has started
        _kill_marked(mark)
        raise
    finally:
        os.close(pipe.send)


def _there(folder: str, workspace: Path) -> str:
    return folder if Path(folder).is_dir() else str(workspace)


def _told(file: Path) -> str:
    with suppress(OSError):  # Something else than bash ended the command, so it told no folder.
        return os.fsdecode(file.read_bytes())
    return ""


class _Pipe:
    """A pipe of our own: asyncio would wait until its own is closed, by every grandchild."""

    def __init__(self, output: CommandOutput) -> None:
        self._loop = asyncio.get_running_loop()
        self._receive, self.send = os.pipe()
        os.set_blocking(self._receive, False)
        self._output = output
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
            self._output.feed(data)
            if self._output.flood:
                self._flooded()

    def close(self) -> None:
        self._loop.remove_reader(self._receive)
        self.closed.cancel()
        os.close(self._receive)


def _signal(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def kill_group(group: int, mark: str) -> None:
    """Kill the group, and those that left it: they still carry the call's mark in their environment."""
    _signal(group, signal.SIGKILL)
    _kill_marked(mark)


def _kill_marked(mark: str) -> None:
    wanted = f"{MARK}={mark}".encode()
    for _ in range(5):  # One may have forked while the others were looked up.
        left = [process for process in _processes() if wanted in _environment(process)]
        for process in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        if not left:
            return


def _processes() -> list[int]:
    """Return all processes, where the system lists them: a number says nothing of age, for they are used again."""
    with suppress(FileNotFoundError):
        return [int(each.name) for each in Path("/proc").iterdir() if each.name.isdecimal()]
    return []


def _environment(process: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{process}/environ").read_bytes()
    return b""

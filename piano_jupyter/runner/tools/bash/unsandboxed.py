"""bash with the user's rights, outside any sandbox: no keyboard input, bounded output, no process left running.

It does not decide what may run: the caller has done that. If the kernel is killed, a watcher ends what still runs.
"""

import asyncio
import errno
import os
import secrets
import signal
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from piano_jupyter.runner.tools.bash.environment import clean_environment
from piano_jupyter.runner.tools.bash.marked_processes import (
    MARK_VARIABLE,
    kill_group,
    kill_marked,
    signal_group,
    watcher,
)
from piano_jupyter.runner.tools.bash.output import CommandOutput, CommandResult
from piano_jupyter.runner.tools.bash.programs import ProgramNotFoundError, find_program
from piano_jupyter.runner.tools.files.workspace import tool_error

KILL_GRACE_S = 2.0  #: between SIGTERM and SIGKILL at a timeout
CANCEL_GRACE_S = 0.5  #: the same when the user cancels
DRAIN_S = 0.5  #: how long child processes may still print after bash has ended
#: Runs the command, and writes the folder where it ended to a file.
COMMAND_SCRIPT = """__file=$1 __command=$2; set --; trap 'printf %s "$PWD" >"$__file"' EXIT; eval -- "$__command\""""


async def run_unsandboxed(
    command: str, *, folder: str, workspace: Path, timeout_s: float, output: CommandOutput
) -> CommandResult:
    """Run a command in its own session; all processes that it started end with the call, however the call ends.

    Raises ToolError if bash cannot be started.
    """
    cwd = _existing_folder(folder, workspace)
    notes = () if cwd == folder else (f"the folder {folder!r} is gone, so this ran in the workspace",)
    mark = secrets.token_hex(8)
    try:
        bash = find_program("bash", str(workspace))
    except ProgramNotFoundError as error:
        raise tool_error("bad_command", f"no command can be run: {error}") from error
    async with watcher(bash, mark) as tell:
        with tempfile.TemporaryDirectory(prefix="piano-") as temporary:
            folder_file = Path(temporary, "folder")
            pipe = _OutputPipe(output)
            try:
                process = await _start_bash(bash, [COMMAND_SCRIPT, "bash", str(folder_file), command], cwd, mark, pipe)
                tell(process.pid)
                exited = asyncio.ensure_future(process.wait())
                pipe.listen(lambda: signal_group(process.pid, signal.SIGKILL))
                timed_out = False
                try:
                    await asyncio.wait({exited}, timeout=timeout_s)
                    timed_out = not exited.done()
                    if timed_out:
                        signal_group(process.pid, signal.SIGTERM)
                    await asyncio.wait({exited, pipe.closed}, timeout=KILL_GRACE_S if timed_out else DRAIN_S)
                except asyncio.CancelledError:
                    signal_group(process.pid, signal.SIGTERM)
                    await asyncio.wait({exited, pipe.closed}, timeout=CANCEL_GRACE_S)
                    raise
                finally:
                    kill_group(process.pid, mark)
                    await asyncio.wait({exited, pipe.closed}, timeout=1.0)
                    exited.cancel()
            finally:
                pipe.close()
            cwd = _read_folder(folder_file) or cwd
    if timed_out or output.flood_reason:
        return CommandResult(
            output.text(), None, cwd, f"ended {output.flood_reason or f'after {timeout_s:g} s'}", notes
        )
    code = process.returncode
    return CommandResult(output.text(), 128 - code if code is not None and code < 0 else code, cwd, notes=notes)


async def _start_bash(
    bash: str, arguments: list[str], cwd: str, mark: str, pipe: "_OutputPipe"
) -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(
            *("bash", "-c", "--", *arguments),
            executable=bash,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=pipe.send,
            stderr=pipe.send,
            cwd=cwd,
            env=clean_environment(os.environ) | {MARK_VARIABLE: mark},
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        too_long = isinstance(error, OSError) and error.errno == errno.E2BIG
        why = "it is too long; put it into a file first" if too_long else str(error)
        raise tool_error("bad_command", f"bash cannot start this command: {why}") from error
    except asyncio.CancelledError:  # asyncio has killed bash, but not what bash started
        kill_marked(mark)
        raise
    finally:
        os.close(pipe.send)


def _existing_folder(folder: str, workspace: Path) -> str:
    return folder if Path(folder).is_dir() else str(workspace)


def _read_folder(file: Path) -> str:
    with suppress(OSError):  # bash was killed before it wrote its folder.
        return os.fsdecode(file.read_bytes())
    return ""


class _OutputPipe:
    """The pipe for the output: with asyncio's own, the call would wait until every descendant closes it."""

    def __init__(self, output: CommandOutput) -> None:
        self._loop = asyncio.get_running_loop()
        self._receive, self.send = os.pipe()
        os.set_blocking(self._receive, False)
        self._output = output
        self.closed = self._loop.create_future()

    def listen(self, on_flood: Callable[[], None]) -> None:
        self._on_flood = on_flood
        self._loop.add_reader(self._receive, self._read)

    def _read(self) -> None:
        with suppress(BlockingIOError):
            data = os.read(self._receive, 1 << 16)
            if not data:
                self._loop.remove_reader(self._receive)
                self.closed.set_result(None)
            self._output.feed(data)
            if self._output.flood_reason:
                self._on_flood()

    def close(self) -> None:
        self._loop.remove_reader(self._receive)
        self.closed.cancel()
        os.close(self._receive)

"""Processes that end with the call or the kernel that started them: their group, and a mark in their environment.

If the kernel is killed, a watcher process ends what still runs: it reads from a pipe that closes when the kernel dies.
"""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from piano_jupyter.safe_files import closing_descriptor

MARK_VARIABLE = "PIANO_CALL"  #: the environment variable that marks all processes of a call

LOOK_AGAIN_S = 0.005

#: Reads a process group, then "over"; if its input ends without "over", it kills them.
WATCHER_SCRIPT = """group=; while IFS= read -r said; do [ "$said" = over ] && exit; group=$said; done
[ "$group" ] && kill -9 -- "-$group"; for round in 1 2 3; do for each in /proc/[0-9]*/environ; do
[[ $(<"$each") == *"$1"* ]] || continue; each=${each#/proc/}; kill -9 "${each%/environ}"; done; done"""


@asynccontextmanager
async def watcher(bash: str, mark: str) -> AsyncIterator[Callable[[int], None]]:
    """Start a watcher that kills the processes with this mark, and the group it is told, if this process dies."""
    read_end, write_end = os.pipe()

    def tell(message: object) -> None:
        with suppress(BrokenPipeError):  # the watcher was killed
            os.write(write_end, f"{message}\n".encode())

    with closing_descriptor(read_end), closing_descriptor(write_end):
        process = await asyncio.create_subprocess_exec(
            *(bash, "-c", WATCHER_SCRIPT, "bash", f"{MARK_VARIABLE}={mark}"),
            env={},
            stdin=read_end,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield tell
        finally:
            tell("over")
            await process.wait()


def signal_group(group: int, number: signal.Signals) -> None:
    """Send a signal to a process group, if it is there."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def kill_group(group: int, mark: str) -> None:
    """Kill the group, and the processes that left it but still have the call's mark in their environment."""
    signal_group(group, signal.SIGKILL)
    kill_marked(mark)


def kill_marked(mark: str) -> None:
    """Kill the processes with this mark in their environment."""
    marker = f"{MARK_VARIABLE}={mark}".encode()
    for _ in range(5):  # A process may have forked while we listed them.
        found = {process: _read(process, "environ") for process in _processes()}
        marked = [process for process, environment in found.items() if marker in environment]
        for process in marked:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        if not marked:
            if not any(_is_starting(process) for process, environment in found.items() if not environment):
                return
            time.sleep(LOOK_AGAIN_S)


def _processes() -> list[int]:
    """Return all process ids, [] if the system has no /proc. Ids are reused, so they say nothing about age."""
    with suppress(FileNotFoundError):
        return [int(each.name) for each in Path("/proc").iterdir() if each.name.isdecimal()]
    return []


def _is_starting(process: int) -> bool:
    """Return whether a process that had no environment is about to run another program, or has just begun to."""
    if _read(process, "environ"):
        return True
    if _read(process, "cmdline"):  # it was given none
        return False
    state, parent = ([*_read(process, "stat").rpartition(b")")[2].split(), b"", b""])[:2]
    return state not in {b"", b"Z", b"X"} and parent not in {b"0", b"2"}  # nor has one that is over, or the system's


def _read(process: int, what: str) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{process}/{what}").read_bytes()
    return b""

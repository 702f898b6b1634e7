"""StdioTransport: a program that speaks MCP on its standard input and output, started with the user's rights.

What it writes is bounded: a message in size, messages in number a second, and what is no message at all. It gets a
clean environment. It ends with the connection, and if the kernel is killed a watcher ends it.
"""

import asyncio
import os
import re
import secrets
import shutil
import signal
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

from piano_jupyter.errors import PianoError
from piano_jupyter.mcp_server import McpServerSettings
from piano_jupyter.runner.tools.bash.environment import clean_environment
from piano_jupyter.runner.tools.bash.marked_processes import (
    MARK_VARIABLE,
    kill_group,
    kill_marked,
    signal_group,
    watcher,
)
from piano_jupyter.runner.tools.bash.programs import ProgramNotFoundError, find_program
from piano_jupyter.runner.tools.mcp.connection_streams import Received, ReceivedInto, Sent, SentFrom
from piano_jupyter.runner.tools.mcp.message_limits import (
    MAX_MESSAGE_BYTES,
    TOO_LARGE,
    TOO_MANY_VALUES,
    MessageRate,
    has_too_many_values,
    repaired,
)
from piano_jupyter.text.truncation import truncated

MAX_GARBAGE_LINES = 100  #: on standard output that are no messages, one after the other
MAX_ERROR_LINES, MAX_ERROR_LINE_BYTES = 20, 2000  #: of standard error, the last ones
CHUNK_BYTES = 2**16
#: of Python, several in one word: the last of them may take a value, which may be the next word
PYTHON_OPTIONS = re.compile(r"-[^-cmWX]*(?P<last>[cmWX]?)(?P<value>.*)", re.DOTALL)
ENDED = "it ended"
EXIT_GRACE_S = 1.0  #: for a server to end by itself once its input is closed, and once more when it is asked to end
EXIT_POLL_S = 0.05
KILL_WAIT_S = 5.0  #: for the system to end one that was killed


class StdioTransport:
    """One run of a server's program."""

    def __init__(self, settings: McpServerSettings, workspace: str, environ: Mapping[str, str]) -> None:
        self._settings, self._workspace = settings, workspace
        usual = clean_environment(environ)
        if _imports_from_workspace(settings.command, settings.args):
            usual["PYTHONSAFEPATH"] = "1"
        self._environment = usual | dict(settings.env)
        self._mark = secrets.token_hex(8)
        self._process: asyncio.subprocess.Process | None = None
        self._errors: deque[str] = deque(maxlen=MAX_ERROR_LINES)
        self._garbage: list[str] = []
        self._stopping = False
        self.ended = asyncio.Event()  #: the program has ended or was stopped
        self.reason = ""  #: why the connection ended, "" if it has not

    @asynccontextmanager
    async def streams(self) -> AsyncIterator[tuple[Received, Sent]]:
        """Start the program; yield the streams of its messages. Raises PianoError if it cannot be started."""
        try:
            bash = find_program("bash", self._workspace)
        except ProgramNotFoundError as error:
            raise PianoError(f"no program can be started: {error}") from error
        async with watcher(bash, self._mark) as tell:
            process = self._process = await self._start()
            tell(process.pid)
            received_in, received = anyio.create_memory_object_stream[SessionMessage | Exception](0)
            sent, sent_out = anyio.create_memory_object_stream[SessionMessage](0)
            tasks = [
                asyncio.create_task(each)
                for each in (
                    self._read_messages(process, received_in),
                    self._read_errors(process),
                    self._write(process, sent_out),
                    self._note_end(process),
                )
            ]
            try:
                async with received_in, received, sent, sent_out:
                    yield received, sent
            finally:
                await asyncio.shield(self._stop(process, tasks))

    def stop_now(self) -> None:
        """End the program and its children, from any thread."""
        if self._process is not None and self._process.returncode is None:
            kill_group(self._process.pid, self._mark)

    def last_words(self) -> str:
        """Return what the program said last outside of messages, on one line."""
        said = [*self._garbage[:1], *list(self._errors)[-1:]]
        return truncated(" … ".join(" ".join(each.split()) for each in said if each.strip()), 300)

    async def _start(self) -> asyncio.subprocess.Process:
        settings = self._settings
        command = settings.command
        if "/" not in command:
            folders = self._environment.get("PATH", "").split(os.pathsep)
            absolute = os.pathsep.join(each for each in folders if Path(each).is_absolute())
            command = shutil.which(command, path=absolute) or ""
        if not command:
            raise PianoError(f"there is no program {settings.command!r} on the PATH")
        try:
            return await asyncio.create_subprocess_exec(
                command,
                *settings.args,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                cwd=self._workspace,
                env=self._environment | {MARK_VARIABLE: self._mark},
                start_new_session=True,
                limit=CHUNK_BYTES,
            )
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise PianoError(f"{settings.command!r} cannot be started: {why}") from error
        except asyncio.CancelledError:
            kill_marked(self._mark)
            raise

    async def _read_messages(
        self,
        process: asyncio.subprocess.Process,
        received: ReceivedInto,
    ) -> None:
        """Pass on the messages until the program ends or sends what cannot be read."""
        assert process.stdout is not None
        pending: list[bytes] = []
        rate = MessageRate()
        async with received:
            try:
                while not self.reason and (data := await process.stdout.read(CHUNK_BYTES)):
                    *lines, rest = data.split(b"\n")
                    for line in lines:
                        if self.reason:
                            break
                        await rate.wait()
                        await self._deliver(b"".join([*pending, line]), received)
                        pending.clear()
                    pending.append(rest)
                    if sum(map(len, pending)) > MAX_MESSAGE_BYTES:
                        self.reason = TOO_LARGE
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                return  # the session is closed
            finally:
                self.reason = self.reason or ("" if self._stopping else ENDED)
                self.ended.set()

    async def _deliver(self, line: bytes, received: ReceivedInto) -> None:
        if not line.strip():
            return
        if has_too_many_values(line):
            self.reason = TOO_MANY_VALUES
            return
        try:
            message = jsonrpc_message_adapter.validate_json(repaired(line), by_name=False)
        except ValueError:
            self._garbage.append(line[:MAX_ERROR_LINE_BYTES].decode("utf-8", "replace"))
            if len(self._garbage) > MAX_GARBAGE_LINES:
                self.reason = "it writes lines to its standard output that are no messages"
            return
        self._garbage.clear()  # one that now and then prints a line works
        await received.send(SessionMessage(message))

    async def _read_errors(self, process: asyncio.subprocess.Process) -> None:
        """Keep the last lines of standard error."""
        assert process.stderr is not None
        rest, rate = b"", MessageRate()
        while data := await process.stderr.read(CHUNK_BYTES):
            await rate.wait()
            *lines, rest = (rest + data).split(b"\n")
            rest = rest[-MAX_ERROR_LINE_BYTES:]
            for line in lines[-MAX_ERROR_LINES:]:
                self._errors.append(line[:MAX_ERROR_LINE_BYTES].decode("utf-8", "replace"))
        if rest.strip():
            self._errors.append(rest.decode("utf-8", "replace"))

    async def _write(
        self,
        process: asyncio.subprocess.Process,
        messages: SentFrom,
    ) -> None:
        assert process.stdin is not None
        async with messages:
            with suppress(ConnectionError, anyio.ClosedResourceError):  # it has ended, which its output tells
                async for each in messages:
                    text = each.message.model_dump_json(by_alias=True, exclude_unset=True)
                    process.stdin.write(f"{text}\n".encode("utf-8", "replace"))
                    await process.stdin.drain()

    async def _note_end(self, process: asyncio.subprocess.Process) -> None:
        """Tell that the program has ended, also where what it left keeps its output open."""
        await _exit_of(process)
        await asyncio.sleep(EXIT_GRACE_S)  # for what it said last
        self.reason = self.reason or ENDED
        self.ended.set()

    async def _stop(self, process: asyncio.subprocess.Process, tasks: list[asyncio.Task[None]]) -> None:
        """Close the program's input, give it a moment, ask it to end, then end it and all its children."""
        assert process.stdin is not None
        self._stopping = True
        process.stdin.close()
        waiting = asyncio.create_task(_exit_of(process))
        try:
            if self.reason in {"", ENDED}:
                await asyncio.wait({waiting}, timeout=EXIT_GRACE_S)
                if not waiting.done():
                    signal_group(process.pid, signal.SIGTERM)
                    await asyncio.wait({waiting}, timeout=EXIT_GRACE_S)
            kill_group(process.pid, self._mark)
            await asyncio.wait({waiting}, timeout=KILL_WAIT_S)
            await asyncio.wait(tasks[1:2], timeout=EXIT_GRACE_S)  # what it said last
            tasks[0].cancel()
            await asyncio.wait(tasks[:1])
            tasks.append(asyncio.create_task(_drain(process)))  # an output that nobody reads would keep its end open
            await asyncio.wait(tasks[-1:], timeout=EXIT_GRACE_S)
            for task in (*tasks, waiting):
                task.cancel()
            await asyncio.wait(tasks)
        finally:  # what the program left behind may hold its pipes
            process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001  There is no other way.


def _imports_from_workspace(command: str, args: Sequence[str]) -> bool:
    """Return whether Python would look for modules in the workspace first, where agents write: for `-m` and `-c`."""
    if "-m" in args:  # also behind another program that starts it
        return True
    if not Path(command).name.startswith(("python", "pypy")):
        return False
    rest = iter(args)
    for arg in rest:
        options = PYTHON_OPTIONS.fullmatch(arg)
        if options is None:  # the script
            return False
        if options["last"] in {"c", "m"}:
            return True
        if options["last"] and not options["value"]:
            next(rest, None)
    return False


async def _exit_of(process: asyncio.subprocess.Process) -> None:
    """Wait until a program has ended; its own `wait` also waits for what the program left with its pipes."""
    while process.returncode is None:  # noqa: ASYNC110
        await asyncio.sleep(EXIT_POLL_S)


async def _drain(process: asyncio.subprocess.Process) -> None:
    assert process.stdout is not None
    while await process.stdout.read(CHUNK_BYTES):
        pass

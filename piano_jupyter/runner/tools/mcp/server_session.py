"""ServerSession: one MCP server: started when it is first used, and again at the next use after it has ended.

A task of its own keeps the connection, because the SDK wants it opened and closed in one task. Whatever goes wrong with
a server is one sentence, and the turn goes on.
"""

import asyncio
import importlib
import os
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from piano_jupyter.config import PianoConfig
from piano_jupyter.errors import ToolError
from piano_jupyter.logs import logger
from piano_jupyter.mcp_server import McpServerSettings, McpText, State
from piano_jupyter.runner.tools.mcp.offered_texts import read_texts
from piano_jupyter.runner.tools.mcp.tool_definitions import (
    Mask,
    ToolDefinition,
    invalid_left_out,
    read_definitions,
    without_taken_names,
)
from piano_jupyter.runner.tools.tool_registry import make_readable
from piano_jupyter.text.truncation import truncated

if TYPE_CHECKING:
    from piano_jupyter.runner.tools.mcp.server_connection import McpConnection, Transport

log = logger(__name__)
T = TypeVar("T")
CONNECTION = (
    "piano_jupyter.runner.tools.mcp.server_connection"  #: imported when a server is first used: the SDK is slow
)
MISSING_EXTRA = (
    "the MCP SDK, or one of this version, is not installed: pip install 'piano_jupyter[mcp]', then restart the kernel"
)
SAY_EVERY_S, MAX_NOTE_CHARS = 0.5, 200  #: of progress notes
CLOSE_TIMEOUT_S = 3.0
TEXTS_TIMEOUT_S = 5.0  #: to list prompts and resources, without which the tools work
ENDED = "it ended"
MAX_PROBLEM_CHARS = 600


class ServerSession:
    """One server. `taken` are the names of the other tools."""

    def __init__(
        self, settings: McpServerSettings, config: PianoConfig, taken: Callable[[], Collection[str]], mask: Mask
    ) -> None:
        self.settings = settings
        self._config, self._taken, self._mask = config, taken, mask
        self.state: State = "not started"
        self.problem = ""  #: why it does not run
        self.tools: dict[str, ToolDefinition] = {}  #: by name, as listed last
        self.texts: dict[str, McpText] = {}  #: prompts and resources, too
        self.left_out: list[str] = []
        self._connection: McpConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[None] | None = None
        self._stop = asyncio.Event()
        self._in_use = 0  #: how many calls there are now
        self.list_changed = False  #: whether the server has said so since the tools were listed

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it runs."""
        return self._task is None or self._task.done()

    async def start(self) -> None:
        """Have the server run, with its tools known. Raises ToolError with a sentence if it does not start."""
        if self.has_ended:
            self._stop = asyncio.Event()
            self._ready = asyncio.get_running_loop().create_future()
            self.state, self.problem = "starting", ""
            self._task = asyncio.create_task(self._run(self._ready), name=f"MCP server {self.settings.name}")
        assert self._ready is not None
        await asyncio.wait({self._ready})
        if self.state == "failed":
            raise ToolError(self.problem)
        if self.list_changed and self._connection is not None:
            try:
                await self._within_time(self._asked(self._connection, self._list(self._connection)))
            except ToolError:
                self.list_changed = True  # what the tools do now is not known
                raise

    async def call(self, name: str, arguments: Mapping[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
        """Call one of the server's tools by its own name. Raises ToolError."""
        said_at = 0.0

        async def tell(progress: float, total: float | None, message: str | None) -> None:
            nonlocal said_at
            if time.monotonic() - said_at >= SAY_EVERY_S:
                said_at = time.monotonic()
                how_far = f"{progress:g} of {total:g}" if total else f"{progress:g}"
                say(truncated(make_readable(f"{message or ''} ({how_far})".strip(), MAX_NOTE_CHARS, self._mask), 200))

        return await self._use(lambda connection: connection.call_tool(name, arguments, tell))

    async def read_resource(self, uri: str) -> dict[str, Any]:
        """Read a resource of the server. Raises ToolError."""
        return await self._within_time(self._use(lambda connection: connection.read_resource(uri)))

    async def get_prompt(self, name: str, arguments: Mapping[str, str]) -> dict[str, Any]:
        """Read a prompt of the server. Raises ToolError."""
        return await self._within_time(self._use(lambda connection: connection.get_prompt(name, arguments)))

    async def close(self) -> None:
        """End the server."""
        self._stop.set()
        if self._task is not None:
            if self.state == "starting":
                self._task.cancel()
            await asyncio.wait({self._task}, timeout=CLOSE_TIMEOUT_S)
            self._task.cancel()  # one that is asked over HTTP may not answer that it is left
            await asyncio.wait({self._task}, timeout=CLOSE_TIMEOUT_S)
        self.stop_now()
        if self.state in {"running", "starting"}:
            self.state = "stopped"

    def close_soon(self) -> None:
        """Have the server end, from any thread."""
        if self._task is not None:
            self._task.get_loop().call_soon_threadsafe(self._stop.set)

    def stop_now(self) -> None:
        """End the server's program at once, from any thread."""
        if self._connection is not None:
            self._connection.transport.stop_now()

    async def _use(self, work: "Callable[[McpConnection], Awaitable[T]]") -> T:
        """Do something with the connection. Raises ToolError with a sentence."""
        await self.start()
        connection = self._connection
        if connection is None:
            raise ToolError(self.problem or self._about("it has just ended; call it again to start it again"))
        return await self._asked(connection, work(connection))

    async def _asked(self, connection: "McpConnection", answer: Awaitable[T]) -> T:
        """Return what the server answers. Raises ToolError with a sentence."""
        self._in_use += 1
        try:
            return await answer
        except Exception as error:
            module = importlib.import_module(CONNECTION)
            reason = connection.transport.reason  # before its end, which may have reasons of its own
            is_closed = module.is_closed(error)
            if is_closed or (module.is_refusal(reason) and self._in_use == 1):
                self._stop.set()  # it is started again at the next use
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(asyncio.shield(self._ended()), CLOSE_TIMEOUT_S)
            if is_closed:
                raise ToolError(
                    self._about(f"{reason or ENDED} during the call, so its outcome is unknown", connection.transport)
                ) from error
            raise ToolError(self._about(module.sentence(error, reason))) from error
        finally:
            self._in_use -= 1

    async def _ended(self) -> None:
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _within_time(self, work: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._config.mcp_timeout):
                return await work
        except TimeoutError:
            raise ToolError(self._about(f"it did not answer within {self._config.mcp_timeout:g} s")) from None

    async def _run(self, ready: "asyncio.Future[None]") -> None:
        """Keep the connection until it is stopped or ends."""
        transport: Transport | None = None
        try:
            async with AsyncExitStack() as stack:
                async with asyncio.timeout(self._config.mcp_timeout):
                    module = await asyncio.to_thread(importlib.import_module, CONNECTION)
                    workspace = self._workspace()
                    transport = module.transport_to(self.settings, self._config, workspace, os.environ)
                    connecting = module.connect(transport, workspace, self._note_change)
                    connection: McpConnection = await stack.enter_async_context(connecting)
                    await self._list(connection)
                self._connection, self.state, self.problem = connection, "running", ""
                log.info("mcp server=%s started", self.settings.name)
                ready.set_result(None)
                waits = [asyncio.ensure_future(each.wait()) for each in (self._stop, transport.ended)]
                try:
                    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for each in waits:
                        each.cancel()
            self.state = "stopped"
            if not self._stop.is_set():
                reason = transport.reason or ENDED
                self.problem = self._about(f"{reason}; it is started again at the next use", transport)
        except asyncio.CancelledError:
            self.state = "stopped"
            raise
        except BaseException as error:  # noqa: BLE001  Whatever a server does must not end the chat's loop.
            self.state, self.problem = "failed", self._failure(error, transport)
        finally:
            self._connection = None
            log.info("mcp server=%s ended: %s", self.settings.name, self.problem or self.state)
            if not ready.done():
                ready.set_result(None)

    def _failure(self, error: BaseException, transport: "Transport | None") -> str:
        if isinstance(error, ImportError):
            return self._about(MISSING_EXTRA)
        if isinstance(error, TimeoutError):
            return self._about(
                f"it did not start within {self._config.mcp_timeout:g} s (PianoConfig.mcp_timeout); "
                f"it is started again at the next use",
                transport,
            )
        module = importlib.import_module(CONNECTION)
        return self._about(module.sentence(error, transport.reason if transport is not None else ""), transport)

    async def _list(self, connection: "McpConnection") -> None:
        self.list_changed = False
        listed = await connection.list("tools")
        found, left_out = await asyncio.to_thread(
            read_definitions, self.settings.name, self.settings.identity, listed.items, self._mask
        )
        self.tools, of_others = without_taken_names(found, self._taken(), self._mask)
        texts, problems = await self._list_texts(connection)
        self.texts = texts
        invalid = invalid_left_out("tool", listed.invalid, self._mask)
        self.left_out = [*invalid, *left_out, *of_others, *filter(None, [listed.note]), *problems]

    async def _list_texts(self, connection: "McpConnection") -> tuple[dict[str, McpText], list[str]]:
        """Return the prompts and resources, and what is wrong with them, a sentence each."""
        texts: dict[str, McpText] = {}
        problems: list[str] = []
        for what in ("resources", "prompts"):
            try:
                async with asyncio.timeout(TEXTS_TIMEOUT_S):
                    listed = await connection.list(what)
            except Exception as error:
                module = importlib.import_module(CONNECTION)
                if module.is_closed(error):
                    raise
                problems.append(f"its {what} are not known: {make_readable(module.sentence(error), 300, self._mask)}")
                continue
            found, left_out = read_texts(what, listed.items, self._mask)
            texts |= found
            problems += [*invalid_left_out(what.removesuffix("s"), listed.invalid, self._mask), *left_out]
            problems += filter(None, [listed.note])
        return texts, problems

    def _workspace(self) -> str:
        return os.path.realpath(self._config.workspace)

    def _note_change(self) -> None:
        self.list_changed = True

    def _about(self, what: str, transport: "Transport | None" = None) -> str:
        """Return a sentence about the server, with what it said last."""
        said = transport.last_words() if transport is not None else ""
        text = f"the MCP server {self.settings.name!r}: {what}{f' (it said: {said})' if said else ''}"
        return make_readable(text, MAX_PROBLEM_CHARS, self._mask)

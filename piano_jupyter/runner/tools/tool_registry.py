"""ToolRegistry, and run_tool: whatever a tool does, what comes back is a text that a model can read and act on."""

import asyncio
import inspect
import json
import re
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

from piano_jupyter.agent_code import printed_to
from piano_jupyter.errors import NotFoundError, ToolError
from piano_jupyter.records import Agent
from piano_jupyter.runner.schema.coercion import check_arguments
from piano_jupyter.secrets.redactor import redact
from piano_jupyter.tool import Tool, ToolCallContext, calling as the_calling

LONGEST_WORD = 4_096  #: characters
ENDING = 5.0  #: seconds that a cancelled coroutine tool gets to tidy up
ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # colours and cursor moves
    r"|\x1b\][^\x07\x1b]{0,4096}(?:\x07|\x1b\\)"  # titles and links
    r"|\x1b[ -/]*[0-~]"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)
SURROGATES = re.compile("[\ud800-\udfff]")


class ToolRegistry:
    """The tools that there are, by name."""

    def __init__(self, tools: Iterable[Tool] = ()) -> None:
        self._tools = {tool.name: tool for tool in tools}

    def add(self, tool: Tool) -> Tool | None:
        """Add a tool; return the one of the same name that it replaces."""
        replaced = self._tools.get(tool.name)
        self._tools[tool.name] = tool
        return replaced

    def list_available(self) -> list[Tool]:
        """Return all tools, by name."""
        return [self._tools[name] for name in sorted(self._tools)]

    def get_tools(self, names: Iterable[str]) -> list[Tool]:
        """Return these tools, by name, each once. Raises NotFoundError."""
        wanted = sorted(set(names))
        for name in self.missing(wanted):
            raise NotFoundError.among("tool", name, sorted(self._tools))
        return [self._tools[name] for name in wanted]

    def missing(self, names: Iterable[str]) -> list[str]:
        """Return those of these names that no tool has."""
        return [name for name in names if name not in self._tools]

    def of_agent(self, agent: Agent) -> list[Tool]:
        """Return what an agent may use, by name. Raises NotFoundError, with the way out, for one that is not there."""
        for name in self.missing(agent.enabled_tools):
            rest = ",".join(each for each in agent.enabled_tools if each in self._tools) or '""'
            raise NotFoundError(
                f"{agent.name} has the tool {name!r}, which is not there: run the cell that defines it, "
                f"or take it away with %piano agent {agent.name} --tools {rest}"
            )
        return self.get_tools(agent.enabled_tools)


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What came of a call: `text` is what the model reads."""

    ok: bool
    text: str


async def run_tool(
    tool: Tool,
    arguments: Mapping[str, Any],
    *,
    calling: ToolCallContext | None = None,
    mask: Callable[[str], str] = redact,
    timeout: float,
    output_limit: int,
) -> ToolResult:
    """Run a tool and return what came of it; only a cancellation is raised.

    A plain function runs in a thread of its own, which goes on when the call is given up: Python cannot end a thread.
    What the tool prints comes before what it returns. `mask` takes the secrets out of either.
    """
    try:
        checked = check_arguments(tool, arguments)
    except ToolError as error:
        return ToolResult(ok=False, text=readable(str(error), output_limit, mask))
    timeout = tool.seconds(checked) if tool.seconds else timeout
    context = copy_context()
    context.run(the_calling.set, calling)
    work = asyncio.create_task(_call(tool, checked, output_limit, mask), name=f"tool {tool.name}", context=context)
    try:
        await asyncio.wait({work}, timeout=timeout)
    except asyncio.CancelledError:
        await _end(work)
        raise
    if not work.done():
        await _end(work)
        late = f"timeout: {tool.name} did not finish within {timeout:g} s"
        goes_on = "" if inspect.iscoroutinefunction(tool.function) else "; it may still be running"
        return ToolResult(ok=False, text=late + goes_on)
    if work.cancelled():
        return ToolResult(ok=False, text=f"{tool.name} was cancelled from inside")
    return work.result()


def readable(text: str, limit: int, mask: Callable[[str], str] = redact) -> str:
    """Return the text without control sequences, lone surrogates and secrets; of a long one, its head and its tail."""
    whole = len(text)
    if whole > 8 * limit:
        text = text[: 4 * limit] + text[-4 * limit :]
    text = ESCAPES.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = mask(SURROGATES.sub("\ufffd", text))
    if len(text) <= limit:
        return text
    room = max(limit - 60, 2)
    head, tail = text[: room // 2], text[-(room - room // 2) :]
    return f"{head}\n[... {whole - len(head) - len(tail):,} characters left out ...]\n{tail}"


async def _end(work: asyncio.Task[ToolResult]) -> None:
    work.cancel()
    await asyncio.wait({work}, timeout=ENDING)


async def _call(tool: Tool, arguments: dict[str, Any], limit: int, mask: Callable[[str], str]) -> ToolResult:
    """Call the tool where it belongs: a coroutine function on the loop, any other in a thread."""
    printed = _PrintedOutput(8 * limit)

    def result(told: str, *, ok: bool) -> ToolResult:
        return ToolResult(ok, readable(_joined(printed.text(), told), limit, mask))

    def in_thread() -> ToolResult | Awaitable[Any]:
        try:
            with printed_to(printed):
                value = tool.function(**arguments)
                return value if inspect.isawaitable(value) else result(_told(value), ok=True)
        except BaseException as error:  # noqa: BLE001  A tool that raises SystemExit must not end silently.
            return result(_reason(tool, error), ok=False)

    if inspect.iscoroutinefunction(tool.function):
        outcome: ToolResult | Awaitable[Any] = tool.function(**arguments)
    else:
        outcome = await _in_thread(in_thread)
    if isinstance(outcome, ToolResult):
        return outcome
    try:
        with printed_to(printed):
            return result(_told(await outcome), ok=True)
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001  The loop would end with the last two.
        return result(_reason(tool, error), ok=False)


async def _in_thread(function: Callable[[], Any]) -> Any:
    """Run the function in a fresh daemon thread: executors refuse work when the interpreter ends."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle(value: Any) -> None:
        if not future.done():
            future.set_result(value)

    def run() -> None:
        value = function()
        with suppress(RuntimeError):  # The loop is closed: nobody waits any more.
            loop.call_soon_threadsafe(settle, value)

    threading.Thread(target=copy_context().run, args=(run,), daemon=True, name="piano-tool").start()
    return await future


def _told(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return repr(value)


def _joined(printed: str, told: str) -> str:
    return "\n".join(part for part in (printed.rstrip("\n"), told) if part) or "it ran and returned nothing"


def _reason(tool: Tool, error: BaseException) -> str:
    """Return the error and the line of the tool where it came from, without the machine's paths."""
    if isinstance(error, ToolError):
        return str(error) or f"{tool.name} refused"
    what = "".join(traceback.format_exception_only(error)).strip()
    frames = [each for each in traceback.extract_tb(error.__traceback__) if each.filename != __file__]
    own = getattr(inspect.unwrap(tool.function), "__code__", None)
    frames = [each for each in frames if own is not None and each.filename == own.co_filename] or frames
    if not frames:
        return what
    return f"{what} (line {frames[-1].lineno} in {frames[-1].name}: {(frames[-1].line or '').strip()})"


class _PrintedOutput:
    """What one call printed, its beginning at least."""

    def __init__(self, limit: int) -> None:
        self._parts: list[str] = []
        self._room, self._lost = limit, 0

    def write(self, text: str) -> int:
        kept = text[: self._room]
        self._parts.append(kept)
        self._room -= len(kept)
        self._lost += len(text) - len(kept)
        return len(text)

    def text(self) -> str:
        kept = "".join(self._parts)
        if not self._lost:
            return kept
        word = max(kept.rfind(" "), kept.rfind("\n")) + 1  # half a word may be half a secret, which nothing masks
        kept = kept[: word if len(kept) - word < LONGEST_WORD else len(kept)]
        return f"{kept}\n[... {self._lost:,} more characters printed ...]"

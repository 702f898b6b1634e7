"""ToolRegistry, and run_tool: whatever a tool does, its result is a text that a model can read and act on."""

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
from typing import Any, Protocol

from piano_jupyter.agent_code import redirect_output
from piano_jupyter.attachments.attachment import Attachment
from piano_jupyter.errors import NotFoundError, ToolError
from piano_jupyter.records import Agent
from piano_jupyter.runner.schema.coercion import check_arguments
from piano_jupyter.secrets.redactor import redact
from piano_jupyter.text.invisible import model_text
from piano_jupyter.tool import NeedsApproval, ResultWithAttachments, Tool, ToolCallContext, current_call

MAX_WORD_CHARS = 4_096
CANCEL_GRACE_S = 5.0  #: for a cancelled coroutine tool to clean up
CONTROL_SEQUENCES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # colours and cursor moves
    r"|\x1b\][^\x07\x1b]{0,4096}(?:\x07|\x1b\\)"  # titles and links
    r"|\x1b[ -/]*[0-~]"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)
SURROGATES = re.compile("[\ud800-\udfff]")


class ToolSource(Protocol):
    """Where further tools come from, such as MCP servers."""

    def known(self) -> list[Tool]:
        """Return the tools that are known now."""

    def find(self, name: str) -> Tool | None:
        """Return a tool; where its server has not told its tools yet, one that starts it; None if there is none."""

    def stand_in(self, name: str) -> Tool | None:
        """Return a tool in place of one that `find` does not find, if its server is there."""


class ToolRegistry:
    """The available tools, by name."""

    def __init__(self, tools: Iterable[Tool] = (), source: ToolSource | None = None) -> None:
        self._tools = {tool.name: tool for tool in tools}
        self._source = source

    def add(self, tool: Tool) -> Tool | None:
        """Add a tool; return the one of the same name that it replaces."""
        replaced = self._tools.get(tool.name)
        self._tools[tool.name] = tool
        return replaced

    @property
    def own_names(self) -> list[str]:
        """The names of the tools without those of the source."""
        return list(self._tools)

    def list_available(self) -> list[Tool]:
        """Return all tools, sorted by name."""
        known = self._source.known() if self._source else []
        return sorted([*known, *self._tools.values()], key=lambda tool: tool.name)

    def get_tools(self, names: Iterable[str]) -> list[Tool]:
        """Return these tools, each once, sorted by name. Raises NotFoundError."""
        found = {name: self._find(name) for name in sorted(set(names))}
        for name, tool in found.items():
            if tool is None:
                raise NotFoundError.among("tool", name, [each.name for each in self.list_available()])
        return [tool for tool in found.values() if tool is not None]

    def missing(self, names: Iterable[str]) -> list[str]:
        """Return those of the names that no tool has, and no server may have."""
        return [name for name in names if (self._find(name) or self._stand_in(name)) is None]

    def tools_of_agent(self, agent: Agent) -> list[Tool]:
        """Return an agent's tools, sorted by name. Raises NotFoundError, which says what to do, if one is missing."""
        for name in self.missing(agent.enabled_tools):
            rest = ",".join(each for each in agent.enabled_tools if self._find(each) or self._stand_in(each)) or '""'
            how = "set its MCP server (%piano mcp)" if "." in name else "run the cell that defines it"
            raise NotFoundError(
                f"{agent.name} has the tool {name!r}, which does not exist: {how}, "
                f"or remove it with %piano agent {agent.name} --tools {rest}"
            )
        found = (self._find(name) or self._stand_in(name) for name in sorted(set(agent.enabled_tools)))
        return [tool for tool in found if tool is not None]

    def _find(self, name: str) -> Tool | None:
        return self._tools.get(name) or (self._source.find(name) if self._source else None)

    def _stand_in(self, name: str) -> Tool | None:
        return self._source.stand_in(name) if self._source else None


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The result of a call: `text` is what the model reads, `attachments` people see, `rest` is what else it may do."""

    ok: bool
    text: str
    rest: NeedsApproval | None = None
    attachments: tuple[Attachment, ...] = ()


async def run_tool(
    tool: Tool,
    arguments: Mapping[str, Any],
    *,
    call: ToolCallContext | None = None,
    mask: Callable[[str], str] = redact,
    timeout: float,
    output_limit: int,
) -> ToolResult:
    """Run a tool and return its result; only a cancellation is raised.

    A plain function runs in its own thread, which continues after a timeout, because Python cannot end a thread.
    The result is what the tool prints, then what it returns. `mask` removes secrets from both.
    """
    try:
        checked = check_arguments(tool, arguments)
    except ToolError as error:
        return ToolResult(ok=False, text=make_readable(str(error), output_limit, mask))
    timeout = tool.seconds(checked) if tool.seconds else timeout
    context = copy_context()
    context.run(current_call.set, call)
    task = asyncio.create_task(_call(tool, checked, output_limit, mask), name=f"tool {tool.name}", context=context)
    try:
        await asyncio.wait({task}, timeout=timeout)
    except asyncio.CancelledError:
        await _cancel(task)
        raise
    if not task.done():
        await _cancel(task)
        message = f"timeout: {tool.name} did not finish within {timeout:g} s"
        thread_note = "" if inspect.iscoroutinefunction(tool.function) else "; it may still be running"
        return ToolResult(ok=False, text=message + thread_note)
    if task.cancelled():
        return ToolResult(ok=False, text=f"{tool.name} cancelled itself")
    return task.result()


def make_readable(text: str, limit: int, mask: Callable[[str], str] = redact) -> str:
    """Return the text without control sequences, lone surrogates and secrets; a long text loses its middle.

    Characters that nobody sees, or that turn the direction of text, are named.
    """
    total_chars = len(text)
    if total_chars > 8 * limit:
        text = text[: 4 * limit] + text[-4 * limit :]
    text = CONTROL_SEQUENCES.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    before, text = text, model_text(SURROGATES.sub("\ufffd", text))
    total_chars += len(text) - len(before)
    text = mask(text)
    if len(text) <= limit:
        return text
    kept_chars = max(limit - 60, 2)
    head, tail = text[: kept_chars // 2], text[-(kept_chars - kept_chars // 2) :]
    return f"{head}\n[... {total_chars - len(head) - len(tail):,} characters left out ...]\n{tail}"


async def _cancel(task: asyncio.Task[ToolResult]) -> None:
    task.cancel()
    await asyncio.wait({task}, timeout=CANCEL_GRACE_S)


async def _call(tool: Tool, arguments: dict[str, Any], limit: int, mask: Callable[[str], str]) -> ToolResult:
    """Call the tool: a coroutine function on the event loop, any other in a thread."""
    printed = _PrintedOutput(8 * limit)

    def result(value: Any, *, ok: bool) -> ToolResult:
        rest = value if isinstance(value, NeedsApproval) else None
        shown = value.attachments if isinstance(value, ResultWithAttachments) else ()
        ok = value.ok if isinstance(value, NeedsApproval | ResultWithAttachments) else ok
        text = value.text if isinstance(value, NeedsApproval | ResultWithAttachments) else _result_text(value)
        readable = make_readable(_join_output(printed.text(), text), limit, mask)
        return ToolResult(ok, readable, rest, tuple(each.masked(mask) for each in shown))

    def in_thread() -> ToolResult | Awaitable[Any]:
        try:
            with redirect_output(printed):
                value = tool.function(**arguments)
                return value if inspect.isawaitable(value) else result(value, ok=True)
        except BaseException as error:  # noqa: BLE001  A tool that raises SystemExit must not end silently.
            return result(_error_text(tool, error), ok=False)

    if inspect.iscoroutinefunction(tool.function):
        outcome: ToolResult | Awaitable[Any] = tool.function(**arguments)
    else:
        outcome = await _in_thread(in_thread)
    if isinstance(outcome, ToolResult):
        return outcome
    try:
        with redirect_output(printed):
            return result(await outcome, ok=True)
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001  The last two would end the loop.
        return result(_error_text(tool, error), ok=False)


async def _in_thread(function: Callable[[], Any]) -> Any:
    """Run the function in a new daemon thread: executors refuse work when the interpreter ends."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle(value: Any) -> None:
        if not future.done():
            future.set_result(value)

    def run() -> None:
        value = function()
        with suppress(RuntimeError):  # The loop is closed, so nobody waits for the result.
            loop.call_soon_threadsafe(settle, value)

    threading.Thread(target=copy_context().run, args=(run,), daemon=True, name="piano-tool").start()
    return await future


def _result_text(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return repr(value)


def _join_output(printed: str, returned: str) -> str:
    return "\n".join(part for part in (printed.rstrip("\n"), returned) if part) or "it ran and returned nothing"


def _error_text(tool: Tool, error: BaseException) -> str:
    """Return the error and the line of the tool that raised it, without paths of this machine."""
    if isinstance(error, ToolError):
        return str(error) or f"{tool.name} failed without a reason"
    description = "".join(traceback.format_exception_only(error)).strip()
    frames = [each for each in traceback.extract_tb(error.__traceback__) if each.filename != __file__]
    code = getattr(inspect.unwrap(tool.function), "__code__", None)
    frames = [each for each in frames if code is not None and each.filename == code.co_filename] or frames
    if not frames:
        return description
    return f"{description} (line {frames[-1].lineno} in {frames[-1].name}: {(frames[-1].line or '').strip()})"


class _PrintedOutput:
    """The beginning of what one call printed."""

    def __init__(self, limit: int) -> None:
        self._parts: list[str] = []
        self._remaining_chars, self._lost_chars = limit, 0

    def write(self, text: str) -> int:
        kept = text[: self._remaining_chars]
        self._parts.append(kept)
        self._remaining_chars -= len(kept)
        self._lost_chars += len(text) - len(kept)
        return len(text)

    def text(self) -> str:
        kept = "".join(self._parts)
        if not self._lost_chars:
            return kept
        word = max(kept.rfind(" "), kept.rfind("\n")) + 1  # half a word may be half a secret, which would not be masked
        kept = kept[: word if len(kept) - word < MAX_WORD_CHARS else len(kept)]
        return f"{kept}\n[... {self._lost_chars:,} more characters printed ...]"

"""McpServers: the MCP servers that are set, their sessions, and their tools.

They are those of `PianoConfig.mcp_servers`, and those of the workspace's `.mcp.json` if the user trusts that. None is
started because it is set; only its use starts it.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from piano_jupyter.config import PianoConfig
from piano_jupyter.errors import NotFoundError, PianoError, ToolError
from piano_jupyter.mcp_server import McpServer, McpServerSettings, McpTool, parse_servers
from piano_jupyter.runner.tools.files.server_programs import FILE_NAME
from piano_jupyter.runner.tools.mcp.offered_texts import prompt_arguments, prompt_text
from piano_jupyter.runner.tools.mcp.server_session import ServerSession
from piano_jupyter.runner.tools.mcp.server_tool import server_tool, unavailable_tool
from piano_jupyter.runner.tools.mcp.tool_definitions import MAX_NAME_SHOWN, Mask
from piano_jupyter.runner.tools.mcp.tool_results import resource_text
from piano_jupyter.runner.tools.mcp.user_records import UserRecords
from piano_jupyter.runner.tools.mcp.workspace_file import TRUST, WorkspaceFile
from piano_jupyter.runner.tools.tool_registry import make_readable
from piano_jupyter.secrets.assigned import looks_random
from piano_jupyter.text.invisible import to_the_letter
from piano_jupyter.text.truncation import truncated
from piano_jupyter.tool import Tool

LIST_CHANGED = "its list of tools has changed; it is read at the next use"
NOT_CHECKED = " (its certificate is not checked: verify=False)"
SETTING = "PianoConfig.mcp_servers"


class McpServers:
    """The servers by name. `taken` are the names of the other tools."""

    def __init__(self, config: PianoConfig, taken: Callable[[], Collection[str]], mask: Mask) -> None:
        self._config, self._taken, self._mask = config, taken, mask
        self._file = WorkspaceFile(self._workspace)
        self._approved = UserRecords("mcp-tools", self._workspace)
        self._sessions: dict[str, ServerSession] = {}
        self._ending: list[ServerSession] = []  # those of servers that are no longer set
        self._starting = set[asyncio.Task[None]]()
        self._secrets: tuple[object, list[str]] = (None, [])  # of the settings, by what they were read from

    # -- tools -------------------------------------------------------------------------------------

    def known(self) -> list[Tool]:
        """Return the tools that the servers have told so far; starts none."""
        return [self._tool(session, name) for session in self._current().values() for name in session.tools]

    def find(self, name: str) -> Tool | None:
        """Return a tool; where its server has not told its tools yet, one that starts it; None if there is none."""
        session = self._session_of(name)
        if session is None:
            return None
        if name in session.tools:
            return self._tool(session, name)
        return None if session.state == "running" else self.stand_in(name)

    def stand_in(self, name: str) -> Tool | None:
        """Return a tool that says why it is not there, and tries again when it is called; None without its server."""
        session = self._session_of(name)
        return unavailable_tool(session, name, self._approved) if session is not None else None

    async def prepare(self, names: Iterable[str]) -> None:
        """Start the servers of these tools; what does not start is told by `stand_in`."""
        sessions = {id(each): each for name in names if (each := self._session_of(name)) is not None}
        if sessions:
            self._note_secrets()
        await asyncio.gather(*(_start(each) for each in sessions.values()))

    def not_running(self, names: Iterable[str]) -> list[str]:
        """Return the names of the servers that `prepare` would have to start."""
        sessions = [each for name in names if (each := self._session_of(name)) is not None]
        return list(dict.fromkeys(each.settings.name for each in sessions if each.state != "running"))

    async def start_all(self, within: float) -> None:
        """Start the servers that were never started; wait that many seconds for them at most."""
        sessions = self._current()
        self._note_secrets()
        for each in sessions.values():
            if each.state == "not started":
                task = asyncio.create_task(_start(each))
                self._starting.add(task)
                task.add_done_callback(self._starting.discard)
        if self._starting:
            await asyncio.wait(set(self._starting), timeout=within)

    # -- servers -----------------------------------------------------------------------------------

    def report(self) -> list[McpServer]:
        """Return the servers as they are now, by name."""
        sessions, file = self._current(), self._file.read()
        found = [self._report(each) for each in sessions.values()]
        wrong = {FILE_NAME: file.problem} if file.problem else file.left_out
        found += [_wrong(name, problem) for name, problem in wrong.items() if name not in sessions]
        if not file.trusted:
            found += [
                McpServer(name=each.name, source=FILE_NAME, runs=each.runs, state="not trusted", problem=TRUST)
                for each in file.servers.values()
                if each.name not in sessions
            ]
        return sorted(found, key=lambda each: each.name)

    async def restart(self, name: str) -> None:
        """End a server if it runs, and start it. Raises PianoError if it does not start."""
        session = self._named(name)
        await session.close()
        try:
            await session.start()
        except ToolError as error:
            raise PianoError(str(error)) from error

    async def read_text(self, server: str, name: str, arguments: Mapping[str, Any]) -> str:
        """Return the text of a server's prompt with these arguments, or of its resource. Raises PianoError."""
        session = self._named(server)
        try:
            await session.start()
            found = session.texts.get(name)
            if found is not None and found.is_prompt:
                text = prompt_text(await session.get_prompt(name, prompt_arguments(found, server, arguments)))
            elif arguments or ":" not in name:
                kind = f"{'prompt' if arguments else 'prompt or resource'} of the MCP server {server!r}"
                raise NotFoundError.among(kind, name, session.texts)
            else:
                text = resource_text(await session.read_resource(name))
        except ToolError as error:
            raise PianoError(str(error)) from error
        return make_readable(text, self._config.tool_output_limit, self._mask)

    def file_to_trust(self) -> tuple[str, list[McpServer]]:
        """Return the hash of the workspace's file, "" if there is nothing to trust, and the servers in it."""
        file = self._file.read()
        found = [
            McpServer(name=each.name, source=FILE_NAME, runs=each.runs, state="not trusted", problem=file.problem)
            for each in file.servers.values()
        ]
        if file.problem:
            found = [_wrong(FILE_NAME, file.problem)]
        return ("" if file.trusted or file.problem else file.digest), found

    def trust_file(self, digest: str) -> str:
        """Trust the file with this hash; return a sentence that says what is trusted. Raises PianoError."""
        problem = self._file.trust(digest)
        note = f"only until this kernel ends ({problem})" if problem else "until it changes"
        return f"{FILE_NAME} is trusted {note}: {', '.join(sorted(self._file.read().servers)) or 'no servers'}"

    @property
    def secrets(self) -> list[str]:
        """What the settings have that is never to be stored or shown."""
        read_from = self._config.mcp_servers
        if self._secrets[0] is not read_from:
            self._note_secrets()
        return self._secrets[1]

    async def aclose(self) -> None:
        """End all servers."""
        await asyncio.gather(*(each.close() for each in (*self._sessions.values(), *self._ending)))

    def stop_now(self) -> None:
        """End all servers at once, from any thread."""
        for each in (*self._sessions.values(), *self._ending):
            each.stop_now()

    # -- within ------------------------------------------------------------------------------------

    def _current(self) -> dict[str, ServerSession]:
        """Return the sessions of the servers that are set now; those of others end."""
        file = self._file.read()
        wanted = {**(file.servers if file.trusted else {}), **self._set_servers()}
        kept = {name: each for name, each in self._sessions.items() if wanted.get(name) == each.settings}
        for each in self._sessions.values():
            if each not in kept.values():
                each.close_soon()
                self._ending = [*(ending for ending in self._ending if not ending.has_ended), each]
        if len(kept) < len(wanted) or len(kept) < len(self._sessions):
            new = {name: self._session(each) for name, each in wanted.items() if name not in kept}
            self._sessions = dict(sorted({**kept, **new}.items()))
            self._note_secrets()
        return self._sessions

    def _session(self, settings: McpServerSettings) -> ServerSession:
        return ServerSession(
            settings,
            self._config,
            lambda: [*self._taken(), *(name for each in self._others(settings.name) for name in each.tools)],
            self._mask,
        )

    def _others(self, name: str) -> list[ServerSession]:
        return [each for each in self._sessions.values() if each.settings.name != name]

    def _set_servers(self) -> dict[str, McpServerSettings]:
        return parse_servers(self._config.mcp_servers, SETTING)

    def _note_secrets(self) -> None:
        """Look up the secrets of all servers, with the values that variables of the environment have now."""
        file = self._file.read()
        found = [secret for each in file.servers.values() for secret in each.secrets()]
        if not file.trusted:
            found = [*filter(looks_random, found)]  # with words, it could hide what a command does
        found += [secret for each in self._set_servers().values() for secret in each.secrets()]
        self._secrets = self._config.mcp_servers, found

    def _session_of(self, tool: str) -> ServerSession | None:
        server, dot, _ = tool.partition(".")
        return self._current().get(server) if dot else None

    def _named(self, name: str) -> ServerSession:
        sessions = self._current()
        self._note_secrets()
        if name not in sessions:
            raise NotFoundError.among("MCP server", name, sessions)
        return sessions[name]

    def _report(self, session: ServerSession) -> McpServer:
        tools = tuple(
            McpTool(name=each.name, description=each.description, hints=each.hints) for each in session.tools.values()
        )
        settings = session.settings
        is_unchecked = settings.url.startswith("https:") and self._config.verify is False
        return McpServer(
            name=settings.name,
            source=settings.source,
            runs=settings.runs + (NOT_CHECKED if is_unchecked else ""),
            state=session.state,
            problem=session.problem or (LIST_CHANGED if session.list_changed else ""),
            tools=tools,
            texts=tuple(session.texts.values()),
            left_out=tuple(session.left_out),
        )

    def _tool(self, session: ServerSession, name: str) -> Tool:
        return server_tool(session, session.tools[name], self._approved)

    def _workspace(self) -> Path:
        return Path(self._config.workspace)


async def _start(session: ServerSession) -> None:
    try:
        await session.start()
    except ToolError:
        return  # its state says it


def _wrong(name: str, problem: str) -> McpServer:
    """Return the report of a server of the workspace's file that is set wrongly, or of the file."""
    shown = truncated(to_the_letter(name), MAX_NAME_SHOWN)
    return McpServer(name=shown, source=FILE_NAME, runs="", state="failed", problem=problem)

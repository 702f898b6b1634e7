"""Runs commands in workspaces: each in a sandbox of its own, with an overlay if it may write."""

import asyncio
import threading
from collections import defaultdict
from collections.abc import Hashable, Sequence
from contextlib import ExitStack
from dataclasses import replace

from piano_jupyter.cancellation import finish_even_if_cancelled
from piano_jupyter.errors import ToolError
from piano_jupyter.runner.tools.bash.bwrap import Bubblewrap, SandboxSpec, SandboxUnavailableError
from piano_jupyter.runner.tools.bash.output import CommandOutput, CommandResult
from piano_jupyter.runner.tools.bash.overlay import Overlay
from piano_jupyter.runner.tools.bash.sandboxed_command import SandboxedCommand
from piano_jupyter.runner.tools.bash.workspace_changes import WorkspaceChanges
from piano_jupyter.runner.tools.bash.workspace_index import WorkspaceFacts, WorkspaceIndex
from piano_jupyter.runner.tools.files.workspace import tool_error
from piano_jupyter.runner.tools.files.write_hazards import WriteHazards
from piano_jupyter.runner.tools.files.write_rules import WriteRules

MAX_HIDDEN = 500  #: with more, a sandbox takes too long to start, so none is started
START_TRIES = 3  #: a file that is hidden in the sandbox may vanish while it starts


class WorkspaceCommands:
    """What is known between commands: their current folders, and what to hide in each workspace."""

    def __init__(self, bubblewrap: Bubblewrap) -> None:
        self._bubblewrap = bubblewrap
        self._folders: dict[Hashable, str] = {}
        self._locks: defaultdict[Hashable, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._applying: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)  #: in each workspace
        self._indexes: dict[Hashable, WorkspaceIndex] = {}  #: by what decides what they look for
        self._refreshing: dict[WorkspaceIndex, asyncio.Task[WorkspaceFacts]] = {}
        self._running: set[SandboxedCommand] = set()
        self._closing = threading.Event()

    async def run(
        self,
        key: Hashable,
        spec: SandboxSpec,
        hazards: WriteHazards,
        rules: WriteRules,
        command: bytes,
        timeout_s: float,
        output: CommandOutput,
    ) -> tuple[CommandResult, WorkspaceChanges | None]:
        """Run a command in the folder where this key's last one ended; return its result, and what it changed.

        Raises SandboxUnavailableError, and ToolError if the workspace cannot be protected.
        """
        key = (spec.workspace, key)
        async with self._locks[key]:
            index = self._indexes.setdefault(hazards, WorkspaceIndex(hazards))
            facts = await asyncio.shield(self._refresh(index)) if index.facts is None else index.facts
            if len(facts.hidden) > MAX_HIDDEN:
                raise _too_many_error(facts.hidden)
            refreshing = self._refresh(index)
            overlay = await asyncio.to_thread(self._new_overlay, spec.workspace) if spec.writable else None
            changes = None
            with ExitStack() as if_it_fails:
                if overlay is not None:
                    if_it_fails.callback(overlay.release)  # nobody decides about what is held back then
                try:
                    spec = replace(spec, hidden=facts.hidden)
                    result = await self._run(key, spec, overlay, command, timeout_s, output)
                finally:
                    if overlay is not None:
                        changes = await finish_even_if_cancelled(self._apply(overlay, hazards, rules, refreshing))
                if_it_fails.pop_all()
            return result, changes

    async def aclose(self) -> None:
        """End all commands."""
        self._closing.set()
        for each in list(self._running):
            await each.close()
        await asyncio.gather(*self._refreshing.values(), return_exceptions=True)

    def stop(self) -> None:
        """Kill all commands from any thread, without the event loop, when the process exits."""
        self._closing.set()
        for each in list(self._running):
            each.kill_now()
            each.reap()

    async def _run(
        self,
        key: Hashable,
        spec: SandboxSpec,
        overlay: Overlay | None,
        command: bytes,
        timeout_s: float,
        output: CommandOutput,
    ) -> CommandResult:
        sandbox = await self._started(spec, overlay)
        self._running.add(sandbox)
        try:
            result = await sandbox.run(self._folders.get(key, spec.workspace), command, timeout_s, output)
        finally:
            self._running.discard(sandbox)
            await finish_even_if_cancelled(sandbox.close())
        self._folders[key] = result.folder
        return result

    def _new_overlay(self, workspace: str) -> Overlay:
        try:
            return self._bubblewrap.new_overlay(workspace)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise SandboxUnavailableError(f"there is no folder for what commands change: {reason}") from error

    async def _started(self, spec: SandboxSpec, overlay: Overlay | None) -> SandboxedCommand:
        for tries_left in range(START_TRIES - 1, -1, -1):
            try:
                return await SandboxedCommand.start(self._bubblewrap, spec, overlay)
            except SandboxUnavailableError:
                if not tries_left:
                    raise
        raise AssertionError("unreachable")

    async def _apply(
        self, overlay: Overlay, hazards: WriteHazards, rules: WriteRules, refreshing: "asyncio.Task[WorkspaceFacts]"
    ) -> WorkspaceChanges | None:
        """Apply what a command has changed; return None if that was nothing."""
        if not await asyncio.to_thread(overlay.has_changes):
            await asyncio.to_thread(overlay.remove)
            return None
        facts, lock = await asyncio.shield(refreshing), self._applying[overlay.workspace]
        async with lock:
            return await asyncio.to_thread(WorkspaceChanges, overlay, hazards, rules, facts, lock)

    def _refresh(self, index: WorkspaceIndex) -> "asyncio.Task[WorkspaceFacts]":
        """Look at a workspace again, or wait with those who already do."""
        task = self._refreshing.get(index)
        if task is None or task.done():
            refresh = asyncio.to_thread(index.refresh, self._closing.is_set)
            task = self._refreshing[index] = asyncio.create_task(refresh, name="piano-workspace-index")
        return task


def _too_many_error(hidden: Sequence[str]) -> ToolError:
    return tool_error(
        "too_many",
        f"nothing was run: the workspace has {len(hidden):,} names that a command must not see, such as "
        f"{hidden[0]!r}, but at most {MAX_HIDDEN} can be hidden; tell the user to choose a smaller workspace",
    )

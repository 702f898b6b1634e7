"""The tools read_file, create_file and edit_file. A model reads their docstrings."""

import difflib
import heapq
import io
import json
import posixpath
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

from piano_jupyter.config import PianoConfig
from piano_jupyter.errors import ToolError
from piano_jupyter.records import Mode
from piano_jupyter.runner.tools.files.beneath import PathResolver, resolver_name
from piano_jupyter.runner.tools.files.edits import EditResult, Replacement, apply_edits
from piano_jupyter.runner.tools.files.read_state import ReadState, short_hash
from piano_jupyter.runner.tools.files.server_programs import server_programs_in
from piano_jupyter.runner.tools.files.skill_folders import skill_roots_in
from piano_jupyter.runner.tools.files.text_file import decode_text, numbered_lines
from piano_jupyter.runner.tools.files.workspace import (
    OpenedPath,
    Place,
    Workspace,
    hard_link_error,
    moved_error,
    tool_error,
)
from piano_jupyter.tool import Tool, ToolAssessment, Verdict, current_call, tool

MAX_LINES = 2_000
MAX_READ_BYTES = 50 * 1024  #: of a file in one call
MAX_NEW_BYTES = 1 << 20  #: of a file that create_file makes
MAX_EDIT_BYTES = 16 << 20  #: of a file that edit_file changes
MAX_LISTED_NAMES = 200  #: of a folder
LOCK_COUNT = 64


def file_tools(config: PianoConfig, *, resolver: PathResolver | None = None) -> list[Tool]:
    """Return the three file tools."""
    context = _FileToolContext(config, resolver)
    writing = [replace(tool(each), judge=context.judge) for each in (context.create_file, context.edit_file)]
    return [replace(each, subject="path") for each in (tool(context.read_file), *writing)]


def file_layer() -> str:
    """Describe how file tools are kept within the workspace, in a sentence."""
    how = {
        "openat2": "checked by the kernel (openat2)",
        "walk": "followed step by step, without links (no openat2)",
    }
    return f"files: only within the workspace, paths are {how[resolver_name()]}"


class _FileToolContext:
    """What the tools share: the workspace, and what each thread has read."""

    def __init__(self, config: PianoConfig, resolver: PathResolver | None) -> None:
        self._config, self._resolver = config, resolver
        self._read_state = ReadState()
        self._locks = [threading.Lock() for _ in range(LOCK_COUNT)]

    def read_file(self, path: str, offset: int = 1, limit: int = MAX_LINES) -> str:
        """Read a text file in the workspace, or list a folder.

        Each line starts with its number and a tab, which are not part of the file. A long file comes in parts: the last
        line of the result then says with which offset to continue.

        path: relative to the workspace, for example "data/sales.csv"; "." lists the workspace.
        offset: the first line to read, counted from 1.
        limit: how many lines to read.
        """
        workspace = self._workspace()
        try:
            with workspace.find(path) as found:
                if found.is_folder:
                    return _listing(found)
                if offset < 1 or limit < 1:
                    raise tool_error("bad_range", "offset counts lines from 1, and limit must be 1 or more")
                return self._read(found, offset, limit)
        except ToolError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise tool_error("not_found", f"there is no file {path!r}; {_suggestion(workspace, path)}") from error
            raise

    def create_file(self, path: str, content: str) -> str:
        """Create a new text file in the workspace, and the folders it needs.

        It never overwrites a file; to change one, use edit_file.

        path: relative to the workspace, for example "src/report.py".
        content: the whole text of the file.
        """
        workspace = self._writable_workspace(_current_mode())
        data = _encode_content(content)
        if path.casefold().endswith(".ipynb"):
            _check_notebook(content, path)
        place = _allowed_place(workspace, path)
        _check_does_not_exist(workspace, path)
        names = workspace.make(path, data, place.names)
        self._read_state.record(_current_thread(), self._file_key(names), data)
        return f"created {path!r}: {len(content.splitlines()):,} lines, {len(data):,} bytes"

    def edit_file(self, path: str, edits: list[Replacement]) -> str:
        """Replace pieces of text in a file of the workspace: all of them, or none. Read the file first.

        path: relative to the workspace, for example "src/report.py".
        edits: for example [{"old_text": "x = 1", "new_text": "x = 2"}]; each applies to the result of the one before.
        Copy old_text exactly from the file, without line numbers. It must occur only once in the file: include enough
        lines for that. new_text replaces it; "" deletes it.
        """
        workspace = self._writable_workspace(_current_mode())
        place = _allowed_place(workspace, path)
        file = self._file_key(place.names)
        lock = self._locks[hash(file) % LOCK_COUNT]  # Without it, one of two simultaneous edits could be lost.
        with lock, workspace.find(path) as found:
            if found.names != place.names:
                raise moved_error(path)
            workspace.check_writable(found.names)
            with found.open() as opened:
                data = opened.read(MAX_EDIT_BYTES + 1)
            if len(data) > MAX_EDIT_BYTES:
                raise tool_error("too_large", f"{path!r} is larger than {MAX_EDIT_BYTES:,} bytes; change it with code")
            original = decode_text(data, path)
            self._read_state.check_known(_current_thread(), file, data, path)
            result = apply_edits(original.text, edits)
            if found.names[-1].casefold().endswith(".ipynb"):
                _check_notebook(result.text, path)
            try:
                data = original.encoded(result.text)
            except UnicodeEncodeError as error:
                missing = result.text[error.start : error.end][:10]
                raise tool_error(
                    "bad_character", f"{path!r} is encoded as {original.encoding}, which has no {missing!r}"
                ) from error
            workspace.replace(found, data)
            self._read_state.record(_current_thread(), file, data)
        return f"edited {path!r} at {_edit_summary(result)}"

    def judge(self, arguments: Mapping[str, Any], mode: Mode) -> ToolAssessment:
        """Return whether a file may be written: protected files may not, and code or instructions need approval."""
        try:
            workspace = self._writable_workspace(mode)
            place = workspace.locate(str(arguments.get("path", "")))
            workspace.check_writable(place.names)
        except ToolError as error:
            return ToolAssessment(Verdict.DENY, str(error))
        found = workspace.hazards.find(place.names)
        verdict, reason = (Verdict.ASK, found.reason) if found else (Verdict.ALLOW, "")
        return ToolAssessment(verdict, reason, target=str(place))

    def _workspace(self) -> Workspace:
        config, root = self._config, Path(self._config.workspace)
        return Workspace(
            root,
            config.database,
            resolver=self._resolver,
            readable=config.readable_paths,
            skills=skill_roots_in(root, config.skills_paths),
            programs=server_programs_in(root, config.mcp_servers),
        )

    def _writable_workspace(self, mode: Mode) -> Workspace:
        """Return the workspace. Raises ToolError in mode read."""
        if mode == "read":
            message = "mode 'read' allows no changes; the user can set another mode with %config PianoConfig"
            raise tool_error("read_mode", message)
        return self._workspace()

    def _file_key(self, names: tuple[str, ...]) -> tuple[str, ...]:
        return (self._config.workspace, *names)

    def _read(self, found: OpenedPath, offset: int, limit: int) -> str:
        size, path = found.status.st_size, found.shown
        room = min(MAX_READ_BYTES, max(self._config.tool_output_limit - 200, 100))
        with found.open() as file:
            if size > MAX_EDIT_BYTES:
                return numbered_lines(file, path, size=size, offset=offset, limit=min(limit, MAX_LINES), max_bytes=room)
            data = file.read(MAX_EDIT_BYTES)
        text = numbered_lines(
            io.BytesIO(data), path, size=len(data), offset=offset, limit=min(limit, MAX_LINES), max_bytes=room
        )
        self._read_state.record(_current_thread(), self._file_key(found.names), data)
        return text


def _current_thread() -> UUID | None:
    call = current_call.get()
    return call.thread_id if call is not None else None


def _current_mode() -> Mode:
    call = current_call.get()
    return call.mode if call is not None else "write"


def _allowed_place(workspace: Workspace, path: str) -> Place:
    """Return where a path leads. Raises ToolError if that is not where it led when the call was allowed."""
    place, call = workspace.locate(path), current_call.get()
    if call is not None and call.target and call.target != str(place):
        raise moved_error(path)
    return place


def _encode_content(content: str) -> bytes:
    """Return the content as bytes. Raises ToolError if it is too large, without copying all of it."""
    try:
        data = content[: MAX_NEW_BYTES + 1].encode()
    except UnicodeEncodeError as error:
        raise tool_error("bad_character", f"content has an incomplete character at position {error.start}") from error
    if len(data) > MAX_NEW_BYTES:
        raise tool_error("too_large", f"content is larger than {MAX_NEW_BYTES:,} bytes; write it with code")
    return data


def _check_does_not_exist(workspace: Workspace, path: str) -> None:
    """Raise ToolError, which says what is there, if the path exists."""
    try:
        with workspace.find(path) as found:
            what = "a folder"
            if not found.is_folder:
                if found.status.st_nlink > 1:
                    raise hard_link_error(path)
                with found.open() as file:
                    data = file.read(MAX_EDIT_BYTES + 1)
                known = f", sha256 {short_hash(data)}" if len(data) <= MAX_EDIT_BYTES else ""
                what = f"a file of {found.status.st_size:,} bytes{known}"
            raise tool_error("exists", f"{path!r} is already {what}; read it, then change it with edit_file")
    except ToolError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise


def _suggestion(workspace: Workspace, path: str) -> str:
    """Return similar names in the folder of a path that does not exist."""
    folder, name = posixpath.split(path.rstrip("/"))
    similar: list[str] = []
    with suppress(ToolError), workspace.find(folder or ".") as found:
        similar = difflib.get_close_matches(name, _sorted_names(found), n=5, cutoff=0.5)
    return f"similar names: {', '.join(similar)}" if similar else "list its folder first"


def _sorted_names(folder: OpenedPath) -> list[str]:
    """Return the first names in a folder, at most one more than are shown."""
    return heapq.nsmallest(MAX_LISTED_NAMES + 1, folder.entries())


def _listing(folder: OpenedPath) -> str:
    names = _sorted_names(folder)
    if not names:
        return f"{folder.shown!r} is an empty folder"
    more = f"\n[only the first {MAX_LISTED_NAMES} names are shown]" if len(names) > MAX_LISTED_NAMES else ""
    return "\n".join([f"{folder.shown!r} is a folder:", *names[:MAX_LISTED_NAMES]]) + more


def _check_notebook(text: str, path: str) -> None:
    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:
        raise tool_error("bad_notebook", f"{path!r} would not be a valid notebook: {error}") from error


def _edit_summary(edit: EditResult) -> str:
    """Return which lines were edited."""

    def lines_text(lines: tuple[int, ...]) -> str:
        return f"line{'s' * (len(lines) > 1)} {', '.join(map(str, lines))}"

    whitespace_note = (
        f"; match=whitespace at {lines_text(edit.whitespace_lines)}: check the result" if edit.whitespace_lines else ""
    )
    return lines_text(edit.lines) + whitespace_note

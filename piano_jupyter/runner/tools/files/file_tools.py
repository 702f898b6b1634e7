"""read_file, create_file, edit_file: the files of the workspace for a model. Their docstrings are what it reads."""

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
from piano_jupyter.runner.tools.files.beneath import PathResolver, layer
from piano_jupyter.runner.tools.files.edits import EditResult, Replacement, edited
from piano_jupyter.runner.tools.files.protected import instructs_agents
from piano_jupyter.runner.tools.files.read_state import ReadState, short_hash
from piano_jupyter.runner.tools.files.shadowing import shadows_import
from piano_jupyter.runner.tools.files.skill_folders import roots_in
from piano_jupyter.runner.tools.files.text_file import part, whole
from piano_jupyter.runner.tools.files.workspace import OpenedPath, Workspace, linked, refused
from piano_jupyter.tool import Tool, ToolAssessment, Verdict, calling, tool

MOST_LINES = 2_000
MOST_BYTES = 50 * 1024  #: of a file, at once
LARGEST_NEW = 1 << 20  #: bytes of a file that create_file makes
LARGEST_EDITED = 16 << 20  #: bytes of a file that edit_file takes
MOST_NAMES = 200  #: of what is in a folder
LOCKS = 64


def file_tools(config: PianoConfig, *, by: PathResolver | None = None) -> list[Tool]:
    """Return the three tools."""
    desk = _FileToolContext(config, by)
    writing = [replace(tool(each), judge=desk.judge) for each in (desk.create_file, desk.edit_file)]
    return [replace(each, subject="path") for each in (tool(desk.read_file), *writing)]


def file_layer() -> str:
    """Return what holds file tools, in a sentence."""
    how = {"openat2": "by the kernel (openat2)", "walk": "name by name, following no link (no openat2 here)"}
    return f"files: only beneath the workspace, {how[layer()]}"


class _FileToolContext:
    """What the tools share: the workspace, and what each thread has read of it."""

    def __init__(self, config: PianoConfig, by: PathResolver | None) -> None:
        self._config, self._by = config, by
        self._seen = ReadState()
        self._locks = [threading.Lock() for _ in range(LOCKS)]

    def read_file(self, path: str, offset: int = 1, limit: int = MOST_LINES) -> str:
        """Read a text file in the workspace, or list a folder.

        Each line comes with its number and a tab before it, which are not part of the file. A long file comes in parts:
        the last line of the result then says which offset to go on with.

        path: relative to the workspace, for example "data/sales.csv"; "." lists the workspace.
        offset: the first line to read, from 1.
        limit: how many lines to read.
        """
        sandbox = self._sandbox()
        try:
            with sandbox.find(path) as found:
                if found.is_folder:
                    return _listing(found)
                if offset < 1 or limit < 1:
                    raise refused("bad_range", "offset counts lines from 1, and limit must be 1 or more")
                return self._read(found, offset, limit)
        except ToolError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise refused("not_found", f"there is no file {path!r}; {_near(sandbox, path)}") from error
            raise

    def create_file(self, path: str, content: str) -> str:
        """Create a new text file in the workspace, with the folders it needs.

        It never overwrites a file; to change one, use edit_file.

        path: relative to the workspace, for example "src/report.py".
        content: the whole text of the file.
        """
        sandbox = self._writing(_mode())
        data = _encoded(content)
        if path.casefold().endswith(".ipynb"):
            _check_notebook(content, path)
        _check_new(sandbox, path)
        names = sandbox.make(path, data)
        self._seen.note(_thread(), self._file(names), data)
        return f"created {path!r}: {len(content.splitlines()):,} lines, {len(data):,} bytes"

    def edit_file(self, path: str, edits: list[Replacement]) -> str:
        """Replace pieces of text in a file of the workspace: all of them, or none. Read the file first.

        path: relative to the workspace, for example "src/report.py".
        edits: for example [{"old_text": "x = 1", "new_text": "x = 2"}]; each is made in the result of the one before.
        old_text is copied exactly from the file, without line numbers. It must be in the file only once: give enough
        lines to make it so. new_text takes its place; "" deletes it.
        """
        sandbox = self._writing(_mode())
        file = self._file(sandbox.names(path))
        with self._locks[hash(file) % LOCKS], sandbox.find(path) as found:  # Of two edits at a time, one would be lost.
            sandbox.check_writable(found.names)
            with found.open() as opened:
                data = opened.read(LARGEST_EDITED + 1)
            if len(data) > LARGEST_EDITED:
                raise refused("too_large", f"{path!r} has more than {LARGEST_EDITED:,} bytes; change it with code")
            before = whole(data, path)
            self._seen.check(_thread(), file, data, path)
            edit = edited(before.text, edits)
            if found.names[-1].casefold().endswith(".ipynb"):
                _check_notebook(edit.text, path)
            try:
                data = before.encoded(edit.text)
            except UnicodeEncodeError as error:
                lacks = edit.text[error.start : error.end][:10]
                raise refused("bad_character", f"{path!r} is {before.encoding}, which has no {lacks!r}") from error
            sandbox.replace(found, data)
            self._seen.note(_thread(), file, data)
        return f"edited {path!r} at {_told(edit)}"

    def judge(self, arguments: Mapping[str, Any], mode: Mode) -> ToolAssessment:
        """Return whether a file may be written: not where tools do not write, nor unasked what is run or obeyed."""
        try:
            sandbox = self._writing(mode)
            names = sandbox.names(str(arguments.get("path", "")))
            sandbox.check_writable(names)
        except ToolError as error:
            return ToolAssessment(Verdict.DENY, str(error))
        workspace = Path(self._config.workspace)
        reason = shadows_import(names, workspace)
        if not reason and instructs_agents(names, roots_in(workspace, self._config.skills_paths)):
            reason = f"{'/'.join(names)!r} would be a part of your skills, which instruct agents later on"
        return ToolAssessment(Verdict.ASK, reason) if reason else ToolAssessment(Verdict.ALLOW)

    def _sandbox(self) -> Workspace:
        return Workspace(Path(self._config.workspace), self._config.database, by=self._by)

    def _writing(self, mode: Mode) -> Workspace:
        """Return the sandbox, where the mode lets it be written to. Raises ToolError."""
        if mode == "read":
            told = "nothing is changed in mode 'read'; the user can set another with %config PianoConfig"
            raise refused("read_mode", told)
        return self._sandbox()

    def _file(self, names: tuple[str, ...]) -> tuple[str, ...]:
        return (self._config.workspace, *names)

    def _read(self, found: OpenedPath, offset: int, limit: int) -> str:
        size, path = found.about.st_size, found.shown
        room = min(MOST_BYTES, max(self._config.tool_output_limit - 200, 100))
        with found.open() as file:
            if size > LARGEST_EDITED:
                return part(file, path, size=size, offset=offset, limit=min(limit, MOST_LINES), room=room)
            data = file.read(LARGEST_EDITED)
        text = part(io.BytesIO(data), path, size=len(data), offset=offset, limit=min(limit, MOST_LINES), room=room)
        self._seen.note(_thread(), self._file(found.names), data)
        return text


def _thread() -> UUID | None:
    call = calling.get()
    return call.thread_id if call is not None else None


def _mode() -> Mode:
    call = calling.get()
    return call.mode if call is not None else "write"


def _encoded(content: str) -> bytes:
    """Return what is to be written. Raises ToolError; of a text that is far too long before it is copied."""
    try:
        data = content[: LARGEST_NEW + 1].encode()
    except UnicodeEncodeError as error:
        raise refused("bad_character", f"content has half a character at position {error.start}") from error
    if len(data) > LARGEST_NEW:
        raise refused("too_large", f"content has more than {LARGEST_NEW:,} bytes; write it with code")
    return data


def _check_new(sandbox: Workspace, path: str) -> None:
    """Raise ToolError, with what is there, where there is something."""
    try:
        with sandbox.find(path) as found:
            what = "a folder"
            if not found.is_folder:
                if found.about.st_nlink > 1:
                    raise linked(path)
                with found.open() as file:
                    data = file.read(LARGEST_EDITED + 1)
                known = f", sha256 {short_hash(data)}" if len(data) <= LARGEST_EDITED else ""
                what = f"a file of {found.about.st_size:,} bytes{known}"
            raise refused("exists", f"{path!r} is already {what}; read it, then change it with edit_file")
    except ToolError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise


def _near(sandbox: Workspace, path: str) -> str:
    """Return which names in a folder are like one that is not there."""
    folder, name = posixpath.split(path.rstrip("/"))
    near: list[str] = []
    with suppress(ToolError), sandbox.find(folder or ".") as found:
        near = difflib.get_close_matches(name, _names(found), n=5, cutoff=0.5)
    return f"near it: {', '.join(near)}" if near else "list its folder first"


def _names(folder: OpenedPath) -> list[str]:
    """Return the names in a folder; one more than are shown, if there are more."""
    return heapq.nsmallest(MOST_NAMES + 1, folder.entries())


def _listing(folder: OpenedPath) -> str:
    names = _names(folder)
    if not names:
        return f"{folder.shown!r} is an empty folder"
    more = f"\n[and more than these {MOST_NAMES}]" if len(names) > MOST_NAMES else ""
    return "\n".join([f"{folder.shown!r} is a folder:", *names[:MOST_NAMES]]) + more


def _check_notebook(text: str, path: str) -> None:
    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:
        raise refused("bad_notebook", f"{path!r} would be no notebook: {error}") from error


def _told(edit: EditResult) -> str:
    """Return where a file was edited."""

    def at(lines: tuple[int, ...]) -> str:
        return f"line{'s' * (len(lines) > 1)} {', '.join(map(str, lines))}"

    loose = f"; match=whitespace at {at(edit.loose)}: read the result" if edit.loose else ""
    return at(edit.lines) + loose

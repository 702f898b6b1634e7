"""The four tools that ship: read_file, create_file, edit_file, bash. Their docstrings are what a model reads."""

import difflib
import heapq
import json
import os
import threading
from collections.abc import Callable
from dataclasses import replace as replaced
from pathlib import Path
from typing import BinaryIO

from piano_jupyter.errors import ToolError
from piano_jupyter.runner.bash_tool import BashTool
from piano_jupyter.runner.edits import edited
from piano_jupyter.runner.sandbox import beneath, open_regular, refused, replace, told, writable, write_new
from piano_jupyter.runner.text_file import part, whole
from piano_jupyter.tool import Tool, tool

MOST_LINES = 2_000
MOST_CHARACTERS = 50 * 1024
LARGEST_NEW = 1 << 20  #: bytes of a file that create_file makes
LARGEST_EDITED = 16 << 20  #: bytes of a file that edit_file takes
MOST_NAMES = 200  #: of what is in a folder


def builtin_tools(workspace: Callable[[], Path], *, output_limit: Callable[[], int], bash: BashTool) -> list[Tool]:
    """Return the four tools. The knobs are asked at each call, so that a change works at once."""
    desk = _Desk(workspace, output_limit)
    files = [tool(desk.read_file), tool(desk.create_file), tool(desk.edit_file)]
    return [*(replaced(each, subject="path") for each in files), bash.tool()]


class _Desk:
    """The tools' common ground: a workspace and its limits."""

    def __init__(self, workspace: Callable[[], Path], output_limit: Callable[[], int]) -> None:
        self._workspace, self._output_limit = workspace, output_limit
        self._editing = threading.Lock()

    def read_file(self, path: str, offset: int = 1, limit: int = MOST_LINES) -> str:
        """Read a text file in the workspace, or list a folder.

        Each line comes with its number and a tab before it, which are not part of the file. A long file comes in parts:
        the last line of the result then says which offset to go on with.

        path: relative to the workspace, for example "data/sales.csv"; "." lists the workspace.
        offset: the first line to read, from 1.
        limit: how many lines to read.
        """
        here = beneath(self._workspace(), path)
        with told(path):
            if here.is_dir():
                return _listing(here, path)
        if offset < 1 or limit < 1:
            raise refused("bad_range", "offset counts lines from 1, and limit must be 1 or more")
        room = min(MOST_CHARACTERS, max(self._output_limit() - 200, 100))
        with _opened(here, path) as file:
            return part(file, path, offset=offset, limit=min(limit, MOST_LINES), room=room)

    def create_file(self, path: str, content: str) -> str:
        """Create a new text file in the workspace, with the folders it needs.

        It never overwrites a file; to change one, use edit_file.

        path: relative to the workspace, for example "src/report.py".
        content: the whole text of the file.
        """
        here = writable(self._workspace(), path)
        try:
            data = content.encode()
        except UnicodeEncodeError as error:
            raise refused("bad_character", f"content has half a character at position {error.start}") from error
        if len(data) > LARGEST_NEW:
            raise refused(
                "too_large", f"content has {len(data):,} bytes, more than {LARGEST_NEW:,}; write it with code"
            )
        if os.path.lexists(here):
            what = "a folder" if here.is_dir() else f"a file of {here.lstat().st_size:,} bytes"
            raise refused("exists", f"{path!r} is already {what}; read it, then change it with edit_file")
        write_new(here, data, path)
        return f"created {path!r}: {len(content.splitlines()):,} lines, {len(data):,} bytes"

    def edit_file(self, path: str, old_text: str, new_text: str) -> str:
        """Replace one piece of text in a file of the workspace. Read the file first.

        path: relative to the workspace, for example "src/report.py".
        old_text: the text to replace, copied exactly from the file, without line numbers. It must be in the file only
        once: give enough lines to make it so.
        new_text: the text that takes its place; "" deletes it.
        """
        here = writable(self._workspace(), path)
        with self._editing:  # Of two edits of one file at a time, one would be lost.
            with _opened(here, path) as file:
                data = file.read(LARGEST_EDITED + 1)
            if len(data) > LARGEST_EDITED:
                raise refused("too_large", f"{path!r} has more than {LARGEST_EDITED:,} bytes; change it with code")
            before = whole(data, path)
            edit = edited(before.text, old_text, new_text)
            if here.suffix == ".ipynb":
                _check_json(edit.text, path)
            try:
                replace(here, before.encoded(edit.text), path)
            except UnicodeEncodeError as error:
                lacks = edit.text[error.start : error.end][:10]
                raise refused("bad_character", f"{path!r} is {before.encoding}, which has no {lacks!r}") from error
        note = "; old_text matched but for white space, so read the result" if edit.loose else ""
        return f"edited {path!r} at line {edit.line}{note}"


def _opened(here: Path, path: str) -> BinaryIO:
    """Open a file for reading; where there is none, say which names are near."""
    try:
        return open_regular(here, path)
    except ToolError as error:
        if not isinstance(error.__cause__, FileNotFoundError) or not here.parent.is_dir():
            raise
        near = difflib.get_close_matches(here.name, _names(here.parent), n=5, cutoff=0.5)
        hint = f"near it: {', '.join(near)}" if near else "list its folder first"
        raise refused("not_found", f"there is no file {path!r}; {hint}") from error


def _names(folder: Path) -> list[str]:
    """Return the names in a folder, its folders' with a slash; one more than are shown, if there are more."""
    with os.scandir(folder) as entries:
        return heapq.nsmallest(MOST_NAMES + 1, (f"{each.name}/" if each.is_dir() else each.name for each in entries))


def _listing(here: Path, path: str) -> str:
    names = _names(here)
    if not names:
        return f"{path!r} is an empty folder"
    more = f"\n[and more than these {MOST_NAMES}]" if len(names) > MOST_NAMES else ""
    return "\n".join([f"{path!r} is a folder:", *names[:MOST_NAMES]]) + more


def _check_json(text: str, path: str) -> None:
    try:
        json.loads(text)
    except ValueError as error:
        raise refused("bad_notebook", f"{path!r} would no longer be a notebook: {error}") from error

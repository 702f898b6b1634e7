"""Where the programs are that Piano starts itself, outside any sandbox: never one that a command could have written.

A name is looked up on PATH, but a folder counts only if nobody else can write to what leads there: neither a command,
whose folder is the workspace, nor another user. That is so for each link on the way, too. What is passed over, and why,
is said where nothing else is found.
"""

import grp
import os
import pwd
import stat
from collections.abc import Iterator
from functools import cache
from itertools import zip_longest
from pathlib import Path

BASH = ("/bin/bash", "/usr/bin/bash")  #: the system's, whose libraries are found wherever it lies; before any on PATH
CALLED = {"bwrap": "bubblewrap"}  #: by people
SYSTEM = ("/", "/usr")  #: whoever owns these can exchange every program anyway


class ProgramNotFoundError(Exception):
    """There is no such program that may be started; the text says why."""


def program(name: str, workspace: str) -> str:
    """Return the absolute path of a program; it is looked for once. Raises ProgramNotFoundError."""
    return _program(name, os.path.realpath(workspace), os.environ.get("PATH", os.defpath))


@cache  # what raises is not kept: it may be installed meanwhile
def _program(name: str, workspace: str, path: str) -> str:
    shown, passed_over = CALLED.get(name, name), ""
    for found in _candidates(name, path):
        why = _why_not(found, Path(workspace))
        if not why:
            return str(found)
        passed_over = passed_over or f"{shown} is not started from {found.parent}: {why}"
    raise ProgramNotFoundError(passed_over or f"{shown} is not installed")


def _candidates(name: str, path: str) -> Iterator[Path]:
    folders = [folder for folder in path.split(os.pathsep) if Path(folder).is_absolute()]  # others: wherever we are
    for each in (*(BASH if name == "bash" else ()), *(f"{folder}/{name}" for folder in folders)):
        if os.path.isfile(each) and os.access(each, os.X_OK):  # noqa: PTH113  A folder that is closed has nothing.
            yield Path(each)


def _why_not(found: Path, workspace: Path) -> str:
    """Return who else could have put a program there, "" for nobody."""
    try:
        places = [*_passed(found)]
        for place, after in zip_longest(places, places[1:]):
            about = place.lstat()
            if place.is_relative_to(workspace) and str(found) not in BASH:  # around those there is no sandbox
                return "that leads into the workspace, where commands write"
            if about.st_uid not in _trusted():
                return f"{place} belongs to another user"
            if stat.S_ISLNK(about.st_mode):
                continue
            is_kept = about.st_mode & stat.S_ISVTX and after is not None and stat.S_ISDIR(after.lstat().st_mode)
            if not is_kept and _others_write(about):
                return f"other users can write to {place}"
    except OSError as error:
        return f"it cannot be looked at ({error})"
    return ""


def _passed(path: Path) -> Iterator[Path]:
    """Yield each folder and each link on the way to a file, links followed one at a time, and the file in the end."""
    here, left = Path("/"), [*reversed(path.parts[1:])]
    yield here
    while left:
        there = here / left.pop()
        if there.name == "..":
            here = here.parent
            continue
        yield there
        if there.is_symlink():
            target = there.readlink()
            left += reversed(target.parts[1:] if target.is_absolute() else target.parts)
            here = Path("/") if target.is_absolute() else here
        else:
            here = there


def _trusted() -> set[int]:
    return {0, os.geteuid(), *(Path(each).stat().st_uid for each in SYSTEM if Path(each).exists())}


def _others_write(about: os.stat_result) -> bool:
    """Return whether anybody but us and root can write; a group that only we are in is ours."""
    if about.st_mode & stat.S_IWOTH:
        return True
    if not about.st_mode & stat.S_IWGRP or about.st_gid == 0:
        return False
    users = pwd.getpwall()
    try:
        members = {*grp.getgrgid(about.st_gid).gr_mem, *(each.pw_name for each in users if each.pw_gid == about.st_gid)}
    except KeyError:  # a number without a name: who is in it, nobody knows
        return True
    return not members <= {each.pw_name for each in users if each.pw_uid in {0, os.geteuid()}}

"""Finds the programs that Piano itself starts outside the sandbox, and never one that a command could have written.

A name is looked up on PATH, but a program counts only if nobody else can write to anything on its path: neither a
command, which can write to the workspace, nor another user. The same holds for each link on the way. If no program
qualifies, the error says why the first candidate was rejected.
"""

import grp
import os
import pwd
import stat
from collections.abc import Iterator
from functools import cache
from itertools import zip_longest
from pathlib import Path

SYSTEM_BASH = ("/bin/bash", "/usr/bin/bash")  #: the system's bash, tried before PATH; it runs from any place
PACKAGE_NAMES = {"bwrap": "bubblewrap"}  #: what people call them
SYSTEM_FOLDERS = ("/", "/usr")  #: whoever owns these can replace every program anyway


class ProgramNotFoundError(Exception):
    """No program of this name may be started; the text says why."""


def find_program(name: str, workspace: str) -> str:
    """Return the absolute path of a program; the result is cached. Raises ProgramNotFoundError."""
    return _find_program(name, os.path.realpath(workspace), os.environ.get("PATH", os.defpath))


@cache  # An error is not cached: the program may be installed later.
def _find_program(name: str, workspace: str, path: str) -> str:
    title, rejected = PACKAGE_NAMES.get(name, name), ""
    for candidate in _candidates(name, path):
        reason = _untrusted_reason(candidate, Path(workspace))
        if not reason:
            return str(candidate)
        rejected = rejected or f"{title} is not started from {candidate.parent}: {reason}"
    raise ProgramNotFoundError(rejected or f"{title} is not installed")


def _candidates(name: str, path: str) -> Iterator[Path]:
    folders = [
        folder for folder in path.split(os.pathsep) if Path(folder).is_absolute()
    ]  # relative ones depend on the current folder
    for each in (*(SYSTEM_BASH if name == "bash" else ()), *(f"{folder}/{name}" for folder in folders)):
        if os.path.isfile(each) and os.access(each, os.X_OK):  # noqa: PTH113  Path.is_file raises in a folder that we cannot search.
            yield Path(each)


def _untrusted_reason(path: Path, workspace: Path) -> str:
    """Return who else could have put a program there, "" if nobody could."""
    try:
        places = [*_steps_to(path)]
        for place, next_place in zip_longest(places, places[1:]):
            status = place.lstat()
            if (
                place.is_relative_to(workspace) and str(path) not in SYSTEM_BASH
            ):  # with a workspace around the system itself there is no sandbox
                return "its path leads into the workspace, which commands can change"
            if status.st_uid not in _trusted_owners():
                return f"{place} belongs to another user"
            if stat.S_ISLNK(status.st_mode):
                continue
            is_sticky = (
                status.st_mode & stat.S_ISVTX and next_place is not None and stat.S_ISDIR(next_place.lstat().st_mode)
            )
            if not is_sticky and _is_writable_by_others(status):
                return f"other users can write to {place}"
    except OSError as error:
        return f"it cannot be checked ({error})"
    return ""


def _steps_to(path: Path) -> Iterator[Path]:
    """Yield each folder and each link on the way to a file, following one link at a time, and finally the file."""
    folder, remaining = Path("/"), [*reversed(path.parts[1:])]
    yield folder
    while remaining:
        step = folder / remaining.pop()
        if step.name == "..":
            folder = folder.parent
            continue
        yield step
        if step.is_symlink():
            target = step.readlink()
            remaining += reversed(target.parts[1:] if target.is_absolute() else target.parts)
            folder = Path("/") if target.is_absolute() else folder
        else:
            folder = step


def _trusted_owners() -> set[int]:
    return {0, os.geteuid(), *(Path(each).stat().st_uid for each in SYSTEM_FOLDERS if Path(each).exists())}


def _is_writable_by_others(status: os.stat_result) -> bool:
    """Return whether anybody but us and root can write to it; a group whose only member we are does not count."""
    if status.st_mode & stat.S_IWOTH:
        return True
    if not status.st_mode & stat.S_IWGRP or status.st_gid == 0:
        return False
    users = pwd.getpwall()
    try:
        members = {
            *grp.getgrgid(status.st_gid).gr_mem,
            *(each.pw_name for each in users if each.pw_gid == status.st_gid),
        }
    except KeyError:  # A group without a name: its members are unknown.
        return True
    return not members <= {each.pw_name for each in users if each.pw_uid in {0, os.geteuid()}}

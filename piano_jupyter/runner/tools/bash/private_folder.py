"""Folders of Piano's own that no command can reach: for long outputs, and for what commands change."""

import atexit
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import platformdirs

from piano_jupyter.own_folders import other_disk
from piano_jupyter.runner.tools.files.protected import is_hidden_home_name
from piano_jupyter.runner.tools.files.workspace import home_parts_in


def private_folder(name: str, workspace: Path, *, outside: bool = False) -> Path:
    """Return a folder of this name that commands in a workspace cannot reach. Raises OSError.

    It is in the user's cache folder, unless that is not writable or commands in the workspace can reach it; with
    `outside` also not if it is in the workspace and merely hidden from commands.
    """
    folder = Path(platformdirs.user_cache_dir("piano_jupyter"), name)
    with suppress(OSError):  # The home folder may not be writable.
        is_inside = outside and Path(os.path.realpath(folder)).is_relative_to(workspace)
        if not is_inside and not _is_reachable(folder, workspace):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if os.access(folder, os.W_OK):
                return folder
    places = ("/var/tmp", tempfile.gettempdir()) if outside else (tempfile.gettempdir(), "/var/tmp")  # noqa: S108  a private folder is made there
    candidates = (Path(each) for each in (*places, "/tmp"))  # noqa: S108
    parent = next((each for each in candidates if not _is_reachable(each, workspace)), None)
    folder = _temporary_folder(parent) / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def overlay_folders(workspace: Path) -> Iterator[Path]:
    """Yield folders that commands cannot reach, even hidden ones, the best first: not every disk can hold an overlay.

    A network disk cannot, and many home folders are on one. Raises OSError.
    """
    yield private_folder("commands", workspace, outside=True)
    own = other_disk()
    if not _is_reachable(own, workspace) and _is_made_for_us_alone(own) and _is_made_for_us_alone(own / "commands"):
        yield own / "commands"


def _is_made_for_us_alone(folder: Path) -> bool:
    """Make a folder unless it is there; return whether it is one that nobody else can enter."""
    with suppress(OSError):
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        status = folder.lstat()
        return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077
    return False


def _is_reachable(folder: Path, workspace: Path) -> bool:
    """Return whether a command in the workspace could put a link into the path of a folder, or has done so."""
    for ancestor in (*reversed(folder.parents), folder):
        real = Path(os.path.realpath(ancestor))
        if real.is_relative_to(workspace):
            parts = (*real.relative_to(workspace).parts, *folder.relative_to(ancestor).parts)
            home = home_parts_in(workspace)
            is_in_home = home is not None and parts[: len(home)] == home and len(parts) > len(home)
            return not (is_in_home and is_hidden_home_name(parts[len(home or ())]))
    return False


@cache
def _temporary_folder(parent: Path | None) -> Path:
    folder = tempfile.mkdtemp(prefix="piano-", dir=parent)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)

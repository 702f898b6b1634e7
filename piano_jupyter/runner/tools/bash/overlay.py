"""The overlay that a command writes to in place of the workspace, until Piano has looked at what it changed.

The kernel's overlayfs shows the workspace as it is, and keeps each change apart, in a folder of Piano's: nothing that
a command makes is seen by the user's editor, git or kernel before it is applied, files with hard links elsewhere are
copied before they are written, and only what was changed has to be looked at, however large the workspace is.

Such a folder is kept while somebody may still decide about changes in it, and `RETENTION_S` after a kernel that died.
"""

import fcntl
import os
import secrets
import stat
import time
import weakref
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from piano_jupyter.safe_files import NO_FOLLOW, OPEN_FOLDER, closing_descriptor

RETENTION_S = 7 * 24 * 3600.0
#: Mounts the overlay of a folder over a workspace, then runs the rest of the arguments. The options name the folders
#: in a way that needs no escapes, whatever their names are.
MOUNT_SCRIPT = (
    'cd -- "$2" && exec {workspace}<"$3" && "$1" -t overlay '
    '-o "lowerdir=/proc/self/fd/$workspace,upperdir=changes,workdir=work,userxattr" piano workspace && '
    'exec {workspace}<&- && cd / && shift 3 && exec "$@"'
)


class Overlay:
    """The folders of one command's overlay."""

    def __init__(self, workspace: str, parent: Path) -> None:
        """Make the folders in one that commands cannot reach. Raises OSError."""
        remove_old(parent)
        self.workspace = workspace
        self.folder = parent / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(4)}"
        self.folder.mkdir(mode=0o700)
        lock = os.open(self.folder, OPEN_FOLDER)
        self._release = weakref.finalize(self, os.close, lock)  # also if nobody ever decides
        fcntl.flock(lock, fcntl.LOCK_EX)
        self.changes, self.work, self.merged = (self.folder / each for each in ("changes", "work", "workspace"))
        for each in (self.changes, self.work, self.merged):
            each.mkdir(mode=0o700)
        self._mode = stat.S_IMODE(Path(workspace).stat().st_mode)
        self.changes.chmod(self._mode)
        #: When it was made, by the clock of the disk, in nanoseconds: what changed later was changed by somebody else.
        self.made_at_ns = self.merged.stat().st_ctime_ns

    def has_changes(self) -> bool:
        """Whether anything was changed."""
        return stat.S_IMODE(self.changes.stat().st_mode) != self._mode or any(self.changes.iterdir())

    def release(self) -> None:
        """Let others remove the folders once they are old."""
        self._release()

    def remove(self) -> None:
        """Remove the folders and what is left in them."""
        remove_tree(self.folder)
        self.release()


def remove_old(parent: Path) -> None:
    """Remove overlays that nobody uses: those without changes, and those that are too old."""
    for folder in parent.iterdir():
        with suppress(OSError), closing_descriptor(os.open(folder, OPEN_FOLDER | NO_FOLLOW)) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises if somebody uses it
            is_old = time.time() - os.fstat(lock).st_mtime > RETENTION_S
            if is_old or not any((folder / "changes").iterdir()):
                remove_tree(folder)


def remove_tree(folder: Path) -> None:
    """Remove a folder of ours, however deep it is and whatever its permissions are."""
    folders = [folder]
    for each in folders:  # the list grows: folders are moved up, so that no path becomes too long
        each.chmod(0o700)
        for entry in list(_entries(each)):
            if entry.is_dir(follow_symlinks=False):
                moved = folder / f".{len(folders)}"
                Path(entry.path).chmod(0o700)
                Path(entry.path).rename(moved)
                folders.append(moved)
            else:
                Path(entry.path).unlink()
    for each in reversed(folders):
        each.rmdir()


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from entries

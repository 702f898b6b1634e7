"""Moves what a command made to the quarantine, even out of folders whose permissions the command took away.

No link is followed on the way: the command may have made links, too.
"""

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from piano_jupyter.safe_files import OPEN_FOLDER, OPEN_PATH, closing_descriptor, open_folder_beneath


def move_to_quarantine(workspace: Path, name: str, into: Path, restored_target: str | None) -> Path | None:
    """Move a file or folder of the workspace into a folder of it; return its new path, or None if it was gone.

    If that is impossible, for example on a full disk, it stays in its folder under a random name. `restored_target` is
    the target of the link that was there before, which is restored. Raises OSError.
    """
    *parents, last = Path(name).parts
    with closing_descriptor(os.open(workspace, OPEN_PATH | OPEN_FOLDER)) as root:
        try:
            with closing_descriptor(open_folder_beneath(root, parents)) as folder, _temporarily_writable(folder):
                _make_movable(folder, last)
                moved_to = _move(root, folder, last, into.joinpath(*parents)) or Path(
                    *parents, _rename_in_place(folder, last)
                )
                if restored_target is not None:
                    os.symlink(restored_target, last, dir_fd=folder)
                return moved_to
        except FileNotFoundError:
            return None


def reopen(workspace: Path, name: str) -> bool:
    """Make a folder of ours readable again; return whether it is ours and was unreadable."""
    names = Path(name).parts
    with (
        closing_descriptor(os.open(workspace, OPEN_PATH | OPEN_FOLDER)) as root,
        closing_descriptor(open_folder_beneath(root, names)) as folder,
    ):
        return _grant_owner_rights(folder) is not None


def _move(root: int, folder: int, last: str, into: Path) -> Path | None:
    try:
        with (
            _temporarily_writable(root),
            closing_descriptor(open_folder_beneath(root, into.parts, create=True)) as target,
        ):
            os.rename(last, last, src_dir_fd=folder, dst_dir_fd=target)
    except FileNotFoundError:
        raise
    except OSError:
        return None
    return into / last


def _rename_in_place(folder: int, last: str) -> str:
    name = f".piano-quarantine-{secrets.token_hex(8)}"
    os.rename(last, name, src_dir_fd=folder, dst_dir_fd=folder)
    return name


def _make_movable(folder: int, name: str) -> None:
    """Make a folder movable: its owner must be able to write to it."""
    if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        with closing_descriptor(open_folder_beneath(folder, [name])) as child:
            _grant_owner_rights(child)


@contextmanager
def _temporarily_writable(folder: int) -> Iterator[None]:
    """Make a folder of ours writable for a while, then restore its permissions."""
    previous_mode = _grant_owner_rights(folder)
    try:
        yield
    finally:
        if previous_mode is not None:
            _set_mode(folder, previous_mode)


def _grant_owner_rights(folder: int) -> int | None:
    """Make a folder of ours readable, writable and searchable; return its previous mode, None if nothing changed."""
    status = os.fstat(folder)
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid != os.geteuid() or mode & stat.S_IRWXU == stat.S_IRWXU:
        return None
    _set_mode(folder, mode | stat.S_IRWXU)
    return mode


def _set_mode(folder: int, mode: int) -> None:
    Path(f"/proc/self/fd/{folder}").chmod(mode)  # the descriptor is O_PATH, so fchmod fails

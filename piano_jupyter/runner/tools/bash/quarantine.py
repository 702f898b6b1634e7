"""Takes away what a command made, whatever rights it has left there: no folder that it closed keeps it in its place.

No link is followed on the way: who made the name may have made links, too.
"""

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from piano_jupyter.safe_files import FOLDER, LOOK, folder_beneath, held_open


def move(workspace: Path, name: str, into: Path, back: str | None) -> Path | None:
    """Move a name of the workspace into a folder of it; return where it is now, None where it was gone.

    Where that cannot be, as on a full disk or another file system, it stays in its folder under a name that nothing
    knows. `back` is the target of the link that was there before. Raises OSError.
    """
    *parents, last = Path(name).parts
    with held_open(os.open(workspace, LOOK | FOLDER)) as root:
        try:
            with held_open(folder_beneath(root, parents)) as folder, _changeable(folder):
                _open_up(folder, last)
                where = _moved(root, folder, last, into.joinpath(*parents)) or Path(*parents, _renamed(folder, last))
                if back is not None:
                    os.symlink(back, last, dir_fd=folder)
                return where
        except FileNotFoundError:
            return None


def reopen(workspace: Path, name: str) -> bool:
    """Let us look into a folder of ours that a command has closed; return whether it was ours and closed."""
    names = Path(name).parts
    with held_open(os.open(workspace, LOOK | FOLDER)) as root, held_open(folder_beneath(root, names)) as here:
        return _give_rights(here) is not None


def _moved(root: int, folder: int, last: str, into: Path) -> Path | None:
    try:
        with _changeable(root), held_open(folder_beneath(root, into.parts, make=True)) as target:
            os.rename(last, last, src_dir_fd=folder, dst_dir_fd=target)
    except FileNotFoundError:
        raise
    except OSError:
        return None
    return into / last


def _renamed(folder: int, last: str) -> str:
    name = f".piano-quarantine-{secrets.token_hex(8)}"
    os.rename(last, name, src_dir_fd=folder, dst_dir_fd=folder)
    return name


def _open_up(folder: int, name: str) -> None:
    """Make a folder one that can be moved to another: its owner must be able to write in it."""
    if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        with held_open(folder_beneath(folder, [name])) as there:
            _give_rights(there)


@contextmanager
def _changeable(folder: int) -> Iterator[None]:
    """Let us change what is in a folder of ours, then give it back the rights that it had."""
    had = _give_rights(folder)
    try:
        yield
    finally:
        if had is not None:
            _set_mode(folder, had)


def _give_rights(folder: int) -> int | None:
    """Let us read, write and search in a folder of ours; return the mode that it had, None where we could before."""
    about = os.fstat(folder)
    mode = stat.S_IMODE(about.st_mode)
    if about.st_uid != os.geteuid() or mode & stat.S_IRWXU == stat.S_IRWXU:
        return None
    _set_mode(folder, mode | stat.S_IRWXU)
    return mode


def _set_mode(folder: int, mode: int) -> None:
    Path(f"/proc/self/fd/{folder}").chmod(mode)  # it is held without being opened

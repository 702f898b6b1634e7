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
    with (
        held_open(os.open(workspace, LOOK | FOLDER)) as root,
        held_open(folder_beneath(root, Path(name).parts)) as here,
    ):
        closed = _lacks_rights(here) is not None
        if closed:
            _give_rights(here)
        return closed


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
            if _lacks_rights(there) is not None:
                _give_rights(there)


@contextmanager
def _changeable(folder: int) -> Iterator[None]:
    """Let us change what is in a folder of ours, then give it back the rights that it had."""
    had = _lacks_rights(folder)
    if had is None:
        yield
        return
    _give_rights(folder)
    try:
        yield
    finally:
        _set_mode(folder, had)


def _lacks_rights(folder: int) -> int | None:
    """Return the mode of a folder of ours in which we may not read, write or search; None for any other."""
    about = os.fstat(folder)
    mode = stat.S_IMODE(about.st_mode)
    return mode if about.st_uid == os.geteuid() and mode & stat.S_IRWXU != stat.S_IRWXU else None


def _give_rights(folder: int) -> None:
    _set_mode(folder, stat.S_IMODE(os.fstat(folder).st_mode) | stat.S_IRWXU)


def _set_mode(folder: int, mode: int) -> None:
    Path(f"/proc/self/fd/{folder}").chmod(mode)  # it is held without being opened

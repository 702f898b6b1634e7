"""Files that the user names: read and written whole, or a sentence that says why not."""

import contextlib
import os
from pathlib import Path

from piano_jupyter.errors import PianoError

LARGEST = 100_000_000  # bytes


def read_text(name: str) -> str:
    """Return what a text file holds. Raises PianoError."""
    path = Path(name).expanduser()
    try:
        if path.stat().st_size > LARGEST:
            raise PianoError(f"{path} is larger than {LARGEST / 1e6:.0f} MB; take a part of it")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise PianoError(f"{path} is no text in UTF-8") from None
    except OSError as error:
        raise PianoError(f"{path} cannot be read: {_reason(error)}") from error


def writable(name: str, otherwise: str, *, force: bool) -> Path:
    """Return the path of a file that can be written. Raises PianoError; for one that exists, too, with the way out.

    `force` lets a file be replaced that exists.
    """
    path = Path(name).expanduser()
    try:
        if not path.parent.is_dir():
            raise PianoError(f"there is no folder {path.parent}; create it first")
        if path.is_dir():
            raise PianoError(f"{path} is a folder; name a file in it")
        if path.exists() and not force:
            raise PianoError(f"{path} exists; {otherwise}")
    except OSError as error:
        raise PianoError(f"{path} cannot be written: {_reason(error)}") from error
    return path


def write_text(name: str, text: str, *, force: bool) -> Path:
    """Write a text file, all of it or nothing, and return its path. Raises PianoError; for one that exists, too.

    `force` replaces a file that exists.
    """
    path = writable(name, "--force replaces it", force=force)
    try:
        _replace(path, text)
    except OSError as error:
        raise PianoError(f"{path} cannot be written: {_reason(error)}") from error
    return path


def _replace(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")  # beside it: a rename within one folder is whole
    try:
        part.write_text(text, encoding="utf-8", newline="\n")
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):  # it may not even have been made
            part.unlink(missing_ok=True)
        raise


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()

"""Files that the user names: read and written whole, or a sentence that says why not."""

from pathlib import Path

from piano_jupyter.errors import PianoError
from piano_jupyter.safe_files import check_writable, read_file, write_file

LARGEST = 100_000_000  # bytes
BY_FORCE = "--force replaces it"


def read_text(name: str, workspace: str) -> str:
    """Return what a text file holds. Raises PianoError."""
    path = Path(name).expanduser()
    try:
        return read_file(path, workspace=workspace, max_bytes=LARGEST).decode("utf-8")
    except UnicodeDecodeError:
        raise PianoError(f"{path} is no text in UTF-8") from None


def writable(name: str, workspace: str, advice: str, *, force: bool) -> Path:
    """Return the path of a file that can be written. Raises PianoError; for one that exists, too, with the way out.

    `force` lets a file be replaced that exists.
    """
    path = Path(name).expanduser()
    check_writable(path, workspace=workspace, replace=force, advice=advice)
    return path


def write_text(name: str, text: str, workspace: str, *, force: bool) -> None:
    """Write a text file, all of it or nothing. Raises PianoError; for one that exists, too.

    `force` replaces a file that exists.
    """
    write_file(Path(name).expanduser(), text.encode("utf-8"), workspace=workspace, replace=force, advice=BY_FORCE)

"""Files that the user names: read and written as a whole, or one sentence that says why not."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from piano_jupyter.errors import PianoError
from piano_jupyter.safe_files import check_writable, read_file, write_file
from piano_jupyter.text.unicode_forms import other_forms

MAX_FILE_BYTES = 100_000_000
FORCE_HINT = "--force replaces it"


@contextlib.contextmanager
def user_path(name: str) -> Iterator[Path]:
    """Give the path that the user named, `~` expanded; errors inside the block name it as the user did.

    A name that the locale has no characters for is encoded as UTF-8, as file managers and JupyterLab do.
    """
    path = Path(_encodable(name)).expanduser()
    if not os.path.lexists(path):
        path = next((Path(each) for each in other_forms(str(path)) if os.path.lexists(each)), path)
    try:
        yield path
    except PianoError as error:
        error.args = tuple(map(_readable, error.args))
        raise


def read_text(name: str, workspace: str) -> str:
    """Return the content of a text file. Raises PianoError."""
    with user_path(name) as path:
        try:
            return read_file(path, workspace=workspace, max_bytes=MAX_FILE_BYTES).decode("utf-8")
        except UnicodeDecodeError:
            raise PianoError(f"{path} is not a text file in UTF-8") from None


def writable(name: str, workspace: str, advice: str, *, force: bool) -> Path:
    """Return the path of a file that can be written.

    Raises PianoError, also for a file that exists unless `force` is set; `advice` says what to do then.
    """
    with user_path(name) as path:
        check_writable(path, workspace=workspace, replace=force, advice=advice)
        return path


def write_text(name: str, text: str, workspace: str, *, force: bool) -> None:
    """Write a text file, all of it or nothing.

    Raises PianoError, also for a file that exists unless `force` is set.
    """
    with user_path(name) as path:
        write_file(path, text.encode("utf-8"), workspace=workspace, replace=force, advice=FORCE_HINT)


def _encodable(name: str) -> str:
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        with contextlib.suppress(UnicodeEncodeError):  # half a character: no file has such a name
            return os.fsdecode(name.encode("utf-8"))
    return name


def _readable(text: str) -> str:
    """Return a text with the bytes that the locale could not decode read as UTF-8."""
    with contextlib.suppress(UnicodeError):
        return text.encode("utf-8", "surrogateescape").decode("utf-8")
    return text

"""Trust: whether this database is the user's own, or came along with a checkout, say.

A database has a random id. The user's data folder has a file for each id that this user has made or trusts; no tool can
write there. A database that it does not know resumes nothing, and the tools that its agents have count for nothing.
"""

import json
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import platformdirs

from piano_jupyter.records import DatabaseIdentity

_made_here: set[UUID] = set()  #: what this process has made, which is its own whether or not that can be noted


def data_folder() -> Path:
    """Return the folder that says which databases are the user's. Raises OSError where there can be none."""
    try:
        folder = Path(platformdirs.user_data_dir("piano_jupyter"), "databases")
    except RuntimeError as error:  # a user without a home folder
        raise OSError(f"there is no user data folder: {error}") from error
    if not folder.is_absolute():
        raise OSError(f"the user data folder {folder} is not named from the root")
    return folder


class Trust:
    """Whether one database is the user's own. `workspace` may have come from elsewhere, whatever lies in it."""

    def __init__(self, path: str, workspace: Callable[[], Path], *, in_memory: bool) -> None:
        self.path, self._workspace, self.in_memory = path, workspace, in_memory
        self._id: UUID | None = None
        self.given = in_memory  #: whether it is the user's own
        self.problem = ""  #: why that could not be looked up or noted, if so

    def open(self, identity: DatabaseIdentity) -> None:
        """Look whether the database is known; one that this process has made is noted. It blocks for a moment."""
        self._id = identity.id
        if self.in_memory:
            return
        if identity.is_new or identity.id in _made_here:
            self.give()
            return
        try:
            self.given = stat.S_ISREG(self._note().stat().st_mode)
        except (FileNotFoundError, NotADirectoryError):
            self.given = False
        except OSError as error:
            self.problem = f"what is yours cannot be looked up ({_told(error)})"

    def give(self) -> None:
        """Trust the database: from now on, and for as long as this process lives if that cannot be noted."""
        assert self._id is not None
        self.given = True
        _made_here.add(self._id)
        about = {"path": self.path, "since": datetime.now(UTC).isoformat(timespec="seconds")}
        try:
            note = self._note()
            note.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with suppress(FileExistsError):
                _write(note, json.dumps(about) + "\n")
            self.problem = ""
        except OSError as error:
            self.problem = f"that it is yours cannot be noted ({_told(error)})"

    def _note(self) -> Path:
        folder = data_folder()
        workspace, real, home = (Path(os.path.realpath(each)) for each in (self._workspace(), folder, _home()))
        if real.is_relative_to(workspace) and not home.is_relative_to(workspace):
            raise OSError(f"the user data folder {folder} lies in the workspace")
        return folder / f"{self._id}.json"


def _home() -> str:
    return os.path.expanduser("~")  # noqa: PTH111  Where there is none, this says so without an error.


def _told(error: OSError) -> str:
    return f"{error.strerror}: {error.filename}" if error.strerror else str(error)


def _write(note: Path, text: str) -> None:
    handle = os.open(note, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)

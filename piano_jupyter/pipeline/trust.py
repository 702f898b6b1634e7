"""Trust: whether this database is the user's own, or came along with a checkout, say.

A database has a random id. The user's data folder has a file for each id that this user has made or trusts; no tool can
write there. A database that it does not know resumes nothing, and the tools that its agents have count for nothing.
"""

import json
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import platformdirs

from piano_jupyter.records import Identity

_made_here: set[UUID] = set()  #: what this process has made, which is its own whether or not that can be noted


def data_folder() -> Path:
    """Return the folder that says which databases are the user's."""
    return Path(platformdirs.user_data_dir("piano_jupyter"), "databases")


class Trust:
    """Whether one database is the user's own."""

    def __init__(self, path: str, *, in_memory: bool) -> None:
        self.path, self._in_memory = path, in_memory
        self._id: UUID | None = None
        self.given = in_memory  #: whether it is the user's own
        self.problem = ""  #: why it could not be noted that it is, if so

    def open(self, identity: Identity) -> None:
        """Look whether the database is known; one that this process has made is noted. It blocks for a moment."""
        self._id = identity.id
        if self._in_memory:
            return
        if identity.is_new or identity.id in _made_here:
            self.give()
        else:
            self.given = self._note.is_file()

    def give(self) -> None:
        """Trust the database: from now on, and for as long as this process lives if that cannot be noted."""
        assert self._id is not None
        self.given = True
        _made_here.add(self._id)
        about = {"path": self.path, "since": datetime.now(UTC).isoformat(timespec="seconds")}
        try:
            self._note.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with suppress(FileExistsError):
                self._write(json.dumps(about) + "\n")
            self.problem = ""
        except OSError as error:
            self.problem = f"{data_folder()} cannot be written ({error.strerror or error})"

    @property
    def _note(self) -> Path:
        return data_folder() / f"{self._id}.json"

    def _write(self, text: str) -> None:
        handle = os.open(self._note, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)

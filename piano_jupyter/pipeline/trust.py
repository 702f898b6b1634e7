"""Trust: whether this database is the user's own, or came from elsewhere, for example with a checkout.

A database has a random id. The user's data folder has a file for each database that this user has made or trusts; no
tool can write there. In any other database no job is resumed, and agents cannot use the tools that they have.
"""

import json
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from piano_jupyter.own_folders import record_folder, user_folder
from piano_jupyter.records import DatabaseIdentity

DATABASES = "databases"  #: the kind of its records
_made_here: set[UUID] = set()  #: databases that this process has made: trusted even if that cannot be recorded


def data_folder() -> Path:
    """Return the folder of the records of trusted databases. Raises OSError if there can be none."""
    return user_folder(DATABASES)


class Trust:
    """Whether one database is trusted. Nothing in the `workspace` counts: it may have come from elsewhere."""

    def __init__(self, path: str, workspace: Callable[[], Path], *, in_memory: bool) -> None:
        self.path, self._workspace, self.in_memory = path, workspace, in_memory
        self._id: UUID | None = None
        self._is_trusted = in_memory
        self.problem = ""  #: why that could not be looked up or recorded; "" if it could

    @property
    def is_trusted(self) -> bool:
        """Whether the database is the user's own; another notebook may have made or trusted it a moment ago."""
        if not self._is_trusted and self._id is not None:
            self._look_up()
        return self._is_trusted

    def open(self, identity: DatabaseIdentity) -> None:
        """Look up whether the database is trusted; record one that this process has made. Blocks on file access."""
        self._id = identity.id
        if self.in_memory:
            return
        if identity.is_new or identity.id in _made_here:
            self.grant()
        else:
            self._look_up()

    def _look_up(self) -> None:
        self.problem = ""
        try:
            self._is_trusted = stat.S_ISREG(self._record().stat().st_mode)
        except (FileNotFoundError, NotADirectoryError):
            self._is_trusted = False
        except OSError as error:
            self.problem = f"which databases are yours cannot be looked up ({_described(error)})"

    def grant(self) -> None:
        """Trust the database from now on, or until this process ends if that cannot be recorded."""
        assert self._id is not None
        self._is_trusted = True
        _made_here.add(self._id)
        about = {"path": self.path, "since": datetime.now(UTC).isoformat(timespec="seconds")}
        try:
            record = self._record()
            record.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with suppress(FileExistsError):
                _write(record, json.dumps(about) + "\n")
            self.problem = ""
        except OSError as error:
            self.problem = f"that it is yours cannot be recorded ({_described(error)})"

    def _record(self) -> Path:
        return record_folder(DATABASES, self._workspace()) / f"{self._id}.json"


def _described(error: OSError) -> str:
    return f"{error.strerror}: {error.filename}" if error.strerror else str(error)


def _write(record: Path, text: str) -> None:
    handle = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)

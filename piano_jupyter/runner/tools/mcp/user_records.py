"""UserRecords: small facts that the user has approved, one file each, in a folder that no tool reaches."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from piano_jupyter.own_folders import record_folder

MAX_BYTES = 4096


class UserRecords:
    """The records of a kind for one workspace. Where they cannot be kept, they hold until this process ends."""

    def __init__(self, kind: str, workspace: Callable[[], Path]) -> None:
        self._kind, self._workspace = kind, workspace
        self._here: dict[str, str] = {}
        self.problem = ""  #: why the last record could not be kept; "" if it was

    def get(self, key: str) -> str:
        """Return what is recorded under a key, "" if nothing is."""
        name = self._name(key)
        if name in self._here:
            return self._here[name]
        try:
            with (self._folder() / name).open(encoding="utf-8") as file:
                return file.read(MAX_BYTES)
        except (OSError, ValueError):
            return ""

    def put(self, key: str, value: str) -> None:
        """Record a value under a key."""
        name = self._name(key)
        self._here[name] = value
        try:
            folder = self._folder()
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle, temporary = tempfile.mkstemp(dir=folder)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(value)
            Path(temporary).replace(folder / name)
            self.problem = ""
        except OSError as error:
            self.problem = f"{error.strerror}: {error.filename}" if error.strerror else str(error)

    def _name(self, key: str) -> str:
        workspace = os.path.realpath(self._workspace())
        return hashlib.sha256(f"{workspace}\0{key}".encode("utf-8", "surrogateescape")).hexdigest()

    def _folder(self) -> Path:
        return record_folder(self._kind, self._workspace())

"""DuckDB's errors as sentences that say what is wrong and what to do. Pure but for looking up who holds a lock."""

import errno
import os
import re

import duckdb

from piano_jupyter.errors import StoreError, StoreLockedError
from piano_jupyter.store.duckdb.lock import ELSEWHERE, command_of, without_locks

LOCK_ERROR = re.compile(r"Could not set lock on file .*?\": (?P<why>.+?)\.(?: See also |\Z)", re.DOTALL)
LOCK_HOLDER = re.compile(r"held in (?:(?P<program>.+) )?\(?PID (?P<pid>\d+)")
LOCK_HELD = ("Resource temporarily unavailable", "Permission denied")  # how fcntl says that a lock is held
DISK_FULL = ("No space left on device", "File too large", "Disk quota exceeded")
NO_PERMISSION = ("Permission denied", "Read-only file system", "Operation not permitted")
NEWER_VERSION = "created with a newer version of DuckDB"
DAMAGED = (
    "Loading external extensions is disabled",  # another program's file would need one
    "is an existing extension",  # the same, if loading is allowed and there is none
    "not a valid DuckDB database file",
    "Corrupt database file",
    "Could not read enough bytes from file",
    "Failed to load metadata pointer",
    "Failure while replaying WAL",
    "Serialization Error",
)
OS_ERRORS = frozenset(map(os.strerror, errno.errorcode))  # then the trouble is not the file's content
SURROGATE = re.compile(r"surrogate '(\\ud[89a-f][0-9a-f]{2})'", re.IGNORECASE)


def error_in_use(error: Exception, name: str) -> StoreError:
    """Translate an error that DuckDB raised while the database called `name` was in use."""
    text = str(error)
    if any(phrase in text for phrase in DISK_FULL):
        return StoreError(
            f"no room left on the disk of database {name}: free some and try again; what was being saved may be lost"
        )
    if why := next((phrase for phrase in NO_PERMISSION if phrase in text), None):
        return StoreError(
            f"database {name} cannot be written any more ({why}): make it writable and try again; "
            "everything that was stored before is kept"
        )
    if found := SURROGATE.search(text):
        return StoreError(
            f"the text holds {found[1]}, half of a surrogate pair, which cannot be kept; take it out or replace it"
        )
    if is_damage(error):
        return StoreError(
            f"database {name} is damaged ({duckdb_message(error)}): "
            "what can be read of it is recovered when it is used next"
        )
    return StoreError(f"database {name} refused: {duckdb_message(error)}")


def opening_error(error: Exception, name: str) -> StoreError:
    """Translate an error that DuckDB raised while it opened the database."""
    text, said = str(error), duckdb_message(error)
    if found := LOCK_ERROR.search(text):
        return _locked(found["why"], name)
    if "different configuration" in text:
        return StoreLockedError(
            f"this process has {name} open with duckdb.connect: close that connection, or {ELSEWHERE}"
        )
    what = f"cannot be opened ({said}): fix that"
    if any(phrase in text for phrase in NO_PERMISSION):
        what = f"cannot be written ({said}): allow it"
    elif any(phrase in text for phrase in DISK_FULL):
        return error_in_use(error, name)
    elif NEWER_VERSION in text:
        what = f"was written by a newer DuckDB ({said.splitlines()[0]}): pip install -U piano_jupyter duckdb"
    elif "Out of Memory" in text or isinstance(error, MemoryError):
        return StoreError(f"there is too little memory to open database {name} ({said}): free some and try again")
    elif any(phrase in text for phrase in DAMAGED) and not any(phrase in text for phrase in OS_ERRORS):
        what = f"is damaged or not one of DuckDB's ({said}): move it out of the way"
    return StoreError(f"database {name} {what}, or {ELSEWHERE}")


def schema_error(error: Exception, name: str) -> StoreError:
    """Translate an error of Piano's own queries right after DuckDB opened the database."""
    return StoreError(
        f"database {name} was opened, but does not fit this piano_jupyter ({duckdb_message(error).splitlines()[0]}): "
        f"another program changed its tables, or piano_jupyter has an error, please report it; meanwhile {ELSEWHERE}"
    )


def _locked(why: str, name: str) -> StoreError:
    """Translate a lock that DuckDB did not get: another program has it, or the file system has no locks."""
    if found := LOCK_HOLDER.search(why):
        pid = int(found["pid"])
        holder = f"process {pid} ({command_of(pid) or found['program'] or 'unknown'})"
        if pid == 0:
            holder = "a process of another container, which cannot be seen from here"
        return StoreLockedError(f"database {name} is open in {holder}: stop that kernel, or {ELSEWHERE}")
    if any(sign in why for sign in LOCK_HELD):
        return StoreLockedError(f"another process has had database {name} open just now ({why}): try again")
    return without_locks(name, why)


def may_be_damage(error: Exception) -> bool:
    """Return whether the file's content can be why DuckDB did not open it, and not the machine or another program."""
    text = str(error)
    others = (*DISK_FULL, *NO_PERMISSION, *OS_ERRORS, "different configuration", "Out of Memory")
    return isinstance(error, duckdb.Error) and not LOCK_ERROR.search(text) and not any(each in text for each in others)


def cannot_write(error: Exception) -> bool:
    """Return whether the disk takes no more: it is full, or read-only."""
    return any(phrase in str(error) for phrase in (*DISK_FULL, *NO_PERMISSION))


def is_damage(error: Exception) -> bool:
    """Return whether DuckDB has read a block that does not fit its checksum."""
    return "Corrupt database file" in str(error)


def not_recovered(error: OSError, name: str) -> StoreError:
    """Return what to raise where a damaged database could not be copied to recover what can be read of it."""
    return StoreError(
        f"database {name} is damaged, and what can be read of it cannot be recovered ({error}): "
        f"its folder must be writable and have room for two copies of it; see to that, or {ELSEWHERE}"
    )


def duckdb_message(error: Exception) -> str:
    """Return DuckDB's own message without its stack trace."""
    return str(error).split("\n\nStack Trace", 1)[0].strip()

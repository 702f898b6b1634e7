"""DuckDB's errors as sentences that say what is wrong and what to do. Pure but for a look at who holds a lock."""

import errno
import os
import re

from piano_jupyter.errors import StoreError, StoreLockedError
from piano_jupyter.store.duckdb.lock import ELSEWHERE, command_of, without_locks

LOCK = re.compile(r"Could not set lock on file .*?\": (?P<why>.+?)\.(?: See also |\Z)", re.DOTALL)
HOLDER = re.compile(r"held in (?:(?P<program>.+) )?\(?PID (?P<pid>\d+)")
TAKEN = ("Resource temporarily unavailable", "Permission denied")  # how fcntl says that a lock is held
FULL = ("No space left on device", "File too large", "Disk quota exceeded")
FORBIDDEN = ("Permission denied", "Read-only file system", "Operation not permitted")
NEWER = "created with a newer version of DuckDB"
DAMAGED = (
    "Loading external extensions is disabled",  # which another program's file would need
    "is an existing extension",  # the same, where they may be loaded and none is there
    "not a valid DuckDB database file",
    "Corrupt database file",
    "Could not read enough bytes from file",
    "Failed to load metadata pointer",
    "Failure while replaying WAL",
    "Serialization Error",
)
SYSTEM = frozenset(map(os.strerror, errno.errorcode))  # what is wrong then is not what stands in the file
SURROGATE = re.compile(r"surrogate '(\\ud[89a-f][0-9a-f]{2})'", re.IGNORECASE)


def fault(error: Exception, name: str) -> StoreError:
    """Return what to raise for an error that DuckDB raised while the database called `name` was in use."""
    text = str(error)
    if any(sign in text for sign in FULL):
        return StoreError(
            f"no room left on the disk of database {name}: free some and try again; what was being kept may be lost"
        )
    if found := SURROGATE.search(text):
        return StoreError(
            f"the text holds {found[1]}, half of a surrogate pair, which cannot be kept; take it out or replace it"
        )
    return StoreError(f"database {name} refused: {words(error)}")


def opening_fault(error: Exception, name: str) -> StoreError:
    """Return what to raise for an error that DuckDB raised while it opened the database."""
    text, said = str(error), words(error)
    if found := LOCK.search(text):
        return _locked(found["why"], name)
    if "different configuration" in text:
        return StoreLockedError(
            f"this process has {name} open with duckdb.connect: close that connection, or {ELSEWHERE}"
        )
    what = f"cannot be opened ({said}): fix that"
    if any(sign in text for sign in FORBIDDEN):
        what = f"cannot be written ({said}): allow it"
    elif any(sign in text for sign in FULL):
        return fault(error, name)
    elif NEWER in text:
        what = f"was written by a newer DuckDB ({said.splitlines()[0]}): pip install -U piano_jupyter duckdb"
    elif "Out of Memory" in text or isinstance(error, MemoryError):
        return StoreError(f"there is too little memory to open database {name} ({said}): free some and try again")
    elif any(sign in text for sign in DAMAGED) and not any(told in text for told in SYSTEM):
        what = f"is damaged or not one of DuckDB's ({said}): move it out of the way"
    return StoreError(f"database {name} {what}, or {ELSEWHERE}")


def schema_fault(error: Exception, name: str) -> StoreError:
    """Return what to raise where DuckDB has opened the database, and refused what Piano then asked of it."""
    return StoreError(
        f"database {name} was opened, but does not fit this piano_jupyter ({words(error).splitlines()[0]}): "
        f"another program changed its tables, or piano_jupyter has an error, please report it; meanwhile {ELSEWHERE}"
    )


def _locked(why: str, name: str) -> StoreError:
    """Return what to raise where DuckDB could not lock the file: another program has it, or there are no locks."""
    if found := HOLDER.search(why):
        pid = int(found["pid"])
        holder = f"process {pid} ({command_of(pid) or found['program'] or 'unknown'})"
        if pid == 0:
            holder = "a process of another container, which cannot be seen from here"
        return StoreLockedError(f"database {name} is open in {holder}: stop that kernel, or {ELSEWHERE}")
    if any(sign in why for sign in TAKEN):
        return StoreLockedError(f"another process has had database {name} open just now ({why}): try again")
    return without_locks(name, why)


def words(error: Exception) -> str:
    """Return DuckDB's own words, without the stack traces that some carry."""
    return str(error).split("\n\nStack Trace", 1)[0].strip()

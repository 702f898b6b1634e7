"""DuckDB's errors as sentences that say what is wrong and what to do. Pure but for a look at who holds a lock."""

import re
from pathlib import Path

from piano_jupyter.errors import StoreError, StoreLockedError
from piano_jupyter.store.files import ELSEWHERE
from piano_jupyter.truncation import truncated

LOCK = re.compile(r"Could not set lock on file.*?(?:held in (?P<program>.+?) )?\(PID (?P<pid>\d+)\)", re.DOTALL)
FULL = ("No space left on device", "File too large", "Disk quota exceeded")
FORBIDDEN = ("Permission denied", "Read-only file system", "Operation not permitted")
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
    text = str(error)
    if found := LOCK.search(text):
        holder = f"process {found['pid']} ({_command(int(found['pid'])) or found['program'] or 'unknown'})"
        return StoreLockedError(f"database {name} is open in {holder}: stop that kernel, or {ELSEWHERE}")
    if "different configuration" in text:
        return StoreLockedError(
            f"this process has {name} open with duckdb.connect: close that connection, or {ELSEWHERE}"
        )
    if any(sign in text for sign in FORBIDDEN):
        return StoreError(f"database {name} cannot be written ({words(error)}): allow it, or {ELSEWHERE}")
    if any(sign in text for sign in FULL):
        return fault(error, name)
    return StoreError(
        f"database {name} is damaged or not one of DuckDB's ({words(error)}): move it out of the way, or {ELSEWHERE}"
    )


def words(error: Exception) -> str:
    """Return DuckDB's own words, without the stack traces that some carry."""
    return str(error).split("\n\nStack Trace", 1)[0].strip()


def _command(pid: int) -> str:
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
    command = " ".join(arguments.split())
    return truncated(command, 80)

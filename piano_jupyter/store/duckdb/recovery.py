"""What helps where DuckDB refuses a file: the repair of an interrupted checkpoint, the recovery of a damaged file.

Everything is tried on a copy, in a process of its own. The file itself is changed last, in steps of which each leaves a
file that opens, or that the next opening goes on with:

* A repair writes eight bytes, the right checksum of a block whose rewriting was interrupted.
* A recovery leaves `FILE.recovered` and its report; then the damaged file gets the name `FILE.damaged-TIME`, with its
  log and the report, and the recovered one takes its place.

Nothing here may run while this process has the file open in DuckDB: closing it here would drop DuckDB's lock.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb

from piano_jupyter.errors import StoreError
from piano_jupyter.store.duckdb import file_format as form
from piano_jupyter.text.json_text import parse_json

COPY, RECOVERED, REPORT = ".recovering", ".recovered", ".recovered.txt"  #: after the name of the file
CHUNK_BYTES = 1 << 20

#: What a table's rows are called in a report: one, several. What is not here is no record of its own.
KINDS: Mapping[str, tuple[str, str]] = {
    "agents": ("agent", "agents"),
    "threads": ("thread", "threads"),
    "messages": ("message", "messages"),
    "tool_calls": ("tool call", "tool calls"),
    "tool_results": ("tool result", "tool results"),
    "attachments": ("attachment", "attachments"),
    "approvals": ("approval request", "approval requests"),
    "decisions": ("approval decision", "approval decisions"),
    "jobs": ("job", "jobs"),
}


def finish_recovery(name: str) -> str:
    """Put a recovered file in its place, if a recovery was interrupted in doing so; return its report, or "".

    Raises StoreError for a report that cannot be read.
    """
    path = os.path.realpath(name)
    try:
        report = parse_json(Path(f"{path}{REPORT}").read_text(encoding="utf-8"))
        kept, sentence = f"{path}.damaged-{report['time']}", str(report["sentence"])
    except FileNotFoundError:  # if there is a recovery, it was interrupted before it was complete
        _delete(f"{path}{RECOVERED}")
        _delete_copy(path)
        return ""
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}{REPORT} is no report of a recovery ({error}); move it elsewhere") from error
    recovered = f"{path}{RECOVERED}"
    if os.path.lexists(recovered):
        if not os.path.lexists(kept):
            _move(path, kept)
        for suffix in form.LOG_SUFFIXES:
            _move(f"{path}{suffix}", f"{kept}{suffix}")
        _sync_folder(path)
        os.replace(recovered, path)  # noqa: PTH105
        _sync_folder(path)
    _move(f"{path}{REPORT}", f"{kept}.txt")
    return sentence


def set_incomplete_aside(name: str) -> str:
    """Move a file out of the way that was not even created when its process died; return the report, or "".

    It has no blocks, its headers are incomplete, and there is no log: nothing was ever stored in it.
    """
    path = os.path.realpath(name)
    file = Path(path)
    if not file.is_file() or os.path.lexists(f"{path}.wal") or file.stat().st_size > form.BLOCKS_START:
        return ""
    head = _head(path)
    if form.read_headers(head) is not None:
        return ""
    if not head:
        _delete(path)
        return ""
    if not form.is_beginning(head):
        return ""
    kept = f"{path}.damaged-{_time()}"
    _move(path, kept)
    return (
        f"the creation of database {name} was interrupted before anything could be stored in it: it was created again; "
        f"the incomplete file is kept as {kept}"
    )


def set_orphaned_log_aside(name: str) -> str:
    """Keep a log whose database file is gone, which DuckDB would delete without a word; return the report, or ""."""
    path = os.path.realpath(name)
    log = _read(f"{path}.wal")
    if os.path.lexists(path) or not log:
        return ""
    kept = f"{path}.damaged-{_time()}"
    for suffix in form.LOG_SUFFIXES:
        _move(f"{path}{suffix}", f"{kept}{suffix}")
    _sync_folder(path)
    count = _number(form.commits_from(log, 0), ("change", "changes"))
    return (
        f"the file of database {name} is gone, and only its log was left, with {count}: a new database was created; "
        f"the log is kept as {kept}.wal; if you have the file, put it beside the log, as {kept}, and restore that"
    )


def is_log_broken(name: str) -> bool:
    """Return whether commits of the log lie behind a place where DuckDB would stop to read it, without a word."""
    return form.broken_at(_read(f"{os.path.realpath(name)}.wal")) is not None


def is_repaired(name: str) -> bool:
    """Repair a file whose checkpoint was interrupted; return whether that was what kept DuckDB from opening it.

    DuckDB rewrites its newest metadata block in place before the header of the new checkpoint is written. A process
    that is killed in the middle leaves a block whose checksum is wrong, but of which all is right that the old header
    uses. Raises OSError.
    """
    path = os.path.realpath(name)
    if not form.ends_with_checkpoint(_read(f"{path}.wal")) or form.read_headers(_head(path)) is None:
        return False
    try:
        _copy(path)
        done = in_own_process("verify", f"{path}{COPY}")
        if not done.get("blocks"):
            return False
        with open(path, "r+b", buffering=0) as file:  # noqa: PTH123  Beside os.pwrite.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for at in done["blocks"]:
                block = os.pread(file.fileno(), form.block_size(at), at)
                os.pwrite(file.fileno(), form.with_checksum(block)[: form.CHECKSUM_BYTES], at)
            os.fsync(file.fileno())
    except BlockingIOError:
        return True  # another program has the file by now: opening it again says which
    finally:
        _delete_copy(path)
    return True


def recover(name: str) -> str:
    """Put what can be read of a damaged file in its place; return the report, or "" where nothing was changed."""
    return finish_recovery(name) if has_recovered(name) else ""


def has_recovered(name: str) -> bool:
    """Put what can be read of a damaged file beside it, for `finish_recovery`; return whether that could be done.

    Nothing is changed where this is no DuckDB file of a version that is known here, where it was written by a newer
    Piano, or where nothing can be read. Raises OSError.
    """
    path = os.path.realpath(name)
    if form.corrected_head(_head(path)) is None:
        return False
    is_complete = False
    try:
        _copy(path)
        done = _salvaged(f"{path}{COPY}")
        if not any(kept for kept, _ in done.get("tables", {}).values()):
            return False
        time = _time()
        sentence = _sentence(name, f"{path}.damaged-{time}", done)
        _sync(f"{path}{COPY}")
        _move(f"{path}{COPY}", f"{path}{RECOVERED}")
        _write(f"{path}{COPY}", json.dumps({"time": time, "sentence": sentence}))
        _sync_folder(path)
        _move(f"{path}{COPY}", f"{path}{REPORT}")  # from here on it counts
        is_complete = True
        _sync_folder(path)
    finally:
        _delete_copy(path)
        if not is_complete:
            _delete(f"{path}{RECOVERED}")
    return True


def _time() -> str:
    return datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")


def _salvaged(copy: str) -> dict[str, Any]:
    """Return what could be salvaged of a copy.

    Where DuckDB crashes, damaged blocks are left out the next time, then the table over which it crashes.
    """
    source, task, skipped = copy.removesuffix(COPY), "salvage", list[str]()
    while True:
        done = in_own_process(task, copy, *skipped)
        table = done.get("table")
        if table is None or table in skipped:
            return done if table is None else {}
        if task == "strict":
            skipped.append(table)
        task = "strict"
        _copy(source)


def in_own_process(task: str, copy: str, *tables: str) -> dict[str, Any]:
    """Run a task of the salvage program; return the last thing that it told, or {}.

    Raises OSError where the machine has no room or no memory for it.
    """
    folders = {str(Path(module.__file__ or "").parents[up]) for module, up in ((duckdb, 1), (form, 3))}
    program = [sys.executable, "-P", "-m", "piano_jupyter.store.duckdb.salvage", task, copy, *tables]
    with subprocess.Popen(  # noqa: S603  Our own program.
        program,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(folders)},
        stdin=subprocess.PIPE,  # its end is ours: it ends with us
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        umask=0o077,  # it makes copies
    ) as process:
        assert process.stdout is not None
        return last_told(process.stdout.read())


def last_told(output: bytes) -> dict[str, Any]:
    """Return what the salvage program told last, or {}. Raises OSError where that is an error of the machine."""
    try:
        told = parse_json(output.decode(errors="replace").splitlines()[-1])
    except (IndexError, ValueError):
        return {}
    if not isinstance(told, dict):
        return {}
    if "error" in told:
        raise OSError(told["error"])
    return told


def _sentence(name: str, kept: str, done: dict[str, Any]) -> str:
    """Return what is told of a recovery: what there is, what is missing, and where the damaged file is."""
    tables = {table: done["tables"][table] for table in KINDS if table in done["tables"]}
    recovered = _list(_number(kept, KINDS[table]) for table, (kept, _) in tables.items() if kept) or "no records"
    missing = [
        _number(total - kept, KINDS[table]) if total is not None else f"an unknown number of {KINDS[table][1]}"
        for table, (kept, total) in tables.items()
        if total is None or total > kept
    ]
    if done["commits_lost"] == 1 and not (missing or done["is_older"] or done["is_unsure"] or done["doubtful"]):
        return (
            f"the last change to database {name} was not written completely, as when the power fails meanwhile: "
            f"everything before it is there ({recovered}); the file as it was is kept as {kept}"
        )
    if done["commits_lost"]:
        missing.append(f"up to {_number(done['commits_lost'], ('change', 'changes'))} at the end of its log")
    if done["is_older"]:
        missing.append("what was saved between its last two checkpoints")
    parts = [f"not recovered: {_list(missing)}" if missing else "nothing is missing"]
    if done["is_unsure"]:
        parts = [*parts[: len(missing)], "its directory was damaged too, so more may be missing"]
    doubtful = [_number(count, KINDS[table]) for table, count in done["doubtful"].items() if table in KINDS]
    if doubtful:
        parts.append(f"one value may be wrong among {_list(doubtful)} from damaged blocks")
    told = "; ".join(parts)
    return f"database {name} was damaged: recovered {recovered}; {told}; the damaged file is kept as {kept}"


def _list(parts: Any) -> str:
    *most, last = [*parts] or [""]
    return f"{', '.join(most)} and {last}" if most else last


def _number(count: int, words: tuple[str, str]) -> str:
    return f"{count} {words[count != 1]}"


def _copy(path: str) -> None:
    """Copy a file and its logs to where they can be tried."""
    _delete_copy(path)
    for suffix in ("", *form.LOG_SUFFIXES):
        if os.path.lexists(f"{path}{suffix}"):
            with Path(f"{path}{suffix}").open("rb") as source, _created(f"{path}{COPY}{suffix}") as copy:
                shutil.copyfileobj(source, copy, CHUNK_BYTES)


def _delete_copy(path: str) -> None:
    for each in ("", ".new"):
        for suffix in ("", *form.LOG_SUFFIXES):
            _delete(f"{path}{COPY}{each}{suffix}")


def _created(path: str) -> Any:
    """Create a file that only the user can read; what is in its place goes."""
    _delete(path)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")


def _write(path: str, text: str) -> None:
    with _created(path) as file:
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def _head(path: str) -> bytes:
    return _read(path, form.BLOCKS_START)


def _read(path: str, size: int = -1) -> bytes:
    """Return the beginning of a file; nothing where none is there, or a folder or a pipe."""
    if not os.path.isfile(path):  # noqa: PTH113
        return b""
    with open(path, "rb") as file:  # noqa: PTH123
        return file.read(size)


def _delete(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108


def _move(path: str, to: str) -> None:
    with suppress(FileNotFoundError):
        os.replace(path, to)  # noqa: PTH105


def _sync(path: str) -> None:
    with open(path, "rb") as file:  # noqa: PTH123
        os.fsync(file.fileno())


def _sync_folder(path: str) -> None:
    folder = os.open(os.path.dirname(path), os.O_RDONLY)  # noqa: PTH120
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

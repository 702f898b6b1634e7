"""Salvage what can be read of a damaged copy of a database. A program of its own: DuckDB may crash on such a file.

    python -m piano_jupyter.store.duckdb.salvage verify|salvage|strict COPY [TABLE ...]

It changes the copy, prints what it did as JSON on its last line, and leaves the tables that are named out. Where a
block cannot be put right, it is read as it is, and each of its rows is looked at; `strict` leaves it out: DuckDB may
crash on it. An error of the machine (no room, no memory) ends it: it says nothing about the file. The program ends with
its parent, which holds its standard input.
"""

import json
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb

from piano_jupyter.errors import StoreError
from piano_jupyter.store.duckdb import file_format as form
from piano_jupyter.store.duckdb.codec import records_of
from piano_jupyter.store.duckdb.error_messages import cannot_write, duckdb_message
from piano_jupyter.store.duckdb.migrate import Migration, migrate, migrations
from piano_jupyter.store.duckdb.queries import TABLES
from piano_jupyter.store.duckdb.search_index import INDEX_TABLES

CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "threads": 1,
    "checkpoint_threshold": "1TB",  # what is only tried leaves the file as it is
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
}
BAD_BLOCK = re.compile(r"in block at location (\d+)")
NEW_SUFFIX = ".new"  #: where the rows that can be read are copied to
MAX_GUESSES = 10_000  #: a guess takes a millisecond or two
ROWS_AT_ONCE = 122_880  #: a row group
WITHOUT_KEY = {"batch_answers"}  #: the tables that have no primary key

ROWS_ABOUT = "SELECT estimated_size FROM duckdb_tables() WHERE database_name = $database AND table_name = $table"
SCHEMA_VERSION = "SELECT max(version) FROM schema_version"
CURRENT = "SELECT current_database()"
TABLE_NAMES = (
    "SELECT table_name FROM duckdb_tables() WHERE database_name = $database AND NOT internal ORDER BY table_oid"
)
COLUMN_NAMES = """
SELECT column_name FROM duckdb_columns() WHERE database_name = $database AND table_name = $table ORDER BY column_index
"""


def verify(copy: Path) -> dict[str, Any]:
    """Put right the checksums of the blocks that keep a copy from being opened, and read everything once."""
    connection, blocks = _open_with_checksums(copy)
    try:
        _scan(connection)
    finally:
        connection.close()
    return {"blocks": blocks}


def salvage(copy: Path, skipped: list[str], *, strict: bool) -> dict[str, Any]:
    """Make of a copy a database that holds all that can be read of it; tell what was found and what is missing."""
    done: dict[str, Any] = {"commits_lost": 0, "is_older": False, "is_unsure": False, "doubtful": {}, "tables": {}}
    if form.corrected_head(_read(copy, form.BLOCKS_START)) is None:
        return {}
    whole = _correct_blocks(copy, done)
    _correct_logs(copy, done)
    connection = _open(copy, done)
    if connection is None:
        return {}
    try:
        is_newer = (connection.execute(SCHEMA_VERSION).fetchall()[0][0] or 0) > migrations()[-1].version
    except duckdb.Error:
        is_newer = False
    if is_newer:
        connection.close()
        return {"is_newer": True}
    with _unless_of_machine(duckdb.Error):
        if whole and not done["is_unsure"] and not skipped:
            done["tables"] = {table: [rows, rows] for table, rows in _scan(connection).items()}
            connection.execute("CHECKPOINT")
            connection.close()
            return done
    _copy_tables(connection, copy, skipped, done, strict=strict)
    connection.close()
    _remove(copy)
    Path(f"{copy}{NEW_SUFFIX}").replace(copy)
    return done


def _open_with_checksums(copy: Path) -> tuple[duckdb.DuckDBPyConnection, list[int]]:
    """Open a file; where DuckDB refuses a block for its checksum, the block gets the one that fits. Return which."""
    blocks: list[int] = []
    while True:
        try:
            return duckdb.connect(copy, config=CONFIG), blocks
        except duckdb.Error as error:
            found = BAD_BLOCK.search(str(error))
            if found is None or int(found[1]) in blocks:
                raise
            blocks.append(int(found[1]))
            _accept_block(copy, blocks[-1])


def _accept_block(copy: Path, at: int) -> None:
    """Give a block the checksum that fits what is in it."""
    _write_block(copy, at, form.with_checksum(_read_block(copy, at)))


def _read_block(copy: Path, at: int) -> bytes:
    with copy.open("rb") as file:
        return os.pread(file.fileno(), form.block_size(at), at)


def _write_block(copy: Path, at: int, block: bytes) -> None:
    with copy.open("r+b") as file:
        os.pwrite(file.fileno(), block, at)


def _scan(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Read all rows of all tables; return how many each has."""
    counts = {}
    for table in _tables(connection, _name(connection)):
        query = f'SELECT count(*), bit_xor(hash(t)) FROM "{table}" t'  # noqa: S608  A name from the catalog.
        counts[table] = connection.execute(query).fetchall()[0][0]
    return counts


def _tables(connection: duckdb.DuckDBPyConnection, database: str) -> list[str]:
    return [name for (name,) in connection.execute(TABLE_NAMES, {"database": database}).fetchall()]


def _name(connection: duckdb.DuckDBPyConnection) -> str:
    return str(connection.execute(CURRENT).fetchall()[0][0])


def _correct_blocks(copy: Path, done: dict[str, Any]) -> bool:
    """Put right what can be of the headers and blocks; return whether all of them now fit their checksums."""
    whole = True
    with copy.open("r+b") as file:
        head = os.pread(file.fileno(), form.BLOCKS_START, 0)
        right = form.corrected_head(head)
        if right is not None and right != head:
            os.pwrite(file.fileno(), right, 0)
            done["is_older"] = not _is_newest(copy, right)
        for at in range(form.BLOCKS_START, os.fstat(file.fileno()).st_size, form.BLOCK_BYTES):
            block = os.pread(file.fileno(), form.BLOCK_BYTES, at)
            if form.is_valid(block):
                continue
            better = form.corrected_block(block)
            if better is None:
                whole = False
            else:
                os.pwrite(file.fileno(), better, at)
    return whole


def _is_newest(copy: Path, head: bytes) -> bool:
    """Return whether these headers are of the checkpoint that the log goes on from, as far as there is one."""
    headers, log = form.read_headers(head), _read(Path(f"{copy}.wal"))
    return headers is None or not log or log.startswith(form.log_header(headers))


def _correct_logs(copy: Path, done: dict[str, Any]) -> None:
    """Put right what can be of the logs; where a record stays damaged, cut off the log before it."""
    headers = form.read_headers(_read(copy, form.BLOCKS_START))
    cut = False
    for suffix in form.LOG_SUFFIXES:
        path = Path(f"{copy}{suffix}")
        log = _read(path)
        if not log:
            continue
        if cut:  # it went on from the log that is cut
            done["commits_lost"] += form.commits_from(log, 0)
            path.unlink()
            continue
        right, lost = _corrected_log(log, headers)
        done["commits_lost"] += lost
        cut = lost > 0
        if right != log:
            path.write_bytes(right)


def _corrected_log(log: bytes, headers: form.Headers | None) -> tuple[bytes, int]:
    """Return a log up to the first record that cannot be put right, and how many commits follow there."""
    start = form.log_start(log)
    if headers is not None:
        expected = form.log_header(headers)
        is_near = sum(a != b for a, b in zip(log, expected, strict=False)) == 1 and len(log) > len(expected)
        if is_near:
            log, start = expected + log[len(expected) :], len(expected)
    if start is None:
        return b"", form.commits_from(log, 0)
    parts, end = [log[:start]], start
    for record in form.log_records(log, start):
        data: bytes | None = record.data
        if form.checksum(record.data) != record.stored:
            data = form.corrected(record.data, record.stored)
        if data is None:
            break
        parts += [form.FRAME.pack(len(data), form.checksum(data)), data]
        end = record.end
    return b"".join(parts), form.commits_from(log, end)


def _open(copy: Path, done: dict[str, Any]) -> duckdb.DuckDBPyConnection | None:
    """Open a copy, if need be with the checksums of damaged blocks put right, or without its log."""
    for is_logged in (True, False):
        if not is_logged:
            for suffix in form.LOG_SUFFIXES:
                log = Path(f"{copy}{suffix}")
                done["commits_lost"] += form.commits_from(_read(log), 0)
                log.unlink(missing_ok=True)
        with _unless_of_machine(duckdb.Error, OSError, UnicodeError):
            blocks = _guess_blocks(copy)
            connection, _ = _open_with_checksums(copy)
            done["is_unsure"] = bool(blocks)
            return connection
    return None


def _guess_blocks(copy: Path) -> list[int]:
    """Find out how the blocks that keep a copy from being opened must be; return those where that cannot be told.

    One that can be read all the same, with another checksum, stays as it is. Else one byte of it is put right in each
    way that fits its checksum, until all can be read.
    """
    damaged: dict[int, bytes] = {}
    while (at := refused_block(copy)) is not None and at not in damaged:
        damaged[at] = _read_block(copy, at)
        _accept_block(copy, at)
    if not damaged:
        return []
    with closing(_Trial(copy)) as trial:
        if trial.is_readable():
            return [*damaged]
        for at, block in damaged.items():
            for guess in islice(form.corrections(block), MAX_GUESSES):
                _write_block(copy, at, guess)
                if trial.is_readable():
                    return [each for each in damaged if each != at]
            _write_block(copy, at, form.with_checksum(block))
    return [*damaged]


def refused_block(copy: Path) -> int | None:
    """Return which block DuckDB refuses for its checksum when it opens a file, if any. The file stays as it is.

    Opened for writing, one that is wrong but readable would be checkpointed when it is closed.
    """
    try:
        duckdb.connect(copy, read_only=True, config=CONFIG).close()
    except (duckdb.Error, UnicodeError) as error:
        found = BAD_BLOCK.search(str(error))
        return int(found[1]) if found else None
    return None


class _Trial:
    """Tries to read a copy, again and again with the same DuckDB: to start one takes ten times as long."""

    def __init__(self, copy: Path) -> None:
        self._attach = f"ATTACH {_quoted(copy)} AS trial (READ_ONLY)"
        self._start()

    def is_readable(self) -> bool:
        """Return whether all rows of all tables can be read, but for blocks whose checksum is wrong."""
        try:
            self._connection.execute(self._attach)
            self._connection.execute("USE trial")
            _scan(self._connection)
        except (duckdb.Error, UnicodeError) as error:  # the message may quote what is damaged
            is_readable = BAD_BLOCK.search(str(error)) is not None
            if isinstance(error, duckdb.FatalException | duckdb.InternalException | UnicodeError):  # it may be broken
                self.close()
                self._start()
        else:
            is_readable = True
        self._connection.execute("USE memory")
        self._connection.execute("DETACH DATABASE IF EXISTS trial")
        return is_readable

    def close(self) -> None:
        self._connection.close()

    def _start(self) -> None:
        self._connection = duckdb.connect(config=CONFIG)


def _copy_tables(
    connection: duckdb.DuckDBPyConnection, copy: Path, skipped: list[str], done: dict[str, Any], *, strict: bool
) -> None:
    """Copy the rows that can be read into a new database beside the copy."""
    new = Path(f"{copy}{NEW_SUFFIX}")
    _remove(new)
    with duckdb.connect(new, config=CONFIG) as target:
        migrate(target, str(new), _known_to(connection))
        target.execute("DELETE FROM schema_version")
    connection.execute(f"ATTACH {_quoted(new)} AS rescued")
    known = _tables(connection, _name(connection))
    for table in _tables(connection, "rescued"):
        if table in INDEX_TABLES:  # made again from the messages; a part of it would hide messages from searches
            continue
        _tell({"table": table})  # where this crashes, the table is left out the next time
        total = _count(connection, table) if table in known else 0
        if table in known and table not in skipped:
            doubtful = _copy_table(connection, None if strict else copy, table)
            done["doubtful"] |= {table: doubtful} if doubtful else {}
        ((kept,),) = connection.execute(f"SELECT count(*) FROM rescued.{table}").fetchall()  # noqa: S608
        if kept or total != 0:
            done["tables"][table] = [kept, total]
    if done["tables"].get("schema_version", [0])[0] == 0:
        _note_versions(connection)
    connection.execute("CHECKPOINT rescued")
    connection.execute("DETACH rescued")


def _quoted(path: Path) -> str:
    return f"'{str(path).replace(chr(39), chr(39) * 2)}'"


def _known_to(connection: duckdb.DuckDBPyConnection) -> list[Migration]:
    """Return the migrations that a database has seen; all where it cannot tell."""
    try:
        versions = {version for (version,) in connection.execute("SELECT version FROM schema_version").fetchall()}
    except duckdb.Error:
        versions = set()
    return [each for each in migrations() if each.version in versions] or migrations()


def _note_versions(connection: duckdb.DuckDBPyConnection) -> None:
    for migration in migrations():
        connection.execute(
            "INSERT INTO rescued.schema_version VALUES ($version, $checksum, now()::TIMESTAMP)",
            {"version": migration.version, "checksum": migration.checksum},
        )


def _count(connection: duckdb.DuckDBPyConnection, table: str) -> int | None:
    try:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0])  # noqa: S608  One of ours.
    except duckdb.Error:
        return None


def _copy_table(connection: duckdb.DuckDBPyConnection, copy: Path | None, table: str) -> int:
    """Copy the rows of a table that can be read; return how many of them are of a damaged block in the copy."""
    columns, wanted = (
        [name for (name,) in connection.execute(COLUMN_NAMES, {"database": each, "table": table}).fetchall()]
        for each in (_name(connection), "rescued")
    )
    names = ", ".join(f'"{name}"' for name in wanted if name in columns)
    copied = _RowCopy(connection, copy, table, names)
    if names:
        for low, high in _row_groups(connection, table):
            copied.copy(low, high)
    return copied.doubtful


def _row_groups(connection: duckdb.DuckDBPyConnection, table: str) -> Iterator[tuple[int, int]]:
    """Yield the ranges of row ids that are copied at once; the last one ends where the table does."""
    try:
        ((last,),) = connection.execute(f"SELECT max(rowid) FROM {table}").fetchall()  # noqa: S608  One of ours.
    except duckdb.Error:
        ((last,),) = connection.execute(ROWS_ABOUT, {"database": _name(connection), "table": table}).fetchall()
    end = (last if last is not None else -1) + 1
    for low in range(0, end, ROWS_AT_ONCE):
        yield low, min(low + ROWS_AT_ONCE, end)


class _RowCopy:
    """Copies the rows of a table from a database that may be damaged to the one called `rescued`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, file: Path | None, table: str, names: str) -> None:
        self.doubtful = 0  #: rows of blocks that are damaged
        self._connection, self._file, self._table, self._names = connection, file, table, names
        self._kind = next((kind for kind, name in TABLES.items() if name == table), None)
        known = "" if table in WITHOUT_KEY else "OR IGNORE "  # of rows with one key the first is taken
        self._insert = f"INSERT {known}INTO rescued.{table} ({names})"
        self._select = f"SELECT {names} FROM {table} WHERE rowid"  # noqa: S608  Names of ours, or from the catalog.

    def copy(self, low: int, high: int) -> None:
        """Copy the rows of a range, or those of its halves that can be read: DuckDB reads 2,048 rows together."""
        try:
            self._connection.execute(f"{self._insert} {self._select} >= {low} AND rowid < {high}")
        except (duckdb.FatalException, duckdb.InternalException):
            raise
        except duckdb.Error as error:
            if _is_of_machine(error):
                raise
            if high - low > form.VECTOR_ROWS:
                middle = low + ((high - low) // 2 + form.VECTOR_ROWS - 1) // form.VECTOR_ROWS * form.VECTOR_ROWS
                self.copy(low, middle)
                self.copy(middle, high)
            elif self._file is not None and self._accept_blocks(self._file, error, low, high):
                for row in range(low, high):
                    self._copy_doubtful(row)

    def _accept_blocks(self, file: Path, error: duckdb.Error, low: int, high: int) -> bool:
        """Give the damaged blocks of a range the checksums that fit; return whether there are any."""
        accepted: set[int] = set()
        while (found := BAD_BLOCK.search(str(error))) and int(found[1]) not in accepted:
            accepted.add(int(found[1]))
            _accept_block(file, int(found[1]))
            try:
                self._connection.execute(f"{self._select} >= {low} AND rowid < {high}").fetchall()
            except duckdb.Error as next_error:
                error = next_error
            else:
                break
        return bool(accepted)

    def _copy_doubtful(self, row: int) -> None:
        """Copy a row of a damaged block, if Piano can read it."""
        try:
            result = self._connection.execute(f"{self._select} = {row}")
            columns, rows = [column[0] for column in result.description], result.fetchall()
            if self._kind is not None:
                records_of(self._kind, columns, rows)
            for values in rows:
                self._connection.execute(f"{self._insert} VALUES ({', '.join('?' * len(values))})", values)
                self.doubtful += 1
        except (duckdb.FatalException, duckdb.InternalException):
            raise
        except (duckdb.Error, StoreError, UnicodeError) as error:
            if _is_of_machine(error):
                raise


def _is_of_machine(error: Exception) -> bool:
    """Return whether an error says nothing about the file: there is no room, or no memory."""
    return cannot_write(error) or isinstance(error, duckdb.OutOfMemoryException | MemoryError)


@contextmanager
def _unless_of_machine(*kinds: type[Exception]) -> Iterator[None]:
    """Go on after errors of these kinds, but for those of the machine."""
    try:
        yield
    except kinds as error:
        if _is_of_machine(error):
            raise


def _read(path: Path, size: int = -1) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(size)
    except FileNotFoundError:
        return b""


def _remove(database: Path) -> None:
    for suffix in ("", *form.LOG_SUFFIXES):
        Path(f"{database}{suffix}").unlink(missing_ok=True)


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


def _tell(what: dict[str, Any]) -> None:
    sys.stdout.write(f"{json.dumps(what)}\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> None:
    """Do what the command line says."""
    task, copy, *skipped = arguments
    try:
        done = verify(Path(copy)) if task == "verify" else salvage(Path(copy), skipped, strict=task == "strict")
    except (duckdb.Error, OSError, MemoryError) as error:
        if not _is_of_machine(error):
            raise
        done = {"error": duckdb_message(error)}
    _tell(done)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    main(sys.argv[1:])

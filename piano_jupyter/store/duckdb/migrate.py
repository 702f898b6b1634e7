"""Bring a database to the newest schema: numbered SQL files, forward only, each applied once in one transaction."""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from uuid import UUID, uuid4

import duckdb

from piano_jupyter.errors import StoreError
from piano_jupyter.store.duckdb import queries
from piano_jupyter.store.duckdb.codec import utc
from piano_jupyter.store.duckdb.lock import ELSEWHERE
from piano_jupyter.store.duckdb.operations import Connection


@dataclass(frozen=True, slots=True)
class Migration:
    """A numbered SQL file."""

    version: int
    text: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


def migrations() -> list[Migration]:
    """Return the shipped migrations in order."""
    folder = files("piano_jupyter.store").joinpath("migrations")
    scripts = [each for each in folder.iterdir() if each.name.endswith(".sql")]
    found = [Migration(int(each.name.split("_", 1)[0]), each.read_text(encoding="utf-8")) for each in scripts]
    return sorted(found, key=lambda each: each.version)


def migrate(connection: Connection, name: str, known: Sequence[Migration]) -> None:
    """Apply the migrations that database `name` lacks. Raises StoreError if it is not Piano's, newer, or changed."""
    applied = _applied(connection, name)
    newest = max((each.version for each in known), default=0)
    if applied and max(applied) > newest:
        raise StoreError(
            f"database {name} was written by a newer piano_jupyter (schema {max(applied)}, this one knows {newest}); "
            f"upgrade with pip install -U piano_jupyter, or {ELSEWHERE}"
        )
    for migration in known:
        if migration.version not in applied:
            _apply(connection, migration)
        elif applied[migration.version] != migration.checksum:
            raise StoreError(
                f"database {name} was made by another piano_jupyter: its migration {migration.version} is not the one "
                f"known here; install the version that made it, or {ELSEWHERE}"
            )


def upgrade_due(connection: Connection, name: str, known: Sequence[Migration]) -> int | None:
    """Return the first migration that a database of Piano's has not seen; None for a new one, and where none is."""
    applied = _applied(connection, name)
    missing = [each.version for each in known if each.version not in applied]
    is_newer = max(applied, default=0) > max((each.version for each in known), default=0)
    return min(missing) if applied and missing and not is_newer else None


def identify(connection: Connection) -> UUID:
    """Return the id of the database; give it one if it has none."""
    known = connection.execute(queries.IDENTITY).fetchall()
    identity = uuid4()
    if not known:
        connection.execute(queries.insert("identity", ["id"]), {"id": identity})
    elif len(known) == 1 and isinstance(known[0][0], UUID):
        return known[0][0]
    return identity  # a file that was tampered with gets a new id, which no folder trusts


def _applied(connection: Connection, name: str) -> dict[int, str]:
    tables = {table for (table,) in connection.execute(queries.TABLE_NAMES).fetchall()}
    if "schema_version" in tables:
        return dict(connection.execute(queries.SCHEMA_VERSIONS).fetchall())
    if tables:
        raise StoreError(
            f"database {name} holds tables that are not Piano's ({', '.join(sorted(tables)[:3])}); {ELSEWHERE}"
        )
    return {}


def _apply(connection: Connection, migration: Migration) -> None:
    connection.execute(queries.BEGIN)
    try:
        connection.execute(migration.text)
        note = {"version": migration.version, "checksum": migration.checksum, "applied_at": utc(datetime.now(UTC))}
        connection.execute(queries.insert("schema_version", note), note)
        connection.execute(queries.COMMIT)
    except Exception:
        with suppress(duckdb.Error):  # a commit that failed has ended the transaction
            connection.execute(queries.ROLLBACK)
        raise

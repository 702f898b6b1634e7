"""Migrations: each once, in order, whole or not at all."""

import duckdb
import pytest

from piano_jupyter.errors import StoreError
from piano_jupyter.store.migrate import Migration, migrate, migrations

SECOND = Migration(2, "ALTER TABLE agents ADD COLUMN color VARCHAR; UPDATE agents SET color = 'red'")


@pytest.fixture
def connection():
    with duckdb.connect() as connection:
        yield connection


def test_only_what_a_database_has_not_seen_is_run(connection):
    migrate(connection, "x", migrations())
    migrate(connection, "x", [*migrations(), SECOND])
    migrate(connection, "x", [*migrations(), SECOND])

    assert connection.execute("SELECT version FROM schema_version ORDER BY version").fetchall() == [(1,), (2,)]
    assert connection.execute("SELECT color FROM agents").fetchall() == []


def test_a_migration_that_fails_leaves_nothing_behind(connection):
    migrate(connection, "x", migrations())
    broken = Migration(2, "CREATE TABLE half (i INTEGER); SELECT * FROM nowhere")

    with pytest.raises(duckdb.Error, match="nowhere"):
        migrate(connection, "x", [*migrations(), broken])
    assert connection.execute("SELECT version FROM schema_version").fetchall() == [(1,)]
    assert connection.execute("SELECT * FROM duckdb_tables() WHERE table_name = 'half'").fetchall() == []


def test_a_newer_schema_is_refused_with_both_numbers(connection):
    migrate(connection, "x", [*migrations(), SECOND])

    with pytest.raises(
        StoreError, match=r"newer piano_jupyter \(schema 2, this one knows 1\); upgrade with pip install -U"
    ):
        migrate(connection, "x", migrations())


def test_a_migration_that_was_changed_is_refused_by_number(connection):
    migrate(connection, "x", migrations())

    with pytest.raises(StoreError, match="its migration 1 is not the one known here"):
        migrate(connection, "x", [Migration(1, migrations()[0].text + "-- changed")])


def test_somebody_else_s_database_is_left_alone(connection):
    connection.execute("CREATE TABLE sales (i INTEGER)")

    with pytest.raises(StoreError, match=r"holds tables that are not Piano's \(sales\)"):
        migrate(connection, "x", migrations())
    assert connection.execute("SELECT table_name FROM duckdb_tables()").fetchall() == [("sales",)]

"""Migrations: each once, in order, whole or not at all."""

from dataclasses import replace
from datetime import UTC, datetime

import duckdb
import pytest

from piano_jupyter.errors import StoreError
from piano_jupyter.records import JobStatus, Notebook
from piano_jupyter.store.duckdb.duckdb_store import DuckDBStore
from piano_jupyter.store.duckdb.migrate import Migration, migrate, migrations

TABLES = {"agents", "threads", "messages", "jobs", "tool_calls", "tool_results"}
SHIPPED = [each.version for each in migrations()]
NEWEST = SHIPPED[-1]
NEXT = Migration(NEWEST + 1, "ALTER TABLE agents ADD COLUMN color VARCHAR; UPDATE agents SET color = 'red'")


@pytest.fixture
def connection():
    with duckdb.connect() as connection:
        yield connection


def versions(connection):
    return [version for (version,) in connection.execute("SELECT version FROM schema_version ORDER BY 1").fetchall()]


def test_only_missing_migrations_are_applied(connection):
    migrate(connection, "x", migrations())
    migrate(connection, "x", [*migrations(), NEXT])
    migrate(connection, "x", [*migrations(), NEXT])

    assert versions(connection) == [*SHIPPED, NEXT.version]
    assert connection.execute("SELECT color FROM agents").fetchall() == []


def test_a_failed_migration_changes_nothing(connection):
    migrate(connection, "x", migrations())
    broken = Migration(NEXT.version, "CREATE TABLE half (i INTEGER); SELECT * FROM nowhere")

    with pytest.raises(duckdb.Error, match="nowhere"):
        migrate(connection, "x", [*migrations(), broken])
    assert versions(connection) == SHIPPED
    assert connection.execute("SELECT * FROM duckdb_tables() WHERE table_name = 'half'").fetchall() == []


def test_a_newer_schema_is_refused_with_both_numbers(connection):
    migrate(connection, "x", [*migrations(), NEXT])

    told = rf"newer piano_jupyter \(schema {NEXT.version}, this one knows {NEWEST}\); upgrade with pip install -U"
    with pytest.raises(StoreError, match=told):
        migrate(connection, "x", migrations())


def test_a_migration_that_was_changed_is_refused_by_number(connection):
    migrate(connection, "x", migrations())

    with pytest.raises(StoreError, match="its migration 1 is not the one known here"):
        migrate(connection, "x", [Migration(1, migrations()[0].text + "-- changed"), *migrations()[1:]])


def test_another_program_s_database_is_left_unchanged(connection):
    connection.execute("CREATE TABLE sales (i INTEGER)")

    with pytest.raises(StoreError, match=r"holds tables that are not Piano's \(sales\)"):
        migrate(connection, "x", migrations())
    assert connection.execute("SELECT table_name FROM duckdb_tables()").fetchall() == [("sales",)]


FIRST = """
INSERT INTO agents VALUES
    (uuid(), 1, 'ada', 'counts', 'm', 'Be exact.', '["bash"]', '["sql"]', '{"seed": 1}', TIMESTAMP '2026-01-01');
INSERT INTO threads
    SELECT uuid(), i + 1, 'talk ' || i, 'active', NULL, NULL, NULL, TIMESTAMP '2026-01-01' FROM range(3) r(i);
INSERT INTO messages SELECT uuid(), i + 1, (SELECT id FROM threads WHERE seq = 1), NULL, 'user', 'text ' || i, 'api',
    NULL, NULL, '', '{}', TIMESTAMP '2026-01-01' FROM range(5000) r(i);
INSERT INTO jobs SELECT uuid(), seq, thread_id, id, (SELECT id FROM agents), 'm',
    CASE seq WHEN 5000 THEN 'running' WHEN 4999 THEN 'queued' ELSE 'done' END, 1, 'kernel', NULL, inserted_at, NULL,
    NULL
    FROM messages;
INSERT INTO tool_calls SELECT uuid(), seq, id, 'bash', '{}', inserted_at FROM messages WHERE seq > 4000;
INSERT INTO tool_results SELECT id, 'ok', 'done', started_at FROM tool_calls;
"""


async def test_a_file_of_the_first_version_opens_with_all_its_rows(tmp_path):
    path = tmp_path / "piano.duckdb"
    with duckdb.connect(path) as connection:
        migrate(connection, "x", migrations()[:1])
        connection.execute(FIRST)
        kept = {table: connection.execute(f"FROM {table} ORDER BY ALL").fetchall() for table in TABLES}
    store = DuckDBStore(path)
    await store.open()
    (agent,) = await store.agents()
    (running,) = await store.recover((), 3, datetime(2026, 1, 2, tzinfo=UTC))
    queued = await store.jobs(JobStatus.QUEUED)
    await store.update_agent(replace(agent, max_iterations=2))
    await store.close()

    assert (agent.name, agent.enabled_tools, agent.options, agent.max_iterations) == (
        "ada",
        ("bash",),
        {"seed": 1},
        None,
    )
    assert [job.seq for job in queued] == [4999, 5000]
    assert running.hops == 0
    assert {job.notebook for job in [running, *queued]} == {Notebook("", "")}
    with duckdb.connect(path) as connection:
        for table in TABLES - {"agents", "jobs"}:
            newer = "* EXCLUDE (attachments)" if table in {"messages", "tool_results"} else "*"
            added = ("", "[]") if table == "messages" else ()  # nothing is known of what was typed
            assert connection.execute(f"SELECT {newer} FROM {table} ORDER BY ALL").fetchall() == [
                (*row, *added) for row in kept[table]
            ]
        added = "hops, schema, mode, rules, server, request_id, notebook_id, notebook_name, partial"
        query = f"SELECT * EXCLUDE ({added}) FROM jobs WHERE seq < 5000 ORDER BY ALL"
        jobs = connection.execute(query).fetchall()
        assert jobs == [job for job in kept["jobs"] if job[1] < 5000]
        assert connection.execute("SELECT name, max_iterations FROM agents").fetchall() == [("ada", 2)]

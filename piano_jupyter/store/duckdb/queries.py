"""The queries of the store, each with a name and a line that says what it is for. Values are always bound."""

from collections.abc import Collection, Iterable, Mapping

from piano_jupyter.batch_records import Batch
from piano_jupyter.records import Agent, Approval, Job, Message, Thread, ToolCall
from piano_jupyter.store.duckdb import batch_queries

#: Where each kind of record is kept.
TABLES: Mapping[type, str] = {
    Agent: "agents",
    Thread: "threads",
    Message: "messages",
    ToolCall: "tool_calls",
    Approval: "approvals",
    Job: "jobs",
    Batch: "batches",
}

BEGIN = "BEGIN TRANSACTION"

#: Nothing can be written in it, not even by a SELECT that has an INSERT inside.
BEGIN_READ_ONLY = "BEGIN TRANSACTION READ ONLY"

COMMIT = "COMMIT"
ROLLBACK = "ROLLBACK"

#: Rows hold UTC without a zone: `now()` in a user's query must mean the same.
USE_UTC = "SET GLOBAL TimeZone = 'UTC'"

#: In a kernel DuckDB would print a bar into some cell while a query takes long.
NO_PROGRESS_BAR = "SET enable_progress_bar = false"

#: From here on no query reaches a file, but in the folders that were allowed before.
NO_EXTERNAL_ACCESS = "SET enable_external_access = false"

#: From here on no query can loosen the settings.
NO_CHECKPOINT_AT_CLOSE = "PRAGMA disable_checkpoint_on_shutdown"
CHECKPOINT = "CHECKPOINT"
LOCK_SETTINGS = "SET lock_configuration = true"

#: The parse tree of a query, as JSON.
PARSE = "SELECT json_serialize_sql($query::VARCHAR)"

#: What is in the file, to see whether it is ours.
TABLE_NAMES = "SELECT table_name FROM duckdb_tables() WHERE NOT internal AND NOT temporary"

#: The migrations that the file has seen.
SCHEMA_VERSIONS = "SELECT version, checksum FROM schema_version ORDER BY version"

#: Which database this is.
IDENTITY = "SELECT id FROM identity"

#: Where the counters go on.
LAST_SEQS = " UNION ALL ".join(f"SELECT '{table}', max(seq) FROM {table}" for table in TABLES.values())  # noqa: S608

#: All agents, oldest first. They are few: a name is compared in Python, which knows every alphabet's cases.
AGENTS = "SELECT * FROM agents ORDER BY seq"

#: Threads of a status, or all; newest first.
THREADS = "SELECT * FROM threads WHERE $status::VARCHAR IS NULL OR status = $status ORDER BY seq DESC"

#: Whether a job is of a notebook.
OF_NOTEBOOK = "(($id <> '' AND notebook_id = $id) OR ($name <> '' AND notebook_name = $name))"

#: Which thread is current in a notebook: what is kept under its key, else what was kept last under its name.
KEPT_THREAD_ID = """
SELECT thread_id FROM notebooks WHERE id = $key OR ($name <> '' AND name = $name)
ORDER BY id = $key DESC, updated_at DESC LIMIT 1
"""

KEPT_THREAD = f"SELECT * FROM threads WHERE id = ({KEPT_THREAD_ID}) AND status = 'active'"  # noqa: S608  Our own.

#: Threads of a status, or all, in which a notebook has sent a job or that are current in it; newest first.
THREADS_OF_NOTEBOOK = f"""
SELECT * FROM threads
WHERE ($status::VARCHAR IS NULL OR status = $status)
    AND (id IN (SELECT thread_id FROM jobs WHERE {OF_NOTEBOOK}) OR id IN ({KEPT_THREAD_ID}))
ORDER BY seq DESC
"""  # noqa: S608  The conditions are our own.

KEEP_THREAD = """
INSERT INTO notebooks VALUES ($id, $name, $thread_id, $now)
ON CONFLICT (id) DO UPDATE SET name = excluded.name, thread_id = excluded.thread_id, updated_at = excluded.updated_at
"""

CHOOSE_BRANCH = """
INSERT INTO chosen_branches VALUES ($thread_id, $message_id, $after)
ON CONFLICT (thread_id) DO UPDATE SET message_id = excluded.message_id, after = excluded.after
"""

CHOSEN_BRANCH = "SELECT message_id, after FROM chosen_branches WHERE thread_id = $thread_id"

#: Keeps what is written for a thread, if there is that thread.
KEEP_DRAFT = """
INSERT INTO drafts SELECT id, $text, $now FROM threads WHERE id = $id
ON CONFLICT (thread_id) DO UPDATE SET text = excluded.text, updated_at = excluded.updated_at
"""

DELETE_DRAFT = "DELETE FROM drafts WHERE thread_id = $id"

DRAFT = "SELECT text FROM drafts WHERE thread_id = $id"

#: Keeps the files that go with a draft.
KEEP_DRAFT_FILES = """
INSERT INTO draft_files VALUES ($id, $attachments)
ON CONFLICT (thread_id) DO UPDATE SET attachments = excluded.attachments
"""

DRAFT_FILES = "SELECT attachments FROM draft_files WHERE thread_id = $id"

#: A question in a thread that is newer than some place in the order. (A range of seq: DuckDB skips what is older.)
NEWER_QUESTION = "SELECT id FROM messages WHERE seq > $seq AND thread_id = $thread_id AND role = 'user' LIMIT 1"

#: The newest so many messages of a thread (all where `last` is null), newest first.
MESSAGES = "SELECT * FROM messages WHERE thread_id = $thread_id ORDER BY seq DESC LIMIT $last"

#: A call with its result.
CALL = """
SELECT c.*, coalesce(r.status, 'started') AS status, r.result, r.finished_at,
    coalesce(r.attachments, '[]') AS attachments
FROM tool_calls c LEFT JOIN tool_results r ON r.call_id = c.id
WHERE c.id = $id
"""

#: A thread's calls, each with its result, in order.
CALLS = """
SELECT c.*, coalesce(r.status, 'started') AS status, r.result, r.finished_at,
    coalesce(r.attachments, '[]') AS attachments
FROM tool_calls c JOIN messages m ON m.id = c.message_id LEFT JOIN tool_results r ON r.call_id = c.id
WHERE m.thread_id = $thread_id
ORDER BY c.seq
"""

#: The calls of a job that have no result, in order.
OPEN_CALLS = """
SELECT c.*, 'started' AS status, NULL AS result, NULL AS finished_at, '[]' AS attachments
FROM tool_calls c JOIN messages m ON m.id = c.message_id ANTI JOIN tool_results r ON r.call_id = c.id
WHERE m.job_id = $job_id
ORDER BY c.seq
"""

#: The attachments with some hashes.
ATTACHMENTS = "SELECT * FROM attachments WHERE list_contains($hashes::VARCHAR[], sha256)"

#: Which of some hashes are stored.
KNOWN_HASHES = "SELECT sha256 FROM attachments WHERE list_contains($hashes::VARCHAR[], sha256)"

#: A question with its answer.
APPROVAL = """
SELECT a.*, d.allowed, coalesce(d.note, '') AS note, d.decided_at
FROM approvals a LEFT JOIN decisions d ON d.approval_id = a.id
WHERE a.id = $id
"""

#: The calls of a job that were asked about and have not begun: the newest question of each, in order.
UNBEGUN = """
SELECT a.*, d.allowed, coalesce(d.note, '') AS note, d.decided_at
FROM approvals a ANTI JOIN tool_calls c ON c.id = a.call_id LEFT JOIN decisions d ON d.approval_id = a.id
WHERE a.job_id = $job_id
QUALIFY row_number() OVER (PARTITION BY a.call_id ORDER BY a.seq DESC) = 1
ORDER BY a.seq
"""

#: The newest approval request of each call that has no result, if nobody has decided on it, in order.
OPEN_APPROVALS = """
SELECT a.*, d.allowed, coalesce(d.note, '') AS note, d.decided_at
FROM approvals a ANTI JOIN tool_results r ON r.call_id = a.call_id LEFT JOIN decisions d ON d.approval_id = a.id
WHERE a.job_id = $job_id
QUALIFY row_number() OVER (PARTITION BY a.call_id ORDER BY a.seq DESC) = 1 AND d.allowed IS NULL
ORDER BY a.seq
"""

#: Mark a job done, if this owner runs it under this claim; counts it. (With RETURNING it would cost twice as much.)
DONE_JOB = """
UPDATE jobs SET status = 'done', finished_at = $now
WHERE id = $id AND status = 'running' AND owner IS NOT DISTINCT FROM $owner
    AND request_id IS NOT DISTINCT FROM $request_id
"""

#: The jobs that are to answer a message, oldest first.
JOBS_OF_MESSAGE = "SELECT * FROM jobs WHERE message_id = $message_id ORDER BY seq"

#: The newest so many jobs (all where `last` is null) of these statuses or of all, of a thread or of all, newest first.
JOBS = """
SELECT * FROM jobs
WHERE ($statuses::VARCHAR[] IS NULL OR list_contains($statuses::VARCHAR[], status))
    AND ($thread_id::UUID IS NULL OR thread_id = $thread_id)
ORDER BY seq DESC LIMIT $last
"""

#: How much is kept, a row for each kind of record and for each status of jobs.
COUNTS = """
SELECT 'agents' AS kind, count(*) FROM agents WHERE NOT deleted
UNION ALL SELECT 'threads', count(*) FROM threads
UNION ALL SELECT 'messages', count(*) FROM messages
UNION ALL SELECT status, count(*) FROM jobs GROUP BY status
"""


#: What DuckDB calls the file that is open.
CURRENT_DATABASE = "SELECT current_database()"

#: How many of these threads there are.
HAS_THREADS = "SELECT count(*) FROM threads WHERE list_contains($ids::UUID[], id)"

OF_THREADS = "list_contains($ids::UUID[], thread_id)"

SEQS_OF_THREADS = f"SELECT seq FROM messages WHERE {OF_THREADS}"  # noqa: S608  The condition is our own.

#: What deletes all that belongs to some threads, by the table: what refers to a row goes before that row.
DELETE_THREADS: Mapping[str, str] = {
    "notebooks": f"UPDATE notebooks SET thread_id = NULL WHERE {OF_THREADS}",  # noqa: S608
    "drafts": f"DELETE FROM drafts WHERE {OF_THREADS}",  # noqa: S608
    "draft_files": f"DELETE FROM draft_files WHERE {OF_THREADS}",  # noqa: S608
    "decisions": f"DELETE FROM decisions WHERE approval_id IN (SELECT id FROM approvals WHERE {OF_THREADS})",  # noqa: S608
    "approvals": f"DELETE FROM approvals WHERE {OF_THREADS}",  # noqa: S608
    "tool_results": f"""
DELETE FROM tool_results WHERE call_id IN (
    SELECT c.id FROM tool_calls c JOIN messages m ON m.id = c.message_id WHERE {OF_THREADS}
)
""",  # noqa: S608
    "tool_calls": f"DELETE FROM tool_calls WHERE message_id IN (SELECT id FROM messages WHERE {OF_THREADS})",  # noqa: S608
    "chosen_branches": f"DELETE FROM chosen_branches WHERE {OF_THREADS}",  # noqa: S608
    "messages": f"DELETE FROM messages WHERE {OF_THREADS}",  # noqa: S608
    "jobs": f"DELETE FROM jobs WHERE {OF_THREADS}",  # noqa: S608
    "threads": "DELETE FROM threads WHERE list_contains($ids::UUID[], id)",
}

WITH_ATTACHMENTS = ("messages", "tool_results", "draft_files")  #: the tables that refer to attachments


def delete_unused_attachments(tables: Collection[str] = WITH_ATTACHMENTS) -> str:
    """Return what deletes the attachments that nothing refers to any more; a file has some of the tables."""
    used = [
        f"SELECT unnest(json_extract_string(attachments, '$[*].sha256')) FROM {table} WHERE attachments <> '[]'"  # noqa: S608
        for table in WITH_ATTACHMENTS
        if table in tables
    ]
    return f"DELETE FROM attachments WHERE sha256 NOT IN ({' UNION ALL '.join(used)})"  # noqa: S608


def allow_folder(folder: str) -> str:
    """Return what lets queries reach the files of a folder."""
    return f"SET allowed_directories = [{quoted_text(folder)}]"


def attach(file: str, name: str) -> str:
    """Return what opens another file under a name."""
    return f"ATTACH {quoted_text(file)} AS {quoted_name(name)}"


def detach(name: str) -> str:
    """Return what closes it."""
    return f"DETACH {quoted_name(name)}"


def checkpoint(name: str) -> str:
    """Return what writes the log of an attached file into that file."""
    return f"CHECKPOINT {quoted_name(name)}"


def copy_database(source: str, target: str) -> str:
    """Return what copies all tables of one open file into another, as they stand at one moment."""
    return f"COPY FROM DATABASE {quoted_name(source)} TO {quoted_name(target)}"


def read_all(table: str) -> str:
    """Return what reads each value of a table."""
    return f"SELECT sum(hash(t)::HUGEINT) FROM {quoted_name(table)} t"  # noqa: S608  It is quoted.


def clear(table: str) -> str:
    """Return what removes all rows of a table."""
    return f"DELETE FROM {quoted_name(table)}"  # noqa: S608  It is quoted.


def insert(table: str, columns: Iterable[str]) -> str:
    """Return what adds a row to a table."""
    names = list(columns)
    values = ", ".join(f"${name}" for name in names)
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({values})"  # noqa: S608  The names are our own.


def update(table: str, columns: Iterable[str]) -> str:
    """Return what changes the row with an id."""
    changes = ", ".join(f"{name} = ${name}" for name in columns if name != "id")
    return f"UPDATE {table} SET {changes} WHERE id = $id"  # noqa: S608  The names are our own.


def by_id(kind: type) -> str:
    """Return what gives the record with an id."""
    joined = {ToolCall: CALL, Approval: APPROVAL, Batch: batch_queries.BATCH}
    return joined.get(kind, f"SELECT * FROM {TABLES[kind]} WHERE id = $id")  # noqa: S608  The names are our own.


def ending(kind: type) -> str:
    """Return what gives the records whose ids end in some digits, in order."""
    ends = "(id::UHUGEINT & $mask::UUID::UHUGEINT) = $digits::UUID::UHUGEINT"  # as texts it takes ten times as long
    return f"SELECT * FROM {TABLES[kind]} WHERE {ends} ORDER BY seq"  # noqa: S608  The names are our own.


def quoted_text(value: str) -> str:
    """Return a text as SQL writes it, where none can be bound."""
    return "'" + value.replace("'", "''") + "'"


def quoted_name(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'

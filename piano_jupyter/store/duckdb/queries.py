"""The queries of the store, each with a name and a line that says what it is for. Values are always bound."""

BEGIN = "BEGIN TRANSACTION"

#: Nothing can be written in it, not even by a SELECT that has an INSERT inside.
BEGIN_READ_ONLY = "BEGIN TRANSACTION READ ONLY"

COMMIT = "COMMIT"
ROLLBACK = "ROLLBACK"

#: Rows hold UTC without a zone: `now()` in a user's query must mean the same.
USE_UTC = "SET GLOBAL TimeZone = 'UTC'"

#: From here on no query can loosen the settings.
LOCK_SETTINGS = "SET lock_configuration = true"

#: The parse tree of a query, as JSON.
PARSE = "SELECT json_serialize_sql($query::VARCHAR)"

#: What is in the file, to see whether it is ours.
TABLE_NAMES = "SELECT table_name FROM duckdb_tables() WHERE NOT internal AND NOT temporary"

#: The migrations that the file has seen.
SCHEMA_VERSIONS = "SELECT version, checksum FROM schema_version ORDER BY version"

#: Note a migration, in its own transaction.
ADD_SCHEMA_VERSION = (
    "INSERT INTO schema_version (version, checksum, applied_at) VALUES ($version, $checksum, $applied_at)"
)

#: Which database this is, and the id that it gets when it is made.
IDENTITY = "SELECT id FROM identity"
ADD_IDENTITY = "INSERT INTO identity (id) VALUES ($id)"

#: Where the counters go on.
LAST_SEQS = """
SELECT 'agents', max(seq) FROM agents
UNION ALL SELECT 'threads', max(seq) FROM threads
UNION ALL SELECT 'messages', max(seq) FROM messages
UNION ALL SELECT 'tool_calls', max(seq) FROM tool_calls
UNION ALL SELECT 'approvals', max(seq) FROM approvals
UNION ALL SELECT 'jobs', max(seq) FROM jobs
"""

ADD_AGENT = """
INSERT INTO agents
    (id, seq, name, description, model, system_prompt, enabled_tools, enabled_skills, options, max_iterations,
     inserted_at)
VALUES
    ($id, $seq, $name, $description, $model, $system_prompt, $enabled_tools, $enabled_skills, $options, $max_iterations,
     $inserted_at)
"""

UPDATE_AGENT = """
UPDATE agents SET
    name = $name, description = $description, model = $model, system_prompt = $system_prompt,
    enabled_tools = $enabled_tools, enabled_skills = $enabled_skills, options = $options,
    max_iterations = $max_iterations, inserted_at = $inserted_at
WHERE id = $id
"""

#: All agents, oldest first. They are few: a name is compared in Python, which knows every alphabet's cases.
AGENTS = "SELECT * FROM agents ORDER BY seq"

ADD_THREAD = """
INSERT INTO threads
    (id, seq, title, status, primary_agent_id, forked_from_thread_id, forked_from_message_id, inserted_at)
VALUES
    ($id, $seq, $title, $status, $primary_agent_id, $forked_from_thread_id, $forked_from_message_id, $inserted_at)
"""

UPDATE_THREAD = """
UPDATE threads SET
    title = $title, status = $status, primary_agent_id = $primary_agent_id,
    forked_from_thread_id = $forked_from_thread_id, forked_from_message_id = $forked_from_message_id,
    inserted_at = $inserted_at
WHERE id = $id
"""

THREAD = "SELECT * FROM threads WHERE id = $id"

#: Threads of a status, or all; newest first.
THREADS = "SELECT * FROM threads WHERE $status::VARCHAR IS NULL OR status = $status ORDER BY seq DESC"

ADD_MESSAGE = """
INSERT INTO messages
    (id, seq, thread_id, parent_id, role, content, source, agent_id, job_id, reasoning, usage, inserted_at)
VALUES
    ($id, $seq, $thread_id, $parent_id, $role, $content, $source, $agent_id, $job_id, $reasoning, $usage, $inserted_at)
"""

MESSAGE = "SELECT * FROM messages WHERE id = $id"

#: The newest so many messages of a thread (all where `last` is null), newest first.
MESSAGES = "SELECT * FROM messages WHERE thread_id = $thread_id ORDER BY seq DESC LIMIT $last"

#: Messages by the last digits of their ids, in order. (As numbers: as texts it takes ten times as long.)
MESSAGES_ENDING = """
SELECT * FROM messages
WHERE (id::UHUGEINT & $mask::UUID::UHUGEINT) = $digits::UUID::UHUGEINT
ORDER BY seq
"""

ADD_CALL = """
INSERT INTO tool_calls (id, seq, message_id, name, arguments, started_at)
VALUES ($id, $seq, $message_id, $name, $arguments, $started_at)
"""

ADD_RESULT = """
INSERT INTO tool_results (call_id, status, result, finished_at) VALUES ($id, $status, $result, $finished_at)
"""

#: A call with what came of it.
CALL = """
SELECT c.*, coalesce(r.status, 'started') AS status, r.result, r.finished_at
FROM tool_calls c LEFT JOIN tool_results r ON r.call_id = c.id
WHERE c.id = $id
"""

#: A thread's calls, each with what came of it, in order.
CALLS = """
SELECT c.*, coalesce(r.status, 'started') AS status, r.result, r.finished_at
FROM tool_calls c JOIN messages m ON m.id = c.message_id LEFT JOIN tool_results r ON r.call_id = c.id
WHERE m.thread_id = $thread_id
ORDER BY c.seq
"""

#: The calls of a job that have no result, in order.
OPEN_CALLS = """
SELECT c.*, 'started' AS status, NULL AS result, NULL AS finished_at
FROM tool_calls c JOIN messages m ON m.id = c.message_id ANTI JOIN tool_results r ON r.call_id = c.id
WHERE m.job_id = $job_id
ORDER BY c.seq
"""

ADD_APPROVAL = """
INSERT INTO approvals
    (id, seq, call_id, message_id, job_id, thread_id, name, arguments, digest, question, reason, always, requested_at)
VALUES
    ($id, $seq, $call_id, $message_id, $job_id, $thread_id, $name, $arguments, $digest, $question, $reason, $always,
     $requested_at)
"""

ADD_DECISION = """
INSERT INTO decisions (approval_id, allowed, note, decided_at) VALUES ($id, $allowed, $note, $decided_at)
"""

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

ADD_JOB = """
INSERT INTO jobs
    (id, seq, thread_id, message_id, agent_id, model, hops, schema, mode, rules, server, status, attempt, owner,
     request_id, reason, inserted_at, started_at, finished_at)
VALUES
    ($id, $seq, $thread_id, $message_id, $agent_id, $model, $hops, $schema, $mode, $rules, $server, $status, $attempt,
     $owner, $request_id, $reason, $inserted_at, $started_at, $finished_at)
"""

#: Move a job on. What it is about never changes.
UPDATE_JOB = """
UPDATE jobs SET
    model = $model, mode = $mode, rules = $rules, server = $server, status = $status, attempt = $attempt,
    owner = $owner, request_id = $request_id, reason = $reason, started_at = $started_at, finished_at = $finished_at
WHERE id = $id
"""

#: Mark a job done, if this owner runs it under this claim; counts it. (With RETURNING it would cost twice as much.)
DONE_JOB = """
UPDATE jobs SET status = 'done', finished_at = $now
WHERE id = $id AND status = 'running' AND owner IS NOT DISTINCT FROM $owner
    AND request_id IS NOT DISTINCT FROM $request_id
"""

JOB = "SELECT * FROM jobs WHERE id = $id"

#: The jobs that are to answer a message, oldest first.
JOBS_OF_MESSAGE = "SELECT * FROM jobs WHERE message_id = $message_id ORDER BY seq"

#: The newest so many jobs (all where `last` is null) of these statuses or of all, of a thread or of all, newest first.
JOBS = """
SELECT * FROM jobs
WHERE ($statuses::VARCHAR[] IS NULL OR list_contains($statuses::VARCHAR[], status))
    AND ($thread_id::UUID IS NULL OR thread_id = $thread_id)
ORDER BY seq DESC LIMIT $last
"""

#: Jobs by the last digits of their ids, oldest first.
JOBS_ENDING = """
SELECT * FROM jobs WHERE (id::UHUGEINT & $mask::UUID::UHUGEINT) = $digits::UUID::UHUGEINT ORDER BY seq
"""

#: How much is kept, a row for each kind of record and for each status of jobs.
COUNTS = """
SELECT 'agents' AS kind, count(*) FROM agents
UNION ALL SELECT 'threads', count(*) FROM threads
UNION ALL SELECT 'messages', count(*) FROM messages
UNION ALL SELECT status, count(*) FROM jobs GROUP BY status
"""

"""The same chats in a DuckDB file of Piano's and in a SQLite file: a million messages, made from a fixed seed.

Half are questions (median 90 characters), half answers (median 410, some of many thousand). Words follow Zipf's law.
Twenty threads are busy at a time; a fifth of the exchanges goes to any thread. One exchange in twenty uses a tool.
"""

import asyncio
import csv
import itertools
import random
import sqlite3
import tempfile
from pathlib import Path

import duckdb

from piano_jupyter.store.duckdb.duckdb_store import DuckDBStore

THREADS = 1_000
RARE, UNCOMMON, FEW = "quokka", "axolotl", "wombat"  # in 7 messages, in 50, and in one of 2,000
BATCH = 20_000

#: Who spoke when: the dice are hashes, the same each time.
EXCHANGES = """
CREATE TEMP TABLE exchanges AS
SELECT k, TIMESTAMP '2026-01-01' + to_seconds(k * 20) AS time,
    CASE WHEN hash(k, 1) % 10 < 8 THEN 20 * (k * $threads // 20 // $exchanges) + hash(k, 2) % 20
        ELSE hash(k, 2) % $threads END::BIGINT AS thread
FROM range($exchanges) r(k)
"""

TEXTS = (
    "CREATE TEMP TABLE texts AS FROM read_csv($file, columns = {'seq': 'BIGINT', 'content': 'VARCHAR'}, header = false)"
)

#: An id as Piano makes them: UUIDv7, its time first.
IDS = """
CREATE TEMP MACRO made_id(kind, number, time) AS (
    format('{:012x}', epoch_ms(time)) || '7' || format('{:03x}', kind) || '8' || format('{:015x}', number)
)::UUID
"""

FILL = [
    """
    INSERT INTO agents BY NAME
    SELECT made_id(1, i, TIMESTAMP '2026-01-01') AS id, i + 1 AS seq, 'agent' || i AS name, '' AS description,
        'model' || i AS model, '' AS system_prompt, '[]' AS enabled_tools, '[]' AS enabled_skills, '{}' AS options,
        TIMESTAMP '2026-01-01' AS inserted_at
    FROM range(4) r(i)
    """,
    """
    INSERT INTO threads BY NAME
    SELECT made_id(2, i, TIMESTAMP '2026-01-01') AS id, i + 1 AS seq,
        (SELECT left(content, 40) FROM texts WHERE seq = 2 * i + 1) AS title, 'active' AS status,
        TIMESTAMP '2026-01-01' + to_hours(i) AS inserted_at
    FROM range($threads) r(i)
    """,
    """
    INSERT INTO messages BY NAME
    SELECT made_id(3, 2 * k + part, time + to_seconds(part * 10)) AS id, 2 * k + part + 1 AS seq,
        made_id(2, thread, TIMESTAMP '2026-01-01') AS thread_id,
        CASE part WHEN 1 THEN made_id(3, 2 * k, time) END AS parent_id,
        CASE part WHEN 0 THEN 'user' ELSE 'assistant' END AS role,
        content,
        CASE part WHEN 0 THEN 'magic' ELSE 'agent' END AS source,
        CASE part WHEN 1 THEN made_id(1, k % 4, TIMESTAMP '2026-01-01') END AS agent_id,
        CASE part WHEN 1 THEN made_id(4, k, time) END AS job_id,
        '' AS reasoning,
        CASE part WHEN 0 THEN '{}' ELSE format('{{"model": "model{}", "prompt_tokens": {}, "cached_tokens": {}, '
            || '"completion_tokens": {}, "tokens_per_second": {}.5, "first_token_s": 0.{}}}',
            k % 4, 100 + k % 3000, k % 2000, length(content) // 4, 20 + k % 30, 1 + k % 9) END AS usage,
        time + to_seconds(part * 10) AS inserted_at
    FROM exchanges, range(2) parts(part), texts
    WHERE k BETWEEN $first AND $last AND texts.seq = 2 * k + part + 1
    ORDER BY 2
    """,
    """
    INSERT INTO jobs BY NAME
    SELECT made_id(4, k, time) AS id, k + 1 AS seq, made_id(2, thread, TIMESTAMP '2026-01-01') AS thread_id,
        made_id(3, 2 * k, time) AS message_id, made_id(1, k % 4, TIMESTAMP '2026-01-01') AS agent_id,
        'model' || (k % 4) AS model, 0 AS hops, 'done' AS status, 1 AS attempt, 'kernel' AS owner, time AS inserted_at,
        time + to_seconds(1) AS started_at, time + to_seconds(10) AS finished_at
    FROM exchanges ORDER BY k
    """,
    """
    INSERT INTO tool_calls BY NAME
    SELECT made_id(5, k, time) AS id, row_number() OVER (ORDER BY k) AS seq,
        made_id(3, 2 * k + 1, time + to_seconds(10)) AS message_id, 'bash' AS name, '{"command": "ls -l"}' AS arguments,
        time AS started_at
    FROM exchanges WHERE k % 20 = 0 ORDER BY k
    """,
    """
    INSERT INTO tool_results BY NAME
    SELECT made_id(5, k, time) AS call_id, 'ok' AS status, repeat('-rw-r--r-- 1 ada ada 1847 notes.txt\n', 5) AS result,
        time + to_seconds(1) AS finished_at
    FROM exchanges WHERE k % 20 = 0 ORDER BY k
    """,
]

SQLITE = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE threads (id BLOB PRIMARY KEY, seq INTEGER, title TEXT, status TEXT, inserted_at TEXT) WITHOUT ROWID;
CREATE TABLE messages (seq INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, thread_id BLOB NOT NULL, parent_id BLOB,
    role TEXT NOT NULL, content TEXT NOT NULL, source TEXT NOT NULL, agent_id BLOB,
    job_id BLOB, reasoning TEXT NOT NULL, usage TEXT NOT NULL, inserted_at TEXT NOT NULL);
CREATE TABLE jobs (seq INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, thread_id BLOB NOT NULL, message_id BLOB NOT NULL,
    agent_id BLOB NOT NULL, model TEXT NOT NULL, status TEXT NOT NULL, attempt INTEGER NOT NULL, owner TEXT,
    reason TEXT, inserted_at TEXT NOT NULL, started_at TEXT, finished_at TEXT);
CREATE TABLE tool_calls (seq INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, message_id BLOB NOT NULL, name TEXT,
    arguments TEXT, started_at TEXT, status TEXT, result TEXT, finished_at TEXT);
CREATE VIRTUAL TABLE said USING fts5(content, content=messages, content_rowid=seq);
"""

SQLITE_INDEXES = """
CREATE INDEX messages_of_thread ON messages (thread_id, seq);
CREATE INDEX messages_of_job ON messages (job_id);
CREATE INDEX jobs_of_status ON jobs (status, seq);
CREATE INDEX jobs_of_thread ON jobs (thread_id, seq);
CREATE INDEX calls_of_message ON tool_calls (message_id);
INSERT INTO said (said) VALUES ('rebuild');
CREATE TRIGGER said_too AFTER INSERT ON messages BEGIN
    INSERT INTO said (rowid, content) VALUES (new.seq, new.content);
END;
ANALYZE;
"""

COPIED = {
    "threads": "SELECT id, seq, title, status, inserted_at FROM threads",
    "messages": """SELECT seq, id, thread_id, parent_id, role, content, source, agent_id, job_id, reasoning, usage,
        inserted_at FROM messages ORDER BY seq""",
    "jobs": """SELECT seq, id, thread_id, message_id, agent_id, model, status, attempt, owner, reason, inserted_at,
        started_at, finished_at FROM jobs ORDER BY seq""",
    "tool_calls": """SELECT seq, id, message_id, name, arguments, started_at, status, result, finished_at
        FROM tool_calls JOIN tool_results ON call_id = id ORDER BY seq""",
}


def fill_duckdb(path, messages):
    """Make the file as Piano makes it, then fill it in bulk."""
    store = DuckDBStore(path)
    asyncio.run(_once(store))
    exchanges = messages // 2
    with duckdb.connect(str(path), config={"threads": 2}) as connection:
        given = {"exchanges": exchanges, "threads": THREADS}
        connection.execute(IDS)
        connection.execute(EXCHANGES, given)
        with tempfile.NamedTemporaryFile("w", suffix=".csv", dir=Path(path).parent) as file:
            csv.writer(file).writerows(texts(messages))
            file.flush()
            connection.execute(TEXTS, {"file": file.name})
        for query in FILL:
            _run(connection, query, given)


def fill_sqlite(source, path):
    """Copy the rows of the DuckDB file; index them, the texts with FTS5."""
    with duckdb.connect(str(source), read_only=True) as connection:
        lite = sqlite3.connect(path)
        lite.executescript(SQLITE)
        for table, query in COPIED.items():
            result = connection.execute(query)
            marks = ", ".join("?" * len(result.description))
            while rows := result.fetchmany(BATCH):
                lite.executemany(f"INSERT INTO {table} VALUES ({marks})", map(_plain, rows))
        lite.commit()
        lite.executescript(SQLITE_INDEXES)
        lite.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        lite.close()


async def _once(store):
    await store.open()
    await store.close()


def _run(connection, query, given):
    wanted = {name: value for name, value in given.items() if f"${name}" in query}
    if "$first" not in query:
        connection.execute(query, wanted)
        return
    for first in range(0, given["exchanges"], BATCH):  # as a store grows: row group by row group
        connection.execute(query, wanted | {"first": first, "last": first + BATCH - 1})


def _plain(row):
    return [
        value.bytes if hasattr(value, "bytes") else str(value) if hasattr(value, "year") else value for value in row
    ]


def texts(messages):
    """Yield each message's seq and content: a piece of the pool, its length log-normal."""
    dice, pool = random.Random(1), _pool()
    for seq in range(1, messages + 1):
        length = int(min(60_000, 8 + (dice.lognormvariate(4.4, 1.0) if seq % 2 else dice.lognormvariate(6.0, 1.1))))
        at = dice.randrange(len(pool) - 60_000)
        text = pool[at : at + length]
        if seq % (messages // 7) == 6:
            text += f" A {RARE} ran by."
        if seq % (messages // 50) == 10:
            text += f" An {UNCOMMON} swam."
        if seq % 2000 == 8:
            text += f" The {FEW} slept."
        yield seq, text


def _pool(words=2_500_000):
    """Return 16 MB of text: 50,000 words, the n-th as often as 1/n, in sentences."""
    dice = random.Random(0)
    syllables = [a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "er", "is")]
    known = list(dict.fromkeys("".join(dice.choices(syllables, k=1 + dice.randrange(4))) for _ in range(75_000)))[
        :50_000
    ]
    weights = list(itertools.accumulate(1 / rank for rank in range(1, len(known) + 1)))
    told = dice.choices(known, cum_weights=weights, k=words)
    for at in range(0, words, 12):
        told[at] = told[at].capitalize()
    for at in range(11, words, 12):
        told[at] += "."
    return " ".join(told)

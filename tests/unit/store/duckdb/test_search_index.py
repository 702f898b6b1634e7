from datetime import UTC, datetime
from uuid import uuid4

import duckdb
import pytest

from piano_jupyter.records import Thread
from piano_jupyter.store.duckdb import reports
from piano_jupyter.store.duckdb.database import Database
from piano_jupyter.store.duckdb.reports import search
from piano_jupyter.store.duckdb.search_index import (
    BLOCK_MESSAGES,
    FULL_SEGMENT,
    INDEX_TABLES,
    MERGED_BLOCKS,
    SEGMENT_MESSAGES,
    SearchIndexer,
    forget_words,
    ranges_to_search,
)

MESSAGES = SEGMENT_MESSAGES + 4 * BLOCK_MESSAGES + 700
FILL = """
INSERT INTO messages BY NAME
SELECT uuidv7() AS id, i AS seq, $thread AS thread_id, 'user' AS role, 'magic' AS source, '' AS reasoning,
    '{}' AS usage, TIMESTAMP '2026-01-01' + to_seconds(i) AS inserted_at,
    CASE WHEN i IN (5, 2048, 2049, 7000, 41000) THEN $rare
        WHEN i % 7000 = 9 THEN 'Every7000 50%_off' ELSE 'word' || i % 97 END AS content
FROM range(1, $messages + 1) r(i)
"""
RARE = "a  Quokka,\u00a0ÄRGER\nsat"


@pytest.fixture(scope="module")
def database():
    database = Database(":memory:")
    yield database
    database.close()


@pytest.fixture(scope="module")
def filled(database):
    thread = Thread(id=uuid4(), title="all", inserted_at=datetime.now(UTC))
    database.tables.add_thread(thread)
    database.connection.execute(FILL, {"thread": thread.id, "messages": MESSAGES, "rare": RARE})
    database.tables.load_counters()
    return database


def index(database, steps=1_000):
    indexer = SearchIndexer(database.connection)
    return sum(indexer.step(MESSAGES) for _ in range(steps))


def clear(database):
    for table in INDEX_TABLES:
        database.connection.execute(f"DELETE FROM {table}")


def rows(database):
    return [database.connection.execute(f"FROM {table} ORDER BY ALL").fetchall() for table in INDEX_TABLES]


class LoggedConnection:
    """A connection that notes its queries, and fails at one that begins so."""

    def __init__(self, connection, fails_at="nothing"):
        self._connection, self._fails_at = connection, fails_at
        self.queries = []

    def execute(self, query, parameters=None):
        self.queries.append(" ".join(query.split()))
        if self.queries[-1].startswith(self._fails_at):
            raise duckdb.IOException("the disk is full")
        return self._connection.execute(query, parameters)


def found(database, text):
    return sorted(hit.message.seq for hit in search(database.connection, text, 100) if hit.message)


def test_a_search_gives_the_same_with_and_without_the_index(filled):
    terms = [
        "quokka",
        "OKK",
        "ärger",
        '"quokka, ärger"',
        "quokka word5",
        "platypus",
        "word96 word5",
        "0%_o",
        "ery7000 50",
    ]
    before = {term: found(filled, term) for term in terms}
    assert before["quokka"] == [5, 2048, 2049, 7000, 41000]
    assert before["0%_o"] == before["ery7000 50"] == [7000 * number + 9 for number in range(20)]

    for _ in range(3):  # two in the middle of a segment, then all
        index(filled, steps=30)
        assert {term: found(filled, term) for term in terms} == before


def test_ranges_are_searched_together_up_to_so_many_messages(filled, monkeypatch):
    index(filled)
    monkeypatch.setattr(reports, "SHORT_RANGE_MESSAGES", 3 * BLOCK_MESSAGES)
    log = LoggedConnection(filled.connection)

    hits = search(log, "every7000", 100)
    ranges = [query.count("seq > ") for query in log.queries if query.startswith("WITH ranges")]

    assert sorted(hit.message.seq for hit in hits) == [7000 * number + 9 for number in range(20)]
    assert len(ranges) > 1
    assert max(ranges) == 3


def test_a_full_segment_has_one_posting_for_each_of_its_words(filled):
    index(filled)
    postings = "SELECT segment, count(*), count(DISTINCT word_id) FROM search_postings GROUP BY 1 ORDER BY 1"
    full, newest = filled.connection.execute(postings).fetchall()

    assert full[1] == full[2]
    assert newest[1] > newest[2]


@pytest.mark.parametrize(
    "query", ["INSERT INTO search_postings SELECT", "INSERT INTO search_segments", "INSERT INTO search_postings FROM"]
)
def test_a_step_that_fails_changes_nothing_and_is_repeated(filled, query):
    clear(filled)
    index(filled, MERGED_BLOCKS - 1)
    before = rows(filled)

    with pytest.raises(duckdb.Error, match="full"):
        SearchIndexer(LoggedConnection(filled.connection, fails_at=query)).step(MESSAGES)
    assert rows(filled) == before

    index(filled, 1)
    assert rows(filled)[-1] == [(0, (1 << MERGED_BLOCKS) - 1)]


def test_only_blocks_that_may_hold_the_words_are_searched(filled):
    index(filled)
    tail = (SEGMENT_MESSAGES + 4 * BLOCK_MESSAGES, MESSAGES)

    assert ranges_to_search(filled.connection, ["okka,", "a"], MESSAGES) == [
        tail,
        (20 * BLOCK_MESSAGES, 21 * BLOCK_MESSAGES),
        (0, 4 * BLOCK_MESSAGES),
    ]
    assert ranges_to_search(filled.connection, ["platypus"], MESSAGES) == [tail]
    assert ranges_to_search(filled.connection, ["okka", "platypus"], MESSAGES) == [tail]
    assert ranges_to_search(filled.connection, ["word"], MESSAGES) == [(0, MESSAGES)]


async def test_an_idle_store_indexes_what_is_full(filled):
    clear(filled)
    for _ in range(100):
        filled.idle()

    segments = filled.connection.execute("FROM search_segments ORDER BY 1").fetchall()
    assert segments == [(0, FULL_SEGMENT), (1, 0b1111)]


def test_words_of_deleted_messages_are_in_the_index_no_more(filled):
    index(filled)
    rare = "SELECT word FROM search_words WHERE contains(word, 'quokka')"
    assert filled.connection.execute(rare).fetchall()

    filled.connection.execute("BEGIN")
    filled.connection.execute("DELETE FROM messages WHERE contains(content, 'Quokka')")
    forget_words(filled.connection, [5, 2048, 2049, 7000, 41000])
    assert not filled.connection.execute(rare).fetchall()
    assert found(filled, "quokka") == []
    assert found(filled, "word96")
    filled.connection.execute("ROLLBACK")


@pytest.mark.parametrize("is_complete", [True, False])
def test_a_deleted_word_is_in_no_byte_of_the_file_with_its_index(tmp_path, monkeypatch, is_complete):
    monkeypatch.setattr("piano_jupyter.store.duckdb.database.INDEX_STEP_S", 600.0 if is_complete else 0.0)
    database = Database(str(tmp_path / "x.duckdb"))
    stays, goes = (Thread(id=uuid4(), title=title, inserted_at=datetime.now(UTC)) for title in ("stays", "goes"))
    for thread in (stays, goes):
        database.tables.add_thread(thread)
    database.connection.execute(FILL, {"thread": stays.id, "messages": SEGMENT_MESSAGES + 9, "rare": "common"})
    change = "UPDATE messages SET thread_id = $thread, content = 'Quokka sat' WHERE seq IN (5, 700)"
    database.connection.execute(change, {"thread": goes.id})
    database.tables.load_counters()
    database.idle()  # one block, or all of them
    indexed = database.connection.execute("SELECT word FROM search_words WHERE word = 'quokka'").fetchall()

    database.begin()
    database.delete_threads([goes.id])
    database.commit()
    monkeypatch.setattr("piano_jupyter.store.duckdb.database.INDEX_STEP_S", 600.0)
    database.idle()
    words = database.connection.execute("SELECT count(*), count_if(word = 'quokka') FROM search_words").fetchall()
    database.compact()
    left = [each.name for each in tmp_path.rglob("*") if each.is_file() and b"quokka" in each.read_bytes().lower()]
    hits = found(database, "quokka"), len(found(database, "word5"))
    database.close()

    assert indexed == [("quokka",)]
    assert words[0][0] > 90
    assert words[0][1] == 0
    assert (left, hits) == ([], ([], 100))

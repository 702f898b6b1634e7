from datetime import UTC, datetime
from uuid import uuid4

import pytest

from piano_jupyter.records import Thread
from piano_jupyter.store.duckdb.database import Database
from piano_jupyter.store.duckdb.reports import search
from piano_jupyter.store.duckdb.search_index import (
    BLOCK_MESSAGES,
    SEGMENT_MESSAGES,
    SearchIndexer,
    forget_words,
    ranges_to_search,
)

MESSAGES = 2 * SEGMENT_MESSAGES + 4 * BLOCK_MESSAGES + 700
FILL = """
INSERT INTO messages BY NAME
SELECT uuidv7() AS id, i AS seq, $thread AS thread_id, 'user' AS role, 'magic' AS source, '' AS reasoning,
    '{}' AS usage, TIMESTAMP '2026-01-01' + to_seconds(i) AS inserted_at,
    CASE WHEN i IN (5, 9000, 2048, 2049, 41000) THEN $rare ELSE 'word' || i % 97 END AS content
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


def found(database, text):
    return sorted(hit.message.seq for hit in search(database.connection, text, 100) if hit.message)


def test_a_search_gives_the_same_with_and_without_the_index(filled):
    terms = ["quokka", "OKK", "ärger", '"quokka, ärger"', "quokka word5", "platypus", "word96 word5"]
    before = {term: found(filled, term) for term in terms}
    assert before["quokka"] == [5, 2048, 2049, 9000, 41000]

    for _ in range(3):  # in the middle of a segment, after the first, after the second
        index(filled, steps=20)
        assert {term: found(filled, term) for term in terms} == before


def test_only_blocks_that_may_hold_the_words_are_searched(filled):
    index(filled)
    tail = (2 * SEGMENT_MESSAGES, MESSAGES)

    assert ranges_to_search(filled.connection, ["okka,", "a"], MESSAGES) == [
        tail,
        (20 * BLOCK_MESSAGES, 21 * BLOCK_MESSAGES),
        (0, 5 * BLOCK_MESSAGES),
    ]
    assert ranges_to_search(filled.connection, ["platypus"], MESSAGES) == [tail]
    assert ranges_to_search(filled.connection, ["okka", "platypus"], MESSAGES) == [tail]
    assert ranges_to_search(filled.connection, ["word"], MESSAGES) == [(0, MESSAGES)]


async def test_an_idle_store_indexes_what_is_full(filled):
    for table in ("search_words", "search_postings", "search_segments"):
        filled.connection.execute(f"DELETE FROM {table}")
    for _ in range(100):
        filled.idle()

    assert filled.connection.execute("FROM search_segments ORDER BY 1").fetchall() == [(0,), (1,)]


def test_words_of_deleted_messages_are_in_the_index_no_more(filled):
    index(filled)
    rare = "SELECT word FROM search_words WHERE contains(word, 'quokka')"
    assert filled.connection.execute(rare).fetchall()

    filled.connection.execute("BEGIN")
    filled.connection.execute("DELETE FROM messages WHERE contains(content, 'Quokka')")
    forget_words(filled.connection, [5, 9000, 2048, 2049, 41000])
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

    assert indexed == [("quokka",)] * is_complete
    assert words[0][0] > 90
    assert words[0][1] == 0
    assert (left, hits) == ([], ([], 100))

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from piano_jupyter.records import Thread
from piano_jupyter.store.duckdb.database import Database
from piano_jupyter.store.duckdb.reports import search
from piano_jupyter.store.duckdb.search_index import BLOCK_MESSAGES, add_next_block, ranges_to_search

MESSAGES = 20 * BLOCK_MESSAGES + 700
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
    database.tables.count_on()
    return database


def words(*given):
    return dict(zip(("one", "two", "three", "four"), [*given, "", "", "", ""], strict=False))


def found(database, text):
    return sorted(hit.message.seq for hit in search(database.connection, text, 100) if hit.message)


def test_a_search_gives_the_same_with_and_without_the_index(filled):
    terms = ["quokka", "OKK", "ärger", '"quokka, ärger"', "quokka word5", "platypus", "word96 word5"]
    before = {term: found(filled, term) for term in terms}
    assert before["quokka"] == [5, 2048, 2049, 9000, 41000]

    assert add_next_block(filled.connection, MESSAGES)
    assert {term: found(filled, term) for term in terms} == before
    while add_next_block(filled.connection, MESSAGES):
        pass
    assert {term: found(filled, term) for term in terms} == before


def test_only_blocks_that_may_hold_the_words_are_searched(filled):
    while add_next_block(filled.connection, MESSAGES):
        pass
    blocks = [(block * BLOCK_MESSAGES, (block + 1) * BLOCK_MESSAGES) for block in (20, 4)]

    ranges = ranges_to_search(filled.connection, words("okka,"), MESSAGES)
    assert ranges == [(blocks[0][0], MESSAGES), blocks[1], (0, 2 * BLOCK_MESSAGES)]
    assert ranges_to_search(filled.connection, words("platypus"), MESSAGES) == [(blocks[0][0], MESSAGES)]
    assert ranges_to_search(filled.connection, words("word"), MESSAGES) == [(0, MESSAGES)]


async def test_an_idle_store_indexes_what_is_full(filled):
    filled.connection.execute("DELETE FROM search_words")
    for _ in range(500):
        filled.idle()

    assert filled.connection.execute("SELECT count(*) FROM search_words").fetchone() == (MESSAGES // BLOCK_MESSAGES,)

"""An index of words: which of them are in which blocks of messages, so that a search for a rare word reads few of them.

A segment is 64 blocks of 2,048 messages each, by `seq`. For each word of a segment (what stands between white space, in
lower case) a bit says of each block whether it has the word. A text that fits a search has each of its words within one
of these, and so does its block. A block is added as soon as it is full; the messages after it are read one by one.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import duckdb

from piano_jupyter.store.duckdb.operations import Connection
from piano_jupyter.store.duckdb.queries import BEGIN, COMMIT, ROLLBACK

BLOCK_MESSAGES = 2_048
SEGMENT_BLOCKS = 64  #: as many as `blocks` has bits
MERGED_BLOCKS = 16  #: after so many more blocks of a segment their postings are merged
FULL_SEGMENT = (1 << SEGMENT_BLOCKS) - 1  #: the bits of all its blocks
SEGMENT_MESSAGES = BLOCK_MESSAGES * SEGMENT_BLOCKS
MERGED_GAP_MESSAGES = 2_048  #: to read so many takes as long as to plan another range

INDEX_TABLES = ("search_words", "search_postings", "search_segments")

INDEXED_BLOCKS = "SELECT segment, blocks FROM search_segments"

ADD_BLOCK = [
    """
    CREATE TEMP TABLE block_words AS
    SELECT DISTINCT unnest(regexp_split_to_array(lower(content), '\\s+')) AS word FROM messages
    WHERE seq > $after AND seq <= $upto AND role IN ('user', 'assistant')
    """,
    """
    INSERT INTO search_words
    SELECT (SELECT coalesce(max(id), 0) FROM search_words) + row_number() OVER (), word
    FROM block_words ANTI JOIN search_words USING (word)
    """,
    "INSERT INTO search_postings SELECT $segment, id, $bit FROM block_words JOIN search_words USING (word)",
    "DROP TABLE block_words",
    """
    INSERT INTO search_segments VALUES ($segment, $bit)
    ON CONFLICT (segment) DO UPDATE SET blocks = blocks | excluded.blocks
    """,
]

#: One row for each word of a segment, instead of one for each block that has it: the fewer, the sooner they are read.
MERGE_BLOCKS = [
    """
    CREATE TEMP TABLE merged_postings AS
    SELECT segment, word_id, bit_or(blocks) AS blocks FROM search_postings WHERE segment = $segment GROUP BY ALL
    """,
    "DELETE FROM search_postings WHERE segment = $segment",
    "INSERT INTO search_postings FROM merged_postings",
    "DROP TABLE merged_postings",
]

#: The segments in the index, each with the blocks that may have a word: they have it, or are not in the index.
BLOCKS = """
SELECT segment, coalesce(found.blocks, 0) | xor(indexed.blocks, $full::UBIGINT) FROM search_segments indexed LEFT JOIN (
    SELECT segment, bit_or(blocks) AS blocks FROM search_postings
    WHERE word_id IN (SELECT id FROM search_words WHERE contains(word, lower($word))) GROUP BY segment
) found USING (segment)
"""

FORGET = [
    "DELETE FROM search_postings WHERE segment IN (SELECT unnest($segments::INTEGER[]))",
    "DELETE FROM search_segments WHERE segment IN (SELECT unnest($segments::INTEGER[]))",
    "DELETE FROM search_words WHERE id NOT IN (SELECT word_id FROM search_postings)",
]


class SearchIndexer:
    """Adds to the index, a block at a time: each step is short, for it holds up the writer."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._complete = 0  #: so many blocks, from the oldest on, are in the index

    def step(self, newest: int) -> bool:
        """Add the oldest full block that is not in the index; return whether there was one.

        `newest` is the `seq` of the newest message.
        """
        count = newest // BLOCK_MESSAGES
        if count == self._complete:
            return False
        indexed = dict(self._connection.execute(INDEXED_BLOCKS, {}).fetchall())
        for block in range(self._complete, count):
            segment, number = divmod(block, SEGMENT_BLOCKS)
            if not indexed.get(segment, 0) >> number & 1:
                self._add(block)
                return True
        self._complete = count
        return False

    def _add(self, block: int) -> None:
        after, (segment, number) = block * BLOCK_MESSAGES, divmod(block, SEGMENT_BLOCKS)
        given = {"segment": segment, "bit": 1 << number, "after": after, "upto": after + BLOCK_MESSAGES}
        merges = (number + 1) % MERGED_BLOCKS == 0
        self._connection.execute(BEGIN)
        try:
            for query in [*ADD_BLOCK, *(MERGE_BLOCKS if merges else ())]:
                _execute(self._connection, query, given)
            self._connection.execute(COMMIT)
        except Exception:
            with suppress(duckdb.Error):
                self._connection.execute(ROLLBACK)
            raise


def ranges_to_search(connection: Connection, words: Iterable[str], upto: int) -> list[tuple[int, int]]:
    """Return the ranges of `seq` up to one that may hold all of the words, as (after, upto), newest first."""
    may_hold: dict[int, int] = {}
    for word in words:
        for segment, blocks in connection.execute(BLOCKS, {"word": word, "full": FULL_SEGMENT}).fetchall():
            may_hold[segment] = may_hold.get(segment, -1) & blocks
    found: list[tuple[int, int]] = []
    for block in reversed(range(-(-upto // BLOCK_MESSAGES))):
        segment, number = divmod(block, SEGMENT_BLOCKS)
        if may_hold.get(segment, -1) >> number & 1:
            after, last = block * BLOCK_MESSAGES, min((block + 1) * BLOCK_MESSAGES, upto)
            if found and found[-1][0] - last <= MERGED_GAP_MESSAGES:
                found[-1] = after, found[-1][1]
            else:
                found.append((after, last))
    return found


def forget_words(connection: Connection, seqs: Iterable[int]) -> None:
    """Take the segments of messages that are being deleted out of the index, with the words that are nowhere else.

    They are read again, without these messages, when nothing is asked.
    """
    segments = sorted({(seq - 1) // SEGMENT_MESSAGES for seq in seqs})
    for query in FORGET:
        _execute(connection, query, {"segments": segments})


def _execute(connection: Connection, query: str, values: Mapping[str, Any]) -> None:
    """Run a query with those of the values that it names."""
    connection.execute(query, {name: value for name, value in values.items() if f"${name}" in query})

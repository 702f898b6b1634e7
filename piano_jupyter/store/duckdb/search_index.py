"""An index of words: which of them are in which blocks of messages, so that a search for a rare word reads few of them.

A segment is 16 blocks of 2,048 messages each, by `seq`. For each word of a segment (what stands between white space, in
lower case) a bit says of each block whether it has the word. A text that fits a search has each of its words within one
of these, and so does its block. Only whole segments are in the index; the messages after them are read one by one.
"""

from collections.abc import Iterable

from piano_jupyter.store.duckdb.operations import Connection

BLOCK_MESSAGES = 2_048
SEGMENT_BLOCKS = 16  #: as many as `blocks` has bits
SEGMENT_MESSAGES = BLOCK_MESSAGES * SEGMENT_BLOCKS
MERGED_GAP_MESSAGES = 8_192  #: to read so many takes as long as to begin another query

INDEX_TABLES = ("search_words", "search_postings", "search_segments")

STAGE = "CREATE TEMP TABLE IF NOT EXISTS staged_words (word VARCHAR, bit USMALLINT)"

UNINDEXED = """
SELECT min(full_ones.segment) FROM range($count) full_ones(segment) ANTI JOIN search_segments USING (segment)
"""

STAGE_BLOCK = """
INSERT INTO staged_words
SELECT DISTINCT unnest(regexp_split_to_array(lower(content), '\\s+')), $bit FROM messages
WHERE seq > $after AND seq <= $upto AND role IN ('user', 'assistant')
"""

ADD_SEGMENT = [
    """
    INSERT INTO search_words
    SELECT (SELECT coalesce(max(id), 0) FROM search_words) + row_number() OVER (), word
    FROM (SELECT DISTINCT word FROM staged_words) ANTI JOIN search_words USING (word)
    """,
    """
    INSERT INTO search_postings
    SELECT $segment, id, bit_or(bit) FROM staged_words JOIN search_words USING (word) GROUP BY id
    """,
    "INSERT INTO search_segments VALUES ($segment)",
    "DELETE FROM staged_words",
]

#: The segments in the index, each with the blocks that have a word.
BLOCKS = """
SELECT segment, coalesce(found.blocks, 0) FROM search_segments LEFT JOIN (
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
        self._segment: int | None = None  #: that is being read
        self._blocks = 0  #: of it that were read
        self._complete = 0  #: so many segments are in the index

    def step(self, newest: int) -> bool:
        """Read a block, or add a segment whose blocks were read; return whether anything was left to do.

        `newest` is the `seq` of the newest message.
        """
        count = newest // SEGMENT_MESSAGES
        if self._segment is None:
            if count == self._complete:
                return False
            ((self._segment,),) = self._connection.execute(UNINDEXED, {"count": count}).fetchall()
            if self._segment is None:
                self._complete = count
                return False
            self._connection.execute(STAGE)
            self._connection.execute("DELETE FROM staged_words")
            self._blocks = 0
        if self._blocks < SEGMENT_BLOCKS:
            after = self._segment * SEGMENT_MESSAGES + self._blocks * BLOCK_MESSAGES
            given = {"bit": 1 << self._blocks, "after": after, "upto": after + BLOCK_MESSAGES}
            self._connection.execute(STAGE_BLOCK, given)
            self._blocks += 1
            return True
        segment, self._segment = self._segment, None
        for query in ADD_SEGMENT:
            self._connection.execute(query, {"segment": segment} if "$segment" in query else {})
        return True


def ranges_to_search(connection: Connection, words: Iterable[str], upto: int) -> list[tuple[int, int]]:
    """Return the ranges of `seq` up to one that may hold all of the words, as (after, upto), newest first."""
    may_hold: dict[int, int] = {}
    for word in words:
        for segment, blocks in connection.execute(BLOCKS, {"word": word}).fetchall():
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
        connection.execute(query, {"segments": segments} if "$segments" in query else {})

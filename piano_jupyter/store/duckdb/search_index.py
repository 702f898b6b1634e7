"""An index of blocks: the distinct words of every 2,048 messages, one text a block.

A text that has a word holds it within one of its pieces between white space, and so does the text of its block: where
a block has no such piece, none of its messages can fit. A block that is not in the index counts as one that may.
"""

from collections.abc import Mapping
from typing import Any

from piano_jupyter.store.duckdb.operations import Connection

BLOCK_MESSAGES = 2_048  #: by `seq`: block 0 has 1 to 2,048

#: The first of some full blocks that is not in the index.
UNINDEXED = """
SELECT min(blocks.block) FROM range($full) blocks(block) ANTI JOIN search_words USING (block)
"""

ADD_BLOCK = f"""
INSERT INTO search_words
SELECT $block, coalesce(string_agg(word, ' '), '') FROM (
    SELECT DISTINCT unnest(regexp_split_to_array(lower(content), '\\s+')) AS word FROM messages
    WHERE seq > $block * {BLOCK_MESSAGES} AND seq <= ($block + 1) * {BLOCK_MESSAGES} AND role IN ('user', 'assistant')
)
"""  # noqa: S608  A number of ours.

#: The blocks up to one that may hold these words, newest first; an empty one is in all of them.
MAY_HOLD = """
SELECT blocks.block FROM range($blocks) blocks(block) LEFT JOIN search_words USING (block)
WHERE words IS NULL
    OR contains(words, lower($one)) AND contains(words, lower($two))
    AND contains(words, lower($three)) AND contains(words, lower($four))
ORDER BY 1 DESC
"""


def add_next_block(connection: Connection, newest: int) -> bool:
    """Index the first full block that is not yet; return whether there was one."""
    ((block,),) = connection.execute(UNINDEXED, {"full": newest // BLOCK_MESSAGES}).fetchall()
    if block is None:
        return False
    connection.execute(ADD_BLOCK, {"block": block})
    return True


def ranges_to_search(connection: Connection, words: Mapping[str, Any], upto: int) -> list[tuple[int, int]]:
    """Return the ranges of `seq` up to one that may hold the words, as (after, upto), newest first."""
    count = -(-upto // BLOCK_MESSAGES)
    found: list[tuple[int, int]] = []
    for (block,) in connection.execute(MAY_HOLD, {**words, "blocks": count}).fetchall():
        first, last = block * BLOCK_MESSAGES, min((block + 1) * BLOCK_MESSAGES, upto)
        if found and found[-1][0] == last:
            found[-1] = first, found[-1][1]
        else:
            found.append((first, last))
    return found

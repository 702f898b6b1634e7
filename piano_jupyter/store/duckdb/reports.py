"""Reports: reads that may take long, so they run beside the writer. Each is one function of a connection."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple
from uuid import UUID

import duckdb

from piano_jupyter.errors import StoreError
from piano_jupyter.records import Hit, Message, Rows, Thread
from piano_jupyter.store.base import UsageBy
from piano_jupyter.store.duckdb.error_messages import duckdb_message
from piano_jupyter.store.duckdb.operations import Connection, QueryResult, read
from piano_jupyter.store.duckdb.query_guard import parse_allowed
from piano_jupyter.store.duckdb.read_cursor import ReadCursor
from piano_jupyter.store.duckdb.search_index import ranges_to_search
from piano_jupyter.store.text_search import TITLE_WEIGHT, SearchTerms, TermCounts, scores

MAX_RANKED_MESSAGES = 1_000  #: the newest matches that are ranked
FIRST_SLICE_MESSAGES = 2_048  #: messages searched first; then four times as many, and so on
SHORT_RANGE_MESSAGES = 32_768  #: and fewer are read before they are searched
COMMON_MATCHES = 8  #: so many in the first slice, and nearly every block has one: the index is of no use

NEWEST_SEQ = "SELECT coalesce(max(seq), 0) FROM messages"

#: The newest messages in a range of seq that hold these words and match this pattern (an empty one always matches).
#: (A pattern for each word would take up to four times as long.)
MATCHING_MESSAGES = """
SELECT seq, id, content FROM messages
WHERE seq > $after AND seq <= $upto AND role IN ('user', 'assistant')
    AND contains(lower(content), lower($one)) AND contains(lower(content), lower($two))
    AND contains(lower(content), lower($three)) AND contains(lower(content), lower($four))
    AND ($phrase = '' OR regexp_matches(content, $phrase, 'i'))
ORDER BY seq DESC LIMIT $most
"""

#: Those of some short ranges that hold one word. The ranges are read first: else DuckDB may look for the word before it
#: looks at the range. All in one query, and as short as it can be: to plan it takes as long as to run it.
MATCHING_IN_RANGES = """
WITH ranges AS MATERIALIZED ({ranges})
SELECT seq, id, content FROM ranges
WHERE contains(lower(content), lower($one)) AND ($phrase = '' OR regexp_matches(content, $phrase, 'i'))
ORDER BY seq DESC
"""

ONE_RANGE = (
    "SELECT seq, id, content FROM messages WHERE seq > {after:d} AND seq <= {upto:d} AND role IN ('user', 'assistant')"
)

#: All threads whose title holds these words.
MATCHING_THREADS = """
SELECT * FROM threads
WHERE contains(lower(title), lower($one)) AND contains(lower(title), lower($two))
    AND contains(lower(title), lower($three)) AND contains(lower(title), lower($four))
"""

#: By id, which has an index: each message of another part of the file takes a fifth of the time that it takes by seq.
MESSAGES_BY_ID = """
SELECT m.* FROM messages m JOIN (SELECT unnest($ids::UUID[]) AS id) USING (id)
SEMI JOIN threads t ON t.id = m.thread_id
"""

THREADS_BY_ID = "SELECT t.* FROM threads t JOIN (SELECT unnest($ids::UUID[]) AS id) USING (id)"

#: The usage of each assistant message; what a server does not report, or reports wrongly, is null.
COSTS = """
WITH costs AS (
    SELECT m.agent_id, m.job_id, m.inserted_at, unnest(json_transform(m.usage, '{
        "model": "VARCHAR", "prompt_tokens": "BIGINT", "cached_tokens": "BIGINT", "completion_tokens": "BIGINT",
        "tokens_per_second": "DOUBLE", "first_token_s": "DOUBLE", "load_s": "DOUBLE"
    }'))
    FROM messages m WHERE m.role = 'assistant' AND m.job_id IS NOT NULL
)
"""

SUMS = """
    count(DISTINCT c.job_id) AS answers,
    sum(prompt_tokens)::BIGINT AS prompt_tokens, sum(cached_tokens)::BIGINT AS cached_tokens,
    sum(completion_tokens)::BIGINT AS completion_tokens, median(tokens_per_second) AS tokens_per_second,
    median(first_token_s) AS first_token_s, sum(load_s) AS load_s
"""

#: The usage of each row of a batch.
ROW_COSTS = """
WITH costs AS (
    SELECT a.batch_id, if(a.error IS NULL, a.key, NULL) AS job_id, unnest(json_transform(a.usage, '{
        "model": "VARCHAR", "prompt_tokens": "BIGINT", "cached_tokens": "BIGINT", "completion_tokens": "BIGINT",
        "tokens_per_second": "DOUBLE", "first_token_s": "DOUBLE", "load_s": "DOUBLE"
    }'))
    FROM batch_answers a
)
"""

#: What answers are grouped by: the column and its join.
GROUPS: Mapping[UsageBy, tuple[str, str]] = {
    "agent": ("coalesce(a.name, 'unknown') AS agent", "LEFT JOIN agents a ON a.id = c.agent_id"),
    "model": ("coalesce(c.model, j.model, 'unknown') AS model", "LEFT JOIN jobs j ON j.id = c.job_id"),
    "day": ("inserted_at::DATE AS day", ""),
    "batch": ("b.name AS batch", "JOIN batches b ON b.id = c.batch_id"),
}


class Found(NamedTuple):
    """A message that matches; the newest of them is the greatest."""

    seq: int
    id: UUID


def sql(cursor: ReadCursor[Any], query: str) -> Rows:
    """Run a query of the user's if it is allowed. Raises StoreError with DuckDB's own words."""
    try:
        parse_allowed(cursor.cursor(), query, "Piano's own tables")
        return _rows(cursor.execute(query))
    except duckdb.Error as error:
        cursor.translate(error)
        raise StoreError(duckdb_message(error)) from error


def usage(connection: Connection, by: UsageBy) -> Rows:
    """Return the usage of answers by agent, model, day or batch; most answers first, days newest first."""
    group, join = GROUPS[by]
    order = "1 DESC" if by == "day" else "answers DESC, 1"
    costs = ROW_COSTS if by == "batch" else COSTS
    query = f"{costs} SELECT {group}, {SUMS} FROM costs c {join} GROUP BY 1 ORDER BY {order}"  # noqa: S608  All our own.
    return _rows(connection.execute(query, {}))


def search(connection: Connection, text: str, limit: int) -> list[Hit]:
    """Return where all the words of `text` occur, best match first; equal matches newest first."""
    wanted = SearchTerms(text)
    titled = read(connection, Thread, MATCHING_THREADS, _word_parameters(wanted))
    titles = [(thread, counts) for thread in titled if (counts := wanted.count(thread.title)) is not None]
    ranked: list[tuple[float, Any, Thread | Message]] = [
        (TITLE_WEIGHT * score, thread.inserted_at, thread)
        for (thread, _), score in zip(titles, scores([counts for _, counts in titles]), strict=True)
    ]
    said = _matching_messages(connection, wanted)
    best = sorted(zip(scores(list(said.values())), said, strict=True), reverse=True)[: max(limit, 0)]
    score_of = {found.id: score for score, found in best}
    messages = _without_copies(read(connection, Message, MESSAGES_BY_ID, {"ids": list(score_of)}))
    ranked += [(score_of[message.id], message.inserted_at, message) for message in messages]
    ranked.sort(key=lambda each: each[:2], reverse=True)
    threads = read(connection, Thread, THREADS_BY_ID, {"ids": list({message.thread_id for message in messages})})
    known = {thread.id: thread for thread in threads}
    return [_hit(wanted, found, score, known) for score, _, found in ranked[: max(limit, 0)]]


def _rows(result: QueryResult) -> Rows:
    return Rows(tuple(column[0] for column in result.description), tuple(result.fetchall()))


def _without_copies(messages: Iterable[Message]) -> list[Message]:
    """Return the messages without the copies made by forks (same time, role and text)."""
    first: dict[Any, Message] = {}
    for message in sorted(messages, key=lambda each: each.seq):
        first.setdefault((message.inserted_at, message.role, message.content), message)
    return list(first.values())


def _matching_messages(connection: Connection, wanted: SearchTerms) -> dict[Found, TermCounts]:
    """Return the term counts of the newest matching messages; look no further back than needed."""
    found: dict[Found, TermCounts] = {}
    ((newest,),) = connection.execute(NEWEST_SEQ, {}).fetchall()
    older = max(0, newest - FIRST_SLICE_MESSAGES)
    _search_range(connection, wanted, older, newest, found)
    if len(found) >= COMMON_MATCHES:
        _search_range(connection, wanted, 0, older, found)
        return found
    for ranges in _batches(ranges_to_search(connection, wanted.words, older) if older else ()):
        if sum(upto - after for after, upto in ranges) > SHORT_RANGE_MESSAGES:
            _search_range(connection, wanted, *ranges[0], found)
        elif len(found) < MAX_RANKED_MESSAGES:
            counted = _counted(wanted, _matching_in_ranges(connection, wanted, ranges))
            found |= dict(islice(counted.items(), MAX_RANKED_MESSAGES - len(found)))
    return found


def _batches(ranges: Iterable[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Yield ranges to search together: short ones, which are not more messages than a short range may have."""
    batch: list[tuple[int, int]] = []
    size = 0
    for after, upto in ranges:
        if batch and size + upto - after > SHORT_RANGE_MESSAGES:
            yield batch
            batch, size = [], 0
        batch.append((after, upto))
        size += upto - after
    if batch:
        yield batch


def _matching_in_ranges(
    connection: Connection, wanted: SearchTerms, ranges: Iterable[tuple[int, int]]
) -> list[tuple[Any, ...]]:
    union = " UNION ALL ".join(ONE_RANGE.format(after=after, upto=upto) for after, upto in ranges)
    query = MATCHING_IN_RANGES.format(ranges=union)
    return connection.execute(query, {"one": wanted.words[0], "phrase": wanted.phrase}).fetchall()


def _search_range(
    connection: Connection, wanted: SearchTerms, after: int, upto: int, found: dict[Found, TermCounts]
) -> None:
    """Add the newest matching messages of a range of seq, until there are enough of them."""
    look_for = _word_parameters(wanted) | {"phrase": wanted.phrase}
    size = FIRST_SLICE_MESSAGES
    while upto > after and len(found) < MAX_RANKED_MESSAGES:
        begin, most = max(after, upto - size), MAX_RANKED_MESSAGES - len(found)
        rows = connection.execute(MATCHING_MESSAGES, look_for | {"after": begin, "upto": upto, "most": most}).fetchall()
        found |= _counted(wanted, rows)
        upto, size = (rows[-1][0] - 1, FIRST_SLICE_MESSAGES) if len(rows) == most else (begin, size * 4)


def _counted(wanted: SearchTerms, rows: Iterable[tuple[Any, ...]]) -> dict[Found, TermCounts]:
    return {Found(seq, key): counts for seq, key, content in rows if (counts := wanted.count(content)) is not None}


def _word_parameters(wanted: SearchTerms) -> dict[str, Any]:
    return dict(zip(("one", "two", "three", "four"), [*wanted.words, "", "", "", ""], strict=False))


def _hit(wanted: SearchTerms, found: Thread | Message, score: float, known: Mapping[Any, Thread]) -> Hit:
    thread, message = (found, None) if isinstance(found, Thread) else (known[found.thread_id], found)
    text = thread.title if message is None else message.shown
    if message is not None and wanted.count(text) is None:  # the words are in what was inserted
        text = message.content
    excerpt, marks, at = wanted.excerpt(text)
    return Hit(thread=thread, message=message, excerpt=excerpt, marks=marks, at=at, score=score)

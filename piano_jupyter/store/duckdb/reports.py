"""Reports: reads that may take long, so they run beside the writer. Each is one function of a connection."""

from collections.abc import Iterable, Mapping
from typing import Any

import duckdb

from piano_jupyter.errors import StoreError
from piano_jupyter.records import Hit, Message, Rows, Thread
from piano_jupyter.store.base import UsageBy
from piano_jupyter.store.duckdb.database import ReadCursor
from piano_jupyter.store.duckdb.error_messages import words
from piano_jupyter.store.duckdb.operations import Connection, QueryResult, read
from piano_jupyter.store.duckdb.query_guard import checked
from piano_jupyter.store.duckdb.search_index import BLOCK_MESSAGES, ranges_to_search
from piano_jupyter.store.text_search import TITLE_WEIGHT, SearchTerms, TermCounts, scores

ENOUGH = 1_000  #: so many messages are ranked, the newest that fit
SLICE = 8_192  #: messages that are looked through first; then four times as many, and so on

NEWEST = "SELECT coalesce(max(seq), 0) FROM messages"

#: The newest so many messages in a part of the store that have these words and this pattern; one that is empty is in
#: all of them. (A pattern for each word would take up to four times as long.)
SAID = """
SELECT m.seq, m.content FROM messages m SEMI JOIN threads t ON t.id = m.thread_id
WHERE m.seq > $after AND m.seq <= $upto AND m.role IN ('user', 'assistant')
    AND contains(lower(m.content), lower($one)) AND contains(lower(m.content), lower($two))
    AND contains(lower(m.content), lower($three)) AND contains(lower(m.content), lower($four))
    AND ($phrase = '' OR regexp_matches(m.content, $phrase, 'i'))
ORDER BY m.seq DESC LIMIT $most
"""

#: All titles that have these words.
TITLED = """
SELECT * FROM threads
WHERE contains(lower(title), lower($one)) AND contains(lower(title), lower($two))
    AND contains(lower(title), lower($three)) AND contains(lower(title), lower($four))
"""

MESSAGES = "SELECT m.* FROM messages m JOIN (SELECT unnest($seqs::BIGINT[]) AS seq) USING (seq)"

THREADS = "SELECT t.* FROM threads t JOIN (SELECT unnest($ids::UUID[]) AS id) USING (id)"

#: What each message of an assistant's cost; what a server does not tell, or tells as nonsense, is null.
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

#: What answers are grouped by, and where that stands.
GROUPS: Mapping[UsageBy, tuple[str, str]] = {
    "agent": ("coalesce(a.name, 'unknown') AS agent", "LEFT JOIN agents a ON a.id = c.agent_id"),
    "model": ("coalesce(c.model, j.model, 'unknown') AS model", "LEFT JOIN jobs j ON j.id = c.job_id"),
    "day": ("inserted_at::DATE AS day", ""),
}


def sql(aside: ReadCursor[Any], query: str) -> Rows:
    """Return what a query of the user's gives, if it may run. Raises StoreError with DuckDB's own words."""
    try:
        checked(aside.cursor(), query, "Piano's own tables")
        return _rows(aside.execute(query))
    except duckdb.Error as error:
        aside.fault(error)
        raise StoreError(words(error)) from error


def usage(connection: Connection, by: UsageBy) -> Rows:
    """Return what answers cost, a row for each agent, model or day; most answers first, days newest first."""
    group, join = GROUPS[by]
    order = "1 DESC" if by == "day" else "answers DESC, 1"
    query = f"{COSTS} SELECT {group}, {SUMS} FROM costs c {join} GROUP BY 1 ORDER BY {order}"  # noqa: S608  All our own.
    return _rows(connection.execute(query, {}))


def search(connection: Connection, text: str, limit: int) -> list[Hit]:
    """Return where all the words of `text` occur, best first; what fits equally well, newest first."""
    wanted = SearchTerms(text)
    titled = read(connection, Thread, TITLED, _words(wanted))
    titles = [(thread, tally) for thread in titled if (tally := wanted.tally(thread.title)) is not None]
    ranked: list[tuple[float, Any, Thread | Message]] = [
        (TITLE_WEIGHT * score, thread.inserted_at, thread)
        for (thread, _), score in zip(titles, scores([tally for _, tally in titles]), strict=True)
    ]
    said = _said(connection, wanted)
    best = sorted(zip(scores(list(said.values())), said, strict=True), reverse=True)[: max(limit, 0)]
    score_of = {seq: score for score, seq in best}
    messages = _once(read(connection, Message, MESSAGES, {"seqs": list(score_of)}))
    ranked += [(score_of[message.seq], message.inserted_at, message) for message in messages]
    ranked.sort(key=lambda each: each[:2], reverse=True)
    threads = read(connection, Thread, THREADS, {"ids": list({message.thread_id for message in messages})})
    known = {thread.id: thread for thread in threads}
    return [_hit(wanted, found, score, known) for score, _, found in ranked[: max(limit, 0)]]


def _rows(result: QueryResult) -> Rows:
    return Rows(tuple(column[0] for column in result.description), tuple(result.fetchall()))


def _once(messages: Iterable[Message]) -> list[Message]:
    """Return the messages without those that a fork has copied, which say the same at the same time."""
    first: dict[Any, Message] = {}
    for message in sorted(messages, key=lambda each: each.seq):
        first.setdefault((message.inserted_at, message.role, message.content), message)
    return list(first.values())


def _said(connection: Connection, wanted: SearchTerms) -> dict[int, TermCounts]:
    """Return the tally of the newest messages that fit, by their seq. Looks no further back than it must."""
    found: dict[int, TermCounts] = {}
    ((newest,),) = connection.execute(NEWEST, {}).fetchall()
    _look(connection, wanted, max(0, newest - SLICE), newest, found)
    older = max(0, newest - SLICE)
    is_rare = len(found) * BLOCK_MESSAGES < SLICE  # else nearly every block has it
    for after, upto in ranges_to_search(connection, wanted.words, older) if is_rare and older else [(0, older)]:
        _look(connection, wanted, after, upto, found)
    return found


def _look(connection: Connection, wanted: SearchTerms, after: int, upto: int, found: dict[int, TermCounts]) -> None:
    """Add the newest messages of a range that fit, until there are enough of them."""
    look_for = _words(wanted) | {"phrase": wanted.phrase}
    size = SLICE
    while upto > after and len(found) < ENOUGH:
        begin, most = max(after, upto - size), ENOUGH - len(found)
        rows = connection.execute(SAID, look_for | {"after": begin, "upto": upto, "most": most}).fetchall()
        found |= {seq: tally for seq, content in rows if (tally := wanted.tally(content)) is not None}
        upto, size = (rows[-1][0] - 1, SLICE) if len(rows) == most else (begin, size * 4)


def _words(wanted: SearchTerms) -> dict[str, Any]:
    return dict(zip(("one", "two", "three", "four"), [*wanted.words, "", "", "", ""], strict=False))


def _hit(wanted: SearchTerms, found: Thread | Message, score: float, known: Mapping[Any, Thread]) -> Hit:
    thread, message = (found, None) if isinstance(found, Thread) else (known[found.thread_id], found)
    excerpt, marks, at = wanted.excerpt(thread.title if message is None else message.content)
    return Hit(thread=thread, message=message, excerpt=excerpt, marks=marks, at=at, score=score)

"""The queries about batches, each with a name and a line that says what it is for. Values are always bound.

Keys are bound as one text, which DuckDB takes apart much faster than Python could make a list of ids.
"""

from collections.abc import Mapping

#: A batch with how many of its rows have an answer or an error.
COUNTED = """
SELECT b.*, coalesce(a.done, 0) AS done, coalesce(a.failed, 0) AS failed
FROM batches b LEFT JOIN (
    SELECT batch_id, count(*) FILTER (error IS NULL) AS done, count(error) AS failed FROM batch_answers
    WHERE $id::UUID IS NULL OR batch_id = $id GROUP BY batch_id
) a ON a.batch_id = b.id
"""

BATCH = f"{COUNTED} WHERE b.id = $id"

#: All of them, oldest first.
BATCHES = f"{COUNTED.replace('$id::UUID IS NULL OR batch_id = $id', 'TRUE')} ORDER BY b.seq"

#: Each key with its place among those that are bound.
WANTED = "wanted AS (SELECT unnest(string_split($keys, ','))::UUID AS key, unnest(range($count)) AS position)"

#: Whether an error says nothing about its row: no server has answered.
UNAVAILABLE = "coalesce(json_extract(usage, '$.unavailable')::VARCHAR = 'true', false)"

#: A digit for each key, as one text: see `Store.known_rows`.
KNOWN_ROWS = f"""
WITH {WANTED}, known AS (
    SELECT key, min(CASE
        WHEN error IS NULL THEN if(batch_id = $batch_id::UUID, '1', '3')
        WHEN batch_id = $batch_id::UUID AND NOT {UNAVAILABLE} THEN '2' ELSE '9' END
    ) AS sign
    FROM batch_answers SEMI JOIN wanted USING (key) GROUP BY key
)
SELECT string_agg(replace(coalesce(sign, '0'), '9', '0'), '' ORDER BY position) FROM wanted LEFT JOIN known USING (key)
"""  # noqa: S608  Our own.

#: Copy to a batch what others know of some keys, the oldest answer to each.
COPY_ANSWERS = f"""
INSERT INTO batch_answers
WITH {WANTED}
SELECT $batch_id, key, $place + min(position), arg_min(asked, answered_at), arg_min(answer, answered_at), NULL, '{{}}',
    min(answered_at)
FROM wanted JOIN batch_answers USING (key)
WHERE error IS NULL AND batch_id <> $batch_id
    AND key NOT IN (SELECT key FROM batch_answers WHERE batch_id = $batch_id)
GROUP BY key
"""  # noqa: S608  Our own.

#: Add answers to keys that have none in a batch.
ADD_ANSWERS = """
INSERT INTO batch_answers
SELECT $batch_id, added.* FROM (
    SELECT unnest($key::UUID[]) AS key, unnest($place::BIGINT[]), unnest($asked::VARCHAR[]),
        unnest($answer::VARCHAR[]), unnest($error::VARCHAR[]), unnest($usage::VARCHAR[]),
        unnest($answered_at::TIMESTAMP[])
) added ANTI JOIN (SELECT key FROM batch_answers WHERE batch_id = $batch_id) known USING (key)
"""

#: What a batch has for some keys, in their order.
OUTCOMES = f"""
WITH {WANTED}
SELECT position, answer, error
FROM wanted JOIN batch_answers USING (key) WHERE batch_id = $batch_id ORDER BY position
"""  # noqa: S608  Our own.

#: The next so many answers of a batch.
ANSWERS_FROM = """
SELECT key, place, asked, answer, error, usage, answered_at
FROM batch_answers WHERE batch_id = $batch_id AND (place > $place OR (place = $place AND key > $key::UUID))
ORDER BY place, key LIMIT $most
"""

FORGET_UNAVAILABLE = f"""
DELETE FROM batch_answers WHERE batch_id = $batch_id AND error IS NOT NULL AND {UNAVAILABLE}
"""  # noqa: S608  Our own.

FORGET_ERRORS = "DELETE FROM batch_answers WHERE batch_id = $batch_id AND error IS NOT NULL"

#: How many of these batches there are.
HAS_BATCHES = "SELECT count(*) FROM batches WHERE list_contains($ids::UUID[], id)"

#: What deletes all that belongs to some batches, by the table.
DELETE_BATCHES: Mapping[str, str] = {
    "batch_answers": "DELETE FROM batch_answers WHERE list_contains($ids::UUID[], batch_id)",
    "batches": "DELETE FROM batches WHERE list_contains($ids::UUID[], id)",
}

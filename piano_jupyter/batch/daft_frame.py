"""A Daft DataFrame is asked row by row, on this machine or on an existing Ray cluster. Needs the extra `[daft]`.

Daft moves the rows; Piano asks, checks and keeps. What is already answered is left out, and answers come back to this
process a partition at a time, where they are kept before the next ones are asked for.
"""

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Protocol

import daft
import pyarrow as pa

from piano_jupyter.batch.answer_columns import free_names
from piano_jupyter.batch.asker import Asker
from piano_jupyter.batch.frames import ArrowTable
from piano_jupyter.batch.row_answer import RowAnswer
from piano_jupyter.batch.row_key import row_key
from piano_jupyter.batch.row_template import RowTemplate
from piano_jupyter.errors import PianoError
from piano_jupyter.text.json_text import parse_json

BATCH_ROWS = 1_000  #: rows that one worker asks before it gives back their answers
ANSWER_TYPE = daft.DataType.struct(
    {name: daft.DataType.string() for name in ("asked", "text", "value", "error", "usage")}
    | {"tries": daft.DataType.int64(), "unavailable": daft.DataType.bool()}
)
NOT_ASKED: Mapping[str, Any] = dict.fromkeys(("asked", "text", "value", "usage", "tries", "unavailable"))


class Answers(Protocol):
    """Where answers are kept, by the key of their row. Called in the process that calls `ask_frame`."""

    def known(self, keys: Sequence[bytes]) -> Mapping[bytes, RowAnswer]:
        """Return the answers that are there for these keys."""
        ...

    def add(self, answers: Mapping[bytes, RowAnswer], asked: Mapping[bytes, str]) -> None:
        """Keep answers, and why some rows have none, with what was asked, as JSON; return when they are safe."""
        ...


def ask_frame(
    frame: daft.DataFrame,
    template: RowTemplate,
    servers: str | Sequence[str],
    model: str,
    *,
    options: Mapping[str, Any] | None = None,
    answers: Answers | None = None,
    max_in_flight: int | None = None,
    workers: int = 1,
    batch_rows: int = BATCH_ROWS,
    **connection: Any,
) -> daft.DataFrame:
    """Ask a model about each row of a Daft DataFrame; return the frame with the answers as columns.

    It runs on the runner that Daft is set to: here, or after `daft.set_runner_ray(ADDRESS)` on that cluster, whose
    machines need Piano, and reach the servers. Rows that ask the same are asked once. The answers of all rows, and the
    values that the template uses, pass through this process; the rest of the rows does not. As after each join of Daft,
    the order of the rows may be another one.

    Args:
        frame: The frame.
        template: The question, with the schema of an answer.
        servers: The address of a server, with /v1, or several.
        model: The name of the model.
        options: Options that are sent with each request.
        answers: Where answers are kept and found again; without it they are only returned.
        max_in_flight: How many requests all workers together send at once; by default each worker sends as many as the
            servers have room for.
        workers: How many processes or actors ask at once.
        batch_rows: How many rows a worker asks before it gives back their answers.
        **connection: Further arguments of `Asker`, such as `api_key`; what they hold is sent to the workers.

    Returns:
        The frame with the columns of the answers and `error`; see `Frame.with_answers` for their names. Lists and
        records are as pyarrow has them.

    Raises:
        PianoError: The template uses a column that there is not, or too many rows in a row have failed.

    Example:
        >>> reviews = daft.read_parquet("s3://shop/reviews/*.parquet")
        >>> template = RowTemplate("Is this review positive? {{review}}", schema=bool)
        >>> rated = ask_frame(reviews, template, "http://gpu-1:8080/v1", "qwen3:32b")
        >>> rated.write_parquet("s3://shop/rated/")
    """
    template.check(frame.column_names)
    (key,) = free_names(["row_key"], frame.column_names)
    used = [daft.col(name) for name in template.columns]
    keyed = frame.with_column(key, _key_function(template, model, options)(*used))
    found: dict[bytes, RowAnswer] = {}
    if answers is not None:
        for part in keyed.select(key).distinct().to_arrow_iter():
            found |= answers.known(part.column(0).to_pylist())
    missing = keyed.select(key, *used).distinct(key)
    if found:
        missing = missing.join(daft.from_pydict({key: list(found)}), on=key, how="anti")
    settings = {"servers": servers, "model": model, "options": options, "max_in_flight": max_in_flight, **connection}
    ask = _ask_function(template, settings, workers, batch_rows)
    for part in missing.select(daft.col(key), ask(*used).alias("answer")).to_arrow_iter():
        records = dict(zip(part.column(0).to_pylist(), part.column(1).to_pylist(), strict=True))
        asked = {each: record.pop("asked") for each, record in records.items()}
        new = {each: _answer(record) for each, record in records.items() if record["tries"] is not None}
        if answers is not None:
            answers.add(new, asked)
        found |= new
        if len(new) < len(records):
            raise PianoError(next(record["error"] for record in records.values() if record["tries"] is None))
    keys = ArrowTable(pa.table({key: pa.array(found, pa.binary())}))
    answered = keys.with_answers(found.values(), template.schema, taken=frame.column_names)
    return keyed.join(daft.from_arrow(answered), on=key, how="left").exclude(key)


def _key_function(template: RowTemplate, model: str, options: Mapping[str, Any] | None) -> Any:
    """Return a function of columns that gives the keys of their rows."""

    @daft.func.batch(return_dtype=daft.DataType.binary(), use_process=False)
    def row_keys(*columns: daft.Series) -> list[bytes]:
        return list(map(row_key(template, model, options), _rows(template, columns)))

    return row_keys


def _ask_function(template: RowTemplate, settings: Mapping[str, Any], workers: int, batch_rows: int) -> Any:
    """Return a function of columns that gives the answers to their rows."""
    if settings["max_in_flight"] is not None:
        settings = {**settings, "max_in_flight": max(1, settings["max_in_flight"] // workers)}

    @daft.cls(max_concurrency=workers)  # of a function, any number would run at once
    class FrameAsker:
        @daft.method.batch(return_dtype=ANSWER_TYPE, batch_size=batch_rows)
        def ask(self, *columns: daft.Series) -> list[dict[str, Any]]:
            return asyncio.run(_ask(template, settings, list(_rows(template, columns))))

    return FrameAsker().ask


async def _ask(
    template: RowTemplate, settings: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the answers to rows, as Daft moves them. A row that was not asked, as the batch stopped, has no tries."""
    found: dict[int, RowAnswer] = {}
    asker, stopped = Asker(**settings), ""
    try:
        async with asker, aclosing(asker.answers(template, rows)) as answers:
            async for number, answer in answers:
                found[number] = answer  # noqa: PERF403  They are kept if the batch stops.
    except PianoError as error:
        stopped = str(error)
    return [
        _record(template, row, found[at]) if at in found else {**NOT_ASKED, "error": stopped}
        for at, row in enumerate(rows)
    ]


def _rows(template: RowTemplate, columns: Sequence[daft.Series]) -> Iterator[dict[str, Any]]:
    values = zip(*(column.to_pylist() for column in columns), strict=True)
    return (dict(zip(template.columns, row, strict=True)) for row in values)


def _record(template: RowTemplate, row: Mapping[str, Any], answer: RowAnswer) -> dict[str, Any]:
    """Return an answer as Daft moves it, with what was asked; a row that could not be asked has no values."""
    texts = {"text": answer.text, "value": json.dumps(answer.value), "error": answer.error}
    asked, usage = template.fields(row) if answer.tries else "{}", json.dumps(dict(answer.usage))
    return {**texts, "asked": asked, "usage": usage, "tries": answer.tries, "unavailable": answer.unavailable}


def _answer(record: Mapping[str, Any]) -> RowAnswer:
    parsed = {"value": parse_json(record["value"]), "usage": parse_json(record["usage"])}
    return RowAnswer(**{**record, **parsed})

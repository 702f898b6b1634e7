"""A Parquet file from columns of Python values, a piece at a time, written by DuckDB."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from piano_jupyter.errors import StoreError
from piano_jupyter.store.duckdb.database import LOCKED_DOWN, MEMORY
from piano_jupyter.store.duckdb.error_messages import duckdb_message
from piano_jupyter.store.duckdb.queries import NO_PROGRESS_BAR, quoted_name, quoted_text

#: DuckDB's type for each type of JSON; what has no own type is written as JSON.
TYPES: Mapping[str, str] = {"integer": "BIGINT", "number": "DOUBLE", "boolean": "BOOLEAN", "time": "TIMESTAMP"}
DEFAULT_TYPE = "VARCHAR"
LARGEST: Mapping[str, float] = {"integer": 2**63 - 1, "number": sys.float_info.max}


class ParquetColumn(NamedTuple):
    """Some values of a column, and its type in JSON; "time" for times, any other for texts."""

    name: str
    kind: str
    values: Sequence[Any]


def write_parquet(file: Path, pieces: Iterable[Sequence[ParquetColumn]]) -> int:
    """Write pieces that have the same columns to a new file; return how many rows there are. Raises StoreError.

    A column with a number that its type cannot hold becomes one of texts.
    """
    count, texts = 0, set[str]()
    try:
        with duckdb.connect(MEMORY, config={**LOCKED_DOWN, "enable_external_access": True}) as connection:
            connection.execute(NO_PROGRESS_BAR)
            for piece in pieces:
                if not count:
                    connection.execute(f"CREATE TABLE rows ({', '.join(map(_declared, piece))})")
                for name in {each.name for each in piece if not _fits(each)} - texts:
                    connection.execute(f"ALTER TABLE rows ALTER {quoted_name(name)} TYPE VARCHAR")
                    texts.add(name)
                columns = [_as_texts(each) if each.name in texts else each for each in piece]
                selected = ", ".join(f"unnest(${at}::{_type(each)}[])" for at, each in enumerate(columns, 1))
                connection.execute(f"INSERT INTO rows SELECT {selected}", [list(each.values) for each in columns])
                count += len(piece[0].values)
            if count:
                connection.execute(f"COPY rows TO {quoted_text(str(file))} (FORMAT parquet)")
    except duckdb.Error as error:
        raise StoreError(f"the answers cannot be written as Parquet: {duckdb_message(error)}") from error
    return count


def _declared(column: ParquetColumn) -> str:
    return f"{quoted_name(column.name)} {_type(column)}"


def _type(column: ParquetColumn) -> str:
    return TYPES.get(column.kind, DEFAULT_TYPE)


def _fits(column: ParquetColumn) -> bool:
    largest = LARGEST.get(column.kind)
    return largest is None or all(each is None or abs(each) <= largest for each in column.values)


def _as_texts(column: ParquetColumn) -> ParquetColumn:
    return ParquetColumn(column.name, "", [None if each is None else str(each) for each in column.values])

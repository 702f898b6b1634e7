"""The value of --map: the name of a variable with a table, about each row of which a question is asked."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from piano_jupyter.errors import NotFoundError, PianoError
from piano_jupyter.variables.data_frames import kind_among
from piano_jupyter.variables.frame_parts import frame_parts
from piano_jupyter.variables.variable_access import type_name

TABLES = frozenset(
    {
        "pandas.DataFrame",
        "polars.DataFrame",
        "polars.LazyFrame",
        "pyarrow.Table",
        "duckdb.DuckDBPyRelation",
        "daft.DataFrame",
    }
)
WHAT_IS_A_TABLE = "--map takes the name of a data frame (pandas, polars, pyarrow, DuckDB, Daft), or of a list of dicts"


def table_named(name: str, variables: Mapping[str, Any]) -> Any:
    """Return the table in a variable. Raises PianoError if there is none, or if it could be read only once."""
    if name not in variables:
        raise NotFoundError(f"{NotFoundError.among('table', name, tables_in(variables))}; {WHAT_IS_A_TABLE}")
    value = variables[name]
    if kind_among(value, TABLES):
        return value
    if isinstance(value, Iterator):
        raise PianoError(f"--map {name}: an iterator can be read once only; make a list first: {name} = list({name})")
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise PianoError(f"--map {name}: this is of the type {type_name(value)}; {WHAT_IS_A_TABLE}")
    return value


def tables_in(variables: Mapping[str, Any]) -> list[str]:
    """Return the names of the variables that hold tables."""
    return sorted(name for name, value in variables.items() if not name.startswith("_") and _is_table(value))


def columns_of(value: Any) -> list[str]:
    """Return the names of the columns of a table that are texts; none if it is no table."""
    if isinstance(value, Sequence) and value and isinstance(value[0], Mapping):
        names: Iterable[object] = value[0]
    elif kind_among(value, {"daft.DataFrame"}):
        names = value.column_names
    else:
        parts = frame_parts(value) if kind_among(value, TABLES) else None
        names = parts.names[parts.index :] if parts else ()
    return [name for name in names if isinstance(name, str)]


def _is_table(value: Any) -> bool:
    return bool(kind_among(value, TABLES)) or (isinstance(value, list) and bool(value) and isinstance(value[0], dict))

"""Tables of all kinds: their rows as dicts, and the same kind of table with the answers as columns.

pandas and polars frames (lazy ones too), pyarrow tables, DuckDB relations, and iterables of dicts. No library is
imported that the user has not imported.
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

from piano_jupyter.batch.answer_columns import AnswerColumn, answer_columns
from piano_jupyter.batch.cell_value import to_json
from piano_jupyter.batch.row_answer import RowAnswer
from piano_jupyter.errors import PianoError
from piano_jupyter.text.truncation import truncated
from piano_jupyter.variables.data_frames import is_failure, kind_among
from piano_jupyter.variables.variable_access import type_name

CHUNK_ROWS = 10_000  #: rows that are Python objects at once
Row = Mapping[str, Any]


def rows_of(frame: Any, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table as dicts, of all columns or of these. Raises PianoError for what is no table."""
    return open_frame(frame).rows(columns)


def with_answers(frame: Any, answers: Iterable[RowAnswer], schema: Mapping[str, Any] | None = None) -> Any:
    """Return a table of the same kind with the answers, in the order of its rows, as columns; see `Frame`."""
    return open_frame(frame).with_answers(answers, schema)


def open_frame(frame: Any, limit: int | None = None, stopped: Callable[[], bool] = lambda: False) -> "Frame":
    """Return a table to read and to answer. Raises PianoError for what is no table.

    What can be read only once, or may differ when it is read again, is read now: a generator, a lazy frame, a relation.
    Of an iterator, which may have no end, at most `limit` rows are read; once `stopped` says so, no more dicts are.
    """
    if kind := kind_among(frame, FRAMES):
        with reading("the table"):
            return FRAMES[kind](frame)
    if not isinstance(frame, Iterable) or isinstance(frame, Mapping | str | bytes):
        raise _no_table(f"a {type_name(frame)} is no table")
    rows: list[Row] = []
    for row in islice(frame, limit) if isinstance(frame, Iterator) else frame:
        if not isinstance(row, Mapping):
            raise _no_table(f"a {type_name(frame)} of {type_name(row)} is no table")
        if stopped():
            raise PianoError(f"interrupted after {len(rows):,} rows were read")
        rows.append(row)
    return DictRows(rows)


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Say in a PianoError what cannot be read: each library has its own errors, for what is computed only now."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, PianoError) or not is_failure(error):
            raise
        said = truncated(" ".join(str(error).split()), 300)
        raise PianoError(f"{what} cannot be read: {type(error).__name__}: {said}") from error


def _no_table(what: str) -> PianoError:
    return PianoError(
        f"{what}; give a pandas or polars DataFrame, a pyarrow Table, a DuckDB relation, or rows as dicts"
    )


class Frame(ABC):
    """A table.

    Attributes:
        columns: The names of its columns, as texts.
        count: How many rows it has.
    """

    columns: Sequence[str]
    count: int

    def rows(self, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """Yield the rows as dicts, of all columns or of these; only `CHUNK_ROWS` rows are Python objects at once.

        Raises PianoError if two columns have one of the names.
        """
        names = list(dict.fromkeys(self.columns if columns is None else columns))
        places = [self._place(name) for name in names]
        for start in range(0, self.count, CHUNK_ROWS):
            end = min(start + CHUNK_ROWS, self.count)
            values = []
            for name, place in zip(names, places, strict=True):
                with reading(f"the column {name!r}"):  # Python has no date in the year 100,000, for one
                    values.append(self._values(place, start, end))
            for row in zip(*values, strict=True):
                yield dict(zip(names, row, strict=True))

    def with_answers(
        self, answers: Iterable[RowAnswer], schema: Mapping[str, Any] | None = None, taken: Iterable[str] = ()
    ) -> Any:
        """Return a table of the same kind with the answers, in the order of the rows.

        The fields of an object schema become columns, any other answer the column `answer`, and the last column
        `error` says why a row has none. No column is replaced: where `error` is one already, the new one is `error_2`.
        The case of letters does not make two names different, as in a database. `taken` are more names that the new
        columns may not have.
        """
        names = [*self.columns, *self._more_names(), *taken]
        return self._extended(answer_columns(islice(answers, self.count), self.count, schema, names))

    def _more_names(self) -> Iterable[str]:
        """Return what else a new column cannot be called."""
        return ()

    def _place(self, name: str) -> int:
        places = [place for place, each in enumerate(self.columns) if each == name]
        if len(places) == 1:
            return places[0]
        if places:
            raise PianoError(f"{len(places)} columns are named {name!r}; rename all but one")
        raise PianoError(f"no column named {name!r}")

    @abstractmethod
    def _values(self, place: int, start: int, end: int) -> Sequence[Any]:
        """Return some values of a column as Python objects."""

    @abstractmethod
    def _extended(self, columns: Sequence[AnswerColumn]) -> Any:
        """Return the table with more columns."""


class DictRows(Frame):
    """Rows as dicts; one without a field has null there."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows, self.count = rows, len(rows)
        self._names = list(dict.fromkeys(name for row in rows for name in row))
        self.columns = list(map(str, self._names))

    def _values(self, place: int, start: int, end: int) -> Sequence[Any]:
        name = self._names[place]
        return [row.get(name) for row in self._rows[start:end]]

    def _extended(self, columns: Sequence[AnswerColumn]) -> Any:
        names = [each.name for each in columns]
        added = zip(*(each.values for each in columns), strict=True)
        return [{**row, **dict(zip(names, new, strict=True))} for row, new in zip(self._rows, added, strict=True)]


class PandasFrame(Frame):
    """A DataFrame of pandas; its index is kept."""

    KINDS: Mapping[str, str] = {"integer": "Int64", "number": "Float64", "boolean": "boolean", "string": "string"}

    def __init__(self, frame: Any) -> None:
        self._frame, self.count = frame.copy(deep=False), len(frame)  # it may get other columns meanwhile
        self.columns = [str(name) for name in frame.columns]

    def _more_names(self) -> Iterable[str]:
        return map(str, self._frame.columns.get_level_values(0))  # in a hierarchy, the name of the first level

    def _values(self, place: int, start: int, end: int) -> Sequence[Any]:
        return self._frame.iloc[start:end, place].tolist()  # type: ignore[no-any-return]

    def _extended(self, columns: Sequence[AnswerColumn]) -> Any:
        pandas, result = sys.modules["pandas"], self._frame.copy(deep=False)
        below = [""] * (result.columns.nlevels - 1)
        for each in columns:
            try:
                typed = pandas.Series(each.values, dtype=self.KINDS.get(each.kind, "object"))
            except (TypeError, ValueError, OverflowError):  # a number of more than 64 bits
                typed = pandas.Series(each.values, dtype="object")
            result[(each.name, *below) if below else each.name] = typed.array
        return result


class PolarsFrame(Frame):
    """A DataFrame of polars."""

    KINDS: Mapping[str, str] = {"integer": "Int64", "number": "Float64", "boolean": "Boolean", "string": "String"}

    def __init__(self, frame: Any) -> None:
        self._frame, self.count, self.columns = frame, frame.height, frame.columns

    def _values(self, place: int, start: int, end: int) -> Sequence[Any]:
        return self._frame.to_series(place).slice(start, end - start).to_list()  # type: ignore[no-any-return]

    def _extended(self, columns: Sequence[AnswerColumn]) -> Any:
        polars = sys.modules["polars"]

        def series(kind: str, values: Sequence[Any]) -> Any:
            if kind:
                return polars.Series(values=values, dtype=getattr(polars, self.KINDS[kind]), strict=True)
            rows = [{"value": each} for each in values]  # a Series has only the fields that the first record has
            made = polars.DataFrame(rows, infer_schema_length=None).to_series()
            if _without_nulls(made.to_list()) != _without_nulls(values):
                raise ValueError("no type has all values")
            return made

        return self._frame.with_columns(_typed_or_json(series, each).alias(each.name) for each in columns)


class PolarsLazyFrame(PolarsFrame):
    """A LazyFrame of polars, computed once."""

    def __init__(self, frame: Any) -> None:
        super().__init__(frame.collect())

    def _extended(self, columns: Sequence[AnswerColumn]) -> Any:
        return super()._extended(columns).lazy()


class ArrowTable(Frame):
    """A Table of pyarrow."""

    KINDS: Mapping[str, str] = {"integer": "int64", "number": "float64", "boolean": "bool_", "string": "string"}

    def __init__(self, table: Any) -> None:
        self._table, self.count, self.columns = table, table.num_rows, table.column_names

    def _values(self, place: int, start: int, end: int) -> Sequence[Any]:
        return self._table.column(place).slice(start, end - start).to_pylist()  # type: ignore[no-any-return]

    def _extended(self, columns: Sequence[AnswerColumn]) -> Any:
        pyarrow, table = sys.modules["pyarrow"], self._table

        def array(kind: str, values: Sequence[Any]) -> Any:
            return pyarrow.array(values, type=getattr(pyarrow, self.KINDS[kind])() if kind in self.KINDS else None)

        for each in columns:
            table = table.append_column(each.name, _typed_or_json(array, each))
        return table


class DuckDBRelation(ArrowTable):
    """A relation of DuckDB, computed once; the result is a relation of the same connection.

    Of the default connection, where the settings of the other one do not let it read variables.
    """

    def __init__(self, relation: Any) -> None:
        self._relation = relation
        try:
            super().__init__(relation.to_arrow_table())
        except ModuleNotFoundError as error:
            raise PianoError("a DuckDB relation needs pyarrow here: pip install pyarrow") from error

    def _extended(self, columns: Sequence[AnswerColumn]) -> Any:
        piano_answered_rows = super()._extended(columns)
        duckdb = sys.modules["duckdb"]
        try:  # DuckDB finds the table by the variable's name
            return self._relation.query("piano_asked_rows", "FROM piano_answered_rows")
        except duckdb.CatalogException:  # not with `enable_external_access` or `python_enable_replacements` off
            return duckdb.from_arrow(piano_answered_rows)


def _without_nulls(value: Any) -> Any:
    """Return a value as JSON has it without the fields that are null."""
    if isinstance(value, dict):
        return {name: _without_nulls(each) for name, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list | tuple) else value


def _typed_or_json(make: Callable[[str, Sequence[Any]], Any], column: AnswerColumn) -> Any:
    """Return the values as a library's column: of their type, or as JSON where the library has no type for them."""
    try:
        return make(column.kind, column.values)
    except Exception:  # noqa: BLE001  Each library has errors of its own for values of several types.
        return make("string", [None if each is None else to_json(each) for each in column.values])


FRAMES: Mapping[str, Callable[[Any], Frame]] = {
    "pandas.DataFrame": PandasFrame,
    "polars.DataFrame": PolarsFrame,
    "polars.LazyFrame": PolarsLazyFrame,
    "pyarrow.Table": ArrowTable,
    "duckdb.DuckDBPyRelation": DuckDBRelation,
}

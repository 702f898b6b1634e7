"""Recognizes data frames of all libraries and summarizes them, copying few values. No library is imported.

A `FrameSummary` has the size of a frame, and the type and a sample of the values of each of its first columns.
"""

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

HEAD_ROWS = 5
MAX_COLUMNS = 60
MAX_SAMPLE_ROWS = 10_000
MAX_SAMPLE_VALUES = 200_000
MAX_LAZY_ROWS = 1_000  # of lazy frames and relations


@dataclass(frozen=True, slots=True)
class FrameColumn:
    """A column: its name and type in the library, the values of the sample, and the first values."""

    name: object
    type: object
    values: Sequence[Any]
    head: Sequence[Any]


@dataclass(frozen=True, slots=True)
class FrameSummary:
    """The size of a frame and a sample of its values."""

    rows: int | None  #: None for lazy frames
    width: int  #: the number of columns
    columns: Sequence[FrameColumn]  #: the first of them
    index: str = ""

    @property
    def is_complete(self) -> bool:
        """Whether the sample is the whole frame."""
        return self.rows is not None and all(len(each.values) == self.rows for each in self.columns)

    @property
    def head(self) -> list[tuple[Any, ...]]:
        """The first rows of these columns."""
        return list(zip(*(each.head for each in self.columns), strict=True))


def frame_kind(value: Any) -> str:
    """Return the kind of a frame, such as "pandas.DataFrame"; "" for other values."""
    return kind_among(value, SUMMARIES)


def kind_among(value: Any, known: Container[str]) -> str:
    """Return the first of a value's types, its own and those that it inherits from, that is known; "" if none is."""
    kinds = (f"{str(each.__module__).partition('.')[0].lstrip('_')}.{each.__name__}" for each in type(value).__mro__)
    return next((kind for kind in kinds if kind in known), "")


def summary_of(value: Any) -> FrameSummary:
    """Summarize a frame."""
    return SUMMARIES[frame_kind(value)](value)


def frames_in(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables that `query` can read."""
    return {name: value for name, value in variables.items() if frame_kind(value) in QUERYABLE}


def _sample_rows(rows: int, width: int) -> list[int]:
    """Return the row numbers of the sample: all, or in a large frame the same random rows each time."""
    max_rows = min(MAX_SAMPLE_ROWS, MAX_SAMPLE_VALUES // max(width, 1))
    return list(range(rows)) if rows <= max_rows else sorted(Random(0).sample(range(rows), max_rows))  # noqa: S311


def _pandas(frame: Any) -> FrameSummary:
    rows, width = frame.shape
    shown = [frame.iloc[:, at] for at in range(min(width, MAX_COLUMNS))]  # views; a slice of columns may be a copy
    sample = _sample_rows(rows, len(shown))
    columns = [
        FrameColumn(each.name, each.dtype, each.iloc[sample].tolist(), each.iloc[:HEAD_ROWS].tolist()) for each in shown
    ]
    return FrameSummary(rows, width, columns, _pandas_index(frame.index))


def _pandas_index(index: Any) -> str:
    if type(index).__name__ == "RangeIndex" or not len(index):
        return ""
    name = ", ".join(str(each) for each in index.names if each is not None)
    return f"{type(index).__name__}{f' {name}' if name else ''}, from {index[0]} to {index[-1]}"


def _polars(frame: Any) -> FrameSummary:
    shown = frame[:, :MAX_COLUMNS]
    sample = _sample_rows(frame.height, shown.width)
    columns = [
        FrameColumn(each.name, each.dtype, listed_values(each[sample]), listed_values(each[:HEAD_ROWS]))
        for each in shown
    ]
    return FrameSummary(frame.height, frame.width, columns)


def _polars_lazy(frame: Any) -> FrameSummary:
    return replace(_polars(frame.head(MAX_LAZY_ROWS).collect()), rows=None)


def _pyarrow(table: Any) -> FrameSummary:
    rows, width = table.num_rows, table.num_columns
    shown = list(zip(table.column_names, table.columns, strict=True))[:MAX_COLUMNS]
    sample = _sample_rows(rows, len(shown))
    columns = [
        FrameColumn(name, each.type, listed_values(each.take(sample)), listed_values(each[:HEAD_ROWS]))
        for name, each in shown
    ]
    return FrameSummary(rows, width, columns)


def _duckdb(relation: Any) -> FrameSummary:
    rows, columns = relation.limit(MAX_LAZY_ROWS).fetchall(), []
    for at, name in enumerate(relation.columns[:MAX_COLUMNS]):
        values = [row[at] for row in rows]
        columns.append(FrameColumn(name, relation.types[at], values, values[:HEAD_ROWS]))
    return FrameSummary(None, len(relation.columns), columns)


class Unreadable:
    """Stands for a value of a frame that Python has none for, such as a date in the year 100,000."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def __repr__(self) -> str:
        return f"<not readable: {self._reason}>"


def listed_values(column: Any) -> Sequence[Any]:
    """Return the values of a column of polars or pyarrow; if Python cannot have one of them, none is readable."""
    try:
        values: Sequence[Any] = column.to_pylist() if hasattr(column, "to_pylist") else column.to_list()
    except BaseException as error:
        if not is_failure(error):
            raise
        return [Unreadable(type(error).__name__)] * len(column)
    return values


def is_failure(error: BaseException) -> bool:
    """Return whether an error is one of the code that raised it, not an interrupt; those of Rust are no Exceptions."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def _numpy(array: Any) -> FrameSummary:
    """Summarize a two-dimensional array as a frame, any other as one column of its elements."""
    if kind_among(array, {"numpy.matrix"}):  # whose rows and columns have two dimensions as well
        array = array.A
    rows, width = array.shape if array.ndim == 2 else (array.size, 1)
    shown = [array[:, at] for at in range(min(width, MAX_COLUMNS))] if array.ndim == 2 else [array.flat]
    sample = _sample_rows(rows, len(shown))  # `flat` copies nothing, as `ravel` may
    columns = [
        FrameColumn(at, array.dtype, array_values(each[sample]), array_values(each[:HEAD_ROWS]))
        for at, each in enumerate(shown)
    ]
    return FrameSummary(rows, width, columns)


def array_values(array: Any) -> Sequence[Any]:
    """Return the elements of a NumPy array; dates as text, which are numbers to Python."""
    return (array.astype(str) if array.dtype.kind == "M" else array).tolist()  # type: ignore[no-any-return]


def _series(series: Any) -> FrameSummary:
    return summary_of(series.to_frame())


SUMMARIES: Mapping[str, Callable[[Any], FrameSummary]] = {
    "pandas.DataFrame": _pandas,
    "pandas.Series": _series,
    "polars.DataFrame": _polars,
    "polars.Series": _series,
    "polars.LazyFrame": _polars_lazy,
    "pyarrow.Table": _pyarrow,
    "pyarrow.RecordBatch": _pyarrow,
    "duckdb.DuckDBPyRelation": _duckdb,
    "numpy.ndarray": _numpy,
}
QUERYABLE = {"pandas.DataFrame", "polars.DataFrame", "polars.LazyFrame", "pyarrow.Table", "duckdb.DuckDBPyRelation"}

"""What kind of data frame a value is, and a look into it that copies few of its values. No library is imported.

A frame of any kind becomes a `FrameSummary`: its size, and the type and a sample of the values of each of its first
columns.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

HEAD = 5  # rows
MOST_COLUMNS = 60
MOST_ROWS = 10_000  # of the sample
MOST_VALUES = 200_000  # of the sample
AHEAD = 1_000  # rows of what is only computed when asked for


@dataclass(frozen=True, slots=True)
class FrameColumn:
    """One column: its name and type as the library has them, the values of the sample, and the first ones."""

    name: object
    type: object
    values: Sequence[Any]
    head: Sequence[Any]


@dataclass(frozen=True, slots=True)
class FrameSummary:
    """A look into a frame."""

    rows: int | None  #: None: it is not known before all is computed
    width: int  #: how many columns there are
    columns: Sequence[FrameColumn]  #: the first of them
    index: str = ""

    @property
    def whole(self) -> bool:
        """Whether the sample is all of it."""
        return self.rows is not None and all(len(each.values) == self.rows for each in self.columns)

    @property
    def head(self) -> list[tuple[Any, ...]]:
        """The first rows of these columns."""
        return list(zip(*(each.head for each in self.columns), strict=True))


def frame_kind(value: Any) -> str:
    """Return the kind of frame that a value is, "" for none."""
    kinds = (f"{each.__module__.partition('.')[0].lstrip('_')}.{each.__name__}" for each in type(value).__mro__)
    return next((kind for kind in kinds if kind in LOOKS), "")


def glance(value: Any) -> FrameSummary:
    """Look into a frame."""
    return LOOKS[frame_kind(value)](value)


def frames_in(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return those variables that `query` can read."""
    return {name: value for name, value in variables.items() if frame_kind(value) in TABLES}


def _sampled(rows: int, width: int) -> list[int]:
    """Return which rows are looked at: all of few, of many a random sample, the same each time."""
    most = min(MOST_ROWS, MOST_VALUES // max(width, 1))
    return list(range(rows)) if rows <= most else sorted(Random(0).sample(range(rows), most))  # noqa: S311


def _pandas(frame: Any) -> FrameSummary:
    rows, width = frame.shape
    shown = [frame.iloc[:, at] for at in range(min(width, MOST_COLUMNS))]  # views; a slice of columns may be a copy
    sample = _sampled(rows, len(shown))
    columns = [
        FrameColumn(each.name, each.dtype, each.iloc[sample].tolist(), each.iloc[:HEAD].tolist()) for each in shown
    ]
    return FrameSummary(rows, width, columns, _pandas_index(frame.index))


def _pandas_index(index: Any) -> str:
    if type(index).__name__ == "RangeIndex" or not len(index):
        return ""
    name = ", ".join(str(each) for each in index.names if each is not None)
    return f"{type(index).__name__}{f' {name}' if name else ''}, from {index[0]} to {index[-1]}"


def _polars(frame: Any) -> FrameSummary:
    shown = frame[:, :MOST_COLUMNS]
    sample = _sampled(frame.height, shown.width)
    columns = [FrameColumn(each.name, each.dtype, each[sample].to_list(), each[:HEAD].to_list()) for each in shown]
    return FrameSummary(frame.height, frame.width, columns)


def _polars_lazy(frame: Any) -> FrameSummary:
    return replace(_polars(frame.head(AHEAD).collect()), rows=None)


def _pyarrow(table: Any) -> FrameSummary:
    rows, width = table.num_rows, table.num_columns
    shown = list(zip(table.column_names, table.columns, strict=True))[:MOST_COLUMNS]
    sample = _sampled(rows, len(shown))
    columns = [
        FrameColumn(name, each.type, [each[at].as_py() for at in sample], each[:HEAD].to_pylist())
        for name, each in shown
    ]
    return FrameSummary(rows, width, columns)


def _duckdb(relation: Any) -> FrameSummary:
    rows, columns = relation.limit(AHEAD).fetchall(), []
    for at, name in enumerate(relation.columns[:MOST_COLUMNS]):
        values = [row[at] for row in rows]
        columns.append(FrameColumn(name, relation.types[at], values, values[:HEAD]))
    return FrameSummary(None, len(relation.columns), columns)


def _numpy(array: Any) -> FrameSummary:
    """Look into an array of two dimensions as a frame; of another, as one column in the order of its elements."""
    rows, width = array.shape if array.ndim == 2 else (array.size, 1)
    shown = [array[:, at] for at in range(min(width, MOST_COLUMNS))] if array.ndim == 2 else [array.flat]
    sample = _sampled(rows, len(shown))  # `flat` copies nothing, as `ravel` may
    columns = [
        FrameColumn(at, array.dtype, each[sample].tolist(), each[:HEAD].tolist()) for at, each in enumerate(shown)
    ]
    return FrameSummary(rows, width, columns)


def _series(series: Any) -> FrameSummary:
    return glance(series.to_frame())


LOOKS: Mapping[str, Callable[[Any], FrameSummary]] = {
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
TABLES = {"pandas.DataFrame", "polars.DataFrame", "polars.LazyFrame", "pyarrow.Table", "duckdb.DuckDBPyRelation"}

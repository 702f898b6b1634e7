"""What a data frame of any library consists of: its size, its columns and their types, its first rows.

Nothing is read but the rows that are asked for, and no library is imported.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from piano_jupyter.variables.data_frames import array_values, kind_among, listed_values

Columns = list[Sequence[Any]]  # the values of each column


@dataclass(frozen=True, slots=True)
class FrameParts:
    """A frame, or a series as a frame of one column."""

    rows: int | None  #: None if counting them would compute the frame
    names: Sequence[object]  #: of the columns, those of the index first
    types: Sequence[object]
    read: Callable[[int], Columns]  #: returns the values of the first rows
    index: int = 0  #: how many of the columns are an index
    is_series: bool = False

    @property
    def size(self) -> str:
        """The number of rows and columns, as in "1,200 × 12"; of a series, that of its values."""
        rows = "?" if self.rows is None else f"{self.rows:,}"
        return rows if self.is_series else f"{rows} × {len(self.names) - self.index:,}"


def frame_parts(value: Any) -> FrameParts | None:
    """Return the parts of a frame or a series; None for other values."""
    kind = kind_among(value, PARTS)
    return PARTS[kind](value) if kind else None


def _pandas(frame: Any) -> FrameParts:
    index = frame.index
    is_plain = type(index).__name__ == "RangeIndex" and (index.start, index.step) == (0, 1)
    levels = 0 if is_plain else index.nlevels
    names = [name if name is not None else "index" for name in index.names] if levels else []

    def read(rows: int) -> Columns:
        head = frame.iloc[:rows]
        if not levels:
            return _pandas_values(head)
        places = {"name": [*range(levels)]} if levels > 1 else {}  # the names of levels may be numbers, or equal
        return _pandas_values(head.index.to_frame(index=False, **places)) + _pandas_values(head)

    return FrameParts(frame.shape[0], [*names, *frame.columns], ["index"] * levels + list(frame.dtypes), read, levels)


def _pandas_values(frame: Any) -> Columns:
    return [frame.iloc[:, at].tolist() for at in range(frame.shape[1])]


def _pandas_series(series: Any) -> FrameParts:
    parts = _pandas(series.to_frame("value" if series.name is None else series.name))
    return FrameParts(parts.rows, parts.names, parts.types, parts.read, parts.index, is_series=True)


def _polars(frame: Any) -> FrameParts:
    def read(rows: int) -> Columns:
        return [listed_values(column) for column in frame.head(rows).get_columns()]

    return FrameParts(frame.height, frame.columns, frame.dtypes, read)


def _polars_series(series: Any) -> FrameParts:
    return FrameParts(
        len(series),
        [series.name or "value"],
        [series.dtype],
        lambda rows: [listed_values(series.head(rows))],
        is_series=True,
    )


def _polars_lazy(frame: Any) -> FrameParts:
    schema = frame.collect_schema()
    return FrameParts(
        None, schema.names(), schema.dtypes(), lambda rows: _polars(frame.head(rows).collect()).read(rows)
    )


def _pyarrow(table: Any) -> FrameParts:
    def read(rows: int) -> Columns:
        return [listed_values(column) for column in table.slice(0, rows).columns]

    return FrameParts(table.num_rows, table.schema.names, table.schema.types, read)


def _pyarrow_values(array: Any) -> FrameParts:
    return FrameParts(
        len(array), ["value"], [array.type], lambda rows: [listed_values(array.slice(0, rows))], is_series=True
    )


def _duckdb(relation: Any) -> FrameParts:
    def read(rows: int) -> Columns:
        found = relation.limit(rows).fetchall()
        return [[row[at] for row in found] for at in range(len(relation.columns))]

    return FrameParts(None, relation.columns, relation.types, read)


def _daft(frame: Any) -> FrameParts:
    names = frame.column_names

    def read(rows: int) -> Columns:
        found = frame.limit(rows).to_pydict()
        return [found[name] for name in names]

    return FrameParts(None, names, [each.dtype for each in frame.schema()], read)


def _numpy(array: Any) -> FrameParts:
    """Return a two-dimensional array as a frame, any other as a series of its elements."""
    if array.ndim == 2:
        rows, width = array.shape
        return FrameParts(rows, range(width), [array.dtype] * width, lambda rows: [*array_values(array[:rows].T)])
    shape = " × ".join(f"{each:,}" for each in array.shape)
    kind = f"{array.dtype}, of the shape {shape}" if array.ndim > 2 else array.dtype
    return FrameParts(array.size, ["value"], [kind], lambda rows: [array_values(array.flat[:rows])], is_series=True)


PARTS: Mapping[str, Callable[[Any], FrameParts]] = {
    "pandas.DataFrame": _pandas,
    "pandas.Series": _pandas_series,
    "polars.DataFrame": _polars,
    "polars.Series": _polars_series,
    "polars.LazyFrame": _polars_lazy,
    "pyarrow.Table": _pyarrow,
    "pyarrow.RecordBatch": _pyarrow,
    "pyarrow.ChunkedArray": _pyarrow_values,
    "pyarrow.Array": _pyarrow_values,
    "duckdb.DuckDBPyRelation": _duckdb,
    "daft.DataFrame": _daft,
    "numpy.ndarray": _numpy,
}

"""SQL over the user's data frames; pandas columns that DuckDB cannot read are read as text. No library is imported."""

from collections.abc import Mapping
from typing import Any

from piano_jupyter.errors import StoreError
from piano_jupyter.piano import Piano
from piano_jupyter.records import Rows
from piano_jupyter.variables.data_frames import frame_kind

UNREADABLE = {"PeriodDtype", "IntervalDtype"}
WIDE_FLOATS = {"float96", "float128"}


def query_frames(sql: str, frames: Mapping[str, Any], max_rows: int) -> tuple[Rows, bool, list[str]]:
    """Return the first rows of a query, whether there are more, and notes on columns that were converted.

    Columns are converted only where the query fails without it, as looking at each value takes time. Raises StoreError,
    and NotFoundError for a name that no frame has.
    """
    try:
        return *Piano.query_frames(sql, frames, max_rows), []
    except StoreError:
        converted, notes = dict(frames), []
        for name, frame in frames.items():
            if frame_kind(frame) == "pandas.DataFrame" and name.casefold() in sql.casefold():
                converted[name], added = _readable(name, frame)
                notes += added
        if all(converted[name] is frame for name, frame in frames.items()):
            raise
    return *Piano.query_frames(sql, converted, max_rows), notes


def _readable(name: str, frame: Any) -> tuple[Any, list[str]]:
    """Return a frame that DuckDB can read (the same one where it can already), and a note for each column made text."""
    changed, notes = frame, []
    for at in range(frame.shape[1]):
        column = frame.iloc[:, at]
        if (new := _converted(column)) is None:
            continue
        if changed is frame:
            changed = frame.copy(deep=False)  # the user's frame stays as it is
        changed.isetitem(at, new)
        if not (type(column.dtype).__name__ == "SparseDtype" and new.dtype == column.dtype.subtype):
            kind = "mixed types" if column.dtype == object else _value_type(column)
            notes.append(f"column {column.name!r} of {name} is read as text: DuckDB cannot read {kind}")
    return changed, notes


def _converted(column: Any) -> Any:
    """Return a column in a type that DuckDB can read, or None if it is of one already."""
    kind = type(column.dtype).__name__
    if kind == "SparseDtype":
        dense = column.sparse.to_dense()
        text = _converted(dense)
        return dense if text is None else text
    if kind == "CategoricalDtype":
        is_readable = type(column.dtype.categories.dtype).__name__ not in UNREADABLE
        return None if is_readable else column.cat.rename_categories(str)
    if kind in UNREADABLE or column.dtype.kind == "c" or str(column.dtype) in WIDE_FLOATS:
        return column.astype(object).map(str, na_action="ignore")
    if column.dtype == object and len({type(each) for each in column.dropna()}) > 1:
        return column.map(str, na_action="ignore")
    return None


def _value_type(column: Any) -> str:
    categories = getattr(column.dtype, "categories", None)
    return str(column.dtype if categories is None else categories.dtype)

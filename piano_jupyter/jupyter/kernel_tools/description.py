"""Describes variables to a model: columns of frames, signatures and sources of functions, the text of other values."""

import inspect
import math
import sys
import types
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

from piano_jupyter.jupyter.kernel_tools.bounded_repr import bounded
from piano_jupyter.jupyter.render.tables import counted, plain_table
from piano_jupyter.text.truncation import HOW_MUCH, truncated
from piano_jupyter.tool import Tool
from piano_jupyter.variables.bounded_text import ENVIRONMENT_WITHHELD
from piano_jupyter.variables.data_frames import FrameColumn, FrameSummary, frame_kind, is_failure, summary_of
from piano_jupyter.variables.variable_access import ENVIRONMENT_TEXT, type_name

MAX_VALUE_CHARS = 4_000  # of the text of a value
MAX_SOURCE_CHARS = 6_000
MAX_CELL_CHARS = 60
MAX_DEFAULT_CHARS = 200  # of a parameter
MAX_HEAD_COLUMNS = 20  # of the first rows
MAX_NAMES = 60  # of attributes
MAX_COMMON_VALUES = 5  # of a column
NUMBERS = (int, float, Decimal)
TIMES = (date, time, timedelta)
ROUTINES = (
    types.BuiltinFunctionType,
    types.FunctionType,
    types.MethodType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
)
COUNTED = (str, bytes, bytearray, list, tuple, dict, set, frozenset, range)


def described(value: Any) -> str:
    """Describe a value to a model; the text ends where it would show the environment of the process."""
    text = _described(value)
    starts = [text.index(each) for each in ENVIRONMENT_TEXT if each in text]
    return text[: min(starts)] + ENVIRONMENT_WITHHELD if starts else text


def _described(value: Any) -> str:
    if kind := frame_kind(value):
        try:
            return _frame(kind, value, summary_of(value))
        except BaseException as error:  # frames come from any version of a library
            if not is_failure(error):
                raise
            return truncated(f"{kind}, which cannot be read: {type(error).__name__}: {error}", MAX_VALUE_CHARS)
    kinds = type(value)  # not `__class__`, which may run code
    if issubclass(kinds, Tool):
        value = value.function
        kinds = type(value)
    if issubclass(kinds, types.ModuleType):
        return _module(value)
    if is_code(value):
        return _code(value)
    if issubclass(kinds, COUNTED):
        return f"{type_name(value)}, {size_of(value)}\n{bounded(value, MAX_VALUE_CHARS)}"
    lines = [type_name(value), bounded(value, MAX_VALUE_CHARS)]
    names = [name for name in dir(type(value)) + list(getattr(value, "__dict__", ())) if not name.startswith("_")]
    if names and type(value).__module__ != "builtins":
        lines.append(f"attributes: {listed(sorted(set(names)))}")
    return "\n".join(lines)


def variable_row(name: str, value: Any) -> tuple[str, str, str, str]:
    """Return a variable's name, type, size and memory."""
    try:
        return name, type_name(value), size_of(value), bytes_text(memory_bytes(value))
    except Exception as error:  # noqa: BLE001  The user's object may raise anything.
        return name, type_name(value), f"unknown ({type(error).__name__})", ""


def size_of(value: Any) -> str:
    """Return the length or shape of a value, "" if it is unknown without computing it."""
    shape = value.shape if frame_kind(value) or _has_shape(value) else None
    if type_name(value) in {"duckdb.DuckDBPyRelation", "polars.LazyFrame"}:
        return "computed when it is read"
    if isinstance(shape, tuple) and all(isinstance(each, int) for each in shape):
        if len(shape) == 2 and "numpy" not in type_name(value):
            return f"{counted(shape[0], 'row')} × {counted(shape[1], 'column')}"
        return " × ".join(f"{each:,}" for each in shape) or "one value"
    if issubclass(type(value), COUNTED):
        return counted(len(value), "character" if isinstance(value, str) else "item")
    return ""


def memory_bytes(value: Any) -> int:
    """Return the size of a value in bytes, without the objects that it refers to."""
    kind = frame_kind(value)
    if kind.startswith("pandas"):
        used = value.memory_usage(index=type(value.index).__name__ != "RangeIndex")  # a range stores no values
        return int(used if kind == "pandas.Series" else used.sum())
    if kind in {"polars.DataFrame", "polars.Series"}:
        return int(value.estimated_size())
    if kind.startswith(("pyarrow", "numpy")):
        return int(value.nbytes)
    return sys.getsizeof(value)


def bytes_text(size: float) -> str:
    """Return a number of bytes in a suitable unit."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 10 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def _frame(kind: str, value: Any, summary: FrameSummary) -> str:
    size = counted(summary.rows, "row") if summary.rows is not None else "rows are counted when it is read"
    if kind in {"pandas.Series", "polars.Series"}:
        head = f"{kind}, {counted(summary.rows or 0, 'value')}"
    elif kind == "numpy.ndarray":
        head = f"{kind}, {size_of(value)}"
    else:
        head = f"{kind}, {size} × {counted(summary.width, 'column')}"
    if summary.rows is not None:
        head += f", {bytes_text(memory_bytes(value))}"
    lines = [head, *([f"index: {summary.index}"] if summary.index else [])]
    if summary.columns:
        if not summary.is_complete:
            lines.append(f"nulls and values are those of a sample: {_sample(summary)}; `query` counts them all")
        rows = [_column(each) for each in summary.columns]
        lines.append(plain_table(("column", "type", "nulls", "values"), rows))
        if summary.width > len(summary.columns):
            lines.append(f"… and {summary.width - len(summary.columns):,} more columns")
    if summary.head:
        names = [str(each.name) for each in summary.columns[:MAX_HEAD_COLUMNS]]
        first = [[_cell(each) for each in row[:MAX_HEAD_COLUMNS]] for row in summary.head]
        more = f" of the first {MAX_HEAD_COLUMNS} columns" if len(summary.columns) > MAX_HEAD_COLUMNS else ""
        lines += [f"first rows{more}:", plain_table(names, first)]
    return "\n".join(lines)


def _sample(summary: FrameSummary) -> str:
    taken = len(summary.columns[0].values)
    return f"the first {taken:,} rows" if summary.rows is None else f"{taken:,} rows, drawn at random"


def _column(column: FrameColumn) -> tuple[str, str, int, str]:
    known = [each for each in column.values if not _is_null(each)]
    return str(column.name), str(column.type), len(column.values) - len(known), _values(known)


def _is_null(value: Any) -> bool:
    if value is None:
        return True
    try:
        return bool(value != value)  # noqa: PLR0124  NaN and NaT are not equal to themselves.
    except Exception:  # noqa: BLE001  pandas.NA cannot say; arrays have no one truth; the user's objects may do anything.
        return type(value).__name__ == "NAType"


def _values(known: Sequence[Any]) -> str:
    """Describe values: the range of numbers and times, the most common of others."""
    if not known:
        return "none"
    with suppress(Exception):  # values that cannot be compared or counted
        if all(isinstance(each, NUMBERS) and not isinstance(each, bool) for each in known):
            mean = math.fsum(known) / len(known)
            return f"{_cell(min(known))} to {_cell(max(known))}, mean {mean:.6g}"
        if all(isinstance(each, TIMES) for each in known):
            return f"{_cell(min(known))} to {_cell(max(known))}"
        counts = Counter(known)
        common = ", ".join(f"{_cell(each)} ({count:,})" for each, count in counts.most_common(MAX_COMMON_VALUES))
        return f"{len(counts):,} different: {common}{', …' if len(counts) > MAX_COMMON_VALUES else ''}"
    return f"such as {_cell(known[0])}"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, TIMES):
        text = str(value).removesuffix(" 00:00:00")  # a date
    else:
        text = str(value) if isinstance(value, (str, Decimal)) else bounded(value, 200)
    return truncated(text, MAX_CELL_CHARS)


def _module(module: types.ModuleType) -> str:
    version = getattr(module, "__version__", "")
    about = (inspect.getdoc(module) or "").partition("\n\n")[0]
    names = [name for name in dir(module) if not name.startswith("_")]
    head = f"module {module.__name__}{f' {version}' if version else ''}"
    return "\n".join(filter(None, [head, truncated(about, MAX_VALUE_CHARS), f"names: {listed(names)}"]))


def _code(value: Any) -> str:
    """Return the signature, docstring and source of a function or class."""
    kind = "class" if inspect.isclass(value) else "function"
    try:
        called = inspect.signature(value)
        shown = [
            each
            if each.default is each.empty
            else each.replace(default=_DefaultValue(bounded(each.default, MAX_DEFAULT_CHARS)))
            for each in called.parameters.values()
        ]
        signature = str(called.replace(parameters=shown))
    except (TypeError, ValueError):
        signature = "(…)"
    about = inspect.getdoc(value) or "without a docstring"
    lines = [f"{kind} {value.__qualname__}{signature}", truncated(about, MAX_VALUE_CHARS)]
    with suppress(OSError, TypeError):
        lines += ["source:", truncated(inspect.getsource(value), MAX_SOURCE_CHARS, HOW_MUCH)]
    return "\n".join(lines)


class _DefaultValue(str):
    """A default value with the text to show in a signature."""

    __slots__ = ()
    __repr__ = str.__str__


def listed(names: Sequence[str], max_names: int = MAX_NAMES) -> str:
    """Return names in one line, and how many more there are."""
    more = f" and {len(names) - max_names} more" if len(names) > max_names else ""
    return ", ".join(names[:max_names]) + more


def is_code(value: Any) -> bool:
    """Return whether a value is a function, a class or a tool, without running its code: it may be a proxy."""
    return issubclass(type(value), (Tool, type, *ROUTINES))


def _has_shape(value: Any) -> bool:
    """Return whether a value has a shape stored in C, as tensors do, so that reading it runs no Python code."""
    shape = inspect.getattr_static(type(value), "shape", None)
    return isinstance(shape, types.GetSetDescriptorType | types.MemberDescriptorType)

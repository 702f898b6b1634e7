"""Frames as text: within the budget, using it, and saying what is left out."""

import itertools
from functools import cache

import daft
import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st

from piano_jupyter.jupyter.kernel_tools.description import described
from piano_jupyter.variables.value_text import inserted_value

BUDGET_CHARS = 6_000
SIZES = [(10, 3), (100, 3), (1_000, 3), (20_000, 12), (10, 120), (1_000, 120), (1_000, 230), (10, 500), (2_000, 500)]


@cache
def frame_of(rows, width):
    random = np.random.default_rng(rows + width)
    kinds = itertools.cycle(
        [
            lambda: random.random(rows),
            lambda: random.integers(0, 10_000, rows),
            lambda: np.array(["tea", "coffee, black", 'a "good" name\nof an item'])[random.integers(0, 3, rows)],
        ]
    )
    return pd.DataFrame({f"column_{at}": next(kinds)() for at in range(width)})


def as_pandas(frame):
    return frame


def as_duckdb(frame):
    return duckdb.sql("SELECT * FROM frame")


LIBRARIES = [as_pandas, pl.from_pandas, pa.Table.from_pandas, as_duckdb]


TENTHS = [
    pd.Series(np.array([0.1], dtype="float32")),
    pd.Series([0.1], dtype="Float32"),
    pd.Series([0.1], dtype="float32[pyarrow]"),
    pl.Series([0.1], dtype=pl.Float32),
    pa.chunked_array([pa.array([0.1], pa.float32())]),
    pa.table({"a": pa.array([np.float16(0.1)], pa.float16())}),
    duckdb.sql("SELECT 0.1::FLOAT AS a"),
]
DATE_ROW = ",".join(["2026-01-01T10:00:00.000000000"] * 2)


def text_of(value, max_chars=BUDGET_CHARS):
    return inserted_value("df", value, max_chars).text


@pytest.mark.parametrize("library", LIBRARIES, ids=["pandas", "polars", "pyarrow", "duckdb"])
@pytest.mark.parametrize(("rows", "width"), SIZES)
@pytest.mark.parametrize("max_chars", [2_000, BUDGET_CHARS, 40_000])
def test_a_frame_is_never_above_the_budget_and_uses_it_where_it_is_larger(library, rows, width, max_chars):
    frame = frame_of(rows, width)

    text = text_of(library(frame), max_chars)

    assert len(text) <= max_chars
    lines = text.splitlines()
    if not lines[-1].startswith("[left out: "):
        assert len(lines) == 3 + rows
    else:
        assert len(text) >= 0.9 * max_chars
    assert "..." not in text


@pytest.mark.parametrize("library", LIBRARIES, ids=["pandas", "polars", "pyarrow", "duckdb"])
def test_the_columns_that_do_not_fit_are_named(library):
    text = text_of(library(frame_of(10, 500)))

    first = text.count("column_") - 2 + 1  # the note names two of them
    assert text.splitlines()[-1] == (
        f"[left out: columns {first} to 500 (column_{first - 1} to column_499), and all rows]"
    )


@settings(deadline=None, max_examples=80)
@given(
    st.integers(1, 40),
    st.integers(0, 60),
    st.integers(2_000, 12_000),
    st.lists(
        st.one_of(
            st.text(max_size=600), st.floats(), st.integers(), st.none(), st.lists(st.text(max_size=300), max_size=90)
        ),
        min_size=1,
        max_size=12,
    ),
    st.lists(st.text(max_size=300), min_size=1, max_size=3, unique=True),
)
def test_l4_no_frame_breaks_the_budget_whatever_is_in_it(width, rows, max_chars, values, names):
    cells = itertools.cycle(values)
    columns = [f"{names[at % len(names)]}{at}" for at in range(width)]
    frame = pd.DataFrame([[next(cells) for _ in range(width)] for _ in range(rows)], columns=columns, dtype=object)

    text = text_of(frame, max_chars)

    assert len(text) <= max_chars
    if "[left out: " in text.splitlines()[-1]:
        assert len(text) >= 0.9 * max_chars


def test_a_small_frame_is_there_as_a_whole():
    frame = pd.DataFrame(
        {"item": ["tea", "a, b", None], "price": [0.1, np.nan, 1234567.891], "at": pd.to_datetime(["2026-01-01"] * 3)},
        index=pd.Index(["x", "y", "z"], name="shop"),
    )

    head, columns, what, *rows = text_of(frame).splitlines()

    assert head == "pandas.DataFrame, 3 rows × 3 columns"
    assert columns.startswith("columns: shop (index), item (")
    assert what == "rows as CSV, in the order of the columns; a missing value is empty:"
    assert rows == [
        "x,tea,0.1,2026-01-01 00:00:00",
        'y,"a, b",,2026-01-01 00:00:00',
        "z,,1234567.891,2026-01-01 00:00:00",
    ]


def test_a_long_cell_is_cut_with_a_mark():
    text = text_of(pd.DataFrame({"text": ["x" * 10_000], "items": [list(range(1_000))]}))

    first, second = text.splitlines()[-1].split(",", 1)
    assert first == "x" * 187 + "…[9813 more]"
    assert second.endswith('…[cut]"')


def test_display_options_of_pandas_change_nothing():
    frame = frame_of(200, 30)
    before = text_of(frame)

    with pd.option_context("display.max_columns", 4, "display.max_rows", 4, "display.max_colwidth", 5):
        assert text_of(frame) == before


@pytest.mark.parametrize(
    ("value", "size", "row"),
    [
        (pd.Series([1, 2], name="price"), "2 values", "1"),
        (pl.Series("price", [1, 2]), "2 values", "1"),
        (pa.chunked_array([[1, 2]]), "2 values", "1"),
        *((value, "1 ", "0.1") for value in TENTHS),
        (np.arange("2026-01-01", "2030-01-01", dtype="datetime64[D]"), "1,461 values", "2026-01-01"),
        (np.full((1_000, 2), np.datetime64("2026-01-01T10:00", "ns")), "1,000 rows × 2", DATE_ROW),
        (np.array(["NaT"] * 2_000, "datetime64[ns]"), "2,000 values", "NaT"),
        (np.zeros((0, 5)), "0 rows × 5 columns", "it has no rows"),
        (np.array([("x", 1)] * 2_000, dtype=[("a", "U1"), ("b", int)]), "2,000 values", "\"('x', 1)\""),
        (np.array([None, {"a": 1}], dtype=object), "2 values", "{'a': 1}"),
        (pd.DataFrame({"a": [np.zeros(5_000)]}), "1 row × 1 column", '"<numpy.ndarray, 5,000>"'),
        (pd.DataFrame({"a": pd.array([1, None], dtype="Int64")}), "2 rows × 1 column", "1"),
        (pd.DataFrame({"a": pd.arrays.SparseArray([0, 5])}), "2 rows × 1 column", "5"),
        (pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", "x"), ("a", "y")])), "1 row × 2", "1,2"),
        (pl.LazyFrame({"a": [1]}), "rows computed when it is read × 1 column", "1"),
        (daft.from_pydict({"a": [1, 2], "b": ["x", "y"]}), "rows computed when it is read × 2 columns", "2,y"),
        (pd.DataFrame({"a": []}), "0 rows × 1 column", "it has no rows"),
        (pd.DataFrame(), "0 rows × 0 columns", "it has no rows"),
        (pd.DataFrame(index=range(5)), "5 rows × 0 columns", "pandas.DataFrame, 5 rows × 0 columns"),
        (np.zeros((5_000, 0)), "5,000 rows × 0 columns", "numpy.ndarray, 5,000 rows × 0 columns"),
        (np.arange(4_000).reshape(1_000, 4).view(np.matrix), "1,000 rows × 4 columns", "0,1,2,3"),
        (pd.DataFrame({"a": [1]}, index=pd.MultiIndex.from_tuples([("x", 2)], names=[1, 0])), "1 row × 1", "x,2,1"),
        (pd.DataFrame({"a": [1]}, index=pd.MultiIndex.from_tuples([("x", 2)], names=["k", "k"])), "1 row × 1", "x,2,1"),
        (np.arange(4_000).reshape(1_000, 4), "1,000 rows × 4 columns", "0,1,2,3"),
        (np.zeros((20, 20, 20)), "8,000 values", "0.0"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "1 row × 2 columns", "1,2"),
        (pd.DataFrame({"a": [1]}, index=pd.MultiIndex.from_tuples([("x", 2)])), "1 row × 1 column", "x,2,1"),
    ],
)
def test_series_arrays_and_odd_frames(value, size, row):
    text = text_of(value)

    assert size in text.splitlines()[0]
    assert row in text.splitlines()


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (pa.table({"a": [1], "at": pa.array([2**62], pa.timestamp("s"))}), "OverflowError"),
        (pl.DataFrame({"a": [1], "at": pl.Series([10**17], dtype=pl.Datetime("ms"))}), "PanicException"),
    ],
)
def test_l8_a_value_that_python_cannot_have_is_named_in_its_cell(frame, why):
    assert text_of(frame).splitlines()[-1] == f"1,<not readable: {why}>"
    assert f"<not readable: {why}>" in described(frame)


def test_an_object_in_a_cell_that_raises_is_named():
    class Broken:
        def __repr__(self):
            raise RuntimeError("no")

    assert "<a Broken, whose text raised RuntimeError>" in text_of(pd.DataFrame({"a": [Broken()]}))
    assert "<a int, whose text raised ValueError>" in text_of(pd.DataFrame({"a": [10**5_000]}, dtype=object))


@pytest.mark.parametrize("width", [1_000, 10_000])
def test_a_frame_of_thousands_of_columns_names_those_that_do_not_fit(width):
    wide = pd.DataFrame(np.zeros((3, width)), columns=pd.MultiIndex.from_product([["a b"], range(width)]))

    text = text_of(wide)

    assert 0.9 * BUDGET_CHARS <= len(text) <= BUDGET_CHARS
    assert f"to {width:,} (" in text.splitlines()[-1]


def test_rows_are_read_only_as_far_as_the_budget_reaches():
    read = []

    class Counted:
        def __repr__(self):
            read.append(1)
            return "x" * 10

    text_of(pd.DataFrame({"a": [Counted()] * 100_000}))

    assert len(read) < 1_000

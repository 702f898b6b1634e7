"""SQL over pandas frames whose columns DuckDB cannot read."""

import numpy as np
import pandas as pd
import pytest

from piano_jupyter.errors import StoreError
from piano_jupyter.jupyter.kernel_tools.frame_query import query_frames

COLUMNS = {
    "period": (pd.period_range("2024-01", periods=2, freq="M"), ["2024-01", "2024-02"], "period[M]"),
    "missing period": (pd.PeriodIndex(["2024-01", None], freq="M"), ["2024-01", None], "period[M]"),
    "interval": (pd.interval_range(0, 2), ["(0, 1]", "(1, 2]"], "interval[int64, right]"),
    "binned": (pd.cut([1.0, np.nan], [0, 2]), ["(0, 2]", None], "interval[int64, right]"),
    "complex": (np.array([1j, 2]), ["1j", "(2+0j)"], "complex128"),
    "mixed": (pd.Series([{"a": 1}, 3], dtype=object), None, None),
    "sparse": (pd.arrays.SparseArray([0, 1]), [0, 1], None),
    "sparse complex": (pd.arrays.SparseArray([0j, 1j]), ["0j", "1j"], "Sparse[complex128, nan]"),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_that_duckdb_cannot_read_is_read_as_text_with_a_note(name):
    values, expected, kind = COLUMNS[name]
    sales = pd.DataFrame({"item": ["tea", None], "when": values})
    before = sales.copy()

    rows, more, notes = query_frames('SELECT "when" FROM Sales', {"sales": sales}, 10)

    assert [row[0] for row in rows] == (expected or ["{'a': 1}", "3"])
    assert not more
    assert notes == ([f"column 'when' of sales is read as text: DuckDB cannot read {kind}"] if kind else [])
    pd.testing.assert_frame_equal(sales, before)


def test_objects_of_types_that_do_not_go_together_are_text():
    values = pd.Series([None] * 2000 + [{"a": 1}, [1]], dtype=object)

    rows, _, notes = query_frames(
        "SELECT what FROM data WHERE what IS NOT NULL", {"data": pd.DataFrame({"what": values})}, 10
    )

    assert list(rows) == [("{'a': 1}",), ("[1]",)]
    assert notes == ["column 'what' of data is read as text: DuckDB cannot read mixed types"]


def test_columns_of_one_name_are_told_apart_by_their_places():
    twice = pd.DataFrame([[1, 2]], columns=["n", "n"]).astype({"n": complex})

    rows, _, notes = query_frames("SELECT * FROM twice", {"twice": twice}, 10)

    assert list(rows) == [("(1+0j)", "(2+0j)")]
    assert len(notes) == 2


def test_a_query_that_fails_for_another_reason_says_so():
    sales = pd.DataFrame({"month": pd.period_range("2024-01", periods=2, freq="M")})

    with pytest.raises(StoreError, match="syntax error"):
        query_frames("SELECT FROM WHERE sales", {"sales": sales}, 10)
    with pytest.raises(StoreError, match="price"):
        query_frames("SELECT price FROM sales", {"sales": sales}, 10)

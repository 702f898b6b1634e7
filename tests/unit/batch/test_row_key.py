"""row_key: the same for the same question, another one for any other."""

import subprocess
import sys
from itertools import combinations

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from piano_jupyter.batch import RowTemplate, open_frame, row_key
from piano_jupyter.batch.row_key import KEY_BYTES

ROWS = [
    {"review": "Good.", "stars": 5, "price": 1.5, "sure": True},
    {"review": None, "stars": None, "price": None, "sure": None},
    {"review": "☃", "stars": -1, "price": 2.0, "sure": False},
]
TEMPLATE = RowTemplate("{{review}} {{stars}} {{price}} {{sure}}")
FRAMES = {
    "pandas": pd.DataFrame,
    "pandas with nullable types": lambda rows: pd.DataFrame(rows).convert_dtypes(),
    "polars": pl.DataFrame,
    "polars, lazy": pl.LazyFrame,
    "pyarrow": pa.Table.from_pylist,
    "dicts": list,
    "a generator": iter,
}
PRINT_KEY = """
from piano_jupyter.batch import RowTemplate, row_key
template = RowTemplate("{{a}} {{b}}", schema=int, system="s")
print(row_key(template, "m", {"top_k": 1})({"a": {"x", "y", "z"}, "b": 1}).hex())
"""


@pytest.mark.parametrize("make", FRAMES.values(), ids=FRAMES.keys())
def test_a_row_has_the_same_key_in_each_kind_of_frame(make):
    key_of = row_key(TEMPLATE, "m")
    frame = open_frame(make(ROWS))

    assert list(map(key_of, frame.rows(TEMPLATE.columns))) == list(map(key_of, ROWS))


def test_a_row_has_the_same_key_in_a_relation_of_duckdb():
    given = pa.Table.from_pylist(ROWS)  # noqa: F841  DuckDB finds it by its name.
    key_of = row_key(TEMPLATE, "m")

    assert list(map(key_of, open_frame(duckdb.sql("FROM given")).rows())) == list(map(key_of, ROWS))


def test_whatever_is_asked_is_in_the_key():
    row = {"a": "1"}
    keys = [
        row_key(RowTemplate("{{a}}"), "m")(row),
        row_key(RowTemplate("{{a}}!"), "m")(row),
        row_key(RowTemplate("{{a}}", system="Be kind."), "m")(row),
        row_key(RowTemplate("{{a}}", schema=int), "m")(row),
        row_key(RowTemplate("{{a}}", schema=str), "m")(row),
        row_key(RowTemplate("{{a}}"), "other")(row),
        row_key(RowTemplate("{{a}}"), "m", {"temperature": 0})(row),
        *(row_key(RowTemplate("{{a}}"), "m")({"a": value}) for value in (1, True, None, "", "null", [1], ["1"], 1.5)),
        row_key(RowTemplate("{{a}}{{b}}"), "m")({"a": "1", "b": "2"}),
        row_key(RowTemplate("{{a}}{{b}}"), "m")({"a": "2", "b": "1"}),
        row_key(RowTemplate("{{a}}"), "m")({"a": "x" * 60_000}),  # too long to be asked
        row_key(RowTemplate("{{a}}"), "m")({"a": "x" * 60_001}),
    ]

    assert {len(key) for key in keys} == {KEY_BYTES}
    assert [pair for pair in combinations(keys, 2) if pair[0] == pair[1]] == []


def test_what_is_not_asked_is_not_in_the_key():
    key_of = row_key(RowTemplate("{{a}}"), "m", {"top_k": 1, "top_p": 2})

    assert key_of({"a": 1}) == key_of({"b": 2, "a": 1}) == key_of({"a": 1.0})
    assert key_of({"a": 1}) == row_key(RowTemplate("{{a}}"), "m", {"top_p": 2, "top_k": 1})({"a": 1})


def test_a_key_is_the_same_in_another_process():
    seeds = [
        subprocess.run(
            [sys.executable, "-c", PRINT_KEY], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    ]

    assert seeds[0] == seeds[1] == "856ca99aced7b696a4f3777dd5fd11b7\n"


def test_r5_half_a_surrogate_pair_has_a_key():
    assert row_key(RowTemplate("{{a}}"), "m\ud800")({"a": "\ud800"})

"""One SELECT over data frames in memory: read where they are, and nothing else."""

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from piano_jupyter.errors import NotFoundError, StoreError
from piano_jupyter.store.duckdb.frame_queries import select

SALES = pd.DataFrame({"item": ["tea", "bread", None], "price": [2.5, 3.2, 4.0]})


@pytest.mark.parametrize(
    "frame",
    [
        SALES,
        pl.DataFrame({"price": [2.5, 3.2, 4.0]}),
        pl.LazyFrame({"price": [2.5, 3.2, 4.0]}),
        pa.table({"price": [2.5, 3.2, 4.0]}),
        duckdb.sql("SELECT unnest([2.5, 3.2, 4.0]) AS price"),
    ],
    ids=["pandas", "polars", "lazy", "pyarrow", "duckdb"],
)
def test_a_frame_of_any_kind_is_a_table_that_can_be_read_more_than_once(frame):
    rows, more = select(
        "SELECT max(a.price)::DOUBLE AS most, count(*) AS n FROM sales a, sales b", {"sales": frame}, 10
    )

    assert (rows.columns, rows.rows, more) == (("most", "n"), ((4.0, 9),), False)


def test_frames_of_several_kinds_are_joined():
    names = pl.DataFrame({"item": ["tea"], "name": ["Tee"]})

    rows, _ = select("SELECT name, price FROM names JOIN sales USING (item)", {"names": names, "sales": SALES}, 10)

    assert rows.rows == (("Tee", 2.5),)


def test_of_many_rows_the_first_are_returned_and_that_there_are_more():
    assert select("SELECT * FROM range(5) r", {}, 5)[1] is False
    rows, more = select("SELECT * FROM range(6) r", {}, 5)

    assert (len(rows), more) == (5, True)


class Untouchable:
    """A frame that must not be looked at."""

    def __getattr__(self, name):
        raise AssertionError(name)


def test_a_frame_that_the_query_does_not_name_is_not_read():
    assert select("SELECT count(*) FROM sales", {"sales": SALES, "other": Untouchable()}, 5)[0].rows == ((3,),)


@pytest.mark.parametrize(
    ("query", "says"),
    [
        (
            "SELECT * FROM 'data.csv'",
            "'data.csv' is none of the data frames that it names, and no file can be read here",
        ),
        ("SELECT * FROM read_csv('data.csv')", r"read_csv\(\) may not run here: a query can read the data frames"),
        ("SELECT * FROM read_text('/etc/passwd')", r"read_text\(\) may not run here"),
        ("SELECT content FROM 'http://127.0.0.1/x.parquet'", "no file can be read here"),
        ("COPY sales TO 'out.csv'", "only SELECT may run here, not COPY"),
        ("DROP VIEW sales", "only SELECT may run here, not DROP"),
        ("ATTACH 'x.duckdb'", "only SELECT may run here, not ATTACH"),
        ("SET enable_external_access = true", "only SELECT may run here, not SET"),
        ("SELECT 1; SELECT 2", "one SELECT at a time: these are 2 statements"),
        ("SELECT price +", "syntax error"),
        ("SELECT nothing FROM sales", '"nothing" not found'),
        ("SELECT '\0'", "NUL"),
    ],
)
def test_g7_anything_but_a_select_over_frames_is_refused_in_one_sentence(query, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.csv").write_text("a\n1\n")

    with pytest.raises(StoreError, match=says):
        select(query, {"sales": SALES}, 5)

    assert [path.name for path in tmp_path.iterdir()] == ["data.csv"]


def test_an_unknown_frame_name_lists_the_known_ones():
    with pytest.raises(NotFoundError, match="no data frame named 'sale'; known: sales, names"):
        select("SELECT * FROM sale", {"names": SALES, "sales": SALES}, 5)


def test_names_that_sql_cannot_tell_apart_are_not_mixed_up():
    frames = {"Sales": SALES.head(1), "sales": SALES}

    assert select("SELECT count(*) FROM sales", frames, 5)[0].rows == ((3,),)
    assert select("SELECT count(*) FROM Sales", frames, 5)[0].rows == ((1,),)
    assert select("SELECT count(*) FROM SALES", {"Sales": SALES}, 5)[0].rows == ((3,),)
    for query in ("SELECT * FROM SALES", "SELECT * FROM sales, Sales s"):
        with pytest.raises(StoreError, match="SQL cannot tell Sales and sales apart"):
            select(query, frames, 5)


def test_g7_a_query_has_nowhere_to_write():
    query = "SELECT current_setting('temp_directory'), current_setting('enable_external_access')"

    assert select(query, {}, 5)[0].rows == (("", False),)


def test_a_query_has_a_memory_limit_that_no_query_can_raise():
    assert select("SELECT current_setting('memory_limit')", {}, 10)[0][0] == ("1.8 GiB",)

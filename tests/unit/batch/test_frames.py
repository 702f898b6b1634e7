"""Frames of all kinds: rows out, answers in, and the kind, the order and the index stay."""

import subprocess
import sys

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from piano_jupyter.batch import RowAnswer, open_frame, rows_of, with_answers
from piano_jupyter.batch.frames import CHUNK_ROWS
from piano_jupyter.errors import PianoError

ROWS = [{"id": 3, "text": "c"}, {"id": 1, "text": "a"}, {"id": 2, "text": "b"}]
RATING = {
    "type": "object",
    "properties": {
        "stars": {"type": "integer"},
        "score": {"anyOf": [{"type": "number"}, {"type": "null"}]},
        "sure": {"type": ["boolean", "null"]},
        "mood": {"enum": ["good", "bad"]},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
}
VALUES = [
    {"stars": 5, "score": 0.5, "sure": True, "mood": "good", "tags": ["x", "y"]},
    None,
    {"stars": 1, "score": None, "sure": None, "mood": "bad", "tags": []},
]
ANSWERS = [RowAnswer(value=value, error=None if value else "it failed") for value in VALUES]
NOTHING = dict.fromkeys(RATING["properties"])
ANSWERED = [
    {**row, **(value or NOTHING), "error": answer.error}
    for row, value, answer in zip(ROWS, VALUES, ANSWERS, strict=True)
]


def relation(rows):
    con = duckdb.connect()
    con.register("given", pa.Table.from_pylist(rows))
    return con.sql("FROM given")


KINDS = {
    "pandas": (pd.DataFrame, lambda frame: frame.astype(object).where(frame.notna(), None).to_dict("records")),
    "polars": (pl.DataFrame, lambda frame: frame.to_dicts()),
    "polars, lazy": (pl.LazyFrame, lambda frame: frame.collect().to_dicts()),
    "pyarrow": (pa.Table.from_pylist, lambda table: table.to_pylist()),
    "duckdb": (relation, lambda found: found.to_arrow_table().to_pylist()),
    "dicts": (list, lambda rows: rows),
}
each_kind = pytest.mark.parametrize(("make", "read"), KINDS.values(), ids=KINDS.keys())


@each_kind
def test_rows_come_as_dicts_in_order(make, read):
    frame = open_frame(make(ROWS))

    assert (list(frame.columns), frame.count) == (["id", "text"], 3)
    assert list(frame.rows()) == ROWS
    assert list(frame.rows(["text"])) == [{"text": row["text"]} for row in ROWS]


@each_kind
def test_the_answers_become_columns_of_the_same_kind_of_table(make, read):
    given = make(ROWS)
    result = with_answers(given, ANSWERS, RATING)

    assert type(result) is type(given)
    if isinstance(result, pd.DataFrame):
        assert [str(kind) for kind in result.dtypes[2:6]] == ["Int64", "Float64", "boolean", "string"]
        assert result["score"].isna().tolist() == [False, True, True]
        assert (result["stars"][0], result["error"][1]) == (5, "it failed")
        assert result["tags"].tolist() == [["x", "y"], None, []]
    else:
        assert read(result) == ANSWERED
    assert list(rows_of(given)) == ROWS  # what was given is unchanged


@each_kind
def test_without_a_schema_there_is_one_column_of_text(make, read):
    result = read(with_answers(make(ROWS), [RowAnswer(text="Yes.", value="Yes."), RowAnswer(error="no")]))

    assert [list(row) for row in result] == [["id", "text", "answer", "error"]] * 3
    assert [(row["answer"], row["error"]) for row in result] == [("Yes.", None), (None, "no"), (None, None)]


@each_kind
def test_an_empty_table_stays_empty(make, read):
    empty = make([]) if make is list else make(ROWS)
    if not isinstance(empty, list):
        empty = empty[:0] if isinstance(empty, pd.DataFrame | pa.Table) else empty.limit(0)

    assert list(rows_of(empty)) == []
    assert read(with_answers(empty, [], RATING)) == []


@each_kind
def test_more_rows_than_a_chunk_come_in_order(make, read):
    rows = [{"id": number} for number in range(2 * CHUNK_ROWS + 1)]
    frame = open_frame(make(rows))

    assert [row["id"] for row in frame.rows()] == list(range(frame.count))


@each_kind
def test_r9_a_column_is_never_replaced_whatever_the_answers_are_called(make, read):
    rows = [{"Error": 1, "answer": 2, "answer_2": 3}]
    once = with_answers(make(rows), [RowAnswer(value="x")])
    twice = with_answers(once, [RowAnswer(value="y", error="z")])
    schema = {"type": "object", "properties": {"error": {"type": "string"}, "ANSWER": {"type": "string"}}}
    named = with_answers(make(rows), [RowAnswer(value={"error": "e", "ANSWER": "a"})], schema)

    assert read(twice) == [
        {**rows[0], "answer_3": "x", "error_2": None, "answer_4": "y", "error_3": "z"},
    ]
    assert read(named) == [{**rows[0], "error_2": "e", "ANSWER_3": "a", "error_3": None}]


def test_the_index_of_pandas_is_kept():
    index = pd.MultiIndex.from_tuples([("x", 1), ("x", 1), ("y", 2)], names=["a", "b"])
    frame = pd.DataFrame(ROWS, index=index)
    frame.attrs["source"] = "survey"
    result = with_answers(frame[frame["id"] < 3], [RowAnswer(value="A"), RowAnswer(value="B")])

    assert result.index.tolist() == [("x", 1), ("y", 2)]
    assert result["answer"].tolist() == ["A", "B"]
    assert result.attrs == {"source": "survey"}


def test_columns_of_pandas_that_are_no_texts_are_found_by_their_text():
    assert list(rows_of(pd.DataFrame([[1, 2]]), ["1"])) == [{"1": 2}]


def test_r9_in_a_hierarchy_of_columns_none_is_replaced_by_its_first_level():
    frame = pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("text", ""), ("answer", "old")]))
    answers = [RowAnswer(text="new", value="new")]

    twice = with_answers(with_answers(frame, answers), answers)

    assert [name for name, _ in twice.columns] == ["text", "answer", "answer_2", "error", "answer_3", "error_2"]
    assert twice[("answer", "old")].tolist() == [2]


@pytest.mark.parametrize(
    "frame",
    [
        pl.DataFrame({"day": pl.Series([10**8], dtype=pl.Int32).cast(pl.Date)}),
        pa.table({"day": pa.array([2**30], pa.date32())}),
        duckdb.connect().sql("SELECT 'infinity'::DATE AS day"),
    ],
    ids=["polars", "pyarrow", "duckdb"],
)
def test_r49_a_value_that_python_has_none_for_is_a_sentence_with_the_column(frame):
    with pytest.raises(PianoError, match=r"the column 'day' cannot be read: [A-Za-z]+: "):
        list(rows_of(frame, ["day"]))


@each_kind
def test_records_with_different_fields_keep_all_of_them(make, read):
    values = [{"a": 1}, {"a": 2, "b": "x"}, {"b": "y", "c": [{"d": 1}, {"e": 2}]}]
    found = read(with_answers(make(ROWS), [RowAnswer(value=each) for each in values], {"type": "object"}))

    assert all('"e": 2' in str(row["answer"]).replace("'", '"') for row in found[2:])
    assert [str(row["answer"]).count("x") + str(row["answer"]).count("y") for row in found] == [0, 1, 1]


def test_a_type_that_is_referred_to_is_the_type_of_its_column():
    moods = {"mood": {"enum": ["good", "bad"]}}
    schema = {"type": "object", "properties": {"mood": {"$ref": "#/$defs/mood"}}, "$defs": moods}
    found = with_answers(pd.DataFrame(ROWS[:1]), [RowAnswer(error="no")], schema)

    assert found["mood"].dtype == "string"


def test_a_relation_of_a_connection_that_cannot_read_variables_is_answered_too():
    con = duckdb.connect(config={"enable_external_access": "false"})

    found = with_answers(con.sql("SELECT 'a' AS text"), [RowAnswer(text="b", value="b")])

    assert found.fetchall() == [("a", "b", None)]


def test_rows_without_a_field_have_null_there():
    frame = open_frame(iter([{"a": 1}, {"b": 2}]))

    assert list(frame.rows()) == [{"a": 1, "b": None}, {"a": None, "b": 2}]
    assert frame.with_answers([RowAnswer(value="x")]) == [
        {"a": 1, "answer": "x", "error": None},
        {"b": 2, "answer": None, "error": None},
    ]


def test_a_relation_is_read_once_and_its_answers_join_with_tables_of_its_connection():
    con = duckdb.connect()
    con.execute("CREATE TABLE names AS SELECT 1 AS id, 'Ada' AS name; CREATE SEQUENCE numbers")
    frame = open_frame(con.sql("SELECT nextval('numbers') AS id FROM range(3)"))
    asked = list(frame.rows())
    result = frame.with_answers(RowAnswer(value=str(row["id"])) for row in asked)

    assert result.fetchall() == [(1, "1", None), (2, "2", None), (3, "3", None)]
    assert result.join(con.sql("FROM names").set_alias("n"), "id").select("answer, name").fetchall() == [("1", "Ada")]
    assert con.sql("SHOW TABLES").fetchall() == [("names",)]


@each_kind
def test_r7_answers_of_several_types_or_too_large_for_a_column_are_kept(make, read):
    schema = {"type": "object", "properties": {"any": {"type": ["string", "integer"]}, "big": {"type": "integer"}}}
    values = [{"any": "x", "big": 10**30}, {"any": 3, "big": 2}, {"any": None, "big": None}]
    result = read(with_answers(make(ROWS), [RowAnswer(value=value) for value in values], schema))
    plain = make in {list, pd.DataFrame}

    assert [row["any"] for row in result] == (["x", 3, None] if plain else ['"x"', "3", None])
    assert [row["big"] for row in result] == ([10**30, 2, None] if plain else [str(10**30), "2", None])


def test_r8_a_column_whose_name_there_is_twice_is_refused_if_it_is_used():
    frame = pd.DataFrame([[1, 2, 3]], columns=["a", "a", "b"])

    assert list(rows_of(frame, ["b"])) == [{"b": 3}]
    with pytest.raises(PianoError, match="2 columns are named 'a'; rename all but one"):
        list(rows_of(frame, ["a"]))
    assert with_answers(frame, [RowAnswer(value="x")]).columns.tolist() == ["a", "a", "b", "answer", "error"]


@pytest.mark.parametrize("given", [5, "rows", {"a": 1}, [1, 2], [["a"]], pd.Series([1]), None, b"x"])
def test_what_is_no_table_is_refused(given):
    with pytest.raises(PianoError, match="is no table; give a pandas or polars DataFrame"):
        open_frame(given)


def test_no_library_is_imported():
    code = (
        "import sys; from piano_jupyter import batch; list(batch.rows_of([{'a': 1}])); "
        "print({'pandas', 'polars', 'pyarrow', 'duckdb', 'daft', 'numpy', 'IPython'} & set(sys.modules))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ended.stdout == "set()\n"


def test_r45_keys_of_dicts_that_are_no_texts_are_columns_and_two_that_read_the_same_are_refused_if_used():
    rows = [{1: "a", None: "b"}, {1: "c", "1": "d"}]

    assert list(rows_of([{1: "a", None: "b"}])) == [{"1": "a", "None": "b"}]
    assert list(rows_of(rows, ["None"])) == [{"None": "b"}, {"None": None}]
    with pytest.raises(PianoError, match="2 columns are named '1'"):
        list(rows_of(rows, ["1"]))
    assert with_answers(rows, [RowAnswer(value="x")]) == [
        {1: "a", None: "b", "answer": "x", "error": None},
        {1: "c", "1": "d", "answer": None, "error": None},
    ]

"""Short ids, rows, and the clock."""

import pickle
from datetime import UTC, datetime
from uuid import UUID

import pytest

from piano_jupyter.clock import Clock
from piano_jupyter.records import Notebook, Rows, short


def test_a_short_id_is_the_end_that_differs():
    assert short(UUID("0198c0de-0000-7000-8000-00000012abcd")) == "12abcd"


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        (("k1", "/a"), ("k1", "/b"), True),  # renamed
        (("k1", "/a"), ("k2", "/a"), True),  # with another kernel
        (("k1", "/a"), ("k2", "/b"), False),
        (("k1", ""), ("k2", ""), False),
        (("", "/a"), ("k1", "/a"), True),
        (("", "/a"), ("", "/b"), False),
        (("k1", "/a"), ("", ""), False),
        (("", ""), ("", ""), True),
    ],
)
def test_a_notebook_is_known_by_its_id_or_its_name(one, other, is_same):
    assert Notebook(*one).is_same(Notebook(*other)) is is_same
    assert Notebook(*other).is_same(Notebook(*one)) is is_same


def test_rows_are_a_sequence_of_tuples():
    rows = Rows(("a", "b"), ((1, 2), (3, 4)))

    assert len(rows) == 2
    assert list(rows) == [(1, 2), (3, 4)]
    assert rows[1] == (3, 4)
    assert rows[-1:] == ((3, 4),)


def test_a_data_frame_of_rows_has_their_column_names():
    pandas = pytest.importorskip("pandas")
    rows = Rows(("agent", "count(*)"), (("ada", 1), ("bob", 2)))

    assert list(pandas.DataFrame(rows).columns) == ["agent", "count(*)"]
    assert pandas.DataFrame(rows).equals(rows.df())


def test_a_row_is_a_tuple_to_everybody_else():
    row = Rows(("agent", "count(*)"), (("ada", 1),))[0]

    assert isinstance(row, tuple)
    assert (repr(row), hash(row)) == ("('ada', 1)", hash(("ada", 1)))
    assert pickle.loads(pickle.dumps(row)) == ("ada", 1)


def test_a_recorded_clock_repeats_its_times_and_ids():
    start = datetime(2026, 1, 1, tzinfo=UTC)
    first, second = Clock(start), Clock(start)

    assert [first.new_id(), first.now(), first.new_id()] == [second.new_id(), second.now(), second.new_id()]


@pytest.mark.parametrize("clock", [Clock(), Clock(datetime(2026, 1, 1, tzinfo=UTC))], ids=["real", "recorded"])
def test_ids_are_uuids_of_version_7_that_begin_with_the_time_and_never_repeat(clock):
    before = clock.now()
    ids = [clock.new_id() for _ in range(1000)]
    after = clock.now()

    assert len(set(ids)) == 1000
    assert {each.version for each in ids} == {7}
    assert {each.variant for each in ids} == {"specified in RFC 4122"}
    times = [each.int >> 80 for each in ids]
    assert times == sorted(times)
    assert int(before.timestamp() * 1000) <= times[0] <= times[-1] <= int(after.timestamp() * 1000)


def test_only_a_recorded_clock_repeats_itself():
    assert (Clock().repeats, Clock(datetime(2026, 1, 1, tzinfo=UTC)).repeats) == (False, True)


def test_the_real_clock_tells_utc():
    before = datetime.now(UTC)
    told = Clock().now()

    assert before <= told <= datetime.now(UTC)
    assert told.tzinfo is UTC

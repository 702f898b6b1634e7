"""What travels between kernels and the store process arrives as it was."""

from dataclasses import fields, replace
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings, strategies as st

from piano_jupyter import errors, events
from piano_jupyter.errors import ContextOverflowError, NotFoundError, PianoError, StoreError
from piano_jupyter.records import Counts, Hit, Job, JobStatus, Message, Notebook, Rows, Thread, ToolCall
from piano_jupyter.store.base import AckResult, Store
from piano_jupyter.store.server.packing import Packing
from piano_jupyter.store.server.shared_store import OPERATIONS

texts = st.text(st.characters(), max_size=8)  # halves of surrogate pairs and NUL too
zones = st.sampled_from([None, UTC, timezone(timedelta(hours=5, minutes=30))])
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), texts, st.binary(max_size=8), st.uuids(),
    st.decimals(allow_nan=False), st.dates(), st.times(), st.timedeltas(), st.datetimes(timezones=zones),
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(texts, inner, max_size=3),
        st.dictionaries(st.one_of(st.integers(), st.uuids(), st.tuples(texts)), inner, max_size=3),
        st.frozensets(st.integers(), max_size=3),
    ),
    max_leaves=8,
)
mappings = st.dictionaries(texts, values, max_size=3)
times = st.datetimes(timezones=st.just(UTC))
messages = st.builds(Message, content=texts, inserted_at=times, usage=mappings, seq=st.integers(0, 2**62))
jobs = st.builds(
    Job, model=texts, inserted_at=times, started_at=st.none() | times, schema=st.none() | mappings,
    rules=st.tuples(texts), notebook=st.builds(Notebook, texts, texts),
)  # fmt: skip
threads = st.builds(Thread, title=texts, inserted_at=times)


def there_and_back(kind, value):
    packing = Packing(kind)
    return packing.unpack(packing.pack(value))


def alike(value, other):
    """Return whether two values are equal and of the same types all the way down."""
    if type(value) is not type(other):
        return False
    if isinstance(value, dict):
        return value == other and all(alike(*pair) for pair in zip(value.values(), other.values(), strict=True))
    if isinstance(value, list | tuple):
        return len(value) == len(other) and all(map(alike, value, other))
    return bool(value == other)


@given(values)
def test_any_value_arrives_with_its_type(value):
    assert alike(there_and_back(Any, value), value)


@settings(max_examples=50)
@given(st.lists(st.tuples(values, values), max_size=3))
def test_rows_of_a_query_arrive(rows):
    found = there_and_back(Rows, Rows(("a", "b"), tuple(rows)))

    assert alike(found.rows, tuple(rows))
    assert found.columns == ("a", "b")


@settings(max_examples=50)
@given(messages, jobs)
def test_records_arrive_alone_in_tuples_and_in_lists(message, job):
    assert there_and_back(Message, message) == message
    assert there_and_back(tuple[Message, list[Job]], (message, [job, job])) == (message, [job, job])
    assert there_and_back(AckResult, AckResult(job, message, [job], None)) == AckResult(job, message, [job], None)


@settings(max_examples=50)
@given(messages, jobs, threads)
def test_an_operation_s_arguments_arrive(message, job, thread):
    enqueue, ack = OPERATIONS["enqueue"], OPERATIONS["ack"]
    asked = enqueue.unpack_arguments(enqueue.pack_arguments((message,), {"jobs": [job], "newest": 7}))
    answered = ack.unpack_arguments(ack.pack_arguments((job, message, message.inserted_at), {"asked": [job]}))

    assert asked.args[1:] == (message, [job], 7)
    assert answered.args[1:] == (job, message, message.inserted_at)
    assert answered.kwargs == {"asked": [job], "note": None}


@pytest.mark.parametrize("notebook", [None, Notebook(), Notebook("k1", "/notes/\udc00 sales.ipynb")])
def test_a_notebook_arrives_as_one_alone_and_in_a_job(notebook):
    threads, take_over = OPERATIONS["threads"], OPERATIONS["take_over"]
    bound = threads.unpack_arguments(threads.pack_arguments((), {"notebook": notebook}))
    assert alike(bound.args[1:], (None, notebook))

    sent = notebook or Notebook()
    time_of_job = datetime(2026, 1, 1, tzinfo=UTC)
    ids = dict.fromkeys(("id", "thread_id", "message_id", "agent_id"), UUID(int=1))
    job = Job(**ids, model="tiny", inserted_at=time_of_job, notebook=sent)
    _, found, owner, given_to = take_over.unpack_arguments(take_over.pack_arguments((job, "two", sent), {})).args

    assert (found, owner, alike(given_to, sent), alike(found.notebook, sent)) == (job, "two", True, True)


def test_any_number_of_arguments_and_none_arrive():
    jobs = OPERATIONS["jobs"]
    bound = jobs.unpack_arguments(jobs.pack_arguments((JobStatus.DONE, JobStatus.QUEUED), {"last": 3}))

    assert bound.args[1:] == (JobStatus.DONE, JobStatus.QUEUED)
    assert bound.kwargs == {"thread_id": None, "last": 3}
    assert OPERATIONS["identity"].unpack_arguments(OPERATIONS["identity"].pack_arguments((), {})).args == (None,)


def test_an_argument_that_an_operation_does_not_take_is_an_error_at_once():
    with pytest.raises(TypeError, match="unexpected keyword"):
        OPERATIONS["identity"].pack_arguments((), {"x": 1})


@settings(max_examples=50)
@given(jobs, messages)
def test_events_arrive(job, message):
    call = ToolCall(
        id=message.id, message_id=message.id, name="bash", arguments=message.usage, started_at=message.inserted_at
    )
    told = [
        events.JobQueued(thread_id=job.thread_id, job=job),
        events.JobDone(job=job, message=message),
        events.MessageAdded(thread_id=job.thread_id, message=message),
        events.MessageDelta(thread_id=job.thread_id, job_id=job.id, message_id=message.id, text=message.content),
        events.ApprovalRequested(job_id=job.id, call=call, id=message.id, question="may I?"),
        events.ModelLoading(note="starting", fraction=0.5),
    ]
    assert [there_and_back(type(event), event) for event in told] == told


def test_every_operation_of_the_store_can_be_sent():
    assert {name for name in vars(Store) if not name.startswith("_")} - OPERATIONS.keys() == set()


@pytest.mark.parametrize(
    "kind", [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, PianoError)]
)
def test_an_error_arrives_as_the_class_that_it_is(kind):
    found = there_and_back(PianoError, kind("no \ud800 such thing\0"))

    assert type(found) is kind
    assert found.args == ("no \ud800 such thing\0",)


def test_an_error_arrives_with_what_it_holds_and_an_unknown_one_as_the_nearest_that_is_known():
    class OwnError(NotFoundError):
        def __init__(self, thing, more):
            super().__init__(f"no {thing}")
            self.more = more

    overflow = there_and_back(PianoError, ContextOverflowError("too long", n_ctx=8, n_prompt=9))
    own = there_and_back(PianoError, OwnError("thing", object()))

    assert (overflow.n_ctx, overflow.n_prompt) == (8, 9)
    assert (type(own), str(own)) == (NotFoundError, "no thing")


def test_what_a_record_cannot_hold_is_refused_by_name():
    endless: dict[str, Any] = {}
    endless["self"] = endless
    with pytest.raises(StoreError, match="cannot be stored as JSON: it is of the type object"):
        Packing(Any).pack({"a": [object()]})
    with pytest.raises(StoreError, match="nested too deeply"):
        Packing(Any).pack(endless)
    with pytest.raises(StoreError, match="do not understand each other"):
        Packing(Message).unpack(Packing(Any).pack({"id": 1}))


def test_what_a_report_finds_arrives():
    thread = Thread(id=UUID(int=1), title="t", inserted_at=datetime.now(UTC))
    hit = Hit(thread=thread, message=None, excerpt="ab", marks=((0, 1), (1, 2)), at=0, score=0.5)
    counts = Counts(agents=1, threads=2, messages=3, jobs=dict.fromkeys(JobStatus, 4))

    assert there_and_back(list[Hit], [hit]) == [hit]
    assert there_and_back(Counts, counts) == counts
    assert type(next(iter(there_and_back(Counts, counts).jobs))) is JobStatus
    assert {field.name for field in fields(Counts)} == {"agents", "threads", "messages", "jobs"}
    assert there_and_back(Thread, replace(thread, title="\udfff")).title == "\udfff"
    assert there_and_back(Rows, Rows(("t",), ((date(2020, 1, 1), time(1), Decimal("1.10")),))).rows[0][0] == date(
        2020, 1, 1
    )

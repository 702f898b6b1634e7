"""Batches and the answers to their rows, over a file, in memory and in a store that is shared."""

import hashlib
from dataclasses import replace

import pytest

from piano_jupyter.batch_records import Batch, BatchAnswer, BatchStatus, RowDemand
from piano_jupyter.errors import NotFoundError, StoreError
from piano_jupyter.records import Notebook


def key(number):
    return hashlib.sha256(str(number).encode()).digest()[:16]


def keys(*numbers):
    return b"".join(map(key, numbers))


@pytest.fixture
def batch_of(make):
    """Return a function that makes a batch."""

    def batch(name="reviews", **fields) -> Batch:
        given = {"template": "Rate {{review}}", "model": "tiny", "digest": "d1", "owner": "kernel"} | fields
        return Batch(id=make.clock.new_id(), name=name, inserted_at=make.now(), started_at=make.now(), **given)

    return batch


@pytest.fixture
def answer_to(make):
    """Return a function that makes the answer to a row."""

    def answer(number, text="good", **fields) -> BatchAnswer:
        given = {"asked": {"review": f"review {number}"}, "answer": text, "usage": {"completion_tokens": 3}} | fields
        return BatchAnswer(key=key(number), place=number, answered_at=make.now(), **given)

    return answer


async def test_a_batch_that_is_run_again_is_the_same_one(store, make, batch_of):
    first = await store.open_batch(batch_of(row_count=2))
    await store.end_batch(first, BatchStatus.FAILED, "the server is gone", make.now())
    ended = (await store.batches())[0]

    again = await store.open_batch(batch_of("REVIEWS", row_count=3, owner="next", notebook=Notebook("k", "/a.ipynb")))

    assert (ended.status, ended.reason) == (BatchStatus.FAILED, "the server is gone")
    assert (again.id, again.name, again.row_count, again.owner) == (first.id, "reviews", 3, "next")
    assert (again.status, again.reason, again.finished_at) == (BatchStatus.RUNNING, None, None)
    assert again.notebook == Notebook("k", "/a.ipynb")
    assert await store.batches() == [again]


async def test_a_name_of_a_batch_that_asks_something_else_is_refused(store, batch_of):
    await store.open_batch(batch_of())

    with pytest.raises(StoreError, match="the batch 'reviews' asks something else; choose another name"):
        await store.open_batch(batch_of(digest="d2"))


async def test_a_batch_runs_in_one_process_at_a_time(store, batch_of):
    first = await store.open_batch(batch_of(notebook=Notebook("k", "/a.ipynb")))

    with pytest.raises(StoreError, match=r"the batch 'reviews' runs already, in /a\.ipynb"):
        await store.open_batch(batch_of(owner="next"), ["kernel"])
    taken = await store.open_batch(batch_of(owner="next"), ["others"])
    assert await store.end_batch(first, BatchStatus.DONE, None, first.inserted_at) == taken


async def test_rows_are_known_by_their_keys_in_this_batch_and_in_others(store, batch_of, answer_to):
    first, second = await store.open_batch(batch_of()), await store.open_batch(batch_of("again"))
    counted = await store.add_answers(
        first.id, [answer_to(0), answer_to(1, None, error="no JSON"), answer_to(0, "bad")]
    )
    await store.add_answers(second.id, [answer_to(2)])

    assert (counted.done, counted.failed) == (1, 1)
    assert await store.known_rows(first.id, keys(0, 1, 2, 3, 0)) == b"12301"
    assert await store.known_rows(None, keys(0, 1, 2, 3)) == b"3030"
    assert await store.known_rows(first.id, b"") == b""


async def test_the_answers_of_other_batches_are_copied_and_cost_nothing(store, batch_of, answer_to):
    first, second = await store.open_batch(batch_of()), await store.open_batch(batch_of("again"))
    await store.add_answers(first.id, [answer_to(0), answer_to(1, None, error="no JSON"), answer_to(2, "bad")])
    await store.add_answers(second.id, [answer_to(2, "mine")])

    for _ in range(2):
        await store.copy_answers(second.id, keys(3, 2, 0, 1), 10)

    assert [
        (each.place, each.answer, each.usage) for each in await store.answers_from(second.id, -1, bytes(16), 9)
    ] == [
        (2, "mine", {"completion_tokens": 3}),
        (12, "good", {}),
    ]
    assert [each.asked for each in await store.answers_from(second.id, 2, key(2), 1)] == [{"review": "review 0"}]


async def test_answers_are_returned_in_the_order_of_their_keys(store, batch_of, answer_to):
    batch = await store.open_batch(batch_of(schema={"type": "object"}))
    await store.add_answers(
        batch.id, [answer_to(0, {"stars": 5}), answer_to(1, None, error="no JSON"), answer_to(2, [])]
    )

    found = await store.outcomes(batch.id, keys(2, 1, 7, 0, 2))

    assert [tuple(each) for each in found] == [
        (key(2), [], None),
        (key(1), None, "no JSON"),
        (key(0), {"stars": 5}, None),
        (key(2), [], None),
    ]


async def test_errors_are_forgotten_so_that_their_rows_are_asked_again(store, batch_of, answer_to):
    batch = await store.open_batch(batch_of())
    await store.add_answers(batch.id, [answer_to(0), answer_to(1, None, error="no JSON")])

    retried = await store.retry_batch(batch.id)

    assert (retried.done, retried.failed) == (1, 0)
    assert await store.known_rows(batch.id, keys(0, 1)) == b"10"


async def test_rows_that_no_server_has_answered_are_asked_again_by_the_next_run(store, batch_of, answer_to):
    batch = await store.open_batch(batch_of())
    gone = answer_to(1, None, error="no server", usage={"unavailable": True})
    counted = await store.add_answers(batch.id, [answer_to(0), gone, answer_to(2, None, error="no JSON")])
    assert await store.known_rows(batch.id, keys(0, 1, 2)) == b"102"

    again = await store.open_batch(batch_of())
    await store.add_answers(batch.id, [answer_to(1, "now")])

    assert (counted.failed, again.failed) == (2, 1)
    assert [each.answer for each in await store.outcomes(batch.id, keys(1))] == ["now"]


async def test_a_deleted_batch_is_gone_with_its_answers_and_takes_no_more(store, make, batch_of, answer_to):
    batch = await store.open_batch(batch_of())
    await store.add_answers(batch.id, [answer_to(0)])
    with pytest.raises(StoreError, match="the batch 'reviews' runs: wait for it, or cancel it first"):
        await store.delete_batch(batch.id)

    cancelled = await store.cancel_batch(batch.id, make.now())
    await store.delete_batch(batch.id)

    assert cancelled.status is BatchStatus.CANCELLED
    assert (await store.batches(), list(await store.sql("FROM batch_answers"))) == ([], [])
    with pytest.raises(NotFoundError, match="no batch with the id"):
        await store.add_answers(batch.id, [answer_to(1)])


async def test_an_answer_that_json_has_no_form_for_is_refused(store, batch_of, answer_to):
    batch = await store.open_batch(batch_of(schema={"type": "object"}))

    with pytest.raises(StoreError, match="cannot be stored as JSON"):
        await store.add_answers(batch.id, [answer_to(0, {"when": object()})])
    with pytest.raises(StoreError, match="bytes are no key"):
        await store.add_answers(batch.id, [replace(answer_to(0), key=b"short")])
    with pytest.raises(StoreError, match="are no keys of 16 bytes each"):
        await store.known_rows(batch.id, b"short")


async def test_r28_any_text_can_be_asked_and_answered(store, batch_of, answer_to):
    odd = "half \udfff, \0, \N{PILE OF POO}, '; DROP TABLE batches; --"
    texts, records = (
        await store.open_batch(batch_of()),
        await store.open_batch(batch_of("b", schema={"type": "string"})),
    )
    for batch in (texts, records):
        await store.add_answers(batch.id, [answer_to(0, odd, asked={odd: odd}), answer_to(1, None, error=odd)])

    found = [await store.answers_from(batch.id, -1, bytes(16), 9) for batch in (texts, records)]

    assert [answers[0].asked for answers in found] == [{odd: odd}, {odd: odd}]
    assert [answers[0].answer for answers in found] == [odd.replace("\udfff", "?"), odd]
    assert [answers[1].error for answers in found] == 2 * [odd.replace("\udfff", "?")]


async def test_as_many_rows_are_leased_as_the_server_has_room_for(store, batch_of):
    batch = await store.open_batch(batch_of())
    demand = RowDemand(
        batch_id=batch.id, owner="kernel", server="http://gpu/v1", model="tiny", in_flight=0, wanted=9, limit=4
    )

    assert await store.lease_rows(demand) == 4
    assert await store.lease_rows(replace(demand, wanted=0)) == 0

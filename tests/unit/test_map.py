"""A question asked of each row of a table: asked once, stored, continued; and how it goes beside chats."""

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from row_models import RowModel, refuses

from piano_jupyter import Notebook, Piano, PianoError
from piano_jupyter.batch import batch_rows, batch_runner, batches, frames
from piano_jupyter.batch_records import KEY_BYTES, BatchStatus
from piano_jupyter.errors import KeyRejectedError, ModelError, ModelUnavailableError, NotFoundError, StoreError
from piano_jupyter.events import BatchProgress
from piano_jupyter.runner.model.protocol import Reply
from piano_jupyter.store.masking_store import MaskingStore

TEMPLATE = "Rate this review: {{review}}"
DEADLINE_S = 30


@dataclass
class Rating:
    stars: int
    why: str


def reviews(count, begin=0):
    return [{"review": f"review {number}", "id": number} for number in range(begin, begin + count)]


@pytest.fixture
async def opened(tmp_path):
    """Return a function that opens a Piano on a model; all of them share a file where `share` is set."""
    async with AsyncExitStack() as stack, asyncio.timeout(DEADLINE_S):

        async def open_piano(model, name="", *, database=":memory:", **settings):
            notebook = Notebook(f"kernel-of-{name}", f"/notes/{name}.ipynb") if name else Notebook()
            piano = Piano(database=database, workspace=tmp_path, model=model, notebook=notebook, **settings)
            return await stack.enter_async_context(piano)

        yield open_piano


async def test_each_row_has_its_answer_in_the_order_of_the_table(opened):
    piano = await opened(RowModel(lambda row: row["review"].upper()))

    found = await piano.map(reviews(30), TEMPLATE)

    assert [(row["id"], row["answer"], row["error"]) for row in found] == [
        (number, f"REVIEW {number}", None) for number in range(30)
    ]


async def test_an_answer_with_a_schema_becomes_columns_and_one_that_does_not_fit_an_error_of_its_row(opened):
    def answer(row):
        return "no JSON" if row["review"] == "review 1" else json.dumps({"stars": 5, "why": row["review"]})

    piano = await opened(RowModel(answer))

    found = await piano.map(reviews(3), TEMPLATE, schema=Rating)

    assert [(row["stars"], row["why"]) for row in found] == [(5, "review 0"), (None, None), (5, "review 2")]
    assert [row["error"] is None for row in found] == [True, False, True]
    assert [(each.done, each.failed) for each in await piano.batches()] == [(2, 1)]


async def test_r20_the_same_question_is_never_asked_twice_by_no_batch(opened):
    model = RowModel()
    piano = await opened(model)
    first = await piano.map(reviews(10) + reviews(10), TEMPLATE)

    again = await piano.map(reviews(10) + reviews(10), TEMPLATE)
    longer = await piano.map(reviews(12), TEMPLATE, name="others")
    plan = await piano.plan_map(reviews(15), TEMPLATE)

    assert len(model.rows) == 12
    assert again == first
    assert [row["answer"] for row in longer[:10]] == [row["answer"] for row in first[:10]]
    assert (plan.rows, plan.known) == (15, 12)
    assert plan.tokens > 0
    (named, others) = await piano.batches()
    assert named.name.startswith("rate-this-review-")
    assert [(each.done, each.row_count) for each in (named, others)] == [(10, 20), (12, 12)]


@pytest.mark.parametrize("large", [1, 200, 10_000])
async def test_r20_a_table_is_asked_and_read_in_pieces(opened, monkeypatch, large):
    monkeypatch.setattr(batch_rows, "CHUNK_ROWS", 3)
    monkeypatch.setattr(batch_rows, "LOOKUP_BYTES", 5 * KEY_BYTES)
    monkeypatch.setattr(batches, "ANSWERS_AT_ONCE", 4)
    monkeypatch.setattr(batches, "LARGE_CHARS", large)
    model = RowModel(lambda row: f"answer to {row['review']}")
    piano = await opened(model)
    told = []
    piano.bus.subscribe(told.append, BatchProgress)
    table = reviews(10) + reviews(17) + reviews(10)

    found = [await piano.map(table, TEMPLATE, limit=limit) for limit in (12, None)][-1]

    assert [row["answer"] for row in found] == [f"answer to {row['review']}" for row in table]
    assert len(model.rows) == 17
    assert (told[-1].rows, told[-1].known, told[-1].done, told[-1].failed) == (37, 30, 7, 0)


async def test_another_model_template_schema_or_system_prompt_is_another_question(opened):
    model = RowModel(lambda _: "5")
    piano = await opened(model)
    await piano.map(reviews(1), TEMPLATE)
    await piano.map(reviews(1), f"\n  {TEMPLATE}\n")  # the same
    await piano.map(reviews(1), TEMPLATE, model="another")
    await piano.map(reviews(1), TEMPLATE + "!")
    await piano.map(reviews(1), TEMPLATE, schema=int)
    await piano.update_agent("Assistant", system_prompt="Be strict.")
    await piano.map(reviews(1), TEMPLATE)
    await piano.update_agent("Assistant", options={"temperature": 0})
    await piano.map(reviews(1), TEMPLATE)
    await piano.map(reviews(1), "\u8bf7" * 300 + "{{review}}")  # a language without blanks

    assert len(model.rows) == 7
    names = {each.name for each in await piano.batches()}
    assert len(names) == 7
    assert max(map(len, names)) < 50


@pytest.mark.parametrize("nothing", [[], pd.DataFrame(), pa.table({})], ids=["dicts", "pandas", "pyarrow"])
async def test_no_rows_are_answered_by_no_rows(opened, nothing):
    model = RowModel()
    found = await (await opened(model)).map(nothing, TEMPLATE)

    assert (type(found), len(found), model.asked) == (type(nothing), 0, [])


async def test_a_limit_tries_the_first_rows(opened):
    model = RowModel()
    piano = await opened(model)

    found = await piano.map(reviews(9), TEMPLATE, limit=2)

    assert [row["answer"] is not None for row in found] == [True, True] + 7 * [False]
    assert len(model.rows) == 2
    await piano.map(reviews(9), TEMPLATE)
    assert len(model.rows) == 9


async def test_r21_what_was_answered_before_an_interrupt_is_kept(opened):
    model = RowModel()
    piano = await opened(model, max_in_flight=2)
    running = asyncio.create_task(piano.map(reviews(50), TEMPLATE, name="reviews"))
    await model.until(10)
    model.hold()
    running.cancel()
    await asyncio.wait([running])
    asked = len(model.rows)

    interrupted = await piano.batch("reviews")
    model.free.set()
    found = await piano.map(reviews(50), TEMPLATE, name="reviews")

    assert running.cancelled()
    assert interrupted.status is BatchStatus.INTERRUPTED
    assert asked - interrupted.done <= 2
    assert len(model.rows) <= 50 + 2
    assert all(row["answer"] for row in found)


async def test_r22_it_stops_after_twenty_failures_in_a_row_and_asks_those_rows_again(opened):
    model = RowModel(lambda row: refuses(row) if int(row["review"].split()[1]) >= 10 else "good")
    piano = await opened(model, max_in_flight=1)

    with pytest.raises(PianoError, match="20 rows in a row failed"):
        await piano.map(reviews(100), TEMPLATE, name="reviews")

    failed = await piano.batch("reviews")
    assert (failed.status, failed.done, failed.failed) == (BatchStatus.FAILED, 10, 0)
    assert "20 rows in a row failed" in failed.reason
    model.answer = lambda _: "good"
    found = await piano.map(reviews(100), TEMPLATE, name="reviews")
    assert [row["error"] for row in found] == 100 * [None]
    assert (await piano.batch("reviews")).status is BatchStatus.DONE


async def test_errors_between_answers_are_kept_until_they_are_retried(opened):
    model = RowModel(lambda row: ModelError("too long") if row["review"] == "review 1" else "good")
    piano = await opened(model)
    found = await piano.map(reviews(3), TEMPLATE, name="reviews")
    assert found[1]["error"] == "too long"

    await piano.map(reviews(3), TEMPLATE, name="reviews")
    assert len(model.rows) == 3
    assert (await piano.retry_batch("reviews")).failed == 0
    model.answer = lambda _: "good"
    again = await piano.map(reviews(3), TEMPLATE, name="reviews")

    assert len(model.rows) == 4
    assert [row["error"] for row in again] == [None, None, None]


@pytest.mark.parametrize("error", [ModelUnavailableError, KeyRejectedError])
async def test_rows_that_no_server_has_answered_are_asked_again_without_retrying(opened, error):
    model = RowModel(lambda _: error("no server"))
    piano = await opened(model)
    found = await piano.map(reviews(2), TEMPLATE, name="reviews")

    model.answer = lambda _: "good"
    again = await piano.map(reviews(2), TEMPLATE, name="reviews")

    assert [row["error"] for row in found] == ["no server", "no server"]
    assert [row["answer"] for row in again] == ["good", "good"]


async def test_progress_is_told_from_the_start_to_the_end(opened):
    piano = await opened(RowModel())
    told = []
    piano.bus.subscribe(told.append, BatchProgress)
    await piano.map(reviews(5), TEMPLATE, name="reviews")
    await piano.map(reviews(8), TEMPLATE, name="reviews")

    begins = [each for each in told if each.status is BatchStatus.RUNNING and each.done == 0]
    ends = [each for each in told if each.status is BatchStatus.DONE]
    assert [(each.rows, each.known) for each in begins] == [(5, 0), (8, 5)]
    assert [(each.rows, each.known, each.done, each.failed) for each in ends] == [(5, 0, 5, 0), (8, 5, 3, 0)]
    assert all(each.tokens > 0 for each in begins)


async def test_answers_that_were_cut_off_are_told(opened):
    replies = {0: Reply(text="This is", finish_reason="length"), 1: Reply(text="All.", finish_reason="stop")}
    piano = await opened(RowModel(lambda row: replies[int(row["review"][-1])]))
    told = []
    piano.bus.subscribe(told.append, BatchProgress)
    await piano.map(reviews(2), TEMPLATE)

    assert (told[-1].done, told[-1].cut) == (2, 1)


async def test_while_a_long_table_is_read_it_is_told_how_many_rows_are(opened, monkeypatch):
    monkeypatch.setattr(batch_rows, "CHUNK_ROWS", 2)
    monkeypatch.setattr(batch_runner, "COMMIT_S", 0)
    piano = await opened(RowModel())
    told = []
    piano.bus.subscribe(told.append, BatchProgress)
    await piano.map(reviews(5), TEMPLATE)

    begun = next(each for each in told if each.read is None)
    assert [(each.status, each.read, each.rows) for each in told[: told.index(begun)]] == [
        (BatchStatus.RUNNING, 2, 5),
        (BatchStatus.RUNNING, 4, 5),
    ]
    assert [each.read for each in told[told.index(begun) :]] == [None] * (len(told) - 2)


async def test_r44_a_batch_is_cancelled_while_its_table_is_read(opened, monkeypatch):
    monkeypatch.setattr(batch_rows, "CHUNK_ROWS", 1)
    model = RowModel()
    piano = await opened(model)
    running = asyncio.create_task(piano.map(reviews(5_000), TEMPLATE, name="reviews"))
    async for event in piano.events():
        if isinstance(event, BatchProgress):
            break
    await piano.cancel_batch("reviews")

    with pytest.raises(PianoError, match="was cancelled; run it again"):
        await running
    assert (model.rows, (await piano.batch("reviews")).status) == ([], BatchStatus.CANCELLED)


async def test_r44_of_an_iterator_without_an_end_a_limit_is_read_and_an_interrupt_stops_what_reads_it(opened):
    begun, read = threading.Event(), []

    def endless():
        while True:
            read.append(len(read))
            begun.set()
            yield {"review": read[-1]}

    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))  # one to read, one to wait
    piano = await opened(RowModel())
    some = endless()
    found = await piano.map(some, TEMPLATE, limit=3)
    assert ([row["review"] for row in found], len(read)) == ([0, 1, 2], 3)

    begun.clear()
    running = asyncio.create_task(piano.map(some, TEMPLATE))
    await asyncio.to_thread(begun.wait)
    running.cancel()
    await asyncio.wait([running])
    both = threading.Barrier(2)
    await asyncio.gather(*(asyncio.to_thread(both.wait) for _ in range(2)))  # neither thread reads any more

    assert running.cancelled()
    assert len(await piano.batches()) == 1


async def test_the_skills_of_the_agent_are_sent_in_full_and_are_part_of_what_is_asked(opened, tmp_path):
    skill = tmp_path / "skills" / "rate.md"
    skill.parent.mkdir()
    model = RowModel()
    piano = await opened(model)
    for count, text in enumerate(["Five is best.", "One is best. " * 2_000], 1):
        skill.write_text(f"---\nname: rate\ndescription: How to rate.\n---\n{text}")
        await piano.update_agent("Assistant", system_prompt="Be fair.", enabled_skills=["rate"])
        await piano.map(reviews(1), TEMPLATE)
        await piano.map(reviews(1), TEMPLATE)

        assert model.systems[-1].startswith('Be fair.\n\n<skill name="rate">')
        assert text.strip() in model.systems[-1]
        assert len(model.rows) == count


async def test_r23_a_question_goes_before_a_batch_and_waits_for_no_row_that_has_not_begun(opened):
    model = RowModel()
    piano = await opened(model, max_in_flight=3)
    model.hold()
    batch = asyncio.create_task(piano.map(reviews(30), TEMPLATE))
    await model.until(3)
    await piano.ask("hello?")
    model.free.set()
    await batch

    place = model.asked.index(None)
    assert place == 3  # those that were in flight
    assert len(model.rows) == 30


async def test_r23_a_question_in_another_notebook_goes_first_too(opened, tmp_path, monkeypatch):
    monkeypatch.setenv("PIANO_SHARE", "1")
    model, database = RowModel(), tmp_path / "piano.duckdb"
    a, b = [await opened(model, name, database=database, max_in_flight=3) for name in "ab"]
    model.hold()
    batch = asyncio.create_task(a.map(reviews(30), TEMPLATE))
    await model.until(3)
    await b.ask("hello?")
    model.free.set()
    await batch

    assert model.asked.index(None) == 3
    assert len(model.rows) == 30


async def test_r24_two_notebooks_share_what_the_server_has_room_for(opened, tmp_path, monkeypatch):
    monkeypatch.setenv("PIANO_SHARE", "1")
    model, database = RowModel(), tmp_path / "piano.duckdb"
    a, b = [await opened(model, name, database=database, max_in_flight=4) for name in "ab"]
    told = []
    b.bus.subscribe(told.append, BatchProgress)

    one, two = await asyncio.gather(
        a.map(reviews(40), TEMPLATE, name="first"), b.map(reviews(40, 100), TEMPLATE, name="second")
    )

    assert all(row["answer"] for row in [*one, *two])
    assert model.most_in_flight <= 4 + 2  # a lease that is halved ends with the rows that have begun
    assert {each.notebook for each in told} == {"/notes/a.ipynb", "/notes/b.ipynb"}


async def test_r25_a_batch_is_cancelled_from_another_notebook_and_goes_on_when_it_is_run_again(
    opened, tmp_path, monkeypatch
):
    monkeypatch.setenv("PIANO_SHARE", "1")
    model, database = RowModel(), tmp_path / "piano.duckdb"
    a, b = [await opened(model, name, database=database, max_in_flight=2) for name in "ab"]
    running = asyncio.create_task(a.map(reviews(500), TEMPLATE, name="reviews"))
    await model.until(5)
    model.hold()
    with pytest.raises(StoreError, match=r"runs already, in /notes/a\.ipynb"):
        await b.map(reviews(500), TEMPLATE, name="reviews")
    with pytest.raises(PianoError, match="the batch 'reviews' runs: wait for it, or cancel it first"):
        await b.delete_batch("reviews")

    cancelled = await b.cancel_batch("REVIEWS")

    with pytest.raises(PianoError, match="the batch 'reviews' was cancelled; run it again to go on with it"):
        await running
    assert cancelled.status is (await b.batch("reviews")).status is BatchStatus.CANCELLED
    with pytest.raises(PianoError, match="does not run: it is cancelled"):
        await a.cancel_batch("reviews")
    model.free.set()
    found = await b.map(reviews(20), TEMPLATE, name="reviews")
    assert all(row["answer"] for row in found)


async def test_r26_a_batch_is_interrupted_when_its_piano_closes(opened, tmp_path):
    model = RowModel()
    piano = await opened(model, database=tmp_path / "piano.duckdb", max_in_flight=2)
    running = asyncio.create_task(piano.map(reviews(5_000), TEMPLATE, name="reviews"))
    await model.until(5)
    model.hold()
    with pytest.raises(PianoError, match="the batch 'reviews' runs: wait for it, or cancel it first"):
        await piano.restore(tmp_path / "copy.duckdb")

    await piano.close()

    with pytest.raises(PianoError, match="was interrupted, as Piano closes; run it again to go on"):
        await running
    await piano.open()
    assert (await piano.batch("reviews")).status is BatchStatus.INTERRUPTED


async def test_r47_the_same_batch_runs_once_at_a_time_and_one_that_was_just_opened_can_be_interrupted(
    opened, monkeypatch
):
    piano = await opened(RowModel())
    first, second = await asyncio.gather(
        piano.map(reviews(3), TEMPLATE), piano.map(reviews(9), TEMPLATE), return_exceptions=True
    )
    assert [row["error"] for row in first] == [None] * 3
    assert isinstance(second, PianoError)
    assert "runs here already" in str(second)

    call, is_open = MaskingStore.call, asyncio.Event()

    async def open_slowly(store, operation, *arguments, **options):
        found = await call(store, operation, *arguments, **options)
        if operation == "open_batch":
            is_open.set()
            await asyncio.sleep(0)
        return found

    monkeypatch.setattr(MaskingStore, "call", open_slowly)
    interrupted = asyncio.create_task(piano.map(reviews(9), TEMPLATE))
    await is_open.wait()
    interrupted.cancel()
    with pytest.raises(asyncio.CancelledError):
        await interrupted
    assert [each.status for each in await piano.batches()] == [BatchStatus.INTERRUPTED]


async def test_r48_a_table_that_changes_while_it_is_asked_gives_no_row_the_answer_to_another(opened, monkeypatch):
    monkeypatch.setattr(frames, "CHUNK_ROWS", 2)
    monkeypatch.setattr(batch_rows, "CHUNK_ROWS", 2)
    model = RowModel(lambda row: f"seen {row['review']}")
    piano = await opened(model)
    frame, rows = pd.DataFrame(reviews(9)), reviews(9)

    async def changed(table, change, begun):
        model.hold()
        asking = asyncio.create_task(piano.map(table, TEMPLATE, model=str(begun), max_in_flight=1))
        await model.until(begun)
        change()
        model.free.set()
        return await asking

    def change_frame():
        frame["review"] = "changed"
        frame.loc[9] = ["one more", 9]

    def change_rows():
        for each in rows:
            each["review"] = "changed"

    found = await changed(frame, change_frame, 1)
    assert [*found["answer"]] == [f"seen review {number}" for number in range(9)]
    with pytest.raises(PianoError, match=r"row [0-9]+ has changed since the table was read; run it again"):
        await changed(rows, change_rows, 10)


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "a'; DROP TABLE batches; --", "{{x}}", "\N{PILE OF POO}" * 50, "a\nb", "é"]
)
async def test_r27_any_name_is_a_name(opened, name, tmp_path):
    piano = await opened(RowModel())
    await piano.map([{"review": name}], TEMPLATE, name=name)

    assert (await piano.batch(name)).name == name
    assert await piano.export_batch(name, tmp_path / "answers.parquet") == 1
    assert await piano.delete_batch(name) == []
    assert await piano.batches() == []


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"name": " "}, PianoError, "the name of the batch is empty"),
        ({"limit": 0}, PianoError, "limit must be a whole number of at least 1, not 0"),
        ({"limit": 2.5}, PianoError, r"limit must be a whole number of at least 1, not 2\.5"),
        ({"max_in_flight": 0}, PianoError, "max_in_flight must be a whole number of at least 1, not 0"),
        ({"agent": "nobody"}, NotFoundError, "no agent named 'nobody'"),
        ({"template": "no column"}, PianoError, "names no column"),
        ({"template": "{{nothing}}"}, PianoError, "no such column; there are: review, id"),
        ({"rows": 7}, PianoError, "a int is no table"),
        ({"rows": TEMPLATE, "template": pd.DataFrame()}, PianoError, "must be a text, not a pandas.DataFrame"),
        ({"rows": duckdb.sql("SELECT error('boom') AS review")}, PianoError, "the table cannot be read: .*boom"),
        ({"rows": range(10**12)}, PianoError, "a range of int is no table"),
    ],
)
async def test_what_cannot_be_asked_is_refused_before_anything_is_stored(opened, given, error, said):
    model = RowModel()
    piano = await opened(model)

    with pytest.raises(error, match=said):
        await piano.map(**{"rows": reviews(2), "template": TEMPLATE} | given)

    assert (model.asked, await piano.batches()) == ([], [])


async def test_r31_a_deleted_batch_is_in_no_byte_of_the_history_and_its_copies(opened, tmp_path):
    folder = tmp_path / ".piano"
    piano = await opened(RowModel(lambda row: row["review"]), database=folder / "piano.duckdb")
    secret = [{"review": f"xyzzyplugh {number} " + "and so on " * 100} for number in range(40)]
    await piano.map(secret, TEMPLATE, name="secret")
    await piano.map(reviews(3), TEMPLATE, name="kept")
    await piano.backup()

    assert holding(folder)
    assert await piano.delete_batch("secret") == []
    assert holding(folder) == []
    assert [(each.name, each.done) for each in await piano.batches()] == [("kept", 3)]
    await piano.close()
    assert holding(folder) == []


def holding(folder):
    """Return the files that hold what was said."""
    return [each.name for each in folder.rglob("*") if each.is_file() and b"xyzzyplugh" in each.read_bytes()]


async def test_r46_each_column_and_number_is_exported(opened, tmp_path):
    odd, file = {"a": 1, "A": 2, "": 3, "n\0": 4}, tmp_path / "answers.parquet"
    piano = await opened(RowModel(lambda row: "7" if row["a"] == 1 else str(10**30)))
    await piano.map([odd, odd | {"a": None}], "{{a}} {{A}} {{}} {{n\0}}", schema=int, name="odd")

    with pytest.raises(PianoError, match=r"name a file that ends in \.parquet, not 'odd\.csv'"):
        await piano.export_batch("odd", tmp_path / "odd.csv")
    assert await piano.export_batch("odd", file) == 2
    assert pq.read_table(file).to_pylist() == [
        {"a": "1", "A_2": "2", "column": "3", "n\0": "4", "answer": "7", "error": None},
        {"a": None, "A_2": "2", "column": "3", "n\0": "4", "answer": str(10**30), "error": None},
    ]
    with pytest.raises(PianoError, match="exists; name another file"):
        await piano.export_batch("odd", file)


async def test_what_batches_cost_is_told_by_batch(opened):
    piano = await opened(RowModel())
    await piano.map(reviews(3), TEMPLATE, name="reviews")

    rows = await piano.stats("batch")

    assert rows.columns[:4] == ("batch", "answers", "prompt_tokens", "cached_tokens")
    assert rows[0][:3] == ("reviews", 3, 27)

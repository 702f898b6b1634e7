"""ask_frame: on Daft's native runner the answers are those of Asker, and what is known is not asked again."""

import asyncio
import json
import threading
from contextlib import aclosing

import daft
import pyarrow.parquet as pq
import pytest
from row_models import RowModel

from piano_jupyter import Piano
from piano_jupyter.batch import Asker, RowTemplate, daft_runner, with_answers
from piano_jupyter.batch.daft_frame import ask_frame
from piano_jupyter.batch_records import BatchStatus
from piano_jupyter.config import PianoConfig
from piano_jupyter.errors import PianoError
from piano_jupyter.events import BatchProgress
from piano_jupyter.jupyter.magic.map_option import columns_of, table_named, tables_in
from piano_jupyter.testing import ServerReply

#: Daft does not close the pipe of the process in which it runs a function.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
SCHEMA = {
    "type": "object",
    "properties": {"length": {"type": "integer"}, "words": {"type": "array", "items": {"type": "string"}}},
    "required": ["length", "words"],
}
TEMPLATE = RowTemplate("Count {{text}} of {{by}}", schema=SCHEMA)
ROWS = [
    {"id": number, "text": f"text {number % 20}", "by": None if number % 3 else 1.5, "length": 0}
    for number in range(30)
]
CONFIG = PianoConfig(request_retries=0)


class Kept(dict):
    """Answers in memory; counts how often it was asked and told."""

    added = 0

    def known(self, keys):
        return {key: self[key] for key in keys if key in self}

    def add(self, answers, asked):
        assert asked.keys() >= answers.keys()
        self.added += 1
        self.update((key, answer) for key, answer in answers.items() if answer.error is None)


@pytest.fixture
def counting(stub_model):
    """A server that counts the letters of a row's text, and refuses one of them."""

    def answer(request):
        row = json.loads(request["messages"][0]["content"].splitlines()[-1])
        if row == {"text": "text 7", "by": None}:
            return "I would rather not."
        return json.dumps({"length": len(row["text"]), "words": row["text"].split()})

    stub_model.answer = answer
    return stub_model


async def plain(server):
    """Return the rows with their answers, without Daft."""
    asking = Asker(server.url, "m", config=CONFIG)
    async with asking, aclosing(asking.answers(TEMPLATE, ROWS)) as answers:
        found = {number: answer async for number, answer in answers}
    return with_answers(ROWS, (found[number] for number in range(len(ROWS))), SCHEMA)


def rows_in(frame):
    return frame.sort("id").to_pylist()


async def test_the_result_is_that_of_asker_and_what_is_known_is_not_asked_again(counting):
    expected, kept = await plain(counting), Kept()
    frame = daft.from_pylist(ROWS)
    settings = {"answers": kept, "max_in_flight": 4, "batch_rows": 5, "config": CONFIG}
    counting.requests.clear()
    result = ask_frame(frame, TEMPLATE, counting.url, "m", **settings)

    assert result.column_names == ["id", "text", "by", "length", "length_2", "words", "error"]
    assert rows_in(result) == expected
    texts = {(row["text"], row["by"]) for row in ROWS}
    assert len(counting.requests) == len(texts) + 2  # one of them was asked three times
    assert (len(kept), kept.added > 1) == (len(texts) - 1, True)

    counting.requests.clear()
    again = ask_frame(frame, TEMPLATE, counting.url, "m", **settings)

    assert rows_in(again) == expected
    assert len(counting.requests) == 3
    assert ask_frame(frame.where(daft.col("id") < 0), TEMPLATE, counting.url, "m", **settings).to_pylist() == []


def test_a_column_that_there_is_not_is_refused_before_anything_is_asked(counting):
    with pytest.raises(PianoError, match="no such column; there are: id, text, by, length"):
        ask_frame(daft.from_pylist(ROWS), RowTemplate("{{review}}"), counting.url, "m")

    assert counting.requests == []


def test_after_twenty_failures_in_a_row_it_stops_and_what_was_answered_is_kept(stub_model):
    good = iter(range(3))
    stub_model.answer = lambda _: "fine" if next(good, None) is not None else ServerReply("no", status=401)
    kept, frame = Kept(), daft.from_pydict({"text": list(map(str, range(50)))})
    settings = {"answers": kept, "max_in_flight": 1, "config": CONFIG}

    with pytest.raises(PianoError, match="stopped, as 20 rows in a row failed"):
        ask_frame(frame, RowTemplate("{{text}}"), stub_model.url, "m", **settings)

    assert [answer.text for answer in kept.values()] == ["fine"] * 3


async def test_a_daft_frame_in_map_keeps_its_answers_with_those_of_other_tables(counting, tmp_path):
    async with Piano(database=str(tmp_path / "p.duckdb"), workspace=tmp_path, base_url=counting.url) as piano:
        piano.config.observe(threading.Event().set)  # as a kernel does: no process could be sent that
        await piano.add_agent("counter", model="m")
        ask = {"schema": SCHEMA, "agent": "counter"}
        first = await piano.map(ROWS[:10], TEMPLATE.text, **ask)
        asked = len(counting.requests)

        result = await piano.map(daft.from_pylist(ROWS), TEMPLATE.text, **ask)
        texts = {(row["text"], row["by"]) for row in ROWS}
        (batch,) = await piano.batches()

        assert rows_in(result)[:10] == first
        assert len(counting.requests) - asked == len(texts) - 10
        assert (batch.status, batch.row_count, batch.done, batch.failed) == ("done", 30, len(texts) - 1, 1)
        await piano.export_batch(batch.name, tmp_path / "answers.parquet")
        kept = pq.read_table(tmp_path / "answers.parquet").to_pylist()
        assert {(each["text"], each["by"] and float(each["by"])) for each in kept} == texts

        again = await piano.map(daft.from_pylist(ROWS), TEMPLATE.text, **ask)
        whole = await piano.map(ROWS, TEMPLATE.text, **ask)

        assert rows_in(again) == rows_in(result) == whole
        assert len(counting.requests) - asked == len(texts) - 10


@daft.func(use_process=False)
def as_number(text: str) -> int:
    return int(text)


async def test_a_daft_frame_needs_a_server_and_has_no_limit_and_can_be_named_in_a_cell(tmp_path):
    frame = daft.from_pylist(ROWS)
    async with Piano(database=":memory:", workspace=tmp_path, model=RowModel(str)) as piano:
        with pytest.raises(PianoError, match="needs the address of a server: give servers="):
            await piano.map(frame, "{{text}}")
        with pytest.raises(PianoError, match=r"give frame\.limit"):
            await piano.map(frame, "{{text}}", limit=3)
        with pytest.raises(PianoError, match="no such column"):
            await piano.map(frame, "{{review}}")
        with pytest.raises(PianoError, match="known only once it runs"):
            await piano.plan_map(frame, "{{text}}")
        broken = frame.with_column("n", as_number(daft.col("text")))
        with pytest.raises(PianoError, match="the table cannot be read: "):
            await piano.map(broken, "{{n}}", servers=["http://localhost:1/v1"])
        assert [each.status for each in await piano.batches()] == [BatchStatus.FAILED]
    assert table_named("frame", {"frame": frame}) is frame
    assert (tables_in({"frame": frame}), columns_of(frame)) == (["frame"], ["id", "text", "by", "length"])


async def test_a_daft_batch_that_is_cancelled_keeps_what_was_answered(counting, tmp_path, monkeypatch):
    monkeypatch.setattr(daft_runner, "BATCH_ROWS", 4)
    async with Piano(database=":memory:", workspace=tmp_path, base_url=counting.url, max_in_flight=2) as piano:
        await piano.add_agent("counter", model="m")
        running = asyncio.create_task(
            piano.map(daft.from_pylist(ROWS), TEMPLATE.text, schema=SCHEMA, agent="counter", name="counts")
        )
        async for event in piano.events():
            if isinstance(event, BatchProgress) and event.done:
                break
        await piano.cancel_batch("counts")

        with pytest.raises(PianoError, match="was cancelled; run it again"):
            await running
        batch = await piano.batch("counts")
        assert batch.status == "cancelled"
        assert 0 < batch.done < len({(row["text"], row["by"]) for row in ROWS}) - 1

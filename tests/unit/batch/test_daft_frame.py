"""ask_frame: on Daft's native runner the answers are those of Asker, and what is known is not asked again."""

import json
from contextlib import aclosing

import daft
import pytest

from piano_jupyter.batch import Asker, RowTemplate, with_answers
from piano_jupyter.batch.daft_frame import ask_frame
from piano_jupyter.config import PianoConfig
from piano_jupyter.errors import PianoError
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

    def add(self, answers):
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

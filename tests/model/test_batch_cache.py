"""A real llama.cpp server evaluates, of each row of a batch, little more than the row itself."""

from contextlib import aclosing

import pytest
from row_tokens import own_tokens

from piano_jupyter.batch import Asker, RowTemplate

pytestmark = pytest.mark.model
ROWS = [{"review": f"Number {number} is " + "quite " * (number % 7) + "good."} for number in range(40)]
SCHEMA = {"type": "object", "properties": {"mood": {"enum": ["good", "bad"]}}, "required": ["mood"]}
TEMPLATE = RowTemplate(
    "Is the customer who wrote {{review}} happy with what was sent? Judge by the words alone.",
    system="You read reviews of a shop, carefully. " * 5,
    schema={**SCHEMA, "additionalProperties": False},
)


async def test_of_each_row_little_more_than_its_own_tokens_is_evaluated(serve_tiny):
    endpoint = serve_tiny()

    async def connect():
        return endpoint

    asking = Asker(connect, endpoint.model, options={"max_tokens": 60})
    async with asking, aclosing(asking.answers(TEMPLATE, ROWS)) as answers:
        found = {number: answer async for number, answer in answers}
        assert await asking.capacity() == 1  # the server's slots
    own = await own_tokens(endpoint, TEMPLATE, ROWS)
    usage = [found[number].usage for number in range(len(ROWS))]
    evaluated = [each["prompt_tokens"] - each["cached_tokens"] for each in usage]

    assert {(answer.error, answer.tries) for answer in found.values()} == {(None, 1)}
    assert {answer.value["mood"] for answer in found.values()} <= {"good", "bad"}
    assert sum(evaluated[1:]) <= 1.05 * sum(own[1:])
    assert sum(each["prompt_tokens"] for each in usage) > 4 * sum(own)  # what is the same for all rows is the most

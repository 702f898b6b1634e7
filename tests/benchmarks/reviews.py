"""What the benchmarks of batches ask, and how one would ask it without a library: the reference of both."""

import asyncio
import json

import httpx

from piano_jupyter.batch import RowTemplate

QUESTION = "Rate this review, and say why: {{review}}"
SYSTEM = "You are fair."
SCHEMA = {
    "type": "object",
    "properties": {"stars": {"type": "integer"}, "why": {"type": "string"}},
    "required": ["stars", "why"],
    "additionalProperties": False,
}
TEMPLATE = RowTemplate(QUESTION, system=SYSTEM, schema=SCHEMA)


def reviews(count):
    return [{"id": number, "review": f"Number {number} is good. " * 10} for number in range(count)]


async def plain(url, rows, in_flight):
    """Ask with asyncio and httpx alone: a client a worker, an answer a row."""
    waiting, answers = iter(enumerate(rows)), [None] * len(rows)

    async def work():
        async with httpx.AsyncClient(timeout=None) as http:
            for number, row in waiting:
                body = {"model": "m", "messages": TEMPLATE.messages(row), "response_format": {"type": "json_schema"}}
                response = await http.post(f"{url}/chat/completions", json=body)
                answers[number] = json.loads(response.json()["choices"][0]["message"]["content"])

    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(work())
    return answers

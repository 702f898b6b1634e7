"""How many tokens of each row a real llama.cpp server evaluates, beside those that are the row's own.

python tests/benchmarks/bench_batch_cache.py [ROWS]
"""

import asyncio
import sys
import time
from contextlib import aclosing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from row_tokens import own_tokens

from piano_jupyter.batch import Asker, RowTemplate
from piano_jupyter.runner.model.embedded.local_server import LocalServer

COUNT = int(sys.argv[1]) if len(sys.argv) > 1 else 200
ROWS = [{"review": f"Number {number} is " + "quite " * (number % 7) + "good."} for number in range(COUNT)]
SCHEMA = {"type": "object", "properties": {"mood": {"enum": ["good", "bad"]}}, "required": ["mood"]}
TEMPLATE = RowTemplate("Is the customer who wrote {{review}} happy?", system="You read reviews.", schema=SCHEMA)


async def main():
    """Ask each row with the embedded model."""
    server = LocalServer()
    try:
        endpoint = await server.start(lambda note, _fraction: print(note))
        begun = time.perf_counter()
        asking = Asker(lambda: server.start(lambda *_: None), endpoint.model, options={"max_tokens": 60})
        async with asking, aclosing(asking.answers(TEMPLATE, ROWS)) as answers:
            found = {number: answer async for number, answer in answers}
        taken = time.perf_counter() - begun
        own = await own_tokens(endpoint, TEMPLATE, ROWS)
    finally:
        server.stop()
    usage = [found[number].usage for number in range(COUNT)]
    evaluated = [each["prompt_tokens"] - each["cached_tokens"] for each in usage]
    failed = sum(answer.error is not None for answer in found.values())
    print(f"{COUNT} rows with a schema in {taken:.1f} s, {failed} failed")
    print(f"  prompt tokens a row      {sum(each['prompt_tokens'] for each in usage) / COUNT:8.1f}")
    print(f"  of them the row's own    {sum(own[1:]) / (COUNT - 1):8.1f}")
    print(f"  evaluated                {sum(evaluated[1:]) / (COUNT - 1):8.1f}   (without the first row)")
    print(f"  evaluated / own          {sum(evaluated[1:]) / sum(own[1:]):8.3f}   (at most 1.05)")


if __name__ == "__main__":
    asyncio.run(main())

"""Many messages that are sent at once."""

import asyncio

from piano_jupyter import Piano
from piano_jupyter.events import JobDone, JobQueued

MANY = 100


async def test_the_first_answer_comes_before_all_the_messages_sent_at_once_are_stored(tmp_path, scripted):
    queued_at_first_answer = []
    async with Piano(database=":memory:", workspace=tmp_path, model=scripted(*["hi"] * MANY)) as piano:
        queued = []
        piano.bus.subscribe(queued.append, JobQueued)
        piano.bus.subscribe(lambda _: queued_at_first_answer.append(len(queued)), JobDone)
        threads = [await piano.open_thread(f"thread {number}") for number in range(MANY)]

        await asyncio.gather(*(piano.send("?", thread=thread) for thread in threads))
        await piano.drain()

    assert len(queued_at_first_answer) == MANY
    assert queued_at_first_answer[0] < MANY / 2


async def test_messages_sent_to_one_thread_at_once_keep_their_order(tmp_path, scripted):
    async with Piano(database=":memory:", workspace=tmp_path, model=scripted(*["hi"] * 10)) as piano:
        thread = await piano.open_thread("numbers")

        await asyncio.gather(*(piano.send(str(number), thread=thread) for number in range(10)))
        await piano.drain()
        told = await piano.messages(thread)

    assert [message.content for message in told if message.role == "user"] == list(map(str, range(10)))

"""Work that cancellation does not stop halfway."""

import asyncio
import gc

from piano_jupyter.cancellation import finish_even_if_cancelled


async def test_what_fails_after_a_cancellation_is_not_reported_as_never_retrieved():
    reported, begun, go_on = [], asyncio.Event(), asyncio.Event()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))

    async def work():
        begun.set()
        await go_on.wait()
        raise ValueError

    task = asyncio.create_task(finish_even_if_cancelled(work()))
    await begun.wait()
    task.cancel()
    asyncio.get_running_loop().call_soon(go_on.set)
    await asyncio.wait([task])
    assert task.cancelled()
    del task
    gc.collect()

    assert reported == []

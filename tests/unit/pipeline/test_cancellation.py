"""What is cancelled is finished all the same."""

import asyncio
import gc

from piano_jupyter.pipeline.cancellation import finish_even_if_cancelled


async def test_an_error_of_work_whose_caller_was_cancelled_is_not_reported_as_lost():
    reported, begun, go_on = [], asyncio.Event(), asyncio.Event()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["message"]))

    async def work():
        begun.set()
        await go_on.wait()
        raise ValueError

    caller = asyncio.create_task(finish_even_if_cancelled(work()))
    await begun.wait()
    caller.cancel()
    for _ in range(3):
        await asyncio.sleep(0)  # until it waits for the work
    go_on.set()
    await asyncio.wait([caller])
    assert caller.cancelled()
    del caller
    gc.collect()
    assert reported == []

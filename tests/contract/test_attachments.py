"""Attachments: their bytes are stored once, with what they belong to, and go when nothing refers to them."""

from dataclasses import replace

import pytest
from pictures import png

from piano_jupyter.attachments.attachment import Attachment
from piano_jupyter.errors import StoreError
from piano_jupyter.records import CallStatus

PLOT = Attachment.of(png(), "image/png", name="plot.png", width=3, height=2)
TABLE = Attachment.of("<table><tr><td>é</td></tr></table>".encode(), "text/html")


async def stored(store, *attachments):
    """Return which of these are stored, in their order."""
    found = {each.sha256: each.content for each in await store.attachments([each.sha256 for each in attachments])}
    assert all(found[each.sha256] == each.content for each in attachments if each.sha256 in found)
    return [each for each in attachments if each.sha256 in found]


@pytest.fixture
def finished_call(store, make, running):
    """Return a function that stores a call that shows something."""

    async def finish(*shown, thread_id=None):
        job = await running(thread_id=thread_id)
        message = await store.add_message(make.answer(job, content=""))
        call = await store.start_call(make.call(message))
        ended = replace(call, status=CallStatus.OK, result="done", finished_at=make.now(), attachments=shown)
        return job, await store.finish_call(ended)

    return finish


async def test_a_message_keeps_its_attachments_in_order_and_their_bytes_are_read_apart(store, make):
    asked = make.message(attachments=(TABLE, PLOT))
    kept, _ = await store.enqueue(asked)

    [read] = await store.messages(asked.thread_id)

    assert read == kept == replace(asked, seq=kept.seq)
    assert [each.content for each in (*read.attachments, *kept.attachments)] == [None] * 4
    assert read.attachments[1].label == "plot.png, 3 × 2"
    assert await stored(store, PLOT, TABLE) == [PLOT, TABLE]
    assert await store.message(asked.id) == kept


async def test_a_call_keeps_what_it_has_shown_once_it_has_ended(store, finished_call):
    job, call = await finished_call(PLOT, TABLE)

    assert await store.tool_calls(job.thread_id) == [call]
    assert call.attachments == (PLOT, TABLE)
    assert await stored(store, PLOT, TABLE) == [PLOT, TABLE]


async def test_what_is_said_twice_is_stored_once(store, make, finished_call):
    asked = make.message(attachments=(PLOT, PLOT))
    kept, _ = await store.enqueue(asked)
    again, _ = await store.enqueue(asked)
    job, call = await finished_call(PLOT)
    call_again = await store.finish_call(replace(call, attachments=(TABLE,)))
    rows = await store.sql("SELECT sha256, octet_length(content) FROM attachments")

    assert (again, call_again) == (kept, call)
    assert list(rows) == [(PLOT.sha256, PLOT.size)]
    assert job.thread_id != asked.thread_id


async def test_an_attachment_without_its_bytes_must_be_stored(store, make):
    asked = make.message(attachments=(PLOT.without_content(),))

    with pytest.raises(StoreError, match="3 × 2 is neither given nor stored"):
        await store.enqueue(asked)
    await store.enqueue(make.message(attachments=(PLOT,)))
    kept, _ = await store.enqueue(asked)

    assert kept.attachments == (PLOT,)


async def test_a_copied_conversation_shares_the_bytes_and_keeps_them_when_the_first_is_deleted(store, make):
    first, second = await store.add_thread(make.thread()), make.thread()
    asked, _ = await store.enqueue(make.message(first.id, attachments=(PLOT,)))
    await store.enqueue(make.message(first.id, attachments=(TABLE,)))
    copy = replace(asked, id=make.clock.new_id(), thread_id=second.id)
    call = replace(make.call(copy), status=CallStatus.OK, result="", finished_at=make.now(), attachments=(PLOT,))
    await store.add_conversation(second, [copy], [call])

    await store.delete_threads([first.id])
    after_first = await stored(store, PLOT, TABLE)
    await store.delete_threads([second.id])

    assert after_first == [PLOT]
    assert await stored(store, PLOT, TABLE) == []


async def test_a_deleted_thread_takes_what_its_calls_have_shown(store, make, finished_call):
    thread = await store.add_thread(make.thread())
    job, _ = await finished_call(PLOT, thread_id=thread.id)
    await finished_call(TABLE)
    await store.cancel(job, make.now())

    await store.delete_threads([thread.id])
    await store.delete_threads([thread.id])

    assert await stored(store, PLOT, TABLE) == [TABLE]


async def test_megabytes_are_kept_and_read(store, make):
    large = Attachment.of(bytes(range(256)) * 8 * 4096, "image/png")
    await store.enqueue(make.message(attachments=(large,)))

    assert await stored(store, large) == [large]
    assert await store.attachments([]) == []

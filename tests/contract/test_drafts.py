"""What is written for a thread and not sent yet, and the files that go with it."""

from dataclasses import replace

from piano_jupyter.attachments.attachment import Attachment


async def test_a_draft_is_kept_by_thread_until_another_takes_its_place(store, make):
    first, second = [await store.add_thread(make.thread()) for _ in range(2)]
    await store.keep_draft(first.id, "and th", make.now())
    await store.keep_draft(first.id, "and then", make.now())
    await store.keep_draft(second.id, "else", make.now())

    assert [await store.draft(each.id) for each in (first, second)] == ["and then", "else"]
    await store.keep_draft(first.id, "", make.now())
    assert [await store.draft(each.id) for each in (first, second)] == ["", "else"]


async def test_p1_a_draft_is_deleted_with_its_thread_and_does_not_come_back(store, make):
    thread = await store.add_thread(make.thread())
    await store.keep_draft(thread.id, "a secret plan", make.now())

    await store.delete_threads([thread.id])
    await store.keep_draft(thread.id, "a secret plan", make.now())

    assert await store.draft(thread.id) == ""
    assert list(await store.sql("FROM drafts")) == []


async def test_the_files_of_a_draft_are_kept_in_order_until_others_take_their_place(store, make):
    thread = await store.add_thread(make.thread())
    notes, plot = (Attachment.of(name.encode(), "text/plain", name=name) for name in ("notes.txt", "plot.txt"))

    await store.keep_draft_files(thread.id, [plot, notes])
    assert await store.draft_files(thread.id) == [plot, notes]
    assert [each.content for each in await store.draft_files(thread.id)] == [None, None]
    await store.keep_draft_files(thread.id, [notes.without_content()])

    assert await store.draft_files(thread.id) == [notes]
    assert [each.content for each in await store.attachments([notes.sha256, plot.sha256])] == [b"notes.txt"]


async def test_the_file_of_a_draft_that_was_sent_stays_with_its_message(store, make):
    thread = await store.add_thread(make.thread())
    notes = Attachment.of(b"notes", "text/plain", name="notes.txt")
    await store.keep_draft_files(thread.id, [notes])

    await store.add_message(replace(make.message(thread.id), attachments=(notes.without_content(),)))
    await store.keep_draft_files(thread.id, [])

    assert len(await store.attachments([notes.sha256])) == 1


async def test_p1_the_files_of_a_draft_are_deleted_with_its_thread_and_do_not_come_back(store, make):
    thread = await store.add_thread(make.thread())
    notes = Attachment.of(b"a secret plan", "text/plain", name="notes.txt")
    await store.keep_draft_files(thread.id, [notes])

    await store.delete_threads([thread.id])
    await store.keep_draft_files(thread.id, [notes])

    assert await store.draft_files(thread.id) == []
    assert list(await store.sql("FROM attachments")) == []

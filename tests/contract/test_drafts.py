"""What is written for a thread and not sent yet."""


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

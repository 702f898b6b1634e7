"""What a page is told of the batches that run, and how it cancels one."""

import asyncio
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from uuid import UUID

import pytest
from row_models import RowModel

from piano_jupyter.batch_records import BatchStatus
from piano_jupyter.errors import NotFoundError, PianoError
from piano_jupyter.events import BatchProgress
from piano_jupyter.jupyter.panel.actions import ACTIONS
from piano_jupyter.jupyter.panel.actions.page_request import PageRequest
from piano_jupyter.jupyter.panel.news import News
from piano_jupyter.piano import Piano
from piano_jupyter.records import Notebook

ROWS = [{"n": number} for number in range(3)]


async def act(panel, action, about=""):
    return await ACTIONS[action](panel, PageRequest("p", action, {"about": about}))


async def test_a_page_is_told_how_far_the_batches_are_that_run_and_cancels_one_by_its_name(tmp_path):
    model, told = RowModel(), asyncio.Queue()
    model.hold()
    notebook = Notebook("k", "/notes/a.ipynb")
    async with Piano(database=":memory:", workspace=tmp_path, model=model, notebook=notebook) as piano:
        panel = SimpleNamespace(piano=piano)
        news = News(piano.bus, piano.config, asyncio.get_running_loop(), lambda topics, _: told.put_nowait(topics))
        assert await act(panel, "batches") == []
        running = asyncio.create_task(piano.map(ROWS, "Is {{n}} odd?", name="odd"))
        await model.until(1)

        assert "batches" in await told.get(), "the page asks again"
        [shown] = await act(panel, "batches")
        assert (shown["name"], shown["fraction"], shown["text"]) == ("odd", 0, "0 of 3 rows")
        assert shown["about"] == "/notes/a.ipynb"
        await act(panel, "cancel_batch", "odd")

        with pytest.raises(PianoError, match="the batch 'odd' was cancelled"):
            await running
        assert await act(panel, "batches") == []
        with pytest.raises(PianoError, match="does not run: it is cancelled"):
            await act(panel, "cancel_batch", "odd")
        with pytest.raises(NotFoundError, match="no batch named 'even'"):
            await act(panel, "cancel_batch", "even")
        news.close()


@pytest.mark.parametrize(("ago", "shown"), [(timedelta(0), ["odd"]), (timedelta(minutes=1), [])])
async def test_what_was_told_lately_is_shown_and_of_what_is_silent_the_store_is_asked(ago, shown):
    begun = BatchProgress(
        batch_id=UUID(int=1), name="odd", status=BatchStatus.RUNNING, rows=3, known=0, done=1, failed=0, tokens=9
    )

    async def stored():
        return []  # its kernel has died

    events = [(datetime.now(UTC) - ago, begun)]
    panel = SimpleNamespace(piano=SimpleNamespace(recent_events=lambda _: events, batches=stored))

    assert [each["name"] for each in await act(panel, "batches")] == shown

"""What a page is told of the batches that run, and how it cancels one."""

import asyncio
from types import SimpleNamespace

import pytest
from row_models import RowModel

from piano_jupyter.errors import NotFoundError, PianoError
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
        assert shown["about"] == "qwen3:32b · /notes/a.ipynb · Is {{n}} odd?"
        await act(panel, "cancel_batch", "odd")

        with pytest.raises(PianoError, match="the batch 'odd' was cancelled"):
            await running
        assert await act(panel, "batches") == []
        with pytest.raises(PianoError, match="does not run: it is cancelled"):
            await act(panel, "cancel_batch", "odd")
        with pytest.raises(NotFoundError, match="no batch named 'even'"):
            await act(panel, "cancel_batch", "even")
        news.close()

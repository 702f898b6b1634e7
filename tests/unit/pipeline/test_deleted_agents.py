"""Agents that were renamed or deleted, and what they have written."""

import asyncio

import pytest

from piano_jupyter.errors import NotFoundError, PianoError
from piano_jupyter.events import MessageDelta
from piano_jupyter.piano import Piano
from piano_jupyter.records import JobStatus


@pytest.fixture
async def piano(scripted, tmp_path):
    async with Piano(database=":memory:", workspace=tmp_path, model=scripted(*["Fine."] * 6)) as opened:
        await opened.add_agent("ada", enabled_tools=["read_file"])
        yield opened


async def test_a_renamed_agent_is_the_author_of_what_it_has_written(piano):
    answer = await piano.ask("@ada How is it?", thread=await piano.open_thread("Talk", agent="ada"))

    await piano.rename_agent("ada", "grace")
    again = await piano.ask("And now?")

    assert answer.agent_id == again.agent_id == (await piano.agent("grace")).id
    assert "grace" in await piano.export(piano.thread, "markdown")
    with pytest.raises(NotFoundError):
        await piano.agent("ada")
    with pytest.raises(PianoError, match="already"):
        await piano.rename_agent("grace", "assistant")
    with pytest.raises(PianoError, match="cannot be an agent's name"):
        await piano.rename_agent("grace", "all")


async def test_what_a_deleted_agent_has_written_keeps_its_author(piano):
    answer = await piano.ask("@ada How is it?", thread=await piano.open_thread("Talk", agent="ada"))

    await piano.delete_agent("@Ada")
    after = await piano.ask("And now?")

    assert [agent.name for agent in await piano.agents()] == ["Assistant"]
    assert {agent.id: agent.name for agent in await piano.agents(deleted=True)}[answer.agent_id] == "ada"
    assert after.agent_id == (await piano.agent("Assistant")).id, "the oldest agent answers in its thread"
    assert "ada" in await piano.export(piano.thread, "markdown")
    assert (await piano.status()).agents == 1
    for use in (piano.agent("ada"), piano.update_agent("ada", model="m"), piano.ask("Hm?", agent="ada")):
        with pytest.raises(NotFoundError, match="no agent named 'ada'"):
            await use


async def test_its_name_can_be_given_to_another_agent(piano):
    first = await piano.delete_agent("ada")
    second = await piano.add_agent("ada")

    assert first.id != second.id
    assert (await piano.ask("@ada Hello?")).agent_id == second.id
    assert [agent.name for agent in await piano.agents(deleted=True)] == ["Assistant", "ada", "ada"]


async def test_the_queued_jobs_of_a_deleted_agent_are_cancelled_and_cannot_be_retried(piano):
    await piano.stop()
    job = await piano.send("@ada Wait for it")
    other = await piano.send("@Assistant And you")

    await piano.delete_agent("ada")

    assert (await piano.find_job(job)).status is JobStatus.CANCELLED
    assert (await piano.find_job(other)).status is JobStatus.QUEUED
    with pytest.raises(NotFoundError, match="'ada' was deleted"):
        await piano.retry(job)


async def test_a_question_to_a_deleted_agent_is_asked_again_of_one_that_is_there(piano):
    answer = await piano.ask("@ada How is it?")
    await piano.delete_agent("ada")

    [job] = await piano.regenerate(answer)

    assert (await piano.wait(job)).agent_id == (await piano.agent("Assistant")).id


async def test_an_agent_that_works_and_the_last_one_are_not_deleted(scripted, tmp_path):
    writes = asyncio.Event()
    async with Piano(database=":memory:", workspace=tmp_path, model=scripted(writes, "Done.")) as piano:
        with pytest.raises(PianoError, match="your only agent"):
            await piano.delete_agent("Assistant")
        await piano.add_agent("ada")
        job = await piano.send("@ada Go on")
        async for event in piano.events():
            if isinstance(event, MessageDelta):
                break

        with pytest.raises(PianoError, match="of ada runs"):
            await piano.delete_agent("ada")
        writes.set()
        assert (await piano.wait(job)).content == "Done."


async def test_an_agent_that_another_notebook_deletes_is_gone_here(scripted, tmp_path):
    settings = {"database": str(tmp_path / "piano.duckdb"), "workspace": tmp_path, "share": False}
    async with Piano(**settings, model=scripted("Fine.")) as first:
        await first.add_agent("ada")
        answer = await first.ask("@ada How is it?")
        await first.delete_agent("ada")
    async with Piano(**settings, model=scripted()) as second:
        assert [agent.name for agent in await second.agents()] == ["Assistant"]
        assert (await second.agents(deleted=True))[1].id == answer.agent_id

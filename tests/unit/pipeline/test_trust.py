"""A database that the user's data folder does not know: it resumes nothing, and its agents' tools do not count."""

import asyncio
import shutil
from contextlib import asynccontextmanager

import duckdb
import pytest

from piano_jupyter import Piano, tool
from piano_jupyter.errors import PianoError
from piano_jupyter.events import MessageDelta
from piano_jupyter.pipeline.trust import data_folder

DEADLINE = 10  # seconds


@tool
def act() -> str:
    """Do something."""
    return "did it"


@pytest.fixture
def database(tmp_path):
    return tmp_path / "piano.duckdb"


@pytest.fixture
def piano_of(tmp_path, database):
    @asynccontextmanager
    async def make(model, **settings):
        given = {"database": database, "workspace": tmp_path, "shutdown_timeout": 0.0, "tools": [act]} | settings
        async with asyncio.timeout(DEADLINE), Piano(model=model, **given) as piano:
            yield piano

    return make


def make_foreign(database):
    """Give a database an id that nobody here knows, as one has that came along."""
    with duckdb.connect(database) as connection:
        connection.execute("UPDATE identity SET id = uuid()")


@pytest.fixture
async def foreign(piano_of, scripted, database):
    """Leave a job in a database from elsewhere; its agent may act."""
    async with piano_of(scripted(asyncio.Event())) as piano:
        await piano.update_agent("Assistant", enabled_tools=["act"])
        events = piano.events()
        job = await piano.send("go")
        await until(events, MessageDelta)
    make_foreign(database)
    return job


async def until(events, kind):
    async for event in events:
        if isinstance(event, kind):
            return


async def test_nothing_of_it_goes_on_whatever_is_sent(foreign, piano_of, scripted):
    model = scripted("hello")
    async with piano_of(model) as piano:
        assert not piano.trusted
        await piano.ask("hi", thread=await piano.open_thread("new"))
        await piano.drain()

        assert [request.messages[-1]["content"] for request in model.asked] == ["hi"]
        ((job, why),) = await piano.unfinished()
        assert (job.id, why) == (foreign.id, "its database is not known to be yours; %piano trust")
        with pytest.raises(PianoError, match=r"piano\.duckdb was not made by you here.*say %piano trust"):
            await piano.resume()


async def test_the_tools_of_its_agents_do_not_count(foreign, piano_of, scripted, asks_for):
    model = scripted([asks_for("act")], "so be it")
    async with piano_of(model) as piano:
        await piano.ask("hi", thread=await piano.open_thread("new"))

        assert (await piano.agent("Assistant")).enabled_tools == ()
        assert not model.asked[0].tools
        (call,) = await piano.tool_calls(piano.thread)
        assert call.result != "did it"


async def test_a_tool_that_the_user_gives_an_agent_counts_and_another_change_gives_none(
    foreign, piano_of, scripted, asks_for
):
    async with piano_of(scripted([asks_for("act")], "done")) as piano:
        assert (await piano.update_agent("Assistant", description="mine")).enabled_tools == ()
        await piano.update_agent("Assistant", enabled_tools=["act"])
        await piano.ask("hi", thread=await piano.open_thread("new"))

        assert [call.result for call in await piano.tool_calls(piano.thread)] == ["did it"]


async def test_what_was_withheld_is_kept(foreign, piano_of, scripted):
    async with piano_of(scripted()) as piano:
        await piano.update_agent("Assistant", description="mine")

        assert list(await piano.sql("SELECT enabled_tools FROM agents")) == [('["act"]',)]


async def test_once_it_is_trusted_its_tools_count_and_its_jobs_may_go_on(foreign, piano_of, scripted, asks_for):
    async with piano_of(scripted([asks_for("act")], "done")) as piano:
        told = await piano.trust()

        assert told == (
            f"trusted from now on: {piano.config.database}; Assistant may use act; "
            f"1 unfinished job may go on (%piano resume)"
        )
        await piano.drain()
        assert (await piano.unfinished())[0][1] == "an earlier kernel left it; %piano resume"
        await piano.resume()
        assert (await piano.wait(foreign)).content == "done"


async def test_what_was_trusted_is_trusted_by_the_next_kernel(foreign, piano_of, scripted):
    async with piano_of(scripted()) as piano:
        await piano.trust()
    async with piano_of(scripted()) as piano:
        assert piano.trusted
        assert piano.distrust() == ""


async def test_a_copy_of_a_database_is_the_same_database(piano_of, scripted, database, tmp_path):
    async with piano_of(scripted()) as piano:
        assert piano.trusted
    shutil.copy(database, tmp_path / "copy.duckdb")

    async with piano_of(scripted(), database=tmp_path / "copy.duckdb") as piano:
        assert piano.trusted


async def test_what_is_kept_in_memory_is_trusted_and_noted_nowhere(piano_of, scripted):
    before = set(data_folder().glob("*"))

    async with piano_of(scripted(), database=":memory:") as piano:
        assert piano.trusted
    assert set(data_folder().glob("*")) == before


@pytest.mark.parametrize(
    "tamper",
    [
        "DELETE FROM identity",
        "INSERT INTO identity VALUES (uuid())",
        "DROP TABLE identity; CREATE TABLE identity AS SELECT 'x' AS id",
    ],
    ids=["none", "two", "text"],
)
async def test_an_identity_that_was_tampered_with_is_nobodys(piano_of, scripted, database, tamper):
    async with piano_of(scripted()):
        pass
    with duckdb.connect(database) as connection:
        connection.execute(tamper)

    async with piano_of(scripted()) as piano:
        assert not piano.trusted


async def test_a_file_that_was_there_is_not_made_here_even_if_nothing_is_in_it(piano_of, scripted, database):
    with duckdb.connect(database) as connection:
        connection.execute("CREATE MACRO looks_like(x) AS x")

    async with piano_of(scripted()) as piano:
        assert not piano.trusted


async def test_where_the_data_folder_cannot_be_written_what_was_made_here_is_trusted_for_now(
    piano_of, scripted, monkeypatch, tmp_path
):
    (tmp_path / "no folder").write_text("")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "no folder"))

    for _ in range(2):  # closed and opened again, it is still this process's
        async with piano_of(scripted()) as piano:
            assert piano.trusted
    assert "cannot be written (Not a directory), so the next kernel will not know that" in piano.distrust()

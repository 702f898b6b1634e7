"""A database that is not trusted: no job of it is resumed, and its agents cannot use their tools."""

import asyncio
import re
import shutil
from contextlib import asynccontextmanager
from uuid import UUID

import duckdb
import pytest
from child import needs_root, run_child, users_folder

from piano_jupyter import Piano, tool
from piano_jupyter.errors import PianoError
from piano_jupyter.events import MessageDelta
from piano_jupyter.pipeline.trust import Trust, data_folder
from piano_jupyter.records import DatabaseIdentity

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
    """Give a database an id that is not trusted here, as that of a database from elsewhere."""
    with duckdb.connect(database) as connection:
        connection.execute("UPDATE identity SET id = uuid()")


@pytest.fixture
async def foreign(piano_of, scripted, database):
    """Leave a job in a database from elsewhere; its agent may use `act`."""
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


async def test_no_job_of_an_untrusted_database_is_resumed_whatever_is_sent(foreign, piano_of, scripted):
    model = scripted("hello")
    async with piano_of(model) as piano:
        assert not piano.trusted
        await piano.ask("hi", thread=await piano.open_thread("new"))
        await piano.drain()

        assert [request.messages[-1]["content"] for request in model.requests] == ["hi"]
        ((job, why),) = await piano.unfinished()
        assert (job.id, why) == (foreign.id, "its database is not trusted; %piano trust")
        with pytest.raises(PianoError, match=r"piano\.duckdb was not made by you on this machine.*run %piano trust"):
            await piano.resume()


async def test_no_job_of_an_untrusted_database_is_retried(foreign, piano_of, scripted):
    async with piano_of(scripted()) as piano:
        with pytest.raises(PianoError, match=r"waits: its database is not trusted; %piano trust"):
            await piano.retry(foreign)
        await piano.drain()

        assert [job.status for job in await piano.jobs()] == ["queued"]


async def test_the_agents_of_an_untrusted_database_cannot_use_their_tools(foreign, piano_of, scripted, asks_for):
    model = scripted([asks_for("act")], "so be it")
    async with piano_of(model) as piano:
        await piano.ask("hi", thread=await piano.open_thread("new"))

        assert (await piano.agent("Assistant")).enabled_tools == ()
        assert not model.requests[0].tools
        (call,) = await piano.tool_calls(piano.thread)
        assert call.result != "did it"


async def test_an_agent_can_use_tools_that_the_user_sets_and_other_changes_give_it_none(
    foreign, piano_of, scripted, asks_for
):
    async with piano_of(scripted([asks_for("act")], "done")) as piano:
        assert (await piano.update_agent("Assistant", description="mine")).enabled_tools == ()
        await piano.update_agent("Assistant", enabled_tools=["act"])
        await piano.ask("hi", thread=await piano.open_thread("new"))

        assert [call.result for call in await piano.tool_calls(piano.thread)] == ["did it"]


async def test_tools_that_an_agent_cannot_use_stay_stored(foreign, piano_of, scripted):
    async with piano_of(scripted()) as piano:
        await piano.update_agent("Assistant", description="mine")

        assert list(await piano.sql("SELECT enabled_tools FROM agents")) == [('["act"]',)]


async def test_once_a_database_is_trusted_its_tools_work_and_its_jobs_can_be_resumed(
    foreign, piano_of, scripted, asks_for
):
    async with piano_of(scripted([asks_for("act")], "done")) as piano:
        told = await piano.trust()

        assert told == (
            f"trusted from now on: {piano.config.database}; Assistant may use act; "
            f"1 unfinished job may be resumed (%piano resume)"
        )
        await piano.drain()
        assert (await piano.unfinished())[0][1] == "an earlier kernel left it; %piano resume"
        await piano.resume()
        assert (await piano.wait(foreign)).content == "done"


async def test_the_next_kernel_trusts_a_trusted_database(foreign, piano_of, scripted):
    async with piano_of(scripted()) as piano:
        await piano.trust()
    async with piano_of(scripted()) as piano:
        assert piano.trusted
        assert piano.distrust() == ""


async def test_a_database_that_another_notebook_made_or_trusts_a_moment_later_is_trusted_here(
    foreign, piano_of, scripted, database, tmp_path
):
    async with piano_of(scripted()) as piano:
        assert not piano.trusted
        ((identity,),) = await piano.sql("SELECT id FROM identity")
        Trust(str(database), lambda: tmp_path, in_memory=False).open(DatabaseIdentity(identity, is_new=True))

        assert piano.trusted
        assert piano.notices() == []
        assert (await piano.agent("Assistant")).enabled_tools == ("act",)


async def test_a_copy_of_a_database_is_the_same_database(piano_of, scripted, database, tmp_path):
    async with piano_of(scripted()) as piano:
        assert piano.trusted
    shutil.copy(database, tmp_path / "copy.duckdb")

    async with piano_of(scripted(), database=tmp_path / "copy.duckdb") as piano:
        assert piano.trusted


async def test_a_database_in_memory_is_trusted_and_recorded_nowhere(piano_of, scripted):
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
async def test_a_database_whose_identity_was_tampered_with_is_not_trusted(piano_of, scripted, database, tamper):
    async with piano_of(scripted()):
        pass
    with duckdb.connect(database) as connection:
        connection.execute(tamper)

    async with piano_of(scripted()) as piano:
        assert not piano.trusted


async def test_an_existing_file_does_not_count_as_made_here_even_if_it_is_empty(piano_of, scripted, database):
    with duckdb.connect(database) as connection:
        connection.execute("CREATE MACRO looks_like(x) AS x")

    async with piano_of(scripted()) as piano:
        assert not piano.trusted


async def test_if_the_data_folder_cannot_be_written_a_database_made_here_is_trusted_for_now(
    piano_of, scripted, monkeypatch, tmp_path_factory
):
    no_folder = tmp_path_factory.mktemp("data") / "no folder"
    no_folder.write_text("")
    monkeypatch.setenv("XDG_DATA_HOME", str(no_folder))

    for _ in range(2):  # opened again, it still counts as made by this process
        async with piano_of(scripted()) as piano:
            assert piano.trusted
    assert piano.distrust() == (
        f"the next kernel will not trust database {piano.config.database}: "
        f"that it is yours cannot be recorded (Not a directory: {data_folder()})"
    )


OPENED = """
os.environ["XDG_DATA_HOME"] = sys.argv[1]
os.environ.pop("HOME", None)
for is_new in (False, True):
    one = trust.Trust("piano.duckdb", lambda: Path("/workspace"), in_memory=False)
    one.open(DatabaseIdentity(UUID(int=1), is_new=is_new))
    print(one.is_trusted, one.problem)
"""


def test_if_a_user_may_not_read_the_data_folder_nothing_is_trusted_and_the_status_says_why():
    with users_folder() as (folder, user):
        folder.chmod(0)
        told = run_child(OPENED, folder, user=user)
        folder.chmod(0o700)

    databases = folder / "piano_jupyter" / "databases"
    assert told.splitlines() == [
        f"False which databases are yours cannot be looked up (Permission denied: {databases / str(UUID(int=1))}.json)",
        f"True that it is yours cannot be recorded (Permission denied: {databases})",
    ]


@needs_root
def test_for_a_user_without_a_home_folder_nothing_is_trusted_and_the_status_says_why():
    told = run_child(OPENED, "", user=54321)

    assert re.fullmatch(
        r"False which databases are yours cannot be looked up \(.*user data folder.*\)\n"
        r"True that it is yours cannot be recorded \(.*user data folder.*\)",
        told,
    )


async def test_a_data_folder_in_the_workspace_makes_no_database_trusted(
    piano_of, scripted, database, monkeypatch, tmp_path
):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "along"))
    async with piano_of(scripted()):
        pass
    with duckdb.connect(database) as connection:
        connection.execute("UPDATE identity SET id = $id", {"id": UUID(int=2)})
    data_folder().mkdir(parents=True, exist_ok=True)
    (data_folder() / f"{UUID(int=2)}.json").write_text("{}")

    async with piano_of(scripted()) as piano:
        assert not piano.trusted
        assert "lies in the workspace" in piano.distrust()


async def test_where_the_workspace_is_the_home_folder_the_data_folder_in_it_counts(
    piano_of, scripted, monkeypatch, tmp_path
):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / ".local/share"))
    async with piano_of(scripted()) as piano:
        assert piano.distrust() == ""


async def test_trusting_a_trusted_database_records_nothing(piano_of, scripted, database):
    before = set(data_folder().glob("*"))
    async with piano_of(scripted(), database=":memory:") as piano:
        assert await piano.trust() == "trusted already: :memory: (in memory)"
    assert set(data_folder().glob("*")) == before

    async with piano_of(scripted()) as piano:
        assert await piano.trust() == f"trusted already: {database}"

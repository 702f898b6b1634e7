"""A store whose file is lost under it goes on in a copy, and nothing that it acknowledged is missing."""

import asyncio
import shutil

import duckdb
import pytest

from piano_jupyter.errors import StoreError
from piano_jupyter.store.duckdb.duckdb_store import DuckDBStore


@pytest.fixture
def folder(tmp_path):
    return tmp_path / ".piano"


@pytest.fixture
def notices():
    return []


@pytest.fixture
async def store(folder, notices):
    store = DuckDBStore(folder / "piano.duckdb", notices.append)
    await store.open()
    yield store
    await store.close()


def replace(folder):
    (folder / "piano.duckdb").unlink()
    (folder / "piano.duckdb.wal").unlink(missing_ok=True)
    (folder / "piano.duckdb").write_bytes(b"another")
    (folder / "piano.duckdb.wal").write_bytes(b"its log")


LOSSES = {
    "deleted": (shutil.rmtree, "was deleted"),
    "moved": (lambda folder: folder.rename(folder.with_name("kept")), "was moved to "),
    "renamed": (lambda folder: (folder / "piano.duckdb").rename(folder / "kept.duckdb"), "was moved to "),
    "replaced": (replace, "was replaced by another file"),
}


def names_in(path):
    with duckdb.connect(str(path), read_only=True) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM agents").fetchall()}


@pytest.mark.parametrize("checkpointed", [False, True], ids=["with a log", "without a log"])
@pytest.mark.parametrize(("lose", "what"), LOSSES.values(), ids=LOSSES)
async def test_what_was_acknowledged_is_in_the_copy(folder, make, notices, lose, what, checkpointed):
    store = DuckDBStore(folder / "piano.duckdb", notices.append)
    await store.open()
    await store.add_agent(make.agent(name="before"))
    if checkpointed:
        await store.close()
        await store.open()

    lose(folder)
    await store.add_agent(make.agent(name="after"))

    assert [each.name for each in await store.agents()] == ["before", "after"]
    (recovered,) = folder.glob("piano-recovered-*.duckdb")
    assert store.name == str(recovered)
    (notice,) = notices
    assert what in notice
    assert str(recovered) in notice
    await store.close()
    assert names_in(recovered) == {"before", "after"}
    if lose is replace:
        assert (folder / "piano.duckdb").read_bytes() == b"another"
        assert (folder / "piano.duckdb.wal").read_bytes() == b"its log"


async def test_a_read_notices_it_too(store, folder, notices, make):
    await store.add_agent(make.agent(name="before"))
    shutil.rmtree(folder)

    assert (await store.counts()).agents == 1
    assert len(notices) == 1


async def test_an_idle_store_notices_it(folder, make):
    noticed = asyncio.Event()
    loop = asyncio.get_running_loop()
    store = DuckDBStore(folder / "piano.duckdb", lambda _: loop.call_soon_threadsafe(noticed.set))
    await store.open()
    await store.add_agent(make.agent(name="before"))
    shutil.rmtree(folder)

    await asyncio.wait_for(noticed.wait(), 30)
    assert len(list(folder.glob("piano-recovered-*.duckdb"))) == 1
    await store.close()


async def test_while_there_is_no_place_for_a_copy_nothing_is_acknowledged_and_nothing_is_lost(
    store, folder, notices, make
):
    await store.add_agent(make.agent(name="before"))
    shutil.rmtree(folder)
    folder.write_text("in the way")

    for _ in range(2):
        with pytest.raises(StoreError, match="was deleted, and what it held cannot be saved"):
            await store.add_agent(make.agent(name="refused"))
    folder.unlink()
    await store.add_agent(make.agent(name="after"))

    assert [each.name for each in await store.agents()] == ["before", "after"]
    assert "was saved to" in notices[-1]


async def test_a_second_loss_makes_a_second_copy(store, folder, notices, make):
    for name in ("one", "two", "three"):
        await store.add_agent(make.agent(name=name))
        shutil.rmtree(folder)

    assert [each.name for each in await store.agents()] == ["one", "two", "three"]
    assert len(notices) == 3

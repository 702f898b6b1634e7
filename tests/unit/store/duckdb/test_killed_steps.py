"""A process that is killed before any one step of a restore, a rewriting or an upgrade leaves a whole history."""

import json
import os

import pytest
from store_processes import outcome

STEPS = """
import json, shutil, signal
from pathlib import Path
from piano_jupyter.records import Thread
from piano_jupyter.store.duckdb import backups, database
from piano_jupyter.store.duckdb.migrate import migrations

CHANGES = {"os.rename", "os.link", "os.remove", "os.utime", "os.chmod", "os.truncate", "shutil.copyfile"}
base = Path(path).parent / "base"
work = Path(path).parent / "work"

def thread(title):
    return Thread(id=clock.new_id(), title=title, inserted_at=clock.now())

async def made():
    older = migrations()[:-1]
    if OPERATION == "upgrade":
        database.migrations = lambda: older
    store = DuckDBStore(base / "piano.duckdb")
    await store.open()
    await store.add_thread(thread("gone"))
    await store.backup()
    await store.add_thread(thread("kept"))
    await store.close()
    shutil.copy(next((base / "piano.duckdb.backup").glob("20*.duckdb")), base / "copy.duckdb")
    database.migrations = migrations

async def restore():
    prepared = backups.prepare_restore(str(work / "piano.duckdb"), work / "copy.duckdb")
    backups.put_in_place(str(work / "piano.duckdb"), prepared)

async def rewrite():
    store = DuckDBStore(work / "piano.duckdb")
    await store.open()
    gone = [each.id for each in await store.threads() if each.title == "gone"]
    await store.erase(gone)
    await store.delete_threads(gone)
    await store.compact()
    await store.close()

async def upgrade():
    store = DuckDBStore(work / "piano.duckdb")
    await store.open()
    await store.close()

async def titles():
    found = []
    for file in (work / "piano.duckdb", *sorted((work / "piano.duckdb.backup").glob("*.duckdb"))):
        store = DuckDBStore(file)
        await store.open()
        found.append(sorted(each.title for each in await store.threads()))
        await store.close()
    return found

def killed_before(step):
    "Do it in a child that dies before its step of that number; return whether it died."
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(base, work)
    child = os.fork()
    if child == 0:
        done = [0]
        def count(event, arguments):
            if event in CHANGES:
                done[0] += 1
                if done[0] == step:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(count)
        asyncio.run({"restore": restore, "rewrite": rewrite, "upgrade": upgrade}[OPERATION]())
        os._exit(0)
    return os.waitpid(child, 0)[1] != 0

def in_child(function):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, json.dumps(asyncio.run(function())).encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    return os.fdopen(reader).read()

in_child(made)
step, found = 1, []
while killed_before(step):
    found.append(json.loads(in_child(titles)))
    step += 1
found.append(json.loads(in_child(titles)))
print(json.dumps(found))
"""
BEFORE, AFTER = ["gone", "kept"], {"restore": ["gone"], "rewrite": ["kept"], "upgrade": ["gone", "kept"]}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")
@pytest.mark.parametrize("operation", ["restore", "rewrite", "upgrade"])
def test_whichever_step_is_the_last_the_history_opens_as_it_was_or_as_it_is_to_be(tmp_path, operation):
    states = json.loads(outcome(f"OPERATION = {operation!r}\n{STEPS}", tmp_path / "x"))

    assert len(states) > 5
    assert all(each[0] in (BEFORE, AFTER[operation]) for each in states)
    assert states[-1][0] == AFTER[operation]
    if operation == "restore":
        assert all(BEFORE in each for each in states), "the history of before is there, in its place or aside"

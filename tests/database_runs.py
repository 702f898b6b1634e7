"""A child that commits and checkpoints, each message telling its own number, and what must be found after it died."""

import base64
import hashlib
import os
import random
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import torn_writes

import piano_jupyter
from piano_jupyter.records import Agent, Message
from piano_jupyter.store.duckdb.file_format import BLOCKS_START

ROOT = Path(piano_jupyter.__file__).parents[1]
TIME = datetime(2026, 1, 1, tzinfo=UTC)
#: Commits one message after another and tells each; every `every`-th time it checkpoints. At `rounds` it closes.
COMMITS = """
import sys
import torn_writes
from database_runs import commit
from piano_jupyter.store.duckdb.database import Database

path, journal, rounds, every, size = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
tell = (lambda text: torn_writes.mark(journal, text)) if journal else (lambda text: print(text, flush=True))
database = Database(path)
last = database.tables.seqs["messages"]
tell(f"open {last}")
for number in range(last + 1, last + 1 + rounds):
    tell(f"begin {number}")
    commit(database, number, size)
    tell(f"done {number}")
    if every and number % every == 0:
        database.connection.execute("CHECKPOINT")
        tell(f"checkpoint {number}")
database.close()
tell("closed")
"""


def text_of(number, size):
    """Return a text of about this many characters that no compression shortens, always the same for a number."""
    noise = base64.b64encode(hashlib.shake_256(str(number).encode()).digest(size * 3 // 4)).decode()
    return f"{number} {noise}"


def commit(database, number, size):
    """Commit a message of about `size` characters that tells its number, and an agent that tells the same."""
    database.begin()
    agent = Agent(id=UUID(int=1), name="ada", model="m", description=str(number), inserted_at=TIME)
    keep = database.tables.update_agent if database.tables.agents() else database.tables.add_agent
    keep(agent)
    database.tables.add_message(
        Message(
            id=UUID(int=number),
            thread_id=UUID(int=0),
            role="user",
            content=text_of(number, size),
            inserted_at=TIME,
        )
    )
    database.commit()


def command(path, journal, rounds, every, size=500):
    """Return the command of a child that commits `rounds` messages of `size` characters."""
    return [sys.executable, "-c", COMMITS, *map(str, (path, journal, rounds, every, size))]


def environment(**more):
    """Return the environment of such a child."""
    return os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"} | more


def run(path, rounds, every=0, **more):
    """Run a child to its end."""
    done = subprocess.run(
        command(path, more.pop("journal", ""), rounds, every, more.pop("size", 500)),
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def recorded(folder, rounds, every, size=500, base=None):
    """Record a run; return the changes that it made to its files, with a mark before and after each commit."""
    folder.mkdir(parents=True)
    path, journal = folder / "run.duckdb", folder / "journal"
    if base is not None:
        path.write_bytes(base)
    built = torn_writes.library(folder)
    run(path, rounds, every, journal=str(journal), size=size, LD_PRELOAD=str(built), WRITES_JOURNAL=str(journal))
    return torn_writes.changes(journal)


def check(database, least, most):
    """Assert that a database holds the messages from 1 to at least `least` and at most `most`, each as it was."""
    ask = database.connection.execute
    rows = ask("SELECT seq, content FROM messages ORDER BY seq").fetchall()
    numbers = [number for number, _ in rows]
    assert numbers == list(range(1, len(rows) + 1))
    assert least <= len(rows) <= most, f"{len(rows)} messages are left of {least} to {most}"
    assert [number for number, content in rows if not is_text_of(number, content)] == []
    for number in {*numbers[:1], *numbers[-1:]}:  # by the index, too
        assert ask(f"SELECT seq FROM messages WHERE id = '{number:032x}'").fetchall() == [(number,)]
    agents = ask("SELECT description FROM agents").fetchall()
    assert agents == [(str(number),) for number in numbers[-1:]]


def is_text_of(number, content):
    """Return whether a text is the one of this number, whatever its size."""
    return content == text_of(number, (len(content) - len(f"{number} ")) // 4 * 3 * 4 // 3)


def recorded_again(path, rounds):
    """Record a run on a file that is there."""
    journal = path.with_name("journal")
    built = torn_writes.library(path.parent)
    run(path, rounds, journal=str(journal), LD_PRELOAD=str(built), WRITES_JOURNAL=str(journal))
    return torn_writes.changes(journal)


def first_torn_block(folder, base, count):
    """Return the files that a checkpoint leaves which was killed while it rewrote its metadata in place."""
    changes = recorded(folder, rounds=2, every=count + 1, base=base)
    files = torn_writes.Files({str(folder / "run.duckdb"): base})
    for change in changes:
        if change.kind == "W" and change.offset == BLOCKS_START:
            files.apply(change, 8192)
            return files
        files.apply(change)
    raise AssertionError("nothing was rewritten in place")


def torn_states(changes, step, new_step, base=None, count=0):
    """Yield what each write of a run leaves when it is cut short, and what must be in it.

    That is: a name of the state, the files, how many messages at least and at most. Writes that change what the file
    has are cut every `step` bytes (or what that says of the place of the write), those that lengthen it every
    `new_step`.
    """
    least = most = count
    files = torn_writes.Files(base or {})
    for number, change in enumerate(changes):
        if change.kind == "M":
            word, _, count = change.data.decode().partition(" ")
            most = int(count) if word == "begin" else most
            least = int(count) if word == "done" else least
            continue
        if change.kind in "WTUR":
            is_new = change.offset >= len(files.get(change.path, b""))
            every = new_step if is_new else step(change.offset) if callable(step) else step
            lengths = range(0, len(change.data), every) if len(change.data) > 4096 else ()
            for length in dict.fromkeys((0, *lengths, len(change.data) // 2)):
                state = files.copy()
                if change.kind == "W":
                    state.apply(change, length)
                where = f"{Path(change.path).name} at {change.offset}"
                yield f"change {number}, {change.kind} {where}, {length} of {len(change.data)}", state, least, most
        files.apply(change)
    yield "the end", files, least, most


def power_cuts(changes, each, base=None, count=0):
    """Yield what a power cut before each sync of a run may leave: of what was not synced, any pages (`each` times)."""
    least = most = count
    files, durable, pending = torn_writes.Files(base or {}), torn_writes.Files(base or {}), []
    chance = random.Random(len(changes))
    for number, change in enumerate(changes):
        if change.kind == "M":
            word, _, told = change.data.decode().partition(" ")
            most = int(told) if word == "begin" else most
            least = int(told) if word == "done" else least
        elif change.kind == "S":
            for turn in range(each if any(one.path == change.path for one in pending) else 0):
                state, page = durable.copy(), (4096, 512)[turn % 2]
                for one in pending:
                    for at in range(0, len(one.data), page):
                        if chance.random() < 0.5:
                            state.apply(one._replace(offset=one.offset + at, data=one.data[at : at + page]))
                yield f"change {number}, power {turn}, {Path(change.path).name}", state, least, most
            pending = [one for one in pending if one.path != change.path]
            if change.path in files:
                durable[change.path] = files[change.path]
        else:
            files.apply(change)
            if change.kind == "W":
                pending.append(change)
            else:
                durable.apply(change)

"""A child that commits and checkpoints, each message telling its own number, and what must be found after it died."""

import base64
import contextlib
import hashlib
import os
import random
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import duckdb
import torn_writes

import piano_jupyter
from piano_jupyter.errors import StoreError
from piano_jupyter.records import Agent, Message
from piano_jupyter.store.duckdb.database import Database
from piano_jupyter.store.duckdb.file_format import BLOCKS_START
from piano_jupyter.store.duckdb.migrate import migrate, migrations

ROOT = Path(piano_jupyter.__file__).parents[1]
TIME = datetime(2026, 1, 1, tzinfo=UTC)
DATABASE = ("run.duckdb", "run.duckdb.wal")
TODAYS_COPY = "run.duckdb.backup/2026-01-01.duckdb"  #: it is as old as its file is
MESSAGES = 30  #: in the small file of the tests
ALL = "SELECT seq, content FROM messages ORDER BY seq"
#: Commits one message after another and tells each; every `every`-th time it checkpoints. At `rounds` it closes.
COMMITS = """
import sys
import torn_writes
from database_runs import commit, read_all
from piano_jupyter.store.duckdb.database import Database

path, journal, rounds, every, size = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
tell = (lambda text: torn_writes.mark(journal, text)) if journal else (lambda text: print(text, flush=True))
database = Database(path)
read_all(database)
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


def recorded(folder, rounds, every=0, size=500, base=None):
    """Record a run in an emptied folder, on these files if any; return the changes that it made to its files.

    There is a mark before and after each commit.
    """
    torn_writes.Files(base or {}).lay_down(folder)
    path, journal = folder / "run.duckdb", folder / "journal"
    built = torn_writes.library(folder)
    run(path, rounds, every, journal=str(journal), size=size, LD_PRELOAD=str(built), WRITES_JOURNAL=str(journal))
    return torn_writes.changes(journal)


def files_of(file, log=b""):
    """Return a database as files, with its log if there is one, and a copy of today: closing it makes no other."""
    contents = {"run.duckdb": file, TODAYS_COPY: b""} | ({"run.duckdb.wal": log} if log else {})
    return torn_writes.Files({name: torn_writes.pages_of(content) for name, content in contents.items()})


def with_log(path, file, more):
    """Commit more messages to a file, in a process that is killed; return it with the log that it leaves."""
    path.write_bytes(file)
    with subprocess.Popen(command(path, "", 1000, 0), env=environment(), stdout=subprocess.PIPE, text=True) as child:
        last = int(next(child.stdout).split()[1]) + more
        assert any(line == f"done {last}\n" for line in child.stdout)
        child.kill()
    log = Path(f"{path}.wal").read_bytes()
    return path.read_bytes(), log[: commit_ends(log)[more - 1]]


def commit_ends(log):
    """Return where in a log each commit ends."""
    return [found.end() for found in re.finditer(rb"\x64\x00\x64\xff\xff", log)]


def of_first_version(path, count):
    """Make a database as the first Piano did, half of its messages in the file and half in the log; return both."""
    for numbers in (range(1, count // 2 + 1), range(count // 2 + 1, count + 1)):
        with duckdb.connect(path) as connection:
            connection.execute("PRAGMA disable_checkpoint_on_shutdown")
            migrate(connection, str(path), migrations()[:1])
            connection.execute("DELETE FROM agents")
            agent = (UUID(int=1), 1, "ada", str(numbers[-1]), "m", "", "[]", "[]", "{}", TIME.replace(tzinfo=None))
            connection.execute(f"INSERT INTO agents VALUES ({', '.join('?' * len(agent))})", agent)
            for number in numbers:
                start, end = (UUID(int=number), number, UUID(int=0), None, "user"), (None, None, "", "{}")
                row = (*start, text_of(number, 500), "api", *end, TIME.replace(tzinfo=None))
                connection.execute(f"INSERT INTO messages VALUES ({', '.join('?' * len(row))})", row)
            if numbers[0] == 1:
                connection.execute("CHECKPOINT")
    return path.read_bytes(), Path(f"{path}.wal").read_bytes()


def flipped(data, at, mask=0x10):
    """Return data of which one byte has changed."""
    return data[:at] + bytes((data[at] ^ mask,)) + data[at + 1 :]


def message_block(base, number=MESSAGES // 2):
    """Return where in a small file the text of a message lies."""
    at = base.find(text_of(number, 3000)[:100].encode())
    assert at > 0
    return at // 8 * 8


def read_all(database):
    """Read all messages, again if the file was found damaged; return them."""
    for _ in range(2):
        with contextlib.suppress(StoreError):
            return database.do(lambda _: database.connection.execute(ALL).fetchall())
        database.reopen_if_broken()
    raise AssertionError("it cannot be read")


def open_and_check(path, least, most):
    """Open a database, read it, again if it was damaged, check what is in it, close it; return what was told."""
    told = []
    with contextlib.closing(Database(str(path), told.append)) as database:
        read_all(database)
        check(database, least, most)
    return told


def check(database, least, most):
    """Assert that a database holds the messages from 1 to at least `least` and at most `most`, each as it was."""
    ask = database.connection.execute
    rows = ask(ALL).fetchall()
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


def first_torn_block(folder, base, count):
    """Return the files that a checkpoint leaves which was killed while it rewrote its metadata in place."""
    files = base.copy()
    for change in recorded(folder, rounds=2, every=count + 1, base=base):
        if change.kind == "W" and change.offset == BLOCKS_START:
            files.apply(change, 8192)
            return files
        files.apply(change)
    raise AssertionError("nothing was rewritten in place")


class State(NamedTuple):
    """What a run leaves that is cut short, and what must be in it."""

    name: str
    files: torn_writes.Files
    least: int  #: messages
    most: int


def distinct(states):
    """Return the states that differ in a file; of those that do not, one, in which the demands of all must be met."""
    found = {}
    for name, files, least, most in states:
        first = found.setdefault(frozenset(files.items()), State(name, files, least, most))
        found[frozenset(files.items())] = first._replace(least=max(first.least, least), most=min(first.most, most))
    return [*found.values()]


def torn_states(changes, step, base=None, count=0):
    """Yield what each change of a run leaves when the process dies before it, or when a write stops every `step` bytes.

    Writes to copies of the database, which are nothing until they have their names, stop in the middle. `count` is how
    many messages are there at first.
    """
    least = most = count
    files = torn_writes.Files(base or {})
    for number, change in enumerate(changes):
        least, most = _demanded(change, least, most)
        if change.kind in "WTUR":
            lengths = range(0, len(change.data), step) if change.path in DATABASE else ()
            for length in dict.fromkeys((0, *lengths, len(change.data) // 2)):
                state = files.copy()
                if change.kind == "W":
                    state.apply(change, length)
                where = f"change {number}, {change.kind} {change.path} at {change.offset}"
                yield State(f"{where}, {length} of {len(change.data)}", state, least, most)
        files.apply(change)
    yield State("the end", files, least, most)


def power_cuts(changes, each, base=None, count=0):
    """Yield what a power cut before each sync of a run may leave: of what was not synced, any pages (`each` times)."""
    least = most = count
    files, durable, pending = torn_writes.Files(base or {}), torn_writes.Files(base or {}), []
    chance = random.Random(len(changes))
    for number, change in enumerate(changes):
        least, most = _demanded(change, least, most)
        if change.kind == "S":
            for turn in range(each if any(one.path == change.path for one in pending) else 0):
                state, page = durable.copy(), (4096, 512)[turn % 2]
                for one in pending:
                    for at in range(0, len(one.data), page):
                        if chance.random() < 0.5:
                            state.apply(one._replace(offset=one.offset + at, data=one.data[at : at + page]))
                yield State(f"change {number}, power {turn}, {change.path}", state, least, most)
            pending = [one for one in pending if one.path != change.path]
            if change.path in files:
                durable[change.path] = files[change.path]
        elif change.kind != "M":
            files.apply(change)
            if change.kind == "W":
                pending.append(change)
            else:
                durable.apply(change)
                pending = [_after(change, one) for one in pending if one.path != change.path or change.kind != "U"]


def _demanded(change, least, most):
    """Return how many messages must be there at least and at most after a mark."""
    word, _, count = change.data.decode().partition(" ") if change.kind == "M" else ("", "", "")
    return int(count) if word == "done" else least, int(count) if word == "begin" else most


def _after(change, pending):
    """Return a write that is not on the disk yet as it is after another change: its file may have a new name."""
    return pending._replace(path=change.other) if (change.kind, change.path) == ("R", pending.path) else pending

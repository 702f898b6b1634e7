"""Kills the store process and kernels at random while four notebooks work on one database, and checks what was kept.

python tests/campaigns/kills.py [kills] [seed]
"""

import asyncio
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import asynccontextmanager, suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from notebook_kernels import TOGETHER
from store_processes import ROOT, opened
from store_servers import ended
from what_waits import waiting_tasks

from piano_jupyter import Piano
from piano_jupyter.records import CallStatus, JobStatus
from piano_jupyter.store.server.remote_store import RemoteStore
from piano_jupyter.testing import ScriptedModel

NOTEBOOKS = ("a", "b", "c", "d")
MOST_ANSWERS_TO_KILL = 3
LONGEST_WAIT_S = 0.1
GRACE_S = 0.3
OPTIONS = (f"--grace-s={GRACE_S}", "--idle-s=0")
FREEZES = 0.1  #: how often a kernel is stopped for longer than the grace, while the store process is replaced
LONGEST_SILENCE_S = 60  #: of all kernels together
TELLING_S = 5  #: for kernels to tell what they wait for
STOPPED_S = 5 * GRACE_S
KERNELS = 0.5  #: how often it is a kernel that is killed


class Kernels:
    """The kernels of the notebooks, and what they said."""

    def __init__(self, process):
        self._process = process
        self._pids, self._ends = {}, {name: asyncio.Event() for name in NOTEBOOKS}
        self._said = asyncio.Event()
        self._open = set()
        self.asked, self.answered, self.wrong = [], [], []
        self.waiting = []  #: what they wait for
        self.early = []  #: questions that were begun before another of their thread was answered, and that one
        self.left = set()  #: the processes that were killed, or stopped: others need not wait for their questions

    def start(self, name):
        """Start the kernel of a notebook."""
        self._process.stdin.write(f"{name}\n".encode())

    async def pid(self, name):
        """Return the process of a kernel that was started."""
        await self.until(lambda: name in self._pids)
        return self._pids[name]

    async def stop(self, name):
        """Stop a kernel in the middle of what it does; return its process."""
        pid = await self.pid(name)
        self.left.add(pid)
        os.kill(pid, signal.SIGSTOP)
        return pid

    async def follow(self):
        """Take in what they say until all have ended."""
        async for line in self._process.stdout:
            name, what, *rest = line.decode().split(maxsplit=2)
            match what:
                case "started":
                    self._pids[name] = int(rest[0])
                case "asked":
                    self.asked.append(rest[0].split())
                case "answered":
                    self.answered.append(rest[0].split())
                case "wrong":
                    self.wrong.append(f"{name}: {rest[0]}")
                case "open":
                    self._open.add(name)
                case "waits":
                    self.waiting.append(f"{name}: {' '.join(rest)}")
                case "early":
                    self.early.append(rest[0].split())
                case "closed":
                    self._ends[name].set()
            self._said.set()

    async def until(self, is_so):
        """Return once something is so; raise where something is wrong, or nobody says anything any more."""
        while not is_so():
            self._said.clear()
            await self.or_tell(self._said.wait())
            assert not self.wrong, self.wrong[0]

    async def or_tell(self, doing):
        """Do something; raise with what all wait for, where it does not end."""
        try:
            await asyncio.wait_for(doing, LONGEST_SILENCE_S)
        except TimeoutError:
            own = waiting_tasks()
            for pid in self._pids.values():
                os.kill(pid, signal.SIGUSR1)
            await asyncio.sleep(TELLING_S)
            raise AssertionError("\n".join(["nothing happens any more:", *own, *self.waiting])) from None

    async def kill(self, name):
        """Kill a kernel and start it again."""
        pid = await self.pid(name)
        self.left.add(pid)
        del self._pids[name]
        self._open.discard(name)
        os.kill(pid, signal.SIGKILL)
        self.start(name)

    async def finish(self):
        """Have all end when nothing is left to do."""
        await self.until(lambda: len(self._open) == len(NOTEBOOKS))
        for name in NOTEBOOKS:
            os.kill(await self.pid(name), signal.SIGTERM)
        await self.until(lambda: all(each.is_set() for each in self._ends.values()))

    def end(self):
        """Kill those that are left."""
        for pid in self._pids.values():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@asynccontextmanager
async def notebook_kernels(file, effects):
    """Have a process that forks kernels: none of them needs to import anything."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(ROOT / "tests/notebook_kernels.py"), str(file), str(effects), *OPTIONS),
        env=os.environ | {"PYTHONPATH": str(ROOT), "PIANO_SHARE": "1"},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    kernels = Kernels(process)
    following = asyncio.create_task(kernels.follow())
    try:
        for name in NOTEBOOKS:
            kernels.start(name)
        yield kernels
    finally:
        kernels.end()
        process.stdin.close()
        await process.wait()
        await following


async def prepare(file):
    """Make a database with two agents, and a thread in which all ask."""

    def note(mark: str) -> str:
        """Write down a mark."""
        return mark

    async with Piano(database=file, share=False, model=ScriptedModel(), tools=[note]) as piano:
        for name in ("ada", "bob"):
            await piano.add_agent(name, model=name, enabled_tools=["note"])
        await piano.open_thread(TOGETHER)


async def run_campaign(folder, kills, seed, *, freezes=FREEZES):
    """Kill so many processes, each after some random progress; return how many answers were kept.

    `freezes` is how often the store process is killed while a kernel is stopped for longer than the grace.
    """
    file, effects, choose = folder / "piano.duckdb", folder / "effects", random.Random(seed)
    effects.touch()
    await prepare(file)
    watcher = RemoteStore(file, owner="watcher", options=OPTIONS)
    await watcher.open()
    try:
        async with notebook_kernels(file, effects) as kernels:
            for _ in range(kills):
                wanted = len(kernels.answered) + choose.randint(1, MOST_ANSWERS_TO_KILL)
                await kernels.until(lambda wanted=wanted: len(kernels.answered) >= wanted)
                await asyncio.sleep(choose.uniform(0, LONGEST_WAIT_S))
                await kernels.or_tell(kill_one(choose, freezes, watcher, kernels))
            await kernels.finish()
        await watcher.counts()
        last = watcher.server_pid
    finally:
        await watcher.close()
    await ended(last)
    assert not kernels.wrong, kernels.wrong[0]
    await check(file, effects, kernels)
    return len(kernels.answered)


async def kill_one(choose, freezes, watcher, kernels):
    """Kill a kernel, or the store process; the latter perhaps while a kernel is stopped."""
    name = choose.choice(NOTEBOOKS)
    if choose.random() < freezes:
        pid = await kernels.stop(name)
        await kill_store(watcher)
        await asyncio.sleep(STOPPED_S)
        os.kill(pid, signal.SIGCONT)
    elif choose.random() < KERNELS:
        await kernels.kill(name)
    else:
        await kill_store(watcher)


async def kill_store(watcher):
    """Kill the store process that runs now."""
    await watcher.clients()
    with suppress(ProcessLookupError):
        os.kill(watcher.server_pid, signal.SIGKILL)


async def check(file, effects, kernels):
    """Fail where something that a kernel was told is kept is not there, or is there more than once."""
    async with opened(file) as store:
        jobs = {job.id: job for job in await store.jobs()}
        threads = [
            (each, await store.messages(each.id), await store.tool_calls(each.id)) for each in await store.threads()
        ]
    said = [message for _, messages, _ in threads for message in messages]
    known = {str(message.id): message for message in said}
    questions = Counter(message.content for message in said if message.role == "user")
    answers = defaultdict(list)
    for message in said:
        if message.role == "assistant" and " answered " in message.content:
            answers[str(message.job_id)].append(message)
    assert {job.status for job in jobs.values()} == {JobStatus.DONE}, [job for job in jobs.values() if job.reason]
    assert set(questions.values()) == {1}
    assert {str(job) for job in jobs} == set(answers)
    assert {len(each) for each in answers.values()} == {1}
    for question, job, message in kernels.asked:
        assert known[message].content == f"@ada {question}"
        assert job in answers
    for question, job, message in kernels.answered:
        assert str(answers[job][0].id) == message
        assert question in known[message].content
    assert all(process_of(waiting) in kernels.left for _, waiting in kernels.early), kernels.early
    check_effects(effects, threads, kernels.left)


def process_of(question):
    """Return the process that asked a question."""
    return int(question.split("-")[-2])


def check_effects(effects, threads, left):
    """Fail where an effect happened twice, or not although it is said to have, or not in the order of its thread."""
    lines = [line.split() for line in effects.read_text().splitlines()]
    marks = Counter(mark for _, mark, _ in lines)
    twice = [mark for mark, times in marks.items() if times > 1]
    assert not twice, [history_of(mark, lines, threads) for mark in twice]
    done = {call for _, _, call in lines}
    for thread, messages, calls in threads:
        assert all(str(call.id) in done for call in calls if call.status is CallStatus.OK)
        asked = [message.content.removeprefix("@ada ") for message in messages if message.role == "user"]
        in_thread = [mark.partition(":")[2] for where, mark, _ in lines if where == str(thread.id)]
        happened = [asked.index(each) for each in in_thread if process_of(each) not in left]
        assert happened == sorted(happened), (thread.title, happened)


def history_of(mark, lines, threads):
    """Return a mark, the calls that left it, and what the store has of the turn."""
    calls = [call for _, each, call in lines if each == mark]
    [where] = {thread for thread, each, _ in lines if each == mark}
    _, messages, stored = next(each for each in threads if str(each[0].id) == where)
    jobs = {message.id: message.job_id for message in messages}
    of_job = {jobs[call.message_id] for call in stored if str(call.id) in calls}
    return (
        mark,
        calls,
        [(each.seq, each.role, str(each.id), each.content) for each in messages if each.job_id in of_job],
        [(each.seq, str(each.id), each.status, each.result) for each in stored if jobs[each.message_id] in of_job],
    )


async def main(kills, seed):
    """Print what a campaign did."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_DATA_HOME"] = folder
        answers = await run_campaign(Path(folder), kills, seed)
    print(
        f"{kills} kills (seed {seed}) in {time.monotonic() - begun:.0f} s: {answers} answers, nothing lost or doubled"
    )


if __name__ == "__main__":
    asyncio.run(main(*[int(each) for each in (sys.argv[1:] + ["500", "0"][len(sys.argv) - 1 :])]))

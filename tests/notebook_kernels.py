"""Kernels of notebooks that work on one database: processes of their own that start in no time, to be killed.

python tests/notebook_kernels.py FILE EFFECTS [STORE_OPTION ...]: starts a kernel for each name of a notebook that it
reads. A kernel asks two agents, in a thread of its own and in one that all share, until it gets a SIGTERM; it ends when
nothing is left to do. Each line that it writes says what it was told is kept, or what is wrong.
"""

import asyncio
import os
import random
import re
import signal
import sys
import time
import traceback
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path

from what_waits import waiting_tasks

from piano_jupyter import Notebook, Piano, PianoError
from piano_jupyter.events import EventsMissed, JobQueued
from piano_jupyter.records import JobStatus
from piano_jupyter.store.server import workspace_store
from piano_jupyter.store.server.remote_store import RemoteStore
from piano_jupyter.testing import ScriptedModel, tool_call
from piano_jupyter.tool import current_call

TOGETHER = "together"  #: the title of the thread in which all ask
QUESTION = re.compile(r"q-[\w-]+")  #: what each question is known by
LONGEST_STEP_S = 0.02  #: of a model or tool, so that kills come in the middle
TAKES_OVER = 0.3  #: how often a kernel takes over the jobs of a notebook that is gone


class CheckingModel(ScriptedModel):
    """Ada calls the tool once, then answers, and asks Bob about every third question; Bob does so and asks nobody."""

    def __init__(self, say):
        super().__init__(answer=self._reply)
        self._say = say

    async def stream(self, request):
        """Take a moment."""
        await asyncio.sleep(random.uniform(0, LONGEST_STEP_S))
        async for piece in super().stream(request):
            yield piece

    def _reply(self, request):
        last = max(at for at, each in enumerate(request.messages) if each["role"] == "user")
        text = " ".join(str(each.get("content")) for each in request.messages)
        asked = list(dict.fromkeys(QUESTION.findall(text)))  # questions without an answer between them are one message
        question = asked.pop()
        for each in asked:
            if f"ada answered {each}" not in text:
                self._say("early", question, each)
        name = request.model
        if not any(each["role"] == "tool" for each in request.messages[last:]):
            return tool_call("note", mark=f"{name}:{question}")
        asks_bob = name == "ada" and int(question.rpartition("-")[2]) % 3 == 0
        return f"{name} answered {question}" + (f"; @bob, is {question} right?" if asks_bob else "")


class Kernel:
    """A kernel of a notebook."""

    def __init__(self, file, effects, name, say):
        self.say, self.name, self.finishing = say, name, asyncio.Event()
        self._effects, self._life = Path(effects), os.getpid()
        self.piano = Piano(
            database=file,
            model=CheckingModel(say),
            notebook=Notebook(f"kernel-of-{name}", f"/notes/{name}.ipynb"),
            tools=[self.note],
            share=True,
            max_attempts=10_000,
        )

    def note(self, mark: str) -> str:
        """Write down a mark: the effect that is to happen once."""
        call = current_call.get()
        time.sleep(random.uniform(0, LONGEST_STEP_S))
        with self._effects.open("a") as file:
            file.write(f"{call.thread_id} {mark} {call.call_id}\n")
        return f"noted {mark}"

    async def work(self):
        """Ask until told to finish, then until nothing is left to do."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.finishing.set)
        loop.add_signal_handler(signal.SIGUSR1, self._tell_what_it_waits_for)
        async with self.piano:
            self.say("open")
            resuming = asyncio.create_task(self._resume_whenever_needed())
            await asyncio.gather(self._ask(TOGETHER), self._ask(f"of {self.name}"))
            while await self.piano.jobs(JobStatus.QUEUED, JobStatus.RUNNING):
                await self._resume(others=True)
                await asyncio.sleep(0.1)
            resuming.cancel()
        self.say("closed")

    def _tell_what_it_waits_for(self):
        self._telling = asyncio.create_task(self._tell())

    async def _tell(self):
        for each in waiting_tasks():
            self.say("waits", each)
        jobs = [each for status in (JobStatus.QUEUED, JobStatus.RUNNING) for each in await self.piano.jobs(status)]
        for each in [*jobs, *await self.piano.unfinished()]:
            self.say("waits", repr(each))

    async def _ask(self, title):
        threads = [each for each in await self.piano.threads() if each.title == title]
        thread = threads[0] if threads else await self.piano.open_thread(title)
        for number in count():
            if self.finishing.is_set():
                return
            question = f"q-{title.replace(' ', '_')}-{self.name}-{self._life}-{number}"
            job = await self.piano.send(f"@ada {question}", thread=thread)
            self.say("asked", question, job.id, job.message_id)
            answer = await self._answer_of(job)
            self.say("answered", question, job.id, answer.id)

    async def _answer_of(self, job):
        """Wait for a job; take it back if another kernel has taken it over and was killed."""
        while True:
            try:
                return await self.piano.wait(job)
            except PianoError as error:
                if "is gone" not in str(error):
                    raise
            with suppress(PianoError):  # a third one has taken it over by now
                await self.piano.resume(job)

    async def _resume_whenever_needed(self):
        events = self.piano.events()
        await self._resume(others=False)
        async for event in events:
            if isinstance(event, EventsMissed | JobQueued):
                await self._resume(others=random.random() < TAKES_OVER)

    async def _resume(self, *, others):
        with suppress(PianoError):
            await self.piano.resume()
        for job, why in await self.piano.unfinished() if others else ():
            if why:
                with suppress(PianoError):  # it was taken over by another, or its notebook is there again
                    await self.piano.resume(job)


def run(file, effects, name):
    """Run a kernel to its end."""

    def say(*what):
        os.write(1, f"{' '.join(map(str, (name, *what)))}\n".encode())

    async def main():
        await Kernel(file, effects, name, say).work()

    try:
        asyncio.run(main())
    except BaseException:  # noqa: BLE001
        say("wrong", repr(traceback.format_exc()))
    os._exit(0)


def main():
    """Start kernels."""
    file, effects, *options = sys.argv[1:]
    workspace_store.RemoteStore = partial(RemoteStore, options=tuple(options))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that those that were killed are gone
    for line in sys.stdin:
        name = line.strip()
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            run(file, effects, name)
        os.write(1, f"{name} started {child}\n".encode())


if __name__ == "__main__":
    main()

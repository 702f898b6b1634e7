"""A hundred jobs in ten threads for two models, on a server on which a tenth of the requests fails in some way."""

import asyncio
import gzip
import json
import random
import re
from collections import Counter, defaultdict

import pytest

from piano_jupyter import Piano
from piano_jupyter.events import JobCancelled, JobDone, JobFailed, JobStarted
from piano_jupyter.records import JobStatus

DEADLINE = 60
THREADS, JOBS, FAILING = 10, 100, 0.1
MODELS = ("small", "large")
QUESTION = re.compile(r"question \d+")
DEMAND = 2  # requests of one model at the same time
ENDED = {JobStatus.DONE, JobStatus.FAILED, JobStatus.CANCELLED}


def event(**delta):
    return sse({"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta}]})


def sse(chunk):
    return f"data: {json.dumps(chunk)}\n\n".encode()


FINISH = sse({"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}) + b"data: [DONE]\n\n"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


class Wild:
    """Answers over real HTTP with the last question itself; a share of the requests fails, drawn from a seed."""

    def __init__(self, seed, share, troubles):
        self.dice, self.share, self.troubles = random.Random(seed), share, troubles
        self.at_work, self.most, self.failed = defaultdict(set), Counter(), Counter()
        self.handling = set()
        self.url = ""

    async def handle(self, reader, writer):
        self.handling.add(asyncio.current_task())
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length: ")[2].partition("\r\n")[0] or 0)
            body = await reader.readexactly(length)
            if body:
                await self._answer(json.loads(body), reader, writer)
            else:
                self._say(writer, 404 if "/models" not in head else 200, b'{"data": []}')
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, asked, reader, writer):  # noqa: C901, PLR0912, PLR0915  One case a trouble.
        model, said = asked["model"], QUESTION.findall(asked["messages"][-1]["content"])[-1]
        self.at_work[model].add(reader)
        await asyncio.sleep(0.01)  # what the client has just given up is seen to be given up
        waited_for = sum(not each.at_eof() for each in self.at_work[model])  # nobody waits where the client has hung up
        self.most[model] = max(self.most[model], waited_for)
        try:
            trouble = self.dice.choice(self.troubles) if self.dice.random() < self.share else None
            self.failed[trouble] += 1
            match trouble:
                case "429":
                    self._say(writer, 429, b'{"error": {"message": "slow down"}}', b"retry-after: 0.05\r\n")
                case "502":
                    self._say(writer, 502, b"")
                case "unreadable":
                    self._say(writer, 500, UNREADABLE)
                case "unreadable in the middle":
                    writer.write(HEAD + event(content="<tool_call>") + b"data: " + UNREADABLE + b"\n\n")
                case "empty 400":
                    self._say(writer, 400, b"")
                case "loading":
                    self._say(writer, 503, b'{"error": {"message": "Loading model"}}')
                case "overflow":
                    self._say(writer, 400, b'{"error": {"message": "Input is too long for requested model."}}')
                case "redirect":
                    self._say(writer, 307, b"", b"location: /v1/chat/completions\r\n")
                case "compressed without end":
                    writer.write(HEAD.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n") + BOMB)
                case "a line without end":
                    writer.write(HEAD + b"data: " + b"x" * (80 << 20))
                case "reset":
                    writer.transport.abort()
                case "cut":
                    writer.write(HEAD + event(content="Half of "))
                case "cut inside an event":
                    writer.write(HEAD + event(content="Half of ") + event(content="it")[:30])
                case "thoughts without a start tag":
                    writer.write(HEAD + event(content="It may be.</thou") + event(content=f"ght>{said}") + FINISH)
                case "silence and comments":
                    writer.write(HEAD + event(content=said[:4]))
                    for _ in range(4):
                        await writer.drain()
                        await asyncio.sleep(0.02)
                        writer.write(b": still here\n\n")
                    writer.write(event(content=said[4:]) + FINISH)
                case "looping thoughts":
                    writer.write(HEAD + event(content="<think>") + event(content="I will look at it once more.\n") * 60)
                    await writer.drain()
                    await reader.read()  # until the client stops it
                case "reset in the middle":
                    writer.write(HEAD + event(content="Half of "))
                    await writer.drain()
                    writer.transport.abort()
                case "stall":
                    writer.write(HEAD + event(content="Half of "))
                    await writer.drain()
                    await reader.read()  # until the client gives up
                case _:
                    writer.write(HEAD + event(content=said[:4]) + event(content=said[4:]) + FINISH)
        finally:
            self.at_work[model].remove(reader)

    @staticmethod
    def _say(writer, status, body, more=b""):
        kind = b"content-type: application/json\r\nconnection: close\r\n"
        length = f"content-length: {len(body)}\r\n\r\n".encode()
        writer.write(f"HTTP/1.1 {status} X\r\n".encode() + kind + more + length + body)


TROUBLE = ("429", "502", "reset", "cut", "reset in the middle", "stall")
STREAM_TROUBLE = ("cut inside an event", "thoughts without a start tag", "silence and comments", "looping thoughts")
MORE = ("unreadable", "unreadable in the middle", "empty 400", "loading", "overflow")
HOPELESS = ("redirect", "compressed without end", "a line without end")  # each ends a job with a sentence
BOMB = gzip.compress(b"data: " + bytes(100 << 20))
UNREADABLE = b'{"error": {"code": 500, "message": "does not match the expected peg-native format"}}'


@pytest.fixture
async def wild():
    servers = []

    async def start(seed, share, troubles):
        wild = Wild(seed, share, troubles)
        server = await asyncio.start_server(wild.handle, "127.0.0.1", 0)
        servers.append((server, wild))
        wild.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        return wild

    yield start
    for server, wild in servers:
        server.close()
        for task in wild.handling:
            task.cancel()
        await asyncio.gather(*wild.handling, return_exceptions=True)


@pytest.mark.parametrize(
    ("seed", "share", "troubles"),
    [
        (1, FAILING, TROUBLE),
        (2, 0.4, TROUBLE),
        *((seed, FAILING, (each,)) for seed, each in enumerate((*STREAM_TROUBLE, *MORE, *HOPELESS), 3)),
    ],
)
async def test_j1_whatever_fails_each_message_is_answered_or_fails_once_and_in_order(
    wild, tmp_path, seed, share, troubles
):
    server, dice = await wild(seed, share, troubles), random.Random(seed)
    knobs = {"embedded": "never", "max_demand": DEMAND, "request_retries": 2}
    knobs["idle_timeout"] = (
        0.5 if "stall" in troubles else 30
    )  # where nothing stalls, a busy machine is no stall either
    async with Piano(database=":memory:", workspace=tmp_path, base_url=server.url, **knobs) as piano:
        for model in MODELS:
            await piano.add_agent(model, model=model)
        events = piano.events()
        threads = [await piano.open_thread(f"thread {number}") for number in range(THREADS)]
        jobs = []
        for number in range(JOBS):
            thread, model = threads[number % THREADS], MODELS[dice.randrange(2)]
            jobs.append(await piano.send(f"question {number}", agent=model, thread=thread))
        given_up = dice.sample(jobs, 5)

        async with asyncio.timeout(DEADLINE):
            await asyncio.gather(piano.drain(), *(piano.cancel(job) for job in given_up))
        await events.aclose()
        told = [event async for event in events]
        ended = {job.id: job for job in await piano.jobs()}
        said = {thread.id: await piano.messages(thread) for thread in threads}

    ends = Counter(event.job.id for event in told if isinstance(event, JobDone | JobFailed | JobCancelled))
    started = defaultdict(list)
    for happened in told:
        if isinstance(happened, JobStarted):
            started[happened.job.thread_id].append(happened.job.id)
    answers = Counter(message.job_id for thread in said.values() for message in thread if message.role == "assistant")

    assert {job.id for job in jobs} == ended.keys()
    assert {ends[job.id] for job in jobs} == {1}
    assert all(job.status in ENDED for job in ended.values())
    assert all(answers[job.id] == (job.status is JobStatus.DONE) for job in ended.values())
    assert all(job.reason for job in ended.values() if job.status is JobStatus.FAILED)
    for thread in threads:
        asked = [job.id for job in jobs if job.thread_id == thread.id and job.id in started[thread.id]]
        assert started[thread.id] == asked
        assert [message.content for message in said[thread.id] if message.role == "assistant"] == [
            f"question {jobs.index(job)}" for job in jobs if job.thread_id == thread.id and answers[job.id]
        ]
    assert max(server.most.values()) <= DEMAND
    assert max(server.most.values()) == DEMAND or "stall" not in troubles  # an answer without a pause overlaps no other
    assert set(server.failed) - {None}
    if share == FAILING:
        failed = sum(server.failed[each] for each in HOPELESS)
        assert sum(job.status is JobStatus.DONE for job in ended.values()) >= JOBS - len(given_up) - 5 - failed

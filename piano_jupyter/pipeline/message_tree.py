"""Branches: what was said in a thread, as a tree of messages, and the way through it that is read. Pure.

A question has the message before it as parent: two questions with one parent are branches, and so are two answers of
one agent to one question. A turn is a user's question with the work of the jobs that answer it, and of those that
these answers ask for. Somebody may say three things before the first is answered: each answer stands after its own
question, not where the clock put it.
"""

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from uuid import UUID

from piano_jupyter.records import Job, JobStatus, Message

AT_WORK = (JobStatus.QUEUED, JobStatus.RUNNING)
STANDS = (*AT_WORK, JobStatus.DONE)


class Tree:
    """The messages and jobs of a thread."""

    def __init__(self, messages: Iterable[Message], jobs: Iterable[Job]) -> None:
        self._messages = {each.id: each for each in sorted(messages, key=lambda each: each.seq)}
        self._jobs = sorted(jobs, key=lambda each: each.seq)
        self._said: defaultdict[UUID | None, list[Message]] = defaultdict(list)  # by job
        for message in self._messages.values():
            self._said[message.job_id].append(message)
        self._tries: defaultdict[UUID, dict[UUID, list[Job]]] = defaultdict(dict)  # by question, then agent
        for job in self._jobs:
            self._tries[job.message_id].setdefault(job.agent_id, []).append(job)

    def goes_on(self) -> UUID | None:
        """Return the message that the newest branch leads to: the last question that somebody asked, or asked anew."""
        for job in reversed(self._jobs):
            is_first = self._tries[job.message_id][job.agent_id][0] is job
            moves = job.hops == 0 if is_first else job.status in STANDS  # asked anew in vain, it goes on as it did
            if moves and job.message_id in self._messages:
                return job.message_id
        return next(reversed(self._messages), None)

    def told(self, leaf: UUID | None = None, first: UUID | None = None) -> list[Message]:
        """Return the branch that leads to `leaf` (by default to where the thread goes on), turn by turn.

        Of an agent that answered one question more than once, the answer that the branch goes through stands, else the
        newest at the time, be it only in the making. Of agents that were asked together, `first` stands first, the
        others in the order in which they were.
        """
        path = self._path(leaf if leaf is not None else self.goes_on())
        through = {message.job_id for message in path if message.job_id is not None}
        told: dict[UUID, Message] = {}
        until: dict[UUID, int] = {}  # by question, the first job of the branch's next question
        later = sys.maxsize
        for node in reversed(path):
            if node.role == "user":
                until[node.id] = later
                later = min((job.seq for tries in self._tries[node.id].values() for job in tries), default=later)
        for node in path:
            told[node.id] = node
            if node.role == "user":
                turn = self._turn(node, through, until[node.id], first)
                told |= {message.id: message for message in turn}
        return list(told.values())

    def history(self, job: Job) -> list[Message]:
        """Return what a job's agent has read when it answers: the turns before, its question, what it has said so far.

        Others that were asked the same thing work beside it: what they say now is not in it.
        """
        path = self._path(job.message_id)
        begins = max((at for at, message in enumerate(path) if message.role == "user"), default=0)
        before = self.told(path[begins - 1].id, job.agent_id) if begins else []
        return [*before, *path[begins:], *self._said.get(job.id, ())]

    def handed_on(self, job: Job) -> int:
        """Return how many jobs agents have asked for since the user asked what this job is about."""
        begun = self.question_of(job.message_id)
        return sum(each.hops > 0 and self.question_of(each.message_id) == begun for each in self._jobs)

    def question_of(self, message_id: UUID) -> UUID | None:
        """Return the user's question that a message belongs to; a question belongs to itself."""
        message = self._messages.get(message_id)
        while message is not None and message.role != "user":
            message = self._messages.get(message.parent_id) if message.parent_id is not None else None
        return message.id if message is not None else None

    def alternatives(self) -> dict[UUID, list[UUID]]:
        """Return where the branches part: for each question or answer that has others beside it, all of them."""
        questions: defaultdict[UUID | None, list[UUID]] = defaultdict(list)
        for message in self._messages.values():
            if message.role == "user":
                questions[message.parent_id].append(message.id)
        answers = [
            [answer for job in tries if (answer := self._answer(job))]
            for each in self._tries.values()
            for tries in each.values()
        ]
        return {each: group for group in (*questions.values(), *answers) if len(group) > 1 for each in group}

    def _answer(self, job: Job) -> UUID | None:
        said = (each for each in reversed(self._said.get(job.id, ())) if each.role == "assistant")
        return next((each.id for each in said), None)

    def _path(self, leaf: UUID | None) -> list[Message]:
        path: list[Message] = []
        while leaf is not None and (message := self._messages.get(leaf)) is not None:
            path.append(message)
            leaf = message.parent_id
        return path[::-1]

    def _turn(self, question: Message, through: set[UUID], until: int, first: UUID | None) -> Iterator[Message]:
        """Tell who answered a question, as it was before the job `until`, and who was asked by them in turn."""
        asked = self._tries.get(question.id, {}).values()  # in the order asked
        for tries in sorted(asked, key=lambda each: each[0].agent_id != first):
            job = self._chosen(tries, through, until)
            for message in self._said.get(job.id, ()) if job else ():
                yield message
                yield from self._turn(message, through, until, first)

    def _chosen(self, tries: list[Job], through: set[UUID], until: int) -> Job | None:
        """Return which of an agent's tries stands: the branch's own, else the last that answers or has answered."""
        for job in tries:
            if job.id in through:
                return job
        there = [job for job in tries if job is tries[0] or job.seq < until]
        there = [job for job in there if job.status in AT_WORK or self._said.get(job.id)]
        good = [job for job in there if job.status in STANDS] or there
        return max(good, key=lambda job: (job.status in AT_WORK, self._last_seq(job)), default=None)

    def _last_seq(self, job: Job) -> int:
        return max((message.seq for message in self._said.get(job.id, ())), default=0)

"""Branches: what was said in a thread, as a tree of messages, and the way through it that is read. Pure.

A question has the message before it as parent: two questions with one parent are branches, and so are two answers of
one agent to one question. A turn is a user's question with the work of the jobs that answer it, and of those that
these answers ask for. Somebody may say three things before the first is answered: each answer stands after its own
question, not where the clock put it.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from uuid import UUID

from piano_jupyter.records import Job, JobStatus, Message

AT_WORK = (JobStatus.QUEUED, JobStatus.RUNNING)


class Tree:
    """The messages and jobs of a thread, and what it was forked from."""

    def __init__(self, messages: Iterable[Message], jobs: Iterable[Job], forked_from: UUID | None = None) -> None:
        self._messages = {each.id: each for each in sorted(messages, key=lambda each: each.seq)}
        self._jobs = sorted(jobs, key=lambda each: each.seq)
        self._forked_from = forked_from
        self._said: defaultdict[UUID | None, list[Message]] = defaultdict(list)  # by job
        for message in self._messages.values():
            self._said[message.job_id].append(message)
        self._answering: defaultdict[UUID, dict[UUID, list[Job]]] = defaultdict(dict)  # by question, then agent
        for job in self._jobs:
            if job.status in AT_WORK or self._said.get(job.id):
                self._answering[job.message_id].setdefault(job.agent_id, []).append(job)

    def goes_on(self) -> UUID | None:
        """Return the message that the newest branch leads to: the last question that somebody asked, or asked anew."""
        asked = [job.message_id for job in self._jobs if job.hops == 0 and job.message_id in self._messages]
        if asked:
            return asked[-1]
        return self._forked_from or next(reversed(self._messages), None)

    def told(self, leaf: UUID | None = None, first: UUID | None = None) -> list[Message]:
        """Return the branch that leads to `leaf` (by default to where the thread goes on), turn by turn.

        Of an agent that answered one question more than once, the answer that the branch goes through stands, else the
        newest, be it only in the making. Of agents that were asked together, `first` stands first, the others in the
        order in which they were.
        """
        path = self._path(leaf if leaf is not None else self.goes_on())
        on_path = {message.job_id for message in path if message.job_id is not None}
        told: dict[UUID, Message] = {}
        for node in path:
            told[node.id] = node
            if node.role == "user":
                told |= {message.id: message for message in self._turn(node, on_path, first)}
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
        begun = self._question_of(job)
        return sum(each.hops > 0 and self._question_of(each) == begun for each in self._jobs)

    def alternatives(self) -> dict[UUID, list[UUID]]:
        """Return where the branches part: for each question or answer that has others beside it, all of them."""
        questions: defaultdict[UUID | None, list[UUID]] = defaultdict(list)
        for message in self._messages.values():
            if message.role == "user":
                questions[message.parent_id].append(message.id)
        answers = [
            [answer for job in jobs if (answer := self._answer(job))]
            for each in self._answering.values()
            for jobs in each.values()
        ]
        return {each: group for group in (*questions.values(), *answers) if len(group) > 1 for each in group}

    def _question_of(self, job: Job) -> UUID | None:
        message = self._messages.get(job.message_id)
        while message is not None and message.role != "user":
            message = self._messages.get(message.parent_id) if message.parent_id is not None else None
        return message.id if message is not None else None

    def _answer(self, job: Job) -> UUID | None:
        said = (each for each in reversed(self._said.get(job.id, ())) if each.role == "assistant")
        return next((each.id for each in said), None)

    def _path(self, leaf: UUID | None) -> list[Message]:
        path: list[Message] = []
        while leaf is not None and (message := self._messages.get(leaf)) is not None:
            path.append(message)
            leaf = message.parent_id
        return path[::-1]

    def _turn(self, question: Message, on_path: set[UUID], first: UUID | None) -> Iterator[Message]:
        jobs = [
            next((job for job in tries if job.id in on_path), tries[-1])
            for tries in self._answering.get(question.id, {}).values()
        ]
        for job in sorted(jobs, key=lambda each: (each.agent_id != first, each.seq)):
            for message in self._said[job.id]:
                yield message
                yield from self._turn(message, on_path, first)

"""Branches: what was said in a thread, as a tree of messages, and the way through it that is read. Pure.

A question has the message before it as parent: two questions with one parent are branches, and so are two answers of
one agent to one question. A turn is a user's question with the work of the jobs that answer it, and of those that
these answers ask for. Somebody may say three things before the first is answered: each answer stands after its own
question, not where the clock put it.
"""

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple
from uuid import UUID

from piano_jupyter.records import Job, JobStatus, Message

AT_WORK = (JobStatus.QUEUED, JobStatus.RUNNING)
STANDS = (*AT_WORK, JobStatus.DONE)
REMEMBERED = 8  # questions before which it is known what is told


class Branch(NamedTuple):
    """What is told in a branch, and where in it the user's questions stand."""

    messages: list[Message]
    questions: list[int]

    def add(self, turn: Iterable[Message]) -> "Branch":
        """Add what is told in the next turn; return the branch."""
        begins = len(self.messages)
        self.messages.extend(turn)
        if self.messages[begins:] and self.messages[begins].role == "user":
            self.questions.append(begins)
        return self


class MessageTree:
    """The messages and jobs of a thread. What is said next is added; what was told before is not put together anew."""

    def __init__(self, messages: Iterable[Message], jobs: Iterable[Job]) -> None:
        self._messages: dict[UUID, Message] = {}
        self._jobs: dict[UUID, Job] = {}
        self._said: defaultdict[UUID | None, list[Message]] = defaultdict(list)  # by job
        self._tries: defaultdict[UUID, dict[UUID, list[UUID]]] = defaultdict(dict)  # jobs by question, then agent
        self._before: dict[tuple[UUID, UUID | None], Branch] = {}  # what is told before a question
        for message in sorted(messages, key=lambda each: each.seq):
            self.add(message)
        for job in sorted(jobs, key=lambda each: each.seq):
            self.put(job)

    def add(self, message: Message) -> None:
        """Add a message, behind those that are there."""
        self._messages[message.id] = message
        self._said[message.job_id].append(message)
        if message.role != "user":
            self._changed(message.id)

    def put(self, job: Job) -> None:
        """Add a job, behind those that are there, or change one."""
        if job.id not in self._jobs:
            self._tries[job.message_id].setdefault(job.agent_id, []).append(job.id)
        self._jobs[job.id] = job
        self._changed(job.message_id)

    def _changed(self, message_id: UUID) -> None:
        """Something in the turn of a message has changed: forget what is told before later questions."""
        question = self.question_of(message_id)
        since = self._messages[question].seq if question is not None else 0
        self._before = {key: told for key, told in self._before.items() if self._messages[key[0]].seq <= since}

    def goes_on(self) -> UUID | None:
        """Return the message that the newest branch leads to: the last question that somebody asked, or asked anew."""
        for job in reversed(self._jobs.values()):
            is_first = self._tries[job.message_id][job.agent_id][0] == job.id
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
        return self._told_to(leaf if leaf is not None else self.goes_on(), first).messages

    def last(self) -> Message | None:
        """Return the last message of the branch on which the thread goes on, without putting the branch together."""
        turn = self._turn_of(self.goes_on())
        return [*self._told_in(turn, sys.maxsize, None)][-1] if turn else None

    def history(self, job: Job) -> Branch:
        """Return what a job's agent has read when it answers: the turns before, its question, what it has said so far.

        Others that were asked the same thing work beside it: what they say now is not in it.
        """
        turn = self._turn_of(job.message_id)
        before = self._told_to(turn[0].parent_id if turn else None, job.agent_id)
        return before.add([*turn, *self._said.get(job.id, ())])

    def handed_on(self, job: Job) -> int:
        """Return how many jobs agents have asked for since the user asked what this job is about."""
        begun = self.question_of(job.message_id)
        return sum(each.hops > 0 and self.question_of(each.message_id) == begun for each in self._jobs.values())

    def question_of(self, message_id: UUID) -> UUID | None:
        """Return the user's question that a message belongs to; a question belongs to itself."""
        turn = self._turn_of(message_id)
        return turn[0].id if turn and turn[0].role == "user" else None

    def alternatives(self) -> dict[UUID, list[UUID]]:
        """Return where the branches part: for each question or answer that has others beside it, all of them."""
        questions: defaultdict[UUID | None, list[UUID]] = defaultdict(list)
        for message in self._messages.values():
            if message.role == "user":
                questions[message.parent_id].append(message.id)
        answers = [
            [answer for job_id in tries if (answer := self._answer(job_id))]
            for each in self._tries.values()
            for tries in each.values()
        ]
        return {each: group for group in (*questions.values(), *answers) if len(group) > 1 for each in group}

    def _answer(self, job_id: UUID) -> UUID | None:
        said = (each for each in reversed(self._said.get(job_id, ())) if each.role == "assistant")
        return next((each.id for each in said), None)

    def _turn_of(self, leaf: UUID | None) -> list[Message]:
        """Return what a branch that leads to a message has of its turn: from the user's question to the message."""
        turn: list[Message] = []
        while leaf is not None and (message := self._messages.get(leaf)) is not None:
            turn.append(message)
            leaf = message.parent_id if message.role != "user" else None
        return turn[::-1]

    def _told_to(self, leaf: UUID | None, first: UUID | None) -> Branch:
        """Return what is told up to a message, the turn that it is of as it is now."""
        turn = self._turn_of(leaf)
        told = self._told_before(turn, first)
        return Branch([*told.messages], [*told.questions]).add(self._told_in(turn, sys.maxsize, first))

    def _told_before(self, turn: list[Message], first: UUID | None) -> Branch:
        """Return what is told before a turn."""
        turns, later, told = [], sys.maxsize, Branch([], [])
        beginning = turn[:1]
        while beginning:
            (question,) = beginning
            if (question.id, first) in self._before:
                told = self._before[question.id, first]
                break
            tries = self._tries.get(question.id, {}).values()
            later = min((self._jobs[each].seq for jobs in tries for each in jobs), default=later)
            turns.append((self._turn_of(question.parent_id), later))
            beginning = turns[-1][0][:1]
        told = Branch([*told.messages], [*told.questions])
        for each, until in reversed(turns):
            told.add(self._told_in(each, until, first))
        if turn and self._tries.get(turn[0].id):
            self._before[turn[0].id, first] = told
            for key in list(self._before)[:-REMEMBERED]:
                del self._before[key]
        return told

    def _told_in(self, turn: list[Message], until: int, first: UUID | None) -> Iterable[Message]:
        """Return what is told in a turn, as it was before the job `until`."""
        through = {message.job_id for message in turn if message.job_id is not None}
        told: dict[UUID, Message] = {}
        for message in turn:
            told[message.id] = message
            if message.role == "user":
                told |= {each.id: each for each in self._answers(message, through, until, first)}
        return told.values()

    def _answers(self, question: Message, through: set[UUID], until: int, first: UUID | None) -> Iterator[Message]:
        """Tell who answered a question, as it was before the job `until`, and who was asked by them in turn."""
        asked = self._tries.get(question.id, {}).items()  # in the order asked
        for _, tries in sorted(asked, key=lambda each: each[0] != first):
            job = self._chosen([self._jobs[each] for each in tries], through, until)
            for message in self._said.get(job.id, ()) if job else ():
                yield message
                yield from self._answers(message, through, until, first)

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

"""MessageTree: the messages of a thread as a tree, and the branch of it that is shown and read. Pure.

The parent of a question is the message before it: two questions with one parent are branches, and so are two answers of
one agent to one question. A turn is a user's question with the messages of the jobs that answer it, and of the jobs
that those delegate. A user may send three questions before the first is answered: each answer stands after its own
question, whenever it came.
"""

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple
from uuid import UUID

from piano_jupyter.records import ChosenBranch, Job, JobStatus, Message

ACTIVE = (JobStatus.QUEUED, JobStatus.RUNNING)
ACTIVE_OR_DONE = (*ACTIVE, JobStatus.DONE)
MAX_CACHED_BRANCHES = 8  # per thread


class Branch(NamedTuple):
    """The messages of a branch, and the indexes of the user's questions among them."""

    messages: list[Message]
    questions: list[int]

    def add(self, turn: Iterable[Message]) -> "Branch":
        """Append the messages of the next turn; return the branch."""
        begins = len(self.messages)
        self.messages.extend(turn)
        if self.messages[begins:] and self.messages[begins].role == "user":
            self.questions.append(begins)
        return self


class MessageTree:
    """The messages and jobs of a thread. It grows message by message, without being built again."""

    def __init__(self, messages: Iterable[Message], jobs: Iterable[Job], chosen: ChosenBranch | None = None) -> None:
        self.chosen = chosen  #: the branch that the user chose last, if any
        self._messages: dict[UUID, Message] = {}
        self._jobs: dict[UUID, Job] = {}
        self._by_job: defaultdict[UUID | None, list[Message]] = defaultdict(list)
        self._attempts: defaultdict[UUID, dict[UUID, list[UUID]]] = defaultdict(dict)  # jobs by question, then agent
        self._cached_branches: dict[tuple[UUID, UUID | None], Branch] = {}  # the branch before a question
        for message in sorted(messages, key=lambda each: each.seq):
            self.add_message(message)
        for job in sorted(jobs, key=lambda each: each.seq):
            self.put_job(job)

    def add_message(self, message: Message) -> None:
        """Append a message."""
        self._messages[message.id] = message
        self._by_job[message.job_id].append(message)
        if message.role != "user":
            self._changed(message.id)

    def put_job(self, job: Job) -> None:
        """Append a job, or replace an older version of it."""
        if job.id not in self._jobs:
            self._attempts[job.message_id].setdefault(job.agent_id, []).append(job.id)
        self._jobs[job.id] = job
        self._changed(job.message_id)

    def _changed(self, message_id: UUID) -> None:
        """Drop the cached branches that contain the turn of a message."""
        question = self.question_of(message_id)
        since = self._messages[question].seq if question is not None else 0
        self._cached_branches = {
            key: branch for key, branch in self._cached_branches.items() if self._messages[key[0]].seq <= since
        }

    def current_leaf(self) -> UUID | None:
        """Return the message at which the thread continues: of the branch that was chosen, if nothing was asked since.

        Else the last question that was asked, edited or regenerated.
        """
        chosen = self.chosen if self.chosen and self.chosen.message_id in self._messages else None
        for job in reversed(self._jobs.values()):
            if chosen and job.seq <= chosen.after:
                break
            is_first = self._attempts[job.message_id][job.agent_id][0] == job.id
            # a later attempt that failed changes nothing
            moves = job.hops == 0 if is_first else job.status in ACTIVE_OR_DONE
            if moves and job.message_id in self._messages:
                return job.message_id
        return chosen.message_id if chosen else next(reversed(self._messages), None)

    @property
    def newest_job(self) -> int:
        """The highest `seq` of its jobs, 0 if it has none."""
        return max((job.seq for job in self._jobs.values()), default=0)

    def end_of_branch(self, message_id: UUID) -> UUID:
        """Return where the branch of a message ends: at the last question that follows it, else at the message."""
        question = self.question_of(message_id) or message_id
        asked = {job.message_id: job.seq for job in self._jobs.values()}
        later = [each for each in self._following(question) if each.role == "user"]
        for each in sorted(later, key=lambda each: (asked.get(each.id, 0), each.seq), reverse=True):
            if each.id != message_id and any(said.id == message_id for said in self.branch(each.id)):
                message_id = each.id
                break
        if self._messages[message_id].role != "user" or message_id in asked:
            return message_id
        return self._following(message_id)[-1].id  # of a copied thread: the messages of a turn have no job

    def _following(self, message_id: UUID) -> list[Message]:
        """Return a message and all that follow it, in order."""
        ids, found = {message_id}, [self._messages[message_id]]
        for message in self._messages.values():
            if message.parent_id in ids:
                ids.add(message.id)
                found.append(message)
        return found

    def branch(self, leaf: UUID | None = None, first: UUID | None = None) -> list[Message]:
        """Return the messages of the branch to `leaf` (by default the current one), turn by turn.

        If an agent answered a question more than once, the branch has the answer that it goes through, else the newest
        at the time, even if unfinished. Of agents that were asked together, `first` comes first, then the others in the
        order in which they were asked.
        """
        return self._branch_to(leaf if leaf is not None else self.current_leaf(), first).messages

    def last_message(self) -> Message | None:
        """Return the message that the next question follows, without building the branch: the last one.

        That of a branch that was chosen by its answer is this answer, also if other agents answered after it.
        """
        turn = self._turn_of(self.current_leaf())
        if turn and turn[-1].role != "user":
            return turn[-1]
        return [*self._messages_of_turn(turn, sys.maxsize, None)][-1] if turn else None

    def history(self, job: Job) -> Branch:
        """Return what a job's agent reads: the turns before, its question, and its own messages so far.

        The answers of other agents to the same question are not in it.
        """
        turn = self._turn_of(job.message_id)
        before = self._branch_to(turn[0].parent_id if turn else None, job.agent_id)
        return before.add([*turn, *self._by_job.get(job.id, ())])

    def count_delegated(self, job: Job) -> int:
        """Return how many jobs agents have delegated since the user's question that this job belongs to."""
        question = self.question_of(job.message_id)
        return sum(each.hops > 0 and self.question_of(each.message_id) == question for each in self._jobs.values())

    def question_of(self, message_id: UUID) -> UUID | None:
        """Return the user's question that a message belongs to; a question belongs to itself."""
        turn = self._turn_of(message_id)
        return turn[0].id if turn and turn[0].role == "user" else None

    def alternatives(self) -> dict[UUID, list[UUID]]:
        """Return, for each question or answer that has alternatives, the ids of all of them."""
        questions: defaultdict[UUID | None, list[UUID]] = defaultdict(list)
        for message in self._messages.values():
            if message.role == "user":
                questions[message.parent_id].append(message.id)
        answers = [
            [answer for job_id in attempts if (answer := self._answer(job_id))]
            for each in self._attempts.values()
            for attempts in each.values()
        ]
        return {each: group for group in (*questions.values(), *answers) if len(group) > 1 for each in group}

    def _answer(self, job_id: UUID) -> UUID | None:
        answers = (each for each in reversed(self._by_job.get(job_id, ())) if each.role == "assistant")
        return next((each.id for each in answers), None)

    def _turn_of(self, leaf: UUID | None) -> list[Message]:
        """Return the messages from the user's question to `leaf` along their parents."""
        turn: list[Message] = []
        while leaf is not None and (message := self._messages.get(leaf)) is not None:
            turn.append(message)
            leaf = message.parent_id if message.role != "user" else None
        return turn[::-1]

    def _branch_to(self, leaf: UUID | None, first: UUID | None) -> Branch:
        """Return the branch up to a message, with the current state of its turn."""
        turn = self._turn_of(leaf)
        before = self._branch_before(turn, first)
        return Branch([*before.messages], [*before.questions]).add(self._messages_of_turn(turn, sys.maxsize, first))

    def _branch_before(self, turn: list[Message], first: UUID | None) -> Branch:
        """Return the branch before a turn."""
        turns, until, branch = [], sys.maxsize, Branch([], [])
        first_message = turn[:1]
        while first_message:
            (question,) = first_message
            if (question.id, first) in self._cached_branches:
                branch = self._cached_branches[question.id, first]
                break
            attempts = self._attempts.get(question.id, {}).values()
            until = min((self._jobs[each].seq for jobs in attempts for each in jobs), default=until)
            turns.append((self._turn_of(question.parent_id), until))
            first_message = turns[-1][0][:1]
        branch = Branch([*branch.messages], [*branch.questions])
        for each, until in reversed(turns):
            branch.add(self._messages_of_turn(each, until, first))
        if turn and self._attempts.get(turn[0].id):
            self._cached_branches[turn[0].id, first] = branch
            for key in list(self._cached_branches)[:-MAX_CACHED_BRANCHES]:
                del self._cached_branches[key]
        return branch

    def _messages_of_turn(self, turn: list[Message], until: int, first: UUID | None) -> Iterable[Message]:
        """Return the messages of a turn, as it was before the job `until`."""
        through = {message.job_id for message in turn if message.job_id is not None}
        messages: dict[UUID, Message] = {}
        for message in turn:
            messages[message.id] = message
            if message.role == "user":
                messages |= {each.id: each for each in self._answers(message, through, until, first)}
        return messages.values()

    def _answers(self, question: Message, through: set[UUID], until: int, first: UUID | None) -> Iterator[Message]:
        """Yield the answers to a question, as it was before the job `until`, each followed by those it delegated to."""
        asked = self._attempts.get(question.id, {}).items()  # in the order asked
        for _, attempts in sorted(asked, key=lambda each: each[0] != first):
            job = self._current_attempt([self._jobs[each] for each in attempts], through, until)
            for message in self._by_job.get(job.id, ()) if job else ():
                yield message
                yield from self._answers(message, through, until, first)

    def _current_attempt(self, attempts: list[Job], through: set[UUID], until: int) -> Job | None:
        """Return which attempt of an agent counts: the branch's own, else the last with an answer or still active."""
        for job in attempts:
            if job.id in through:
                return job
        known = [job for job in attempts if job is attempts[0] or job.seq < until]
        known = [job for job in known if job.status in ACTIVE or self._by_job.get(job.id)]
        candidates = [job for job in known if job.status in ACTIVE_OR_DONE] or known
        return max(candidates, key=lambda job: (job.status in ACTIVE, self._last_seq(job)), default=None)

    def _last_seq(self, job: Job) -> int:
        return max((message.seq for message in self._by_job.get(job.id, ())), default=0)

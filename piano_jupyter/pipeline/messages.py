"""Questions: a message becomes a job for each agent that is to answer it. It is the user's, or an answer that asks."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from piano_jupyter.bus import EventBus
from piano_jupyter.clock import Clock
from piano_jupyter.errors import PianoError
from piano_jupyter.events import ThreadBranched
from piano_jupyter.pipeline.agent_registry import AgentRegistry
from piano_jupyter.pipeline.mentions import addressed, asked_by, begins_with, follow_ups
from piano_jupyter.pipeline.message_tree import AT_WORK
from piano_jupyter.pipeline.producer import Producer
from piano_jupyter.pipeline.thread_cache import Conversation, ThreadCache
from piano_jupyter.pipeline.threads import Threads
from piano_jupyter.records import Agent, Job, JobTerms, Message, Role, Source, Thread, short

MAX_SENDS_AT_ONCE = 2  # the others wait here, not in the store's queue, where answers would wait behind them
LONG = 10_000  # characters of Markdown that take too long to read on the loop

Schema = Mapping[str, Any] | None  # that answers are to fit


class QuestionSender:
    """Puts questions into the queue."""

    def __init__(
        self,
        bus: EventBus,
        clock: Clock,
        producer: Producer,
        conversations: ThreadCache,
        roster: AgentRegistry,
        threads: Threads,
    ) -> None:
        self._bus, self._clock, self._producer = bus, clock, producer
        self._conversations, self._roster, self._threads = conversations, roster, threads
        self._room = asyncio.Semaphore(MAX_SENDS_AT_ONCE)

    def addressed(self, text: str, names: Sequence[str], thread: Thread) -> list[Agent]:
        """Return who is to answer: those named, else those that the text begins with, else the thread's own agent."""
        if named := list({agent.id: agent for agent in map(self._roster.named, names)}.values()):
            return named
        return addressed(text, self._roster.all(), thread)

    async def ask(
        self,
        text: str,
        agents: Sequence[Agent],
        thread: Thread,
        source: Source,
        terms: JobTerms,
        schema: Schema = None,
    ) -> list[Job]:
        """Keep a message behind what was said last, with a job for each agent."""
        async with self._conversations.adding(thread.id), self._room:
            last = (await self._conversations.get(thread.id)).tree.last()
            question = self._message(thread.id, "user", text, last.id if last else None, source)
            return await self._ask(question, agents, terms, schema)

    async def edit(self, message: Message, text: str, source: Source, terms: JobTerms) -> list[Job]:
        """Keep another question in the place of one, for the same agents or those that it begins with.

        Its answers are to fit what those of the first were to fit.
        """
        if message.role != "user":
            raise PianoError(f"{short(message.id)} is not a question of yours; %piano regenerate answers one anew")
        thread, conversation = await self._threads.home(message)
        agents = begins_with(text, self._roster.all()) or self._asked_before(message, thread, conversation)
        async with self._conversations.adding(thread.id):
            question = self._message(thread.id, "user", text, message.parent_id, source)
            jobs = await self._ask(question, agents, terms, _schema(conversation, message.id))
        self._bus.publish(ThreadBranched(thread_id=thread.id, message_id=question.id))
        return jobs

    async def regenerate(self, message: Message, terms: JobTerms) -> list[Job]:
        """Queue the question anew that a message answers, or is; who answered it before answers.

        Who is at work on it already is not asked twice.
        """
        thread, conversation = await self._threads.home(message)
        old = conversation.jobs.get(message.job_id) if message.job_id is not None else None
        question, hops = (old.message_id, old.hops) if old else (conversation.tree.question_of(message.id), 0)
        if question is None:
            raise PianoError(f"{short(message.id)} answers no question of this thread, so there is nothing to ask anew")
        if message.role == "user":
            agents = self._asked_before(message, thread, conversation)
        else:
            known = [agent for agent in self._roster.all() if agent.id == message.agent_id]
            agents = known or self._asked_before(conversation.messages[question], thread, conversation)
        async with self._conversations.adding(thread.id):
            asked = [job for job in conversation.jobs.values() if job.message_id == question]
            at_work = {job.agent_id: job for job in asked if job.status in AT_WORK}
            schema = _schema(conversation, question)
            jobs = [
                at_work.get(agent.id)
                or await self._producer.add(self._job(thread.id, question, agent, hops, terms, schema))
                for agent in agents
            ]
        self._bus.publish(ThreadBranched(thread_id=thread.id, message_id=question))
        return jobs

    def _asked_before(self, question: Message, thread: Thread, conversation: Conversation) -> list[Agent]:
        asked = [job.agent_id for job in conversation.jobs.values() if job.message_id == question.id]
        before = [self._roster.by_id(each) for each in dict.fromkeys(asked)]
        return before or addressed(question.content, self._roster.all(), thread)

    async def hand_on(self, job: Job, answer: Message) -> tuple[list[Job], Message | None]:
        """Return the jobs that an answer asks for, and a note on those that it may not ask.

        They run under the terms of the job that asks: the user has sent no other.
        """
        if job.schema is not None:  # data asks nobody
            return [], None
        author, agents = self._roster.by_id(job.agent_id), self._roster.all()
        if len(answer.content) < LONG:
            addressees = asked_by(answer.content, author, agents)
        else:
            addressees = await asyncio.to_thread(asked_by, answer.content, author, agents)
        if not addressees:
            return [], None
        handed_on = (await self._conversations.get(job.thread_id)).tree.handed_on(job)
        asked, why_not = follow_ups(addressees, job.hops, handed_on)
        note = self._message(job.thread_id, "system", why_not, answer.id, "agent", job.id) if why_not else None
        return [self._job(job.thread_id, answer.id, agent, job.hops + 1, job.terms) for agent in asked], note

    def askers(self, job: Job, conversation: Conversation) -> list[Agent]:
        """Return the agents that have handed a job's question on, the nearest first."""
        found = []
        while job.hops:
            answer = conversation.messages[job.message_id]
            if answer.agent_id is None or answer.job_id is None:
                break
            found.append(self._roster.by_id(answer.agent_id))
            job = conversation.jobs[answer.job_id]
        return found

    async def _ask(self, question: Message, agents: Sequence[Agent], terms: JobTerms, schema: Schema) -> list[Job]:
        jobs = [self._job(question.thread_id, question.id, agent, 0, terms, schema) for agent in agents]
        _, kept = await self._producer.enqueue(question, jobs)
        return kept

    def _message(
        self,
        thread_id: UUID,
        role: Role,
        content: str,
        parent_id: UUID | None,
        source: Source,
        job_id: UUID | None = None,
    ) -> Message:
        return Message(
            id=self._clock.new_id(),
            thread_id=thread_id,
            role=role,
            content=content,
            inserted_at=self._clock.now(),
            parent_id=parent_id,
            source=source,
            job_id=job_id,
        )

    def _job(
        self, thread_id: UUID, message_id: UUID, agent: Agent, hops: int, terms: JobTerms, schema: Schema = None
    ) -> Job:
        return Job(
            id=self._clock.new_id(),
            thread_id=thread_id,
            message_id=message_id,
            agent_id=agent.id,
            model=agent.model,
            inserted_at=self._clock.now(),
            hops=hops,
            schema=schema,
            **terms._asdict(),
        )


def _schema(conversation: Conversation, question: UUID) -> Schema:
    """Return what the answers to a question were last asked to fit."""
    asked = [job.schema for job in conversation.jobs.values() if job.message_id == question]
    return asked[-1] if asked else None

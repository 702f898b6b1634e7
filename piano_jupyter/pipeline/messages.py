"""QuestionSender: queues a job for each agent that a message asks, be it the user's or another agent's answer."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from piano_jupyter.attachments.attachment import Attachment
from piano_jupyter.bus import EventBus
from piano_jupyter.clock import Clock
from piano_jupyter.errors import PianoError, StaleThreadError
from piano_jupyter.events import ThreadBranched
from piano_jupyter.pipeline.agent_registry import AgentRegistry
from piano_jupyter.pipeline.mentions import answering_agents, leading_mentions, limit_delegation, mentioned_agents
from piano_jupyter.pipeline.message_tree import ACTIVE
from piano_jupyter.pipeline.producer import Producer
from piano_jupyter.pipeline.thread_cache import Conversation, ThreadCache
from piano_jupyter.pipeline.threads import Threads
from piano_jupyter.records import Agent, Job, JobTerms, Message, Role, Source, Thread, short
from piano_jupyter.variables.fill_in import FilledText

MAX_SENDS_AT_ONCE = 2  # more would fill the store's queue, and answers would wait behind them
MAX_CHARS_ON_LOOP = 10_000  # of Markdown: a longer text takes too long to parse on the event loop

Schema = Mapping[str, Any] | None  # that answers must match


class QuestionSender:
    """Stores questions and queues their jobs."""

    def __init__(
        self,
        bus: EventBus,
        clock: Clock,
        producer: Producer,
        thread_cache: ThreadCache,
        agents: AgentRegistry,
        threads: Threads,
    ) -> None:
        self._bus, self._clock, self._producer = bus, clock, producer
        self._thread_cache, self._agents, self._threads = thread_cache, agents, threads
        self._sends = asyncio.Semaphore(MAX_SENDS_AT_ONCE)

    def answering_agents(self, text: str, names: Sequence[str], thread: Thread | None) -> list[Agent]:
        """Return who answers: the agents in `names`, else those mentioned at the start, else the thread's agent."""
        if named := list({agent.id: agent for agent in map(self._agents.by_name, names)}.values()):
            return named
        return answering_agents(text, self._agents.all(), thread)

    async def ask(
        self,
        text: FilledText,
        agents: Sequence[Agent],
        thread: Thread,
        source: Source,
        terms: JobTerms,
        schema: Schema = None,
        attachments: Sequence[Attachment] = (),
    ) -> list[Job]:
        """Store a message at the end of a thread, with a job for each agent."""
        async with self._thread_cache.write_lock(thread.id), self._sends:
            while True:
                conversation = await self._thread_cache.get(thread.id)
                last = conversation.tree.last_message()
                question = self._question(thread.id, text, last.id if last else None, source)
                question = replace(question, attachments=tuple(attachments))
                try:
                    return await self._ask(question, agents, terms, schema, conversation.newest)
                except StaleThreadError:  # another notebook asked at the same moment: this question follows that one
                    self._thread_cache.forget(thread.id)

    async def agents_of_edit(self, message: Message, text: FilledText) -> list[Agent]:
        """Return who answers an edited question: the agents mentioned at its start, or else those of the original.

        Raises PianoError if the message is not a question of the user.
        """
        if message.role != "user":
            raise PianoError(
                f"{short(message.id)} is not a question of yours; %piano regenerate answers a question again"
            )
        thread, conversation = await self._threads.locate(message)
        return leading_mentions(text.typed, self._agents.all()) or self._asked_before(message, thread, conversation)

    async def edit(
        self,
        message: Message,
        text: FilledText,
        agents: Sequence[Agent],
        source: Source,
        terms: JobTerms,
        attachments: Sequence[Attachment],
    ) -> list[Job]:
        """Store an edited question beside the original; its answers must match the schema of that."""
        thread, conversation = await self._threads.locate(message)
        async with self._thread_cache.write_lock(thread.id):
            question = self._question(thread.id, text, message.parent_id, source)
            question = replace(question, attachments=tuple(attachments))
            jobs = await self._ask(question, agents, terms, _schema(conversation, message.id))
        self._bus.publish(ThreadBranched(thread_id=thread.id, message_id=question.id))
        return jobs

    async def regenerate(self, message: Message, terms: JobTerms) -> list[Job]:
        """Have the question that a message is, or answers, answered again by the agents that answered it before.

        Agents whose job for it is queued or running are not asked twice.
        """
        thread, conversation = await self._threads.locate(message)
        old = conversation.jobs.get(message.job_id) if message.job_id is not None else None
        question, hops = (old.message_id, old.hops) if old else (conversation.tree.question_of(message.id), 0)
        if question is None:
            raise PianoError(
                f"{short(message.id)} answers no question of this thread, so there is nothing to ask again"
            )
        if message.role == "user":
            agents = self._asked_before(message, thread, conversation)
        else:
            known = [agent for agent in self._agents.all() if agent.id == message.agent_id]
            agents = known or self._asked_before(conversation.messages[question], thread, conversation)
        async with self._thread_cache.write_lock(thread.id):
            asked = [job for job in conversation.jobs.values() if job.message_id == question]
            active = {job.agent_id: job for job in asked if job.status in ACTIVE}
            schema = _schema(conversation, question)
            jobs = [
                active.get(agent.id)
                or await self._producer.add(self._job(thread.id, question, agent, hops, terms, schema))
                for agent in agents
            ]
        self._bus.publish(ThreadBranched(thread_id=thread.id, message_id=question))
        return jobs

    def _asked_before(self, question: Message, thread: Thread, conversation: Conversation) -> list[Agent]:
        asked = [job.agent_id for job in conversation.jobs.values() if job.message_id == question.id]
        found = (self._agents.by_id(each) for each in dict.fromkeys(asked))
        before = [agent for agent in found if not agent.deleted]
        return before or answering_agents(question.typed or question.content, self._agents.all(), thread)

    async def delegate(self, job: Job, answer: Message) -> tuple[list[Job], Message | None]:
        """Return jobs for the agents that an answer mentions, and a note about those that it may not ask.

        They run under the mode, rules and server of the job whose answer it is.
        """
        if job.schema is not None:  # an answer that is data delegates nothing
            return [], None
        author, agents = self._agents.by_id(job.agent_id), self._agents.all()
        if len(answer.content) < MAX_CHARS_ON_LOOP:
            mentioned = mentioned_agents(answer.content, author, agents)
        else:
            mentioned = await asyncio.to_thread(mentioned_agents, answer.content, author, agents)
        if not mentioned:
            return [], None
        delegated = (await self._thread_cache.get(job.thread_id)).tree.count_delegated(job)
        asked, why_not = limit_delegation(mentioned, job.hops, delegated)
        note = self._message(job.thread_id, "system", why_not, answer.id, "agent", job.id) if why_not else None
        return [self._job(job.thread_id, answer.id, agent, job.hops + 1, job.terms) for agent in asked], note

    def delegators(self, job: Job, conversation: Conversation) -> list[Agent]:
        """Return the agents that delegated a job's question, the latest first."""
        found = []
        while job.hops:
            answer = conversation.messages[job.message_id]
            if answer.agent_id is None or answer.job_id is None:
                break
            found.append(self._agents.by_id(answer.agent_id))
            job = conversation.jobs[answer.job_id]
        return found

    async def _ask(
        self, question: Message, agents: Sequence[Agent], terms: JobTerms, schema: Schema, newest: int | None = None
    ) -> list[Job]:
        jobs = [self._job(question.thread_id, question.id, agent, 0, terms, schema) for agent in agents]
        _, jobs = await self._producer.enqueue(question, jobs, newest)
        return jobs

    def _question(self, thread_id: UUID, text: FilledText, parent_id: UUID | None, source: Source) -> Message:
        question = self._message(thread_id, "user", text.sent, parent_id, source)
        typed = text.typed if text.typed != text.sent else ""
        return replace(question, typed=typed, inserted=text.inserted if typed else ())

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
    """Return the schema that the answers to a question must match, as last asked."""
    asked = [job.schema for job in conversation.jobs.values() if job.message_id == question]
    return asked[-1] if asked else None

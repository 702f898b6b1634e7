"""TurnRunner: gathers what the turn of a job needs when it starts, then runs it."""

import asyncio
from bisect import bisect_left
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Protocol
from uuid import UUID

from piano_jupyter.attachments.attachment import Attachment
from piano_jupyter.bus import EventBus
from piano_jupyter.clock import Clock
from piano_jupyter.config import PianoConfig
from piano_jupyter.errors import ModelNotServedError, ModelUnavailableError, NotFoundError
from piano_jupyter.events import Event, ModelLoading
from piano_jupyter.pipeline.agent_registry import AgentRegistry
from piano_jupyter.pipeline.approval_gate import ApprovalGate
from piano_jupyter.pipeline.approvals import Approvals, tool_calls_of
from piano_jupyter.pipeline.attached_content import read_content
from piano_jupyter.pipeline.job_log import JobLog
from piano_jupyter.pipeline.message_tree import Branch
from piano_jupyter.pipeline.messages import QuestionSender
from piano_jupyter.pipeline.thread_cache import Conversation, ThreadCache
from piano_jupyter.records import EMBEDDED, Agent, Approval, Job, JobStatus, Message, short
from piano_jupyter.runner.model.protocol import ChatModel
from piano_jupyter.runner.model.server.model_list import ASK_ANOTHER, GIVE_AGENT_ANOTHER
from piano_jupyter.runner.skills.skill_context import SkillContext
from piano_jupyter.runner.skills.skill_registry import SkillRegistry
from piano_jupyter.runner.tools.mcp.mcp_servers import McpServers
from piano_jupyter.runner.tools.tool_registry import ToolRegistry
from piano_jupyter.runner.turn.context_window import last_trim
from piano_jupyter.runner.turn.run_turn import run_turn
from piano_jupyter.runner.turn.turn_input import TurnInput
from piano_jupyter.secrets.known_secrets import SecretMask
from piano_jupyter.store.base import Store

MAX_ATTACHED_BYTES = 16 * 2**20  #: in one request; of more, the oldest are left out

#: What the agent reads in place of an answer that never came.
NO_ANSWER = {JobStatus.CANCELLED: "(stopped by the user, not answered)", JobStatus.FAILED: "(not answered: an error)"}


class TurnDependencies(Protocol):
    """What turns need from the other components."""

    clock: Clock
    thread_cache: ThreadCache
    agents: AgentRegistry
    question_sender: QuestionSender
    job_log: JobLog
    approvals: Approvals
    approval_gate: ApprovalGate
    tools: ToolRegistry
    mcp: McpServers
    skills: SkillRegistry
    mask: SecretMask

    @property
    def store(self) -> Store:
        """The store."""
        ...

    async def context(self, model: str) -> int | None:
        """Return the size of a model's context window in tokens, if it is known."""

    async def sees_images(self, model: str) -> bool | None:
        """Return whether a model sees images; None if it is not known."""

    async def address(self) -> str:
        """Return the server that a question would go to now."""
        ...


class TurnRunner:
    """Runs the turns of jobs."""

    def __init__(self, dependencies: TurnDependencies, config: PianoConfig, bus: EventBus, model: ChatModel) -> None:
        self._dependencies, self._config, self._bus, self._model = dependencies, config, bus, model

    async def run(self, job: Job) -> AsyncGenerator[Event, None]:
        """Yield the events of a job's turn, last an `Answered`. Raises PianoError if there is no answer."""
        if job.server not in {"", EMBEDDED} and await self._dependencies.address() == EMBEDDED:
            raise ModelUnavailableError(
                f"this was sent to {job.server}, and questions go to the embedded model now: "
                f"%piano retry {short(job.id)} sends it there"
            )
        conversation = await self._dependencies.thread_cache.get(job.thread_id)
        agent = self._dependencies.agents.by_id(job.agent_id)
        if agent.deleted:
            raise NotFoundError(f"the agent {agent.name!r} was deleted; ask another one")
        get_prompts, names = self._dependencies.skills.get_prompts, agent.enabled_skills
        skills = await asyncio.to_thread(get_prompts, names) if names else get_prompts(())
        branch = conversation.tree.history(job)
        has_begun = branch.messages[-1].job_id == job.id
        asked_before = await self._dependencies.approvals.earlier_requests(job) if has_begun else []
        if starting := self._dependencies.mcp.not_running(agent.enabled_tools):
            note = f"starting the MCP server {', '.join(starting)}"
            yield ModelLoading(thread_id=job.thread_id, job_id=job.id, note=note, model=job.model)
        await self._dependencies.mcp.prepare(agent.enabled_tools)
        turn = self._input(job, agent, conversation, branch, skills, asked_before)
        turn = replace(turn, attached=await self._attached(turn))
        delegators = self._dependencies.question_sender.delegators(job, conversation)
        permit = self._dependencies.approval_gate.for_turn(
            job, agent, delegators, asked_before, skill_tools=skills.tools
        )
        loop = asyncio.get_running_loop()

        def publish(event: Event) -> None:  # called on any thread: that of a tool
            loop.call_soon_threadsafe(self._bus.publish, self._dependencies.mask(event))

        model = self._dependencies.job_log.watch(self._model, job.id)
        async with aclosing(run_turn(turn, model, permit, publish, self._dependencies.clock)) as events:
            try:
                async for event in events:
                    yield event
            except ModelNotServedError as error:  # the model's client does not know who asks
                advice = ASK_ANOTHER if job.model != agent.model else GIVE_AGENT_ANOTHER.replace("NAME", agent.name)
                error.args = (str(error).replace(GIVE_AGENT_ANOTHER, advice),)
                raise

    async def _attached(self, turn: TurnInput) -> Mapping[str, bytes]:
        """Return what the agent reads and sees of attachments: images only if its model sees them.

        What its own calls have shown comes after what was sent with questions, and only if the server says so.
        """
        asked = [each for each in turn.history if each.role == "user" and each.attachments]
        own = {each.id for each in turn.history if each.agent_id == turn.agent.id}
        shown = [each for each in turn.calls if each.attachments and each.message_id in own]
        if not (asked or shown):
            return {}
        sees = await self._dependencies.sees_images(turn.job.model)
        if sees is False:
            asked = [replace(each, attachments=_without_images(each)) for each in asked]
        records = [*(shown if sees else ()), *asked]
        return await read_content(self._dependencies.store, records, MAX_ATTACHED_BYTES)

    def _input(
        self,
        job: Job,
        agent: Agent,
        conversation: Conversation,
        branch: Branch,
        skills: SkillContext,
        asked_before: list[Approval],
    ) -> TurnInput:
        config = self._config
        begins = last_trim(branch.messages, agent.id).start_index(branch.questions)
        history, gone = branch.messages[begins:], branch.messages[:begins] if conversation.calls else []
        tools = {tool.name: tool for tool in (*self._dependencies.tools.tools_of_agent(agent), *skills.tools)}
        return TurnInput(
            job=job,
            agent=agent,
            history=history,
            calls=conversation.tool_calls(history),
            trimmed_turns=bisect_left(branch.questions, begins),
            trimmed_calls=len(conversation.tool_calls(each for each in gone if each.agent_id == agent.id)),
            pending=tool_calls_of(asked_before),
            unanswered=_unanswered(conversation, job),
            names={each.id: each.name for each in self._dependencies.agents.all(deleted=True)},
            skills=skills.prompt,
            versions=skills.versions,
            tools=[tools[name] for name in sorted(tools)],
            max_iterations=agent.max_iterations or config.max_iterations,
            max_tool_calls=config.max_tool_calls,
            max_turn_tokens=config.max_turn_tokens,
            max_turn_s=config.max_turn_s,
            tool_timeout=config.tool_timeout,
            tool_output_limit=config.tool_output_limit,
            context=self._dependencies.context,
            sees_images=self._dependencies.sees_images,
            summarize=config.summarize,
            mask=self._dependencies.mask,
        )


def _without_images(message: Message) -> tuple[Attachment, ...]:
    return tuple(each for each in message.attachments if not each.is_image)


def _unanswered(conversation: Conversation, job: Job) -> dict[UUID, str]:
    """Return the messages that all who were asked failed to answer, each with what the agent reads in its place."""
    ends: dict[UUID, JobStatus] = {}
    for each in conversation.jobs.values():
        if ends.get(each.message_id, each.status) in NO_ANSWER:
            ends[each.message_id] = each.status
    return {
        message_id: NO_ANSWER[status]
        for message_id, status in ends.items()
        if status in NO_ANSWER and message_id != job.message_id
    }

"""AgentRegistry: the agents, in the store and cached here; those that another notebook changes are read again.

In a database that the user does not trust, an agent has only the tools that the user set since it was opened.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any
from uuid import UUID

from piano_jupyter.bus import EventBus
from piano_jupyter.clock import Clock
from piano_jupyter.errors import NotFoundError, PianoError, StoreError
from piano_jupyter.events import AgentAdded
from piano_jupyter.pipeline.mentions import agent_named, check_name
from piano_jupyter.pipeline.trust import Trust
from piano_jupyter.records import Agent
from piano_jupyter.store.base import Store

DEFAULT_AGENT = "Assistant"
DEFAULT_PROMPT = "You are a helpful assistant. Answer briefly and plainly."
AGENT_FIELDS = [field.name for field in fields(Agent) if field.name not in {"id", "inserted_at", "deleted"}]
LIST_FIELDS = ("enabled_tools", "enabled_skills")

Check = Callable[[Mapping[str, Any]], None]


class AgentRegistry:
    """The agents. `check` raises NotFoundError for tools and skills that do not exist."""

    def __init__(self, store: Store, bus: EventBus, clock: Clock, trust: Trust, check: Check) -> None:
        self._store, self._bus, self._clock, self._trust, self._check = store, bus, clock, trust, check
        self._stored: list[Agent] = []  # as the store has them
        self._tools_set_here = set[UUID]()  # agents whose tools the user set since the database was opened
        self._reading: asyncio.Task[None] | None = None
        bus.subscribe(self._follow, AgentAdded)

    async def open(self, first_model: str) -> None:
        """Read the agents; create one where there is none yet."""
        await self.refresh()
        if not self.all():
            try:
                await self.add(DEFAULT_AGENT, first_model, system_prompt=DEFAULT_PROMPT)
            except StoreError:  # another notebook, which opens the database at the same time, has created it
                await self.refresh()
                if not self.all():
                    raise

    async def refresh(self) -> None:
        """Read the agents again."""
        self._stored = await self._store.agents()

    def all(self, *, deleted: bool = False) -> list[Agent]:
        """Return the agents, oldest first; with `deleted` also those that were deleted."""
        return [self._trusted(each) for each in self._stored if deleted or not each.deleted]

    def by_name(self, name: str) -> Agent:
        """Return one agent. Raises NotFoundError."""
        return agent_named(self.all(), name)

    def by_id(self, agent_id: UUID) -> Agent:
        """Return one agent, even if it was deleted. Raises NotFoundError."""
        if (agent := self.find(agent_id)) is None:
            raise NotFoundError(f"no agent with the id {agent_id}")
        return agent

    def find(self, agent_id: UUID) -> Agent | None:
        """Return one agent, even if it was deleted; None if none has this id."""
        return next((self._trusted(agent) for agent in self._stored if agent.id == agent_id), None)

    def withheld(self) -> list[Agent]:
        """Return the agents that may not use their tools, with these tools."""
        held = (each for each in self._stored if each.enabled_tools and not self._may_use_tools(each))
        return [each for each in held if not each.deleted]

    def _trusted(self, agent: Agent) -> Agent:
        return agent if self._may_use_tools(agent) else replace(agent, enabled_tools=())

    def _may_use_tools(self, agent: Agent) -> bool:
        return self._trust.is_trusted or agent.id in self._tools_set_here

    async def add(self, name: str, model: str, **fields: Any) -> Agent:
        """Create an agent. Raises PianoError for a name that is taken or cannot be mentioned."""
        known = self._checked({"name": name, "model": model} | fields)
        agent = await self._store.add_agent(Agent(id=self._clock.new_id(), inserted_at=self._clock.now(), **known))
        self._tools_set_here.add(agent.id)
        self._take_in(agent)
        return self._changed(agent)

    async def update(self, name: str, /, **fields: Any) -> Agent:
        """Change an agent. Raises NotFoundError."""
        agent = await self._store.update_agent(replace(self._named(name), **self._checked(fields)))
        if "enabled_tools" in fields:
            self._tools_set_here.add(agent.id)
        self._take_in(agent)
        return self._changed(agent)

    async def delete(self, name: str) -> Agent:
        """Delete an agent. Raises NotFoundError; PianoError for the last one."""
        agent = self._named(name)
        if [each.id for each in self.all()] == [agent.id]:
            raise PianoError(f"{agent.name!r} is your only agent; create another one before you delete it")
        agent = await self._store.update_agent(replace(agent, deleted=True))
        self._take_in(agent)
        return self._changed(agent)

    def _named(self, name: str) -> Agent:
        """Return an agent as the store has it. Raises NotFoundError."""
        return agent_named((each for each in self._stored if not each.deleted), name)

    def _follow(self, event: AgentAdded) -> None:
        """Take in an agent that another notebook has added or changed; it may have left out tools, which are read."""
        if self.find(event.agent.id) != event.agent:
            self._take_in(event.agent)
            self._reading = asyncio.create_task(self.refresh(), name="piano-agents")

    def _take_in(self, agent: Agent) -> None:
        stored = {each.id: each for each in self._stored}
        self._stored = list((stored | {agent.id: agent}).values())

    def _changed(self, agent: Agent) -> Agent:
        agent = self._trusted(agent)
        self._bus.publish(AgentAdded(agent=agent))
        return agent

    def _checked(self, fields: dict[str, Any]) -> dict[str, Any]:
        for name in fields.keys() - set(AGENT_FIELDS):
            raise NotFoundError.among("field of an agent", name, AGENT_FIELDS)
        if "name" in fields:
            check_name(fields["name"])
        if "model" in fields and not fields["model"].strip():
            raise PianoError("an agent needs a model; %piano models lists those of the server")
        self._check(fields)
        return {name: tuple(value) if name in LIST_FIELDS else value for name, value in fields.items()}

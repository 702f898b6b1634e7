"""AgentRegistry: the agents. Kept in the store, at hand here: only this process changes them.

In a database that the user does not trust, an agent has only the tools that the user has given it since it was opened.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any
from uuid import UUID

from piano_jupyter.bus import EventBus
from piano_jupyter.clock import Clock
from piano_jupyter.errors import NotFoundError, PianoError
from piano_jupyter.events import AgentAdded
from piano_jupyter.pipeline.mentions import checked_name, named
from piano_jupyter.pipeline.trust import Trust
from piano_jupyter.records import Agent
from piano_jupyter.store.base import Store

FIRST_AGENT = "Assistant"
FIRST_PROMPT = "You are a helpful assistant. Answer briefly and plainly."
FIELDS = [field.name for field in fields(Agent) if field.name not in {"id", "inserted_at"}]
LISTS = ("enabled_tools", "enabled_skills")

Check = Callable[[Mapping[str, Any]], None]


class AgentRegistry:
    """Who can answer. `check` raises NotFoundError for tools and skills that do not exist."""

    def __init__(self, store: Store, bus: EventBus, clock: Clock, trust: Trust, check: Check) -> None:
        self._store, self._bus, self._clock, self._trust, self._check = store, bus, clock, trust, check
        self._kept: list[Agent] = []  # as they are kept
        self._given = set[UUID]()  # the agents whose tools the user has set since the database was opened

    async def open(self, first_model: str) -> None:
        """Read the agents; the first run creates one."""
        self._kept = await self._store.agents()
        if not self._kept:
            await self.add(FIRST_AGENT, first_model, system_prompt=FIRST_PROMPT)

    def all(self) -> list[Agent]:
        """Return the agents, oldest first."""
        return list(map(self._trusted, self._kept))

    def named(self, name: str) -> Agent:
        """Return one agent. Raises NotFoundError."""
        return named(self.all(), name)

    def by_id(self, agent_id: UUID) -> Agent:
        """Return one agent. Raises NotFoundError."""
        if (agent := self.find(agent_id)) is None:
            raise NotFoundError(f"no agent with the id {agent_id}")
        return agent

    def find(self, agent_id: UUID) -> Agent | None:
        """Return one agent, None if there is none with this id."""
        return next((self._trusted(agent) for agent in self._kept if agent.id == agent_id), None)

    def withheld(self) -> list[Agent]:
        """Return the agents whose tools do not count, with these tools."""
        return [each for each in self._kept if each.enabled_tools and not self._counts(each)]

    def _trusted(self, agent: Agent) -> Agent:
        return agent if self._counts(agent) else replace(agent, enabled_tools=())

    def _counts(self, agent: Agent) -> bool:
        return self._trust.given or agent.id in self._given

    async def add(self, name: str, model: str, **fields: Any) -> Agent:
        """Create an agent. Raises PianoError for a name that is taken or no handle."""
        known = self._checked({"name": name, "model": model} | fields)
        agent = await self._store.add_agent(Agent(id=self._clock.new_id(), inserted_at=self._clock.now(), **known))
        self._given.add(agent.id)
        self._kept = [*self._kept, agent]
        return self._changed(agent)

    async def update(self, name: str, **fields: Any) -> Agent:
        """Change an agent. Raises NotFoundError."""
        agent = await self._store.update_agent(replace(named(self._kept, name), **self._checked(fields)))
        if "enabled_tools" in fields:
            self._given.add(agent.id)
        self._kept = [agent if each.id == agent.id else each for each in self._kept]
        return self._changed(agent)

    def _changed(self, agent: Agent) -> Agent:
        agent = self._trusted(agent)
        self._bus.publish(AgentAdded(agent=agent))
        return agent

    def _checked(self, fields: dict[str, Any]) -> dict[str, Any]:
        for name in fields.keys() - set(FIELDS):
            raise NotFoundError.among("field of an agent", name, FIELDS)
        if "name" in fields:
            checked_name(fields["name"])
        if "model" in fields and not fields["model"].strip():
            raise PianoError("an agent needs a model; %piano models lists those of the server")
        self._check(fields)
        return {name: tuple(value) if name in LISTS else value for name, value in fields.items()}

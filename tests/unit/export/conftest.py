"""A conversation to export: two agents, a tool, a note."""

from dataclasses import dataclass, field, replace
from uuid import UUID

import pytest

from piano_jupyter.export import ExportedThread, exported
from piano_jupyter.records import Agent, Message, Thread, ToolCall


@dataclass
class Talk:
    """A thread with what was said in it; `say` as in a script."""

    make: object
    thread: Thread
    agents: dict[str, Agent]
    messages: list[Message] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)

    def ask(self, text):
        parent = self.messages[-1].id if self.messages else None
        self.messages.append(self.make.message(text, parent_id=parent))
        return self

    def say(self, name, text, *calls, to=None, **fields):
        parent = self.messages[to].id if to is not None else self.messages[-1].id if self.messages else None
        author = self.agents[name].id if name else None
        said = {"agent_id": author, "job_id": UUID(int=77), "parent_id": parent, "role": "assistant", **fields}
        self.messages.append(self.make.message(text, **said))
        self.calls += [self.make.call(self.messages[-1], *call[:1], call[2], arguments=call[1]) for call in calls]
        return self

    def export(self, form):
        names = {agent.id: agent.name for agent in self.agents.values()}
        return exported(form, ExportedThread(self.thread, self.messages, self.calls, names))


@pytest.fixture
def talk(make):
    agents = {name: make.agent(name, system_prompt="Secret!", model="big") for name in ("ada", "bob")}
    thread = Thread(id=UUID(int=9), title="Sums", inserted_at=agents["ada"].inserted_at)
    return Talk(make, thread, agents)


@pytest.fixture
def sums(talk):
    """A thread in which a tool is called, two agents answer one question, and a note stands."""
    talk.ask("How much is 1 + 1?").say("ada", "Let me see.", ("add", {"a": 1, "b": 1}, "2")).say("ada", "It is 2.")
    talk.ask("Sure?").say("ada", "Yes.").say("bob", "I think so.", to=3)
    talk.say(None, "not asked: @eve", role="system")
    talk.messages[1] = replace(talk.messages[1], reasoning="hm", usage={"model": "big"})
    return talk

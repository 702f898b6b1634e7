"""What a page asks about agents: list them, and pick those that answer in the thread shown."""

from typing import Any

from piano_jupyter.errors import NotFoundError
from piano_jupyter.jupyter.panel.actions.action_panel import Panel
from piano_jupyter.jupyter.panel.actions.page_request import PageRequest, parse_id
from piano_jupyter.records import Agent


async def agents(panel: Panel, _request: PageRequest) -> dict[str, Any]:
    """Return the agents, oldest first, and who answers the next question that mentions nobody."""
    everyone = await panel.piano.agents()
    answering = await answering_agents(panel)
    return {
        "agents": [
            {
                "id": str(each.id),
                "name": each.name,
                "description": each.description,
                "model": panel.piano.answering_model(each.model),
                "tools": list(each.enabled_tools),
                "skills": list(each.enabled_skills),
                "picked": each in answering,
            }
            for each in everyone
        ],
        "answering": [each.name for each in answering],
        "title": panel.thread.title,
    }


async def pick(panel: Panel, request: PageRequest) -> None:
    """Pick who answers in the thread shown: one agent is stored with it, several are kept while the panel lives."""
    known = {agent.id: agent for agent in await panel.piano.agents()}
    ids = list(dict.fromkeys(map(parse_id, request.texts("agents"))))
    if not ids or any(each not in known for each in ids):
        raise NotFoundError("pick an agent that is there")
    if len(ids) > 1:
        panel.picked[panel.thread.id] = tuple(ids)
    else:
        panel.picked.pop(panel.thread.id, None)
        await panel.piano.set_primary_agent(panel.thread, known[ids[0]].name)
    panel.tell("agents", "model")


async def answering_agents(panel: Panel) -> list[Agent]:
    """Return who answers the next question that mentions nobody."""
    everyone = await panel.piano.agents()
    picked = [each for each in everyone if each.id in panel.picked.get(panel.thread.id, ())]
    primary = [each for each in everyone if each.id == panel.thread.primary_agent_id]
    return picked or primary or everyone[:1]


async def picked_agents(panel: Panel) -> list[str]:
    """Return the names of the agents that answer together, if several are picked for the thread shown."""
    names = [each.name for each in await answering_agents(panel)]
    return names if len(names) > 1 else []


ACTIONS = {"agents": agents, "pick": pick}

"""What a page asks about agents: list, create, change, rename and delete them, and pick those that answer."""

from collections.abc import Mapping
from typing import Any

from piano_jupyter.errors import NotFoundError, PianoError
from piano_jupyter.jupyter.panel.actions.action_panel import Panel
from piano_jupyter.jupyter.panel.actions.page_request import PageRequest, parse_id
from piano_jupyter.jupyter.render.cards import model_and_answering
from piano_jupyter.records import Agent
from piano_jupyter.text.json_text import parse_json

TEXTS = ("model", "description", "system_prompt")
MCP_START_S = 15.0
LISTS = ("enabled_tools", "enabled_skills")


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
                "model": model_shown(panel, each),
                "tools": list(each.enabled_tools),
                "skills": list(each.enabled_skills),
                "picked": each in answering,
            }
            for each in everyone
        ],
        "answering": [each.name for each in answering],
        "title": panel.thread.title,
    }


def model_shown(panel: Panel, agent: Agent) -> str:
    """Return the model that answers for an agent, and the agent's own if that is another."""
    return model_and_answering(agent.model, panel.piano.answering_model(agent.model))


async def agent_form(panel: Panel, _request: PageRequest) -> dict[str, Any]:
    """Return all that an agent can be given, and each agent as it is."""
    await panel.piano.mcp_servers(start_within=MCP_START_S)  # of servers that take longer, the next form has the tools
    everyone, verdicts = await panel.piano.agents(), await panel.piano.tool_verdicts()
    return {
        "agents": [
            {
                "id": str(each.id),
                "name": each.name,
                "answers": model_shown(panel, each),
                **{field: getattr(each, field) for field in TEXTS},
                **{field: list(getattr(each, field)) for field in LISTS},
                "options": dict(each.options),
                "max_iterations": each.max_iterations,
            }
            for each in everyone
        ],
        "models": panel.piano.known_models(),
        "default_model": panel.piano.config.default_model,
        "default_iterations": panel.piano.config.max_iterations,
        "mode": panel.piano.config.mode,
        "tools": [
            [tool.name, tool.description.splitlines()[0], str(verdicts[tool.name])]
            for tool in await panel.piano.tools()
        ],
        "skills": [[skill.name, skill.description] for skill in await panel.piano.skills()],
    }


async def save_agent(panel: Panel, request: PageRequest) -> str:
    """Create an agent, or change the one that is named by its id; return its id."""
    name, fields = request.text("name").strip().removeprefix("@"), _fields(request)
    if not request.text():
        return str((await panel.piano.add_agent(name, **fields)).id)
    agent = await _agent(panel, request)
    if name != agent.name:
        agent = await panel.piano.rename_agent(agent.name, name)
    return str((await panel.piano.update_agent(agent.name, **fields)).id)


async def delete_agent(panel: Panel, request: PageRequest) -> None:
    """Delete an agent; what it has written keeps its author."""
    await panel.piano.delete_agent((await _agent(panel, request)).name)


def _fields(request: PageRequest) -> dict[str, Any]:
    """Return the fields of an agent that a form gives. Raises PianoError."""
    fields: dict[str, Any] = {name: request.text(name) for name in TEXTS}
    fields |= {name: tuple(request.texts(name)) for name in LISTS}
    fields["model"] = fields["model"].strip()
    if not fields["model"]:
        raise PianoError("an agent needs a model")
    rounds = request.text("max_iterations").strip()
    if rounds and not (rounds.isdecimal() and int(rounds) > 0):
        raise PianoError(f"the number of rounds is a whole number of at least 1, not {rounds!r}")
    return fields | {"max_iterations": int(rounds) if rounds else None, "options": _options(request.text("options"))}


def _options(written: str) -> Mapping[str, Any]:
    """Return request options that are written as a JSON object; none for an empty text. Raises PianoError."""
    try:
        options = parse_json(written) if written.strip() else {}
    except ValueError as error:
        raise PianoError(f"the options are not valid JSON: {error}") from None
    if not isinstance(options, dict):
        raise PianoError('the options are a JSON object, such as {"temperature": 0.2}')
    return options


async def _agent(panel: Panel, request: PageRequest) -> Agent:
    """Return the agent that a request names by its id. Raises PianoError."""
    wanted = request.id()
    found = next((each for each in await panel.piano.agents() if each.id == wanted), None)
    if found is None:
        raise NotFoundError("this agent is not there any more")
    return found


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


ACTIONS = {
    "agents": agents,
    "pick": pick,
    "agent_form": agent_form,
    "save_agent": save_agent,
    "delete_agent": delete_agent,
}

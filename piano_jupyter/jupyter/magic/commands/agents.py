"""%piano agents, agent, tools, skills: who answers, and what they can use."""

import asyncio
import math
import re
from functools import partial
from typing import TYPE_CHECKING, Any

from piano_jupyter.errors import NotFoundError, PianoError
from piano_jupyter.jupyter.magic.command import required, whole_number
from piano_jupyter.jupyter.magic.confirmation import UNCHANGED, confirmed
from piano_jupyter.jupyter.magic.user_files import read_text
from piano_jupyter.jupyter.render.cards import agents_table, skill_card
from piano_jupyter.jupyter.render.tables import Note, RecordTable
from piano_jupyter.jupyter.session import Session
from piano_jupyter.text.invisible import terminal_text
from piano_jupyter.text.json_text import parse_json
from piano_jupyter.text.truncation import truncated
from piano_jupyter.tool import Verdict

if TYPE_CHECKING:
    from piano_jupyter.piano import Piano

AGENT_FIELDS = {"tools": "enabled_tools", "skills": "enabled_skills"}
OUTCOMES = {Verdict.ALLOW: "runs", Verdict.ASK: "asks", Verdict.DENY: "denied"}
EXAMPLE = "ada --model qwen3:8b --tools read_file,bash --temperature 0.2"


async def agents(piano: "Piano") -> Any:
    """List the agents, oldest first."""
    return agents_table(await piano.agents(), piano.answering_model)


def agent(
    session: Session,
    text: str,
    *,
    cell: str | None = None,
    rename: str | None = None,
    delete: bool = False,
    yes: bool = False,
    **given: str,
) -> Any:
    """Create an agent or change one; without options, show the agent.

    Settings that are not named stay as they are. --option sets any other request option, with a JSON value; null
    removes it: --option seed=7,top_p=0.9. --max-iterations limits how often one turn may call the model. --rename gives
    it another name. --delete deletes it; it asks first, unless you add --yes. What it has written stays.
    """
    name = required("agent", text, f"%piano agent {EXAMPLE}").removeprefix("@")
    if (delete or rename is not None) and (given or cell is not None or (delete and rename is not None)):
        raise PianoError("--rename and --delete stand alone: %piano agent ada --rename grace")
    if rename is not None:
        return session.call(lambda piano: piano.rename_agent(name, rename.removeprefix("@")))
    if delete:
        return _delete(session, name, yes=yes)
    return session.call(partial(_agent, name, cell, given))


def _delete(session: Session, name: str, *, yes: bool) -> Any:
    """Delete an agent, once the user has said so."""
    found = session.call(lambda piano: piano.agent(name))
    if not confirmed(session, f"Delete the agent @{found.name}? What it has written stays.", yes=yes):
        return Note(UNCHANGED)
    session.call(lambda piano: piano.delete_agent(found.name))
    return Note(f"the agent @{found.name} is deleted")


async def _agent(name: str, cell: str | None, given: dict[str, str], piano: "Piano") -> Any:
    """Create, change or return an agent."""
    file = given.pop("system_file", None)
    written = file and await asyncio.to_thread(read_text, file, piano.config.workspace)
    prompts = [each for each in (given.pop("system", None), written, cell) if each is not None]
    if len(prompts) > 1:
        raise PianoError("give the system prompt with --system, with --system-file or in the cell, only one of them")
    options = request_options(given.pop("temperature", None), given.pop("option", ""))
    max_iterations = whole_number("--max-iterations", given.pop("max_iterations", None), minimum=1)
    changes: dict[str, Any] = dict(given)
    for key in given.keys() & AGENT_FIELDS.keys():
        changes[AGENT_FIELDS[key]] = tuple(each.strip() for each in changes.pop(key).split(",") if each.strip())
    changes |= {"system_prompt": prompts[0]} if prompts else {}
    changes |= {"max_iterations": max_iterations} if max_iterations is not None else {}
    old = {agent.name.casefold(): agent for agent in await piano.agents()}.get(name.casefold())
    if options:
        merged = {**(old.options if old else {}), **options}
        changes["options"] = {option: value for option, value in merged.items() if value is not None}
    if old is None and changes:
        return await piano.add_agent(name, **changes)
    try:
        return await (piano.update_agent(name, **changes) if changes else piano.agent(name))
    except NotFoundError as error:
        if old is not None:
            raise
        raise NotFoundError(f"{error}; %piano agent {name} --model M creates it") from None


async def tools(piano: "Piano") -> Any:
    """List the tools that agents can be given, those of MCP servers too, and what happens to a call in this mode."""
    await piano.mcp_servers(start_within=piano.config.mcp_timeout)
    verdicts = await piano.tool_verdicts()
    return RecordTable(
        await piano.tools(),
        "no tools",
        name=lambda tool: tool.name,
        takes=lambda tool: ", ".join(tool.parameters.get("properties", {})),
        **{f"in mode {piano.config.mode}": lambda tool: OUTCOMES[verdicts[tool.name]]},
        description=lambda tool: tool.description.splitlines()[0],
    )


def skills(session: Session, text: str) -> Any:
    """List the skills and any problems in their files; or show one skill."""
    if text:
        return skill_card(session.call(lambda piano: piano.skill(text)))
    found = session.call(lambda piano: piano.skills())
    for problem in session.call(lambda piano: piano.skill_problems()):
        print(terminal_text(problem))  # noqa: T201  Above the table, in the cell.
    return RecordTable(found, "no skills", name=lambda skill: skill.name, description=lambda skill: skill.description)


def request_options(temperature: str | None, written: str) -> dict[str, Any]:
    """Parse request options such as `seed=7,top_p=0.9`; None stands for an option to remove.

    A value that is not JSON is taken as text, unless it starts like a JSON list, object or string. Raises PianoError.
    """
    options: dict[str, Any] = {}
    for each in filter(None, re.split(r",\s*(?=[A-Za-z_][\w.-]*=)", written)):
        name, given, value = each.partition("=")
        if not given or not name.strip():
            raise PianoError(f"--option takes NAME=VALUE, as in --option seed=7,top_p=0.9, not {each!r}")
        options[name.strip()] = _value(name.strip(), value.strip())
    if temperature is not None:
        options["temperature"] = _temperature(temperature)
    return options


def _value(name: str, written: str) -> Any:
    try:
        return parse_json(written)
    except ValueError:
        if written[:1] in {"[", "{", '"'}:
            shown = truncated(written, 200)
            raise PianoError(f"the value of --option {name} looks like JSON but is not valid: {shown}") from None
        return written


def _temperature(written: str) -> float | None:
    if written == "null":
        return None
    try:
        value = float(written)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise PianoError(
            f"--temperature takes a number of at least 0, or null for the server's default, not {written!r}"
        )
    return value

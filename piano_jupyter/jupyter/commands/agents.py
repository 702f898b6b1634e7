"""%piano agents, agent, tools, skills: who answers, and what they may use."""

from typing import TYPE_CHECKING, Any

from piano_jupyter.errors import PianoError
from piano_jupyter.jupyter.commands.command import Commands, command, pairs
from piano_jupyter.jupyter.display import Listing

if TYPE_CHECKING:
    from piano_jupyter.piano import Piano


class Agents(Commands):
    """Sub-commands about agents."""

    @command()
    def agents(self, _text: str) -> Any:
        """List the agents, oldest first."""
        return Listing(
            self._call(lambda piano: piano.agents()),
            "no agents",
            name=lambda agent: f"@{agent.name}",
            model=lambda agent: agent.model,
            tools=lambda agent: ", ".join(agent.enabled_tools),
            skills=lambda agent: ", ".join(agent.enabled_skills),
            description=lambda agent: agent.description,
        )

    @command(
        "NAME [--model M] [--system TEXT] [--description TEXT] [--tools a,b] [--skills a,b]",
        model=True,
        system=True,
        description=True,
        tools=True,
        skills=True,
    )
    def agent(self, text: str, **fields: str) -> Any:
        """Create an agent, or change one that exists; alone it shows the agent."""
        name = text.removeprefix("@")
        if not name:
            raise PianoError("name the agent: %piano agent ada --model qwen3:8b --tools read_file,bash")
        renamed = {"system": "system_prompt", "tools": "enabled_tools", "skills": "enabled_skills"}
        changes: dict[str, Any] = {renamed.get(key, key): value for key, value in fields.items()}
        for key in ("enabled_tools", "enabled_skills"):
            if key in changes:
                changes[key] = tuple(each.strip() for each in changes[key].split(",") if each.strip())

        async def keep(piano: "Piano") -> Any:
            exists = name.casefold() in {agent.name.casefold() for agent in await piano.agents()}
            if exists or not changes:
                return await (piano.update_agent(name, **changes) if changes else piano.agent(name))
            return await piano.add_agent(name, **changes)

        agent = self._call(keep)
        rows = {
            "name": f"@{agent.name}",
            "model": agent.model,
            "description": agent.description,
            "system prompt": agent.system_prompt,
            "tools": ", ".join(agent.enabled_tools),
            "skills": ", ".join(agent.enabled_skills),
        }
        return pairs(rows)

    @command()
    def tools(self, _text: str) -> Any:
        """List the tools that agents can be given."""
        return Listing(
            self._call(lambda piano: piano.tools()),
            "no tools",
            name=lambda tool: tool.name,
            takes=lambda tool: ", ".join(tool.parameters.get("properties", {})),
            asks=lambda tool: "each time" if tool.asks else "",
            description=lambda tool: tool.description.splitlines()[0],
        )

    @command()
    def skills(self, _text: str) -> Any:
        """List the skills that agents can be given, and what is wrong with those that cannot be read."""

        async def read(piano: "Piano") -> tuple[Any, list[str]]:
            return await piano.skills(), await piano.skill_problems()

        found, problems = self._call(read)
        for problem in problems:
            print(problem)  # noqa: T201  Beside the table, in the cell.
        return Listing(found, "no skills", name=lambda skill: skill.name, description=lambda skill: skill.description)

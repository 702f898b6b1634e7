"""Who answers a message. Pure."""

import re
from collections.abc import Iterable

from piano_jupyter.errors import NotFoundError, PianoError
from piano_jupyter.records import Agent, Thread

HANDLE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")


def checked_name(name: str) -> str:
    """Return a new agent's name. Raises PianoError for one that could not be written as a handle."""
    if not HANDLE.fullmatch(name):
        raise PianoError(
            f"{name!r} cannot be an agent's name: begin with a letter, then letters, digits, '_', '-' or '.'"
        )
    return name


def named(agents: Iterable[Agent], name: str) -> Agent:
    """Return the agent of this name, with or without @, whatever its case. Raises NotFoundError."""
    known = {agent.name.casefold(): agent for agent in agents}
    wanted = name.removeprefix("@")
    if wanted.casefold() not in known:
        raise NotFoundError.among("agent", wanted, [agent.name for agent in known.values()])
    return known[wanted.casefold()]


def addressed(text: str, agents: Iterable[Agent], thread: Thread) -> Agent:
    """Return who answers: whose handle the text begins with, else the thread's primary agent, else the first."""
    everyone = list(agents)
    handle = re.match(rf"\s*@({HANDLE.pattern})[,:]?(?=\s|$)", text)
    if handle:
        for agent in everyone:
            if agent.name.casefold() == handle[1].casefold():
                return agent
    primary = [agent for agent in everyone if agent.id == thread.primary_agent_id]
    return (primary or everyone)[0]

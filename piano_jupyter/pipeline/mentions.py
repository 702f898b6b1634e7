"""Who answers a message: whom people address, and whom an agent's answer asks. Pure."""

import re
from collections.abc import Iterable, Mapping

from piano_jupyter.errors import NotFoundError, PianoError
from piano_jupyter.records import Agent, Thread
from piano_jupyter.text.markdown import prose

MAX_HOPS = 4  # how often a question is handed on, from agent to agent
MAX_ASKED = 4  # how many agents one answer asks
MAX_HANDED_ON = 20  # how many jobs come of one question in all, beside those that its asker meant
LISTED = 10  # how many names a note gives

HANDLE = re.compile(r"[A-Za-z](?:[A-Za-z0-9_.-]{0,62}[A-Za-z0-9])?")
OURS = {"you", "note", "all"}  # these names mean somebody or something else
ADDRESS = re.compile(r"\s*@([A-Za-z][A-Za-z0-9_.-]*)(?:[,:]?(?=\s|$)|,(?=@))")
# Whole: neither a part of an address, a path, a decorator or a genitive (mail@ada, /@ada, @ada/x, @ada(x), @ada's).
MENTION = re.compile(r"(?<![\w@./\\+=#&%$-])@([A-Za-z][A-Za-z0-9_.-]*+)(?![\w@/\\(\[=+#&%$]|[:'’]\w)")


def checked_name(name: str) -> str:
    """Return a new agent's name. Raises PianoError for one that could not be written as a handle."""
    if not HANDLE.fullmatch(name) or name.casefold() in OURS:
        raise PianoError(
            f"{name!r} cannot be an agent's name: take up to 64 letters, digits, '_', '-' or '.', a letter first, "
            f"a letter or digit last, and none of {', '.join(sorted(OURS))}"
        )
    return name


def named(agents: Iterable[Agent], name: str) -> Agent:
    """Return the agent of this name, with or without @, whatever its case. Raises NotFoundError."""
    known = {agent.name.casefold(): agent for agent in agents}
    wanted = name.removeprefix("@")
    if wanted.casefold() not in known:
        raise NotFoundError.among("agent", wanted, [agent.name for agent in known.values()])
    return known[wanted.casefold()]


def addressed(text: str, agents: Iterable[Agent], thread: Thread | None) -> list[Agent]:
    """Return who answers: those whose handles the text begins with, else the thread's own agent, else the first."""
    everyone = list(agents)
    primary = [agent for agent in everyone if thread is not None and agent.id == thread.primary_agent_id]
    return begins_with(text, everyone) or (primary or everyone)[:1]


def begins_with(text: str, agents: Iterable[Agent]) -> list[Agent]:
    """Return the agents whose handles a text begins with, each once, in order.

    `@ada @bob how …` and `@ada, @bob: how …` address two; a colon, or a word that is no agent's handle, ends the list.
    """
    known = {agent.name.casefold(): agent for agent in agents}
    found: dict[str, Agent] = {}
    at = 0
    while (handle := ADDRESS.match(text, at)) and (agent := _whose(handle[1].casefold(), known)):
        found[agent.name] = agent
        at = handle.end()
        if handle[0].endswith(":"):
            break
    return list(found.values())


def asked_by(answer: str, author: Agent, agents: Iterable[Agent]) -> list[Agent]:
    """Return the other agents that an answer addresses, each once, in order of appearance.

    Only an exact handle in prose counts: not in code, in a quotation, or within a longer word.
    """
    known = {agent.name: agent for agent in agents if agent.id != author.id}
    if not any(f"@{name}" in answer for name in known):
        return []  # most answers; what follows parses Markdown
    mentions = (_whose(mention[1], known) for mention in MENTION.finditer(prose(answer)))
    return list({agent.name: agent for agent in mentions if agent}.values())


def follow_ups(asked: list[Agent], hops: int, handed_on: int) -> tuple[list[Agent], str | None]:
    """Return which of those that an answer addresses are asked, and a note for people if some are not.

    `hops` is that of the job whose answer it is, `handed_on` how many jobs have come of the question already. Agents
    could otherwise ask each other for ever, and ever more of them.
    """
    if asked and hops >= MAX_HOPS:
        return [], f"not asked: {_handles(asked)}; a question is handed on at most {MAX_HOPS} times"
    room = max(0, MAX_HANDED_ON - handed_on)
    if len(asked) > min(MAX_ASKED, room):
        some = min(MAX_ASKED, room)
        why = f"an answer asks at most {MAX_ASKED} agents"
        if room < MAX_ASKED:
            why = f"one question is handed on to agents at most {MAX_HANDED_ON} times in all"
        return asked[:some], f"not asked: {_handles(asked[some:])}; {why}"
    return asked, None


def _whose(handle: str, known: Mapping[str, Agent]) -> Agent | None:
    while handle not in known and handle.endswith("."):  # a name may hold a full stop; a sentence ends with one
        handle = handle[:-1]
    return known.get(handle)


def _handles(agents: list[Agent]) -> str:
    listed = ", ".join(f"@{agent.name}" for agent in agents[:LISTED])
    return listed + (f" and {len(agents) - LISTED} more" if len(agents) > LISTED else "")

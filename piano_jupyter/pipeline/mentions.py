"""Which agents a message or an answer mentions. Pure."""

import re
import unicodedata
from collections.abc import Iterable, Mapping

from piano_jupyter.errors import NotFoundError, PianoError
from piano_jupyter.records import Agent, Thread
from piano_jupyter.text.markdown import QUOTATION_MARKS, prose

MAX_DELEGATIONS = 4  # in a row, from agent to agent
MAX_AGENTS_PER_ANSWER = 4  # that it delegates to
MAX_DELEGATED_JOBS = 20  # of one question, in total
MAX_LISTED_AGENTS = 10  # in a note

HANDLE = re.compile(r"[A-Za-z](?:[A-Za-z0-9_.-]{0,62}[A-Za-z0-9])?")
RESERVED_NAMES = {"you", "note", "all", "user", "system", "tool"}  # these names mean something else
LEADING_MENTION = re.compile(r"\s*@([A-Za-z][A-Za-z0-9_.-]*)(?:[,:]?(?=\s|$)|,(?=@))")
NOT_BESIDE = (
    rf"\w@/\\=+#&%$'‘’‚{QUOTATION_MARKS}"  # of an address, a path, a genitive, a quotation: "@ada", mail@ada, @ada/x
)
#: A handle that is no part of such a word, nor of a decorator or a reference (@ada(x), @ada[0], @ada:x).
MENTION = re.compile(rf"(?<![{NOT_BESIDE}.-])@([A-Za-z][A-Za-z0-9_.-]*+)(?![{NOT_BESIDE}(\[]|:\w)")


def check_name(name: str) -> str:
    """Return an agent's new name. Raises PianoError if it could not be written as a handle."""
    if not HANDLE.fullmatch(name) or name.casefold() in RESERVED_NAMES:
        raise PianoError(
            f"{name!r} cannot be an agent's name: use up to 64 letters, digits, '_', '-' or '.', a letter first, "
            f"a letter or digit last, and none of {', '.join(sorted(RESERVED_NAMES))}"
        )
    return name


def agent_named(agents: Iterable[Agent], name: str) -> Agent:
    """Return the agent of this name, with or without @, ignoring case. Raises NotFoundError."""
    known = {agent.name.casefold(): agent for agent in agents}
    wanted = name.removeprefix("@")
    if wanted.casefold() not in known:
        raise NotFoundError.among("agent", wanted, [agent.name for agent in known.values()])
    return known[wanted.casefold()]


def answering_agents(text: str, agents: Iterable[Agent], thread: Thread | None) -> list[Agent]:
    """Return who answers: the agents mentioned at the start, else the thread's own agent, else the first one."""
    everyone = list(agents)
    primary = [agent for agent in everyone if thread is not None and agent.id == thread.primary_agent_id]
    return leading_mentions(text, everyone) or (primary or everyone)[:1]


def leading_mentions(text: str, agents: Iterable[Agent]) -> list[Agent]:
    """Return the agents that are mentioned at the start of a text, each once, in order.

    `@ada @bob how …` and `@ada, @bob: how …` mention two; a colon, or a word that is no agent's exact handle (`@Ada`),
    ends the list.
    """
    known = {agent.name: agent for agent in agents}
    found: dict[str, Agent] = {}
    at = 0
    while (handle := LEADING_MENTION.match(text, at)) and (agent := _agent_of(handle[1], known)):
        found[agent.name] = agent
        at = handle.end()
        if handle[0].endswith(":"):
            break
    return list(found.values())


def check_leading_mentions(text: str, agents: Iterable[Agent]) -> None:
    """Raise NotFoundError if a text begins with the handle of nobody, after those of agents or not."""
    known = {agent.name: agent for agent in agents}
    at = 0
    while handle := LEADING_MENTION.match(text, at):
        if _agent_of(handle[1], known) is None:
            unknown = NotFoundError.among("agent", handle[1], known)
            raise NotFoundError(f"{unknown}; a question that is to begin with @{handle[1]} needs a word before it")
        at = handle.end()
        if handle[0].endswith(":"):
            return


def mentioned_agents(answer: str, author: Agent, agents: Iterable[Agent]) -> list[Agent]:
    """Return the other agents that an answer mentions, each once, in order.

    Only an exact handle in prose counts: not in code or in a quotation, not within a longer word, not in other letters
    (`@Ada`, `@ada` with an accent or an invisible character) and not escaped.
    """
    known = {agent.name: agent for agent in agents if agent.id != author.id}
    unescaped = answer.replace("\\", "")  # some models escape each underscore
    if not any(f"@{name}" in unescaped for name in known):
        return []  # as in most answers: the rest parses Markdown
    words = prose(answer)
    mentions = (_agent_of(each[1], known) for each in MENTION.finditer(words) if _stands_alone(each))
    return list({agent.name: agent for agent in mentions if agent}.values())


def limit_delegation(asked: list[Agent], hops: int, delegated: int) -> tuple[list[Agent], str | None]:
    """Return which of the mentioned agents are asked, and a note for people if some are not.

    `hops` is that of the job whose answer it is, `delegated` the number of jobs delegated since the user's question.
    Without limits agents could ask each other for ever.
    """
    if asked and hops >= MAX_DELEGATIONS:
        return [], f"not asked: {_handles(asked)}; the chain stops after {MAX_DELEGATIONS} delegations"
    room = max(0, MAX_DELEGATED_JOBS - delegated)
    if len(asked) > min(MAX_AGENTS_PER_ANSWER, room):
        count = min(MAX_AGENTS_PER_ANSWER, room)
        why = f"an answer can ask at most {MAX_AGENTS_PER_ANSWER} agents"
        if room < MAX_AGENTS_PER_ANSWER:
            why = f"one question can be delegated at most {MAX_DELEGATED_JOBS} times in total"
        return asked[:count], f"not asked: {_handles(asked[count:])}; {why}"
    return asked, None


def _stands_alone(mention: re.Match[str]) -> bool:
    """Return whether no accent, joiner or other character without a place of its own is beside a mention."""
    text, (start, end) = mention.string, mention.span()
    beside = text[max(start - 1, 0) : start] + text[end : end + 1]
    return not any(unicodedata.category(each)[0] in "MC" and not each.isspace() for each in beside)


def _agent_of(handle: str, known: Mapping[str, Agent]) -> Agent | None:
    while handle not in known and handle.endswith("."):  # a name may hold a full stop; a sentence ends with one
        handle = handle[:-1]
    return known.get(handle)


def _handles(agents: list[Agent]) -> str:
    listed = ", ".join(f"@{agent.name}" for agent in agents[:MAX_LISTED_AGENTS])
    return listed + (f" and {len(agents) - MAX_LISTED_AGENTS} more" if len(agents) > MAX_LISTED_AGENTS else "")

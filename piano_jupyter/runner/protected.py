"""Which names in a workspace file tools keep their hands off. Pure, so that bash's sandbox asks the same.

A name counts at any depth, in any case, and whether or not there is such a file yet: the first one to make it wins.
"""

from collections.abc import Sequence

PRIVATE = frozenset({".piano"})  #: Piano's own data: not even read
#: What runs by itself later, or instructs an agent: not written.
PROTECTED = PRIVATE | {
    ".agents",
    ".env",
    ".envrc",
    ".git",
    ".ipython",
    ".jupyter",
    ".mcp.json",
    ".vscode",
    "agents.md",
}


def is_private(parts: Sequence[str], database: Sequence[str] = ()) -> bool:
    """Return whether a path beneath the workspace is Piano's own; `database` is where its file is, if it is there too.

    DuckDB keeps more beside the file, by its name and a suffix: `.wal`, `.tmp`.
    """
    folded, own = [part.casefold() for part in parts], [part.casefold() for part in database]
    if not PRIVATE.isdisjoint(folded):
        return True
    at = len(own) - 1
    return 0 <= at < len(folded) and folded[:at] == own[:at] and f"{folded[at]}.".startswith(f"{own[at]}.")


def protected_part(parts: Sequence[str]) -> str | None:
    """Return the first name of a path that is protected."""
    return next((part for part in parts if _is_protected(part.casefold())), None)


def is_protected(parts: Sequence[str], database: Sequence[str] = ()) -> bool:
    """Return whether a path beneath the workspace is not to be written."""
    return protected_part(parts) is not None or is_private(parts, database)


def instructs_agents(parts: Sequence[str], skills: Sequence[Sequence[str]]) -> bool:
    """Return whether a path beneath the workspace lies in a folder of skills, and so is put into later prompts.

    `skills` are those folders; one that the workspace itself lies in says nothing about it.
    """
    folded = [part.casefold() for part in parts]
    roots = ([part.casefold() for part in root] for root in skills)
    return any(root and folded[: len(root)] == root for root in roots)


def _is_protected(name: str) -> bool:
    return name in PROTECTED or name.startswith(".env.")

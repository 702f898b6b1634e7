"""Short paths: what files are called where people know which folder is meant."""

from collections.abc import Iterable
from pathlib import PurePath


def short_paths(paths: Iterable[str]) -> dict[str, str]:
    """Return, for each path, the name of its file, with as many folders before it as tell it from the others."""
    parts = {path: PurePath(path).parts for path in paths}

    def short(own: tuple[str, ...]) -> str:
        length = 1
        while length < len(own) and sum(each[-length:] == own[-length:] for each in parts.values()) > 1:
            length += 1
        return str(PurePath(*own[-length:])) if own else ""

    return {path: short(own) for path, own in parts.items()}

"""Which folders skills are in, and which of these lie in the workspace: the model's tools do not write there."""

import os
from collections.abc import Sequence
from pathlib import Path

from piano_jupyter.runner.tools.files.workspace import inside
from piano_jupyter.shipped import shipped


def skill_roots(workspace: Path, extra: Sequence[str] = ()) -> list[Path]:
    """Return the folders that skills are in, the most important first; `extra` are relative to the workspace."""
    own = [workspace / os.path.expanduser(each) for each in extra]  # noqa: PTH111  Without a home it stays as it is.
    home = Path(os.path.expanduser("~"), ".agents", "skills")  # noqa: PTH111
    roots = [*own, workspace / "skills", workspace / ".agents" / "skills", home, shipped("skills")]
    distinct: dict[str, Path] = {}
    for root in roots:
        distinct.setdefault(os.path.realpath(root), root)
    return list(distinct.values())


def roots_in(workspace: Path, extra: Sequence[str] = ()) -> tuple[tuple[str, ...], ...]:
    """Return which of these folders lie in the workspace, as paths in it: as they are named, and where links lead."""
    home = Path(os.path.realpath(workspace))
    named = [Path(os.path.abspath(each)) for each in skill_roots(workspace, extra)]  # noqa: PTH100  Links stay.
    found = [each.relative_to(base).parts for each in named for base in (workspace, home) if each.is_relative_to(base)]
    return tuple(dict.fromkeys([*found, *(inside(home, str(each)) for each in named)]))

"""The folders that contain skills, and which of them are in the workspace, where tools must not write to them."""

import os
from collections.abc import Sequence
from pathlib import Path

from piano_jupyter.runner.tools.files.workspace import parts_inside
from piano_jupyter.shipped import shipped


def skill_roots(workspace: Path, extra: Sequence[str] = ()) -> list[Path]:
    """Return the folders that contain skills, by precedence; `extra` are relative to the workspace."""
    extra_roots = [workspace / os.path.expanduser(each) for each in extra]  # noqa: PTH111  Path would raise without a home.
    home = Path(os.path.expanduser("~"), ".agents", "skills")  # noqa: PTH111
    roots = [*extra_roots, workspace / "skills", workspace / ".agents" / "skills", home, shipped("skills")]
    distinct: dict[str, Path] = {}
    for root in roots:
        distinct.setdefault(os.path.realpath(root), root)
    return list(distinct.values())


def skill_roots_in(workspace: Path, extra: Sequence[str] = ()) -> tuple[tuple[str, ...], ...]:
    """Return those of these folders that are in the workspace, as paths in it: as named, and with links resolved."""
    home = Path(os.path.realpath(workspace))
    named = [Path(os.path.abspath(each)) for each in skill_roots(workspace, extra)]  # noqa: PTH100  Path would resolve links.
    found = [each.relative_to(base).parts for each in named for base in (workspace, home) if each.is_relative_to(base)]
    return tuple(dict.fromkeys([*found, *(parts_inside(home, str(each)) for each in named)]))

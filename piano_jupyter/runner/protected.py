"""PLACEHOLDER for the names that tools do not write, until the file tools' own module of this name is merged."""

import importlib.machinery
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

PROTECTED = {".agents", ".git", ".ipython", ".jupyter", ".mcp.json", ".piano", ".vscode", "agents.md"}
SHADOWS = {"conftest", "sitecustomize", "usercustomize"}


def is_protected(parts: Sequence[str]) -> bool:
    """Return whether one of the names on the way, from the workspace, is protected."""
    return any(part.casefold() in PROTECTED or part.casefold().startswith(".env") for part in parts)


def shadows_import(name: str) -> bool:
    """Return whether the kernel would import this name of its working directory in place of a package."""
    stem = name.split(".", 1)[0]
    if "." in name and not name.endswith(tuple(importlib.machinery.all_suffixes())):
        return False
    return stem in SHADOWS or stem in sys.stdlib_module_names or stem in _installed()


@cache
def _installed() -> frozenset[str]:
    names: set[str] = set()
    for folder in map(Path, sys.path):
        if folder.name in {"site-packages", "dist-packages"} and folder.is_dir():
            names.update(each.name.split(".", 1)[0] for each in folder.iterdir() if "-" not in each.name)
    return frozenset(names)

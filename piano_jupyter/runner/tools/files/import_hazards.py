"""Finds, by name, what Python would import by itself, or instead of another module.

It is cheap enough for any number of paths: a name is looked up in a set of everything that can be imported
here, and only one that is in it costs a search.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from piano_jupyter.runner.tools.files import shadowing
from piano_jupyter.runner.tools.files.protected import folded
from piano_jupyter.text.words import words

Parts = tuple[str, ...]
#: Metadata of installed packages, whose entry points other packages load.
METADATA_SUFFIXES = (".dist-info", ".egg-info", ".egg-link")
EDITABLE_PREFIX = "__editable__"
BYTECODE_FOLDER = "__pycache__"
BY_ITSELF = "is imported by Python or pytest without being named"
METADATA = "describes an installed package, whose code Python or its packages then load"
ADDS_FOLDERS = "runs when Python starts, or adds folders to import from"
LEADS_ELSEWHERE = "would let your kernel import from another folder"
IMPORTS_HERE = "is the first notebook in its folder, and would import modules there instead of installed ones"
SHADOWS = "would be imported by your kernel, outside the sandbox"
#: What makes a folder an environment, and the folders in it whose content is run when it is used.
ENVIRONMENT_MARKS = ["pyvenv.cfg", "conda-meta"]
ENVIRONMENT_FOLDERS = words("bin condabin conda-meta etc lib lib64 scripts shell")
IN_ENVIRONMENT = "is part of a Python environment, which editors and other kernels use"
BESIDE = "would be imported in place of the module of its name beside it, which people read"
BYTECODE = "is bytecode, which Python runs in place of the module that people read"


@dataclass(frozen=True, slots=True)
class ImportHazard:
    """Why a path would be imported."""

    reason: str  #: a sentence that continues the path
    is_bytecode: bool = False
    owner: Parts | None = None  #: the environment that it is a part of


@dataclass(frozen=True)
class ImportHazards:
    """Judges paths in one workspace, given as parts; `exists` says whether there is something at a path."""

    workspace: Path
    exists: Callable[[Parts], bool]
    _taken: dict[tuple[str, Parts | None], tuple[bool, bool]] = field(default_factory=dict)
    _packages: dict[Parts, bool] = field(default_factory=dict)
    _has_notebook: dict[Parts, bool] = field(default_factory=dict)
    _starting: dict[Parts, bool] = field(default_factory=dict)
    _environments: dict[Parts, bool] = field(default_factory=dict)

    def find(self, path: Parts, *, is_folder: bool = False, is_link: bool = False) -> ImportHazard | None:
        """Return why a path would be imported, None if it would not be, or only by a program that names it."""
        names = [folded(part) for part in path]
        if BYTECODE_FOLDER in names:
            return ImportHazard(BYTECODE, is_bytecode=True)
        if (
            not (is_folder or self.is_of_python(path))
            and (owner := self._environment(path, names, is_link=is_link)) is not None
        ):
            return ImportHazard(IN_ENVIRONMENT, owner=owner)
        reason = self._find_reason(path, names, is_folder=is_folder, is_link=is_link)
        return ImportHazard(reason) if reason else None

    def is_of_python(self, path: Parts) -> bool:
        """Return whether a path is in the Python that the kernel runs, or in the user's own packages."""
        return any(_is_beneath(path, each) for each in self._prefixes)

    def _find_reason(self, path: Parts, names: list[str], *, is_folder: bool, is_link: bool) -> str | None:
        if self.is_of_python(path):
            return "is part of your kernel's Python, which runs outside the sandbox"
        if any(each.endswith(METADATA_SUFFIXES) or each.startswith(EDITABLE_PREFIX) for each in names):
            return METADATA
        if not names or is_folder:
            return None
        if any(_is_beneath(each, path) for each in self._import_folders):  # `sys.path` may also name archives
            return LEADS_ELSEWHERE
        if names[-1].endswith(".pth") and self._is_site_folder(path[:-1]):
            return ADDS_FOLDERS
        if any(_is_beneath(path, each) for each in self._installed_folders):
            return SHADOWS
        if names[-1].endswith(".ipynb") and self._starts_imports(path[:-1]):
            return IMPORTS_HERE
        return self._find_module(path, names, is_link=is_link)

    def _environment(self, path: Parts, names: list[str], *, is_link: bool) -> Parts | None:
        """Return the environment that runs what is at a path, whose settings it has, or in whose place it is a link."""
        if names[-1:] == ENVIRONMENT_MARKS[:1]:
            return path[:-1]
        if is_link and self._is_environment(path):
            return path
        folders = (path[:at] for at, name in enumerate(names) if name in ENVIRONMENT_FOLDERS)
        return next(filter(self._is_environment, folders), None)

    def _is_environment(self, folder: Parts) -> bool:
        if folder not in self._environments:
            self._environments[folder] = any(self.exists((*folder, mark)) for mark in ENVIRONMENT_MARKS)
        return self._environments[folder]

    def _find_module(self, path: Parts, names: list[str], *, is_link: bool) -> str | None:
        suffix = next((each for each in shadowing.SUFFIXES if names[-1].endswith(each)), "")
        is_package_link = is_link and "." not in path[-1]
        if suffix or is_package_link:
            stem = path[-1].partition(".")[0]
            if {*names[:-1], folded(stem)} & shadowing.RUN_AT_STARTUP:
                return BY_ITSELF
            if self._shadows((*path, "__init__.py") if is_package_link else path):
                return SHADOWS
            if suffix in EXTENSION_SUFFIXES and self.exists((*path[:-1], f"{stem}.py")):
                return BESIDE
        return None

    def _starts_imports(self, folder: Parts) -> bool:
        """Return whether a first notebook in a folder would import something there instead of another module."""
        if self._is_import_folder(folder):
            return False
        if folder not in self._starting:  # a folder of many notebooks and modules is looked at once
            self._has_notebook[folder] = True
            modules = shadowing.modules_in(self.workspace.joinpath(*folder))
            found = self._starting[folder] = any(self._shadows((*folder, *each)) for each in modules)
            self._has_notebook[folder] = not found  # it is only there if nothing is dangerous about it
        return self._starting[folder]

    def _shadows(self, module: Parts) -> bool:
        """Return whether a module is found before another one of its name, whatever folder Python looks into."""
        for at, part in enumerate(module):
            name = part.partition(".")[0] if at == len(module) - 1 else part
            if name.casefold() in self._importable and self._is_import_folder(module[:at]):
                is_taken, is_namespace = self._taken_name(name, module[:at])
                if is_taken and (is_namespace or self._is_regular(module[at:], module[:at])):
                    return True
        return False

    def _is_regular(self, inside: Parts, folder: Parts) -> bool:
        """Return whether a module is a file, or in a package: a folder without `__init__` comes after all else."""
        if len(inside) == 1 or inside[1].startswith("__init__."):
            return True
        package = (*folder, inside[0])
        if package not in self._packages:
            initial = ((*package, f"__init__{suffix}") for suffix in shadowing.SUFFIXES)
            self._packages[package] = any(map(self.exists, initial))
        return self._packages[package]

    def _taken_name(self, name: str, folder: Parts) -> tuple[bool, bool]:
        key = name, folder if folder in self._import_folders else None  # all others are alike: Python looks elsewhere
        if key not in self._taken:
            self._taken[key] = shadowing.taken_name(name, self.workspace.joinpath(*folder), self.workspace)
        return self._taken[key]

    def _is_site_folder(self, folder: Parts) -> bool:
        """Return whether Python reads `.pth` files there; elsewhere they are something else, such as a model."""
        return not shadowing.INSTALL_FOLDERS.isdisjoint(folder[-1:]) or self._is_import_folder(folder)

    def _is_import_folder(self, folder: Parts) -> bool:
        if folder in self._import_folders:
            return True
        if folder not in self._has_notebook:
            self._has_notebook[folder] = shadowing.has_notebook(self.workspace.joinpath(*folder))
        return self._has_notebook[folder]

    @cached_property
    def _import_folders(self) -> frozenset[Parts]:
        """The folders in the workspace from which Python imports: the workspace, the working directory, `sys.path`."""
        return frozenset({(), *self._inside("", *sys.path)})

    @cached_property
    def _installed_folders(self) -> tuple[Parts, ...]:
        return tuple(each for each in self._import_folders if not shadowing.INSTALL_FOLDERS.isdisjoint(each))

    @cached_property
    def _prefixes(self) -> tuple[Parts, ...]:
        return tuple(filter(None, self._inside(sys.prefix, sys.base_prefix, *shadowing.user_packages())))

    @cached_property
    def _importable(self) -> frozenset[str]:
        return shadowing.importable_names()

    def _inside(self, *folders: str) -> Iterator[Parts]:
        for each in folders:
            with suppress(OSError, ValueError):  # It is outside, or no path.
                yield Path(os.path.realpath(each or ".")).relative_to(self.workspace).parts


def _is_beneath(path: Parts, folder: Parts) -> bool:
    return path[: len(folder)] == folder

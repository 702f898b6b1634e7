"""Which files the kernel would import instead of an installed module, and so run outside the sandbox.

Python searches the working directory first: `import numpy` gets a `numpy.py` there. The kernel of a notebook does the
same in the notebook's folder. Modules whose source is the workspace are no danger. A module that is not installed is
one if an installed package imports it when it is there: pandas imports any `numexpr`. A package that is installed
elsewhere with its own finder, and not imported yet, is not recognised.
"""

import os
import re
import site
import sys
from contextlib import suppress
from functools import cache
from importlib.machinery import PathFinder, all_suffixes
from importlib.metadata import PackageNotFoundError, distribution, distributions
from pathlib import Path

Parts = tuple[str, ...]
SUFFIXES = tuple(sorted(all_suffixes(), key=len, reverse=True))
#: Modules that Python and pytest import automatically.
RUN_AT_STARTUP = {"conftest", "sitecustomize", "usercustomize"}
TEST_PACKAGE = "test"  #: Python's own tests, which nobody imports; a folder with this name belongs to the project
STANDARD_MODULES = sys.stdlib_module_names - {TEST_PACKAGE}
INSTALL_FOLDERS = {"site-packages", "dist-packages"}


def user_packages() -> list[str]:
    """Return the folder of the user's own packages, if Python uses one, whether or not it exists yet."""
    return [site.getusersitepackages()] if site.ENABLE_USER_SITE else []


def taken_name(name: str, folder: Path, home: Path) -> tuple[bool, bool]:
    """Return whether a module of this name in a folder is found before one that is not the workspace's own.

    And whether that one is an installed namespace package, to which any folder of the name adds modules.
    """
    found_at, is_namespace = _find_elsewhere(name, folder)
    if name in STANDARD_MODULES or (found_at is None and name.casefold() in _dependency_names()):
        return True, is_namespace
    return found_at is not None and name != TEST_PACKAGE and not _is_workspace_module(
        name, found_at, home
    ), is_namespace


def importable_names() -> frozenset[str]:
    """Return the names, in lower case, of all modules that a file could be imported instead of; own ones included."""
    found = {*STANDARD_MODULES, *_dependency_names(), *(name.partition(".")[0] for name in tuple(sys.modules))}
    for folder in sys.path:
        with suppress(OSError):
            found.update(name.partition(".")[0] for name in os.listdir(folder or "."))  # noqa: PTH208
    return frozenset(name.casefold() for name in found)


def has_notebook(folder: Path) -> bool:
    """Return whether there is a notebook in a folder, whose kernel imports from there."""
    with suppress(OSError), os.scandir(folder) as entries:
        return any(each.name.endswith(".ipynb") for each in entries)
    return False


def modules_in(folder: Path) -> list[Parts]:
    """Return the modules and packages in a folder, as paths in it."""
    with suppress(OSError), os.scandir(folder) as entries:
        return [
            (each.name, "__init__.py") if each.is_dir() else (each.name,)
            for each in entries
            if each.name.endswith(SUFFIXES) or each.is_dir()
        ]
    return []


@cache
def _dependency_names() -> frozenset[str]:
    """Return the names of the packages that installed ones depend on, optional ones included."""
    requirements = (requirement for each in distributions() for requirement in each.requires or ())
    names = (found[0] for requirement in requirements if (found := re.match(r"[\w.-]+", requirement)))
    return frozenset(re.sub(r"[-.]+", "_", name).casefold() for name in names)


def _find_elsewhere(name: str, folder: Path) -> tuple[Path | None, bool]:
    """Return where a module is found without this folder, and whether it is an installed namespace package."""
    spec = PathFinder.find_spec(name, [each for each in sys.path if Path(os.path.realpath(each or ".")) != folder])
    if spec is None:
        file = getattr(sys.modules.get(name), "__file__", None)
        return (Path(file) if file else None), False
    if spec.origin:
        return Path(spec.origin), False
    place = next((Path(each) for each in spec.submodule_search_locations or ()), None)
    return place, place is not None and _is_installed(place)


def _is_package(folder: Path) -> bool:
    return any((folder / f"__init__{suffix}").exists() for suffix in SUFFIXES)


def _is_workspace_module(name: str, place: Path, home: Path) -> bool:
    """Return whether a module that is found elsewhere belongs to the workspace, too."""
    real = Path(os.path.realpath(place))
    if real.is_relative_to(home) and not _is_installed(real):
        return True
    with suppress(PackageNotFoundError):
        source = distribution(name).read_text("direct_url.json") or ""
        return f'"{home.as_uri()}"' in source or f'"{home.as_uri()}/' in source
    return False


def _is_installed(place: Path) -> bool:
    return not INSTALL_FOLDERS.isdisjoint(place.parts)

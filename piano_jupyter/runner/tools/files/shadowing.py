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
from collections.abc import Iterator, Sequence
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


def shadows_import(parts: Sequence[str], workspace: Path, folders: Sequence[Path] | None = None) -> str | None:
    """Return why a file at this path in the workspace would be imported instead of another, None if it would not.

    `folders` are the import folders: by default the workspace itself, where Python may be started next, the working
    directory, `sys.path`, and those parent folders of the file that contain a notebook.
    """
    home = Path(os.path.realpath(workspace))
    file = home.joinpath(*parts)
    prefixes = {Path(os.path.realpath(each)) for each in (sys.prefix, sys.base_prefix, *user_packages())}
    if any(home in prefix.parents and file.is_relative_to(prefix) for prefix in prefixes):
        return f"{'/'.join(parts)!r} is part of your kernel's Python, which runs outside the sandbox"
    if not parts or (not parts[-1].endswith((*SUFFIXES, ".pth")) and INSTALL_FOLDERS.isdisjoint(parts)):
        return None
    for folder in _import_folders(home, file) if folders is None else folders:
        real = Path(os.path.realpath(folder))
        if real in file.parents and real.is_relative_to(home):
            inside = file.relative_to(real).parts
            if _is_installed(real) or inside[-1].endswith(".pth") or _shadows_module(inside, real, home):
                return f"{'/'.join(parts)!r} would be imported by your kernel, outside the sandbox"
    return None


def user_packages() -> list[str]:
    """Return the folder of the user's own packages, if Python uses one, whether or not it exists yet."""
    return [site.getusersitepackages()] if site.ENABLE_USER_SITE else []


def _import_folders(home: Path, file: Path) -> Iterator[Path]:
    yield from {home, *(Path(each or ".") for each in ("", *sys.path))}
    for folder in file.parents:
        if folder.is_relative_to(home) and has_notebook(folder):
            yield folder


def _shadows_module(inside: Sequence[str], folder: Path, home: Path) -> bool:
    """Return whether a file in an import folder takes precedence over a module that is not the workspace's own."""
    suffix = next((each for each in SUFFIXES if inside[-1].endswith(each)), None)
    if suffix is None:
        return False
    name = inside[0].removesuffix(suffix) if len(inside) == 1 else inside[0]
    is_taken, is_namespace = taken_name(name, folder, home)
    if len(inside) > 1 and not (is_namespace or inside[1].startswith("__init__.") or _is_package(folder / name)):
        return False  # A folder without `__init__` comes after everything else.
    return is_taken or name in RUN_AT_STARTUP


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

"""Which files the kernel would import in place of an installed module, and so run outside the sandbox.

Python looks into the working directory first: a `numpy.py` there is what `import numpy` gets. So does the kernel of
each notebook in the notebook's own folder. Modules that the workspace is itself the source of are no danger. One that
is not installed is, where an installed package imports it if it can: pandas asks for `numexpr`, whoever it is of.
Not seen is a package that is installed from elsewhere by a finder of its own and was not imported yet.
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

SUFFIXES = tuple(sorted(all_suffixes(), key=len, reverse=True))
#: What Python and pytest run by themselves.
STARTED = {"conftest", "sitecustomize", "usercustomize"}
TESTS = "test"  #: Python's own tests, which nobody imports; a folder of that name is the project's
STANDARD = sys.stdlib_module_names - {TESTS}
INSTALLED = {"site-packages", "dist-packages"}


def shadows_import(parts: Sequence[str], workspace: Path, folders: Sequence[Path] | None = None) -> str | None:
    """Return why a file at this path beneath the workspace would be imported instead of another, if it would.

    `folders` are those that are imported from: by default the workspace itself, from which Python may be started next,
    the working directory, `sys.path`, and those on the way to the file that have a notebook in them.
    """
    home = Path(os.path.realpath(workspace))
    file = home.joinpath(*parts)
    prefixes = {Path(os.path.realpath(each)) for each in (sys.prefix, sys.base_prefix, *user_packages())}
    if any(home in prefix.parents and file.is_relative_to(prefix) for prefix in prefixes):
        return f"{'/'.join(parts)!r} is a part of your kernel's Python, which runs outside the sandbox"
    if not parts or (not parts[-1].endswith((*SUFFIXES, ".pth")) and INSTALLED.isdisjoint(parts)):
        return None
    for folder in _import_folders(home, file) if folders is None else folders:
        real = Path(os.path.realpath(folder))
        if real in file.parents and real.is_relative_to(home):
            inside = file.relative_to(real).parts
            if _is_installed(real) or inside[-1].endswith(".pth") or _takes_a_place(inside, real, home):
                return f"{'/'.join(parts)!r} would be imported by your kernel, outside the sandbox"
    return None


def user_packages() -> list[str]:
    """Return the folder of the user's own packages, if Python has one: it is imported from once it is there."""
    return [site.getusersitepackages()] if site.ENABLE_USER_SITE else []


def _import_folders(home: Path, file: Path) -> Iterator[Path]:
    yield from {home, *(Path(each or ".") for each in ("", *sys.path))}
    for folder in file.parents:
        if folder.is_relative_to(home):
            with suppress(OSError), os.scandir(folder) as entries:
                if any(each.name.endswith(".ipynb") for each in entries):
                    yield folder


def _takes_a_place(inside: Sequence[str], folder: Path, home: Path) -> bool:
    """Return whether a file in a folder that is imported from stands before a module that is not the workspace's."""
    suffix = next((each for each in SUFFIXES if inside[-1].endswith(each)), None)
    if suffix is None:
        return False
    name = inside[0].removesuffix(suffix) if len(inside) == 1 else inside[0]
    place, in_parts = _elsewhere(name, folder)
    if len(inside) > 1 and not (in_parts or inside[1].startswith("__init__.") or _is_package(folder / name)):
        return False  # A folder that is no package comes after everything else.
    if name in STANDARD or name in STARTED or (place is None and name.casefold() in _wanted()):
        return True
    return place is not None and name != TESTS and not _is_own(name, place, home)


@cache
def _wanted() -> frozenset[str]:
    """Return the names of the packages that installed ones use where they are there."""
    wanted = (need for each in distributions() for need in each.requires or ())
    names = (found[0] for need in wanted if (found := re.match(r"[\w.-]+", need)))
    return frozenset(re.sub(r"[-.]+", "_", name).casefold() for name in names)


def _elsewhere(name: str, folder: Path) -> tuple[Path | None, bool]:
    """Return where a module is found without this folder, and whether that is one of several installed parts."""
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


def _is_own(name: str, place: Path, home: Path) -> bool:
    """Return whether a module that is found elsewhere is the workspace's too."""
    real = Path(os.path.realpath(place))
    if real.is_relative_to(home) and not _is_installed(real):
        return True
    with suppress(PackageNotFoundError):
        source = distribution(name).read_text("direct_url.json") or ""
        return f'"{home.as_uri()}"' in source or f'"{home.as_uri()}/' in source
    return False


def _is_installed(place: Path) -> bool:
    return not INSTALLED.isdisjoint(place.parts)

"""Decides what writing to a path in a workspace may do later: the one judge for file tools and for what bash wrote.

It goes by the path (links on the way to it resolved), by what is written there (a file, a folder or a link), and by a
few looks at the file system, which the caller can replace by looks at what is about to be there. It is cheap: one
`WriteHazards` is made for a call, and asked about each of tens of thousands of paths.
"""

import os
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path

from piano_jupyter.runner.tools.files.git_settings import settings_targets
from piano_jupyter.runner.tools.files.import_hazards import ImportHazards
from piano_jupyter.runner.tools.files.protected import (
    BARE_REPOSITORY,
    GIT_DATA,
    GIT_SETTINGS,
    HOME_STARTUP_NAMES,
    PRIVATE,
    REBASE_STEPS,
    folded,
    instructs_agents,
    is_hidden_home_name,
    is_private,
    protected_names,
    protection,
)
from piano_jupyter.text.words import words

Parts = tuple[str, ...]
MAX_LINKS = 40  #: that one path may lead through, as in Linux
#: Variables that name a folder or a file that Jupyter, IPython, shells, git or R obey when they start.
STARTUP_VARIABLES = words(
    "BASH_ENV ENV GIT_CONFIG_GLOBAL GIT_CONFIG_SYSTEM GIT_TEMPLATE_DIR IPYTHONDIR JUPYTER_CONFIG_DIR "
    "JUPYTER_CONFIG_PATH JUPYTER_DATA_DIR JUPYTER_PATH PYTHONSTARTUP R_ENVIRON_USER R_PROFILE_USER ZDOTDIR"
)
REPOSITORY_POINTERS = frozenset({"modules", "worktrees"})  #: in `.git`: folders of folders that git uses like `.git`
#: Protected folders whose files are often links to files elsewhere in the project.
FOLDERS_OF_PROGRAMS = (".git", ".git/hooks", ".githooks", ".github/workflows", ".husky", ".vscode")


class HazardKind(StrEnum):
    """What is dangerous about writing to a path."""

    PRIVATE = "private"  #: Piano's own data: tools neither read nor write it, whoever approves
    HIDDEN = "hidden"  #: the user's keys and settings in their home folder: the same
    PROTECTED = "protected"  #: programs or agents obey it: file tools do not write it, what bash wrote needs approval
    IMPORTED = "imported"  #: Python imports it by itself, or instead of another module: needs approval
    BYTECODE = "bytecode"  #: runs in place of a module: needs approval, or can be dropped, as Python makes it again
    DENIED = "denied"  #: a rule of the user's denies it: the same as hidden
    ASKED = "asked"  #: a rule of the user's asks about it: needs approval
    SKILL = "skill"  #: text of a skill, which goes into prompts: needs approval
    SERVER = "server"  #: an MCP server runs it, outside the sandbox: needs approval
    OPTION = "option"  #: a name that programs take for an option: needs approval
    LINK = "link"  #: a link to where tools cannot go, but the user's programs can: needs approval


@dataclass(frozen=True, slots=True)
class WriteHazard:
    """Why a path must not be written, or not without an approval."""

    kind: HazardKind
    name: str  #: the name or path that matters
    reason: str  #: a sentence for the user
    owner: Parts | None = None  #: the folder in the workspace that it is a part of, such as a Python environment

    @property
    def is_forbidden(self) -> bool:
        """Whether it must not be written at all, even with an approval."""
        return self.kind in {HazardKind.PRIVATE, HazardKind.HIDDEN, HazardKind.DENIED}


@dataclass(frozen=True, kw_only=True)
class WriteHazards:
    """Judges paths in one workspace; all paths are parts relative to it.

    `exists` says whether there is something at a path, by default on disk. What bash wrote is judged before it is
    there, so its judge looks at both.
    """

    workspace: Path  #: links resolved
    database: Parts = ()  #: where the database is, () if it is elsewhere
    home: Parts | None = None  #: the user's home folder, None if it is elsewhere
    skills: Sequence[Parts] = ()  #: folders of skills
    programs: Collection[Parts] = ()  #: what MCP servers run
    own: Collection[Parts] = ()  #: Piano's other folders
    readable: Collection[Parts] = ()  #: what the user has made readable, which counts in the home folder
    readable_names: Collection[str] = ()  #: all of it, as absolute paths whose links are not resolved
    visible: Collection[str] = ()  #: folders elsewhere that commands can read, so that links may lead there
    link_targets: Collection[Parts] = ()  #: where links with protected names lead; see `protected_link_targets`
    allows_git: bool = False  #: git itself writes: only its hooks and settings count, not all of `.git`
    exists: Callable[[Parts], bool] | None = None

    def find(self, parts: Sequence[str], mode: int = stat.S_IFREG) -> WriteHazard | None:
        """Return what is dangerous about writing this path, None if nothing is; `mode` is the mode of what is written.

        A path that is removed is judged like one that is written.
        """
        path, is_folder, is_link = (*parts,), stat.S_ISDIR(mode), stat.S_ISLNK(mode)
        if found := self.find_hidden(path) or self.find_protected(path, mode):
            return found
        shown = "/".join(path)
        if imported := self._imports.find(path, is_folder=is_folder, is_link=is_link):
            kind = HazardKind.BYTECODE if imported.is_bytecode else HazardKind.IMPORTED
            return WriteHazard(kind, path[-1], f"{shown!r} {imported.reason}", imported.owner)
        if instructs_agents(path, self.skills):
            return WriteHazard(
                HazardKind.SKILL, path[-1], f"{shown!r} would become part of your skills, which instruct agents"
            )
        if path in self.programs:
            return WriteHazard(HazardKind.SERVER, path[-1], f"{shown!r} is run by an MCP server, outside the sandbox")
        if any(part.startswith("-") for part in path):
            reason = "looks like an option, and is one where somebody runs a program on all files (`*`)"
            return WriteHazard(HazardKind.OPTION, path[-1], f"{shown!r} {reason}")
        return None

    def find_removal(self, parts: Sequence[str], mode: int = stat.S_IFREG) -> WriteHazard | None:
        """Return what is dangerous about removing a path: nothing is imported or run because a file is gone."""
        hazard = self.find(parts, mode)
        if hazard is not None and not hazard.is_forbidden and folded(parts[-1]) == REBASE_STEPS:
            return None  # git removes it at the end of a rebase
        kind = hazard.kind if hazard is not None else None
        is_imported = kind is HazardKind.IMPORTED and not self._imports.is_of_python((*parts,))
        return None if is_imported or kind in {HazardKind.BYTECODE, HazardKind.OPTION} else hazard

    def find_hidden(self, parts: Sequence[str]) -> WriteHazard | None:
        """Return why a path must be neither read nor written, None if tools may see it."""
        path = (*parts,)
        if is_private(path, self.database):
            reason = "this is Piano's own data, which file tools cannot access"
            return WriteHazard(HazardKind.PRIVATE, path[-1], reason)
        if any(path[: len(each)] == each for each in self.own):
            return WriteHazard(HazardKind.PRIVATE, path[-1], "this is Piano's own folder, which tools cannot access")
        if self._is_hidden_in_home(path) and not (self._is_readable(path) or self._imports.is_of_python(path)):
            reason = "this is where the user keeps keys and settings, which tools cannot access"
            return WriteHazard(HazardKind.HIDDEN, path[-1], reason)
        return None

    def find_protected(self, parts: Sequence[str], mode: int = stat.S_IFREG) -> WriteHazard | None:
        """Return which programs or agents would obey what is written at a path, None if none of those known would."""
        path = (*parts,)
        found = self._protected(path, is_folder=stat.S_ISDIR(mode), is_link=stat.S_ISLNK(mode))
        return WriteHazard(HazardKind.PROTECTED, found[0], f"{'/'.join(path)!r} {found[1]}") if found else None

    def find_target(self, parts: Sequence[str], read_link: Callable[[str], str]) -> WriteHazard | None:
        """Return what is dangerous about where a link leads: the user's own programs, outside the sandbox, follow it.

        `read_link` is like `os.readlink`, for links that are not on disk yet.
        """
        end = [*steps_to("/".join((str(self.workspace), *parts)), read_link)][-1]
        if not end.is_relative_to(self.workspace):
            if str(end) == os.devnull or any(map(end.is_relative_to, self.visible)):
                return None
            reason = f"is a link that leads out of the workspace, to {str(end)!r}, where your programs would follow it"
        elif self.find_hidden(inside := end.relative_to(self.workspace).parts):
            reason = f"is a link that leads to {'/'.join(inside)!r}, which tools cannot access but your programs can"
        else:
            return None
        return WriteHazard(HazardKind.LINK, parts[-1], f"{'/'.join(parts)!r} {reason}")

    def _home_name(self, path: Parts) -> str | None:
        """Return the name directly in the home folder that a path goes through, None if it does not."""
        depth = len(self.home or ())
        return path[depth] if self.home is not None and len(path) > depth and path[:depth] == self.home else None

    def _is_hidden_in_home(self, path: Parts) -> bool:
        if self.home is None:
            return False
        name = self._home_name(path)
        return (name is not None and is_hidden_home_name(name)) or _is_beneath(path, self._hidden_targets)

    def _is_readable(self, path: Parts) -> bool:
        """Return whether the user has named it, or a hidden folder that it is in, and not just the home folder."""
        return _is_beneath(path, [each for each in self.readable if self._is_hidden_in_home(each)])

    def _protected(self, path: Parts, *, is_folder: bool, is_link: bool) -> tuple[str, str] | None:
        found = protection(path, is_link=is_link)
        if found and not (self.allows_git and folded(found[0]) == ".git"):
            return found
        names = [folded(part) for part in path]
        if ".git" in names and (why := _git_setting(path, names, is_folder=is_folder)):
            return why
        if why := self._bare_repository(path, names, is_folder=is_folder):
            return why
        why_here = self._why_here(path, is_folder=is_folder, is_link=is_link)
        return (path[-1], why_here) if why_here else None

    def _why_here(self, path: Parts, *, is_folder: bool, is_link: bool) -> str:
        """Return why a path is obeyed on this machine, in this workspace, "" if it is not."""
        if _is_beneath(path, self.link_targets):
            return "is what a link or a setting of git leads to that programs or agents obey"
        if is_link and path in self._on_the_way:
            return "would give other files names that programs or agents obey"
        is_program = not is_folder and self._is_program(path)
        if is_program or folded(self._home_name(path) or "") in HOME_STARTUP_NAMES:
            return "is a program that you start by its name"
        if self._imports.is_of_python(path):
            return ""
        if self._is_hidden_in_home(path):
            return "is in a part of your home folder that tools may only read"
        if _is_beneath(path, self._startup_places):
            return "is in what a variable of your environment names, which programs obey when they start"
        return ""

    def _is_program(self, path: Parts) -> bool:
        """Return whether a shell finds a file by its name; in the workspace itself, only instead of another one."""
        if path[:-1] not in self._program_folders or self._imports.is_of_python(path):
            return False
        others = (self.workspace / each for each in _named_by("PATH"))
        return len(path) > 1 or any(each != self.workspace and _is_there(each, path) for each in others)

    def _bare_repository(self, path: Parts, names: Sequence[str], *, is_folder: bool) -> tuple[str, str] | None:
        """Return why a path is a setting or hook of a repository of another name, or makes one of a folder."""
        for at, name in enumerate(names):
            is_last = at == len(names) - 1
            is_setting = name in GIT_SETTINGS and not _is_harmless(names[at:], is_folder=is_folder)
            if is_setting and self._is_repository(path[:at], written=path):
                return "/".join(path[at:]), f"is a setting or a hook of the repository {'/'.join(path[:at]) or '.'!r}"
            completes = is_last and path[at] in BARE_REPOSITORY and ".git" not in names
            if completes and self._makes_repository(path[:at], path):
                return path[at], f"makes a repository of {'/'.join(path[:at]) or '.'!r}, whose settings git obeys"
        return None

    def _makes_repository(self, folder: Parts, path: Parts) -> bool:
        has_settings = any(self._exists((*folder, each)) for each in GIT_SETTINGS)
        was_one = all(_is_there(self.workspace, (*folder, each)) for each in BARE_REPOSITORY)
        return has_settings and not was_one and self._is_repository(folder, written=path)

    def _is_repository(self, folder: Parts, *, written: Parts) -> bool:
        """Return whether git takes a folder for a repository, or for a part of one whose settings are elsewhere."""
        head, *data = (
            (*folder, each) == written[: len(folder) + 1] or self._exists((*folder, each))
            for each in (*BARE_REPOSITORY, "commondir")
        )
        return head and (data[-1] or all(data[:-1]))

    def _exists(self, path: Parts) -> bool:
        return self.exists(path) if self.exists is not None else _is_there(self.workspace, path)

    @cached_property
    def _imports(self) -> ImportHazards:
        return ImportHazards(self.workspace, self._exists)

    @cached_property
    def _on_the_way(self) -> frozenset[Parts]:
        """The folders above what counts in this workspace only: a link in place of one leads to other files."""
        below = (*self.link_targets, *self.skills, *self.programs)
        named = (*self.readable_names, *_named_by("PATH", *STARTUP_VARIABLES))
        steps = {step for each in named for step in steps_to(os.path.normpath(self.workspace / each))}
        above = {each[:length] for each in below for length in range(1, len(each))}
        return frozenset(above | {each.relative_to(self.workspace).parts for each in steps if self._is_inside(each)})

    @cached_property
    def _program_folders(self) -> frozenset[Parts]:
        """The folders in the workspace on `PATH`, and the workspace itself if an entry is empty, for example."""
        places = [Path(os.path.realpath(self.workspace / each)) for each in _named_by("PATH")]
        return frozenset(
            each.relative_to(self.workspace).parts for each in places if each.is_relative_to(self.workspace)
        )

    @cached_property
    def _startup_places(self) -> frozenset[Parts]:
        """What the variables of the environment name that programs obey when they start."""
        places = [Path(os.path.realpath(self.workspace / each)) for each in _named_by(*STARTUP_VARIABLES) if each]
        return frozenset(each.relative_to(self.workspace).parts for each in places if self._is_inside(each))

    def _is_inside(self, place: Path) -> bool:
        return self.workspace in place.parents

    @cached_property
    def _hidden_targets(self) -> frozenset[Parts]:
        """Where the links lead that are hidden in the home folder: `.ssh` may be a link to `private/ssh`."""
        folder = self.workspace.joinpath(*self.home or ())
        names = hidden_home_names(folder) if self.home is not None else []
        return _targets_in(self.workspace, (f"{folder}/{name}" for name in names))


def hidden_home_names(home: Path) -> list[str]:
    """Return the names in a home folder that tools must not see, of those that there are now, sorted."""
    try:
        return sorted(name for name in os.listdir(home) if is_hidden_home_name(name))  # noqa: PTH208
    except OSError:  # There is no such folder, or it cannot be read, by tools neither.
        return []


def protected_link_targets(workspace: Path, folders: Collection[Parts]) -> frozenset[Parts]:
    """Return where links with protected names lead, in these folders and in that of the repository around them.

    Only places in the workspace are returned. Writing to one of them is writing to the protected name: `.envrc` may be
    a link to `tools/environment.sh`, and `.git/hooks/pre-commit` one to `scripts/check.sh`. What the settings of git
    there name counts, too. The cost does not grow with the size of the folders.
    """
    found: list[str] = []
    named: set[Parts] = set()
    around = next((each for each in workspace.parents if _is_there(each, (".git",))), None)
    for folder in (*(workspace.joinpath(*parts) for parts in folders), *([around] if around else [])):
        found += (f"{folder}/{name}" for name in (*protected_names(), *PRIVATE))
        for crowd in FOLDERS_OF_PROGRAMS:
            with suppress(OSError), os.scandir(f"{folder}/{crowd}") as entries:  # There may be no such folder.
                found += (each.path for each in entries if each.is_symlink())
        named |= git_targets(workspace, folder / ".git")
    return _targets_in(workspace, found) | named


def steps_to(path: str, read_link: Callable[[str], str] = os.readlink) -> Iterator[Path]:
    """Yield each folder and link on the way to an absolute path, and finally where it leads, which may be missing."""
    at, names, links = "/", path.split("/")[::-1], 0
    while names and links <= MAX_LINKS:
        place = os.path.normpath(f"{at}/{names.pop()}")  # `at` has no links, so `..` is the folder above
        yield Path(place)
        try:
            target = read_link(place)
        except OSError:  # It is no link, or missing.
            at = place
            continue
        links += 1
        at = "/" if target.startswith("/") else at
        names += reversed(target.split("/"))


def git_targets(workspace: Path, repository: Path) -> frozenset[Parts]:
    """Return what the settings of a repository name in the workspace, with links resolved, too."""
    names = [*settings_targets(repository, workspace)]
    places = {Path(each) for name in names for each in (name, os.path.realpath(name))}
    return frozenset(each.relative_to(workspace).parts for each in places if workspace in each.parents)


def _targets_in(workspace: Path, paths: Iterable[str]) -> frozenset[Parts]:
    """Return where those of the paths that are links lead, as far as that is in the workspace, but not all of it."""
    links = (each for each in paths if os.path.islink(each))  # noqa: PTH114  Path would raise in some folders.
    found = (place for each in links for place in places_on_the_way(each))
    return frozenset(each.relative_to(workspace).parts for each in found if workspace in each.parents)


def places_on_the_way(link: str | Path) -> Iterator[Path]:
    """Yield the other links that a link leads through, and the place where it ends, which may be missing."""
    at, names, links = os.path.realpath(os.path.dirname(link)), [os.path.basename(link)], 0  # noqa: PTH119, PTH120
    while names and links <= MAX_LINKS:
        name = names.pop()
        place = os.path.normpath(f"{at}/{name}")  # `at` has no links, so `..` is the folder above
        try:
            target = os.readlink(place)  # noqa: PTH115
        except OSError:  # It is no link, or missing.
            at = place
            continue
        links += 1
        if links > 1:
            yield Path(place)
        at = "/" if target.startswith("/") else at
        names += reversed(target.split("/"))
    yield Path(at)


def _git_setting(path: Parts, names: Sequence[str], *, is_folder: bool) -> tuple[str, str] | None:
    """Return why a path in or at `.git` is a setting or hook of git's, None if it is git's own data."""
    git_at = max(at for at, name in enumerate(names) if name == ".git")
    if git_at == len(names) - 1:
        return None if is_folder else (path[git_at], "tells git where the repository is")
    for at in range(git_at + 1, len(names)):
        if names[at] in GIT_DATA:
            return None
        if names[at] in GIT_SETTINGS and not _is_harmless(names[at:], is_folder=is_folder):
            return "/".join(path[git_at:]), "is a setting or a hook of git"
        if names[at] in REPOSITORY_POINTERS and at >= len(names) - 2 and not is_folder:
            return "/".join(path[git_at:]), "tells git where a repository is"
    return None


def _is_harmless(names: Sequence[str], *, is_folder: bool) -> bool:
    """Return whether a path from one of git's settings on is only an example of a hook, or the folder for hooks."""
    return names[0] == "hooks" and (names[-1].endswith(".sample") if len(names) > 1 else is_folder)


def _is_beneath(path: Parts, folders: Collection[Parts]) -> bool:
    """Return whether a path is one of these or in one; as quick for a set of thousands as for one."""
    return any(path[:length] in folders for length in range(len(path) + 1))


def _named_by(*variables: str) -> list[str]:
    """Return the paths that variables of the environment name."""
    return [each for name in variables if name in os.environ for each in os.environ[name].split(os.pathsep)]


def _is_there(workspace: Path, path: Parts) -> bool:
    return os.path.lexists(workspace.joinpath(*path))

"""What bash must not write in the workspace: what is there is shown read-only, what appears is taken away afterwards.

That is the names of `protected.py`, the folders of skills and, of a git repository, what makes git run something: its
hooks and settings. A name that does not exist yet cannot be shown read-only without leaving an empty file in the user's
folder; so the names are compared before and after each call, and what is new is moved to `.piano/quarantine`. The gaps:
until a call ends, the new file is there; below `DEPTH` folders, beyond `MOST_FOLDERS` of them and in those named in
`PASSED_BY`, nobody looks; a protected file that the user's editor replaces while a call runs is shielded again at the
next; and one that the user makes while a call runs is taken for the call's.
"""

import os
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from piano_jupyter.runner.tools.files.protected import instructs_agents, is_key, is_private, is_starter, protected_part
from piano_jupyter.runner.tools.files.shadowing import INSTALLED, shadows_import
from piano_jupyter.safe_files import FOLDER, folder_beneath, held_open

#: Of `.git`: hooks, settings, and what leads git to others of them.
GIT = {"commondir", "config", "config.worktree", "hooks", "modules", "worktrees"}
BARE = {"HEAD", "objects", "refs"}  #: a folder that holds these is a repository itself
PRIVATE = ".piano"  #: Piano's own data: not even seen
DEPTH = 5
MOST_FOLDERS = 300
MOST_SHIELDS = 500  #: beyond that many, a sandbox takes long to start, and so none is started
PASSED_BY = {"__pycache__", "node_modules", "site-packages"}
SETTLED = 0.1  #: seconds after which another change of a folder is sure to have another time


@dataclass(frozen=True, slots=True)
class Shields:
    """What a sandbox shows otherwise than it is; paths are relative to the workspace."""

    guarded: tuple[str, ...] = ()  #: read-only
    hidden: tuple[str, ...] = ()  #: empty
    fixed: tuple[str, ...] = ()  #: not to be moved away, with what is guarded in it
    files: tuple[int, ...] = ()  #: their inodes: a shield stays with the file that it was put over

    @property
    def names(self) -> tuple[str, ...]:
        """All that are shielded."""
        return (*self.guarded, *self.hidden, *self.fixed)


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found in a workspace; paths are relative to it."""

    shields: Shields = field(default_factory=Shields)
    links: tuple[tuple[str, str], ...] = ()  #: protected names that are symlinks, with their targets
    names: frozenset[str] = frozenset()  #: all that are protected, or that the kernel might import


@dataclass(slots=True)
class _Folder:
    """What one folder holds of interest."""

    changed: int  #: its ctime, which no program can set back
    imports: tuple[str, ...]  #: from where the kernel may import what is in it: this folder, the one above
    folders: list[str] = field(default_factory=list)
    protected: list[str] = field(default_factory=list)
    private: list[str] = field(default_factory=list)
    shadows: list[str] = field(default_factory=list)
    has_notebooks: bool = False  #: whose kernels import from here


@dataclass(slots=True)
class Guards:
    """Looks after one workspace."""

    workspace: Path
    database: tuple[str, ...] = ()  #: where it is in the workspace, if it is
    home: tuple[str, ...] | None = None  #: where the user's home folder is in it, if it is
    skills: tuple[tuple[str, ...], ...] = ()  #: where they are
    _folders: dict[str, _Folder] = field(default_factory=dict, init=False)

    def look(self) -> Seen:
        """Return what there is. Costs one call to the system for each folder that is as it was at the last look."""
        imported = {"", *self._import_folders()}
        protected: list[str] = []
        private: list[str] = []
        names: set[str] = set()
        known: dict[str, _Folder] = {}
        waiting = sorted(imported) + [at for at, each in self._folders.items() if each.protected or each.private]
        most = len(waiting) + MOST_FOLDERS
        for at in waiting:  # It grows as it goes, so that what is near the top comes first.
            folder = None if at in known else self._read(at, imported)
            if folder is None:
                continue
            known[at] = folder
            if folder.has_notebooks:
                imported.add(at)
            protected += [at + name for name in folder.protected]
            private += [at + name for name in folder.private]
            names.update(at + name for name in folder.shadows)
            if ".git" in folder.folders:  # However many folders there are: somebody may have made them for that.
                waiting.append(f"{at}.git/")
                most += 1
            if at.count("/") < DEPTH:
                waiting += [f"{at}{name}/" for name in folder.folders if name != ".git"][: max(most - len(waiting), 0)]
        self._folders = known
        return self._seen(protected, private, names.union(protected))

    def take_away(self, before: Seen, into: str) -> list[str]:
        """Move what is new since `before` to `.piano/quarantine/<into>`; return a sentence about each."""
        after, links = self.look(), dict(before.links)
        exchanged = [name for name, target in before.links if dict(after.links).get(name) != target]
        new = sorted({*(after.names - before.names), *exchanged})
        told, where = [], self._quarantine(into, new)
        for name in new:
            if any(name.startswith(f"{other}/") for other in new):
                continue
            try:
                moved = self._move(name, where, links.get(name))
            except OSError as error:
                told.append(f"protected: tools do not make {name!r}, and it could not be taken away: {error.strerror}")
                continue
            if moved:
                told.append(
                    f"protected: {name!r} was taken away to {where}, tools do not make it; tell the user what it is for"
                )
        return told

    def _import_folders(self) -> Iterator[str]:
        """Yield from where the kernel imports, its working directory first, as paths in the workspace.

        What is installed there is not among it: the sandbox shows that read-only.
        """
        prefixes = [Path(os.path.realpath(each)) for each in (sys.prefix, sys.base_prefix)]
        installed = [each for each in prefixes if self.workspace in each.parents]
        for each in dict.fromkeys((".", *sys.path)):
            with suppress(OSError, ValueError):  # It is gone, or elsewhere.
                real = Path(os.path.realpath(each))
                parts = real.relative_to(self.workspace).parts
                if INSTALLED.isdisjoint(parts) and not any(real.is_relative_to(prefix) for prefix in installed):
                    yield "".join(f"{part}/" for part in parts)

    def _read(self, at: str, imported: Collection[str]) -> _Folder | None:
        path = self.workspace / at
        try:
            changed = path.lstat().st_ctime_ns
            known = self._folders.get(at)
            if known is not None and (known.changed, known.imports) == (
                changed,
                _imports(at, imported, has_notebooks=known.has_notebooks),
            ):
                return known
            with os.scandir(path) as entries:
                here = {each.name: each.is_dir(follow_symlinks=False) for each in entries}
        except OSError:  # It is gone, or closed to us and so to bash.
            return None
        has_notebooks = any(name.endswith(".ipynb") for name in here)
        imports = _imports(at, imported, has_notebooks=has_notebooks)
        folder = _Folder(changed if time.time() - changed / 1e9 > SETTLED else 0, imports, has_notebooks=has_notebooks)
        parents = Path(at).parts
        if parents and parents[-1] == ".git":
            folder.protected = sorted(GIT.intersection(here))
            return folder
        wanted: Collection[str] = {"HEAD", *GIT} if here.keys() >= BARE else ()
        for name, is_folder in here.items():
            if name == ".git" and is_folder:
                folder.protected.append(name)
                folder.folders.append(name)
            elif name in wanted or protected_part((*parents, name)) or instructs_agents((*parents, name), self.skills):
                folder.protected.append(name)
            elif is_private((*parents, name), self.database):
                folder.private.append(name)
            elif self._is_users((*parents, name)) or (not is_folder and self._shadows(at, name, imports)):
                folder.shadows.append(name)
            elif is_folder and name not in PASSED_BY:
                folder.folders.append(name)
        return folder

    def _is_users(self, parts: Sequence[str]) -> bool:
        """Return whether it is of the user's home folder; the sandbox shields it where it is there already."""
        return is_key(parts, self.home) or is_starter(parts, self.home)

    def _shadows(self, at: str, name: str, imports: tuple[str, ...]) -> bool:
        """Return whether what is no folder would be imported: a module, a package's beginning, a link to a package."""
        if at not in imports and not name.startswith("__init__."):
            return False
        parts, folders = (*Path(at).parts, name), [self.workspace / each for each in imports]
        if "." not in name and not (self.workspace / at / name / "__init__.py").exists():
            return False
        parts = parts if "." in name else (*parts, "__init__.py")
        return shadows_import(parts, self.workspace, folders) is not None

    def _seen(self, protected: list[str], private: list[str], names: set[str]) -> Seen:
        guarded, hidden, files = [], [], []
        fixed = [str(folder) for name in private for folder in Path(name).parents[-2::-1]]  # else it could be moved
        links = []
        for name in sorted([*private, *protected]):
            path = self.workspace / name
            with suppress(OSError):  # It is gone meanwhile.
                if path.is_symlink():
                    links.append((name, str(path.readlink())))
                    continue
                files.append(path.stat().st_ino)
                if name == PRIVATE or name in private:
                    hidden.append(name)
                elif path.name == ".git" and path.is_dir():
                    fixed.append(name)
                elif path.name != "HEAD":  # git writes it.
                    guarded.append(name)
        return Seen(
            Shields(tuple(guarded), tuple(hidden), tuple(dict.fromkeys(fixed)), tuple(files)),
            tuple(links),
            frozenset(names),
        )

    def _move(self, name: str, into: Path, back: str | None) -> bool:
        """Move a name away; return whether it was there. `back` is the target of the link that was there before.

        No link is followed on either way: who made the name may have made links, too.
        """
        *parents, last = Path(name).parts
        with held_open(os.open(self.workspace, FOLDER)) as root:
            try:
                folder = folder_beneath(root, parents)
            except FileNotFoundError:
                return False
            with held_open(folder), held_open(folder_beneath(root, [*into.parts, *parents], make=True)) as target:
                try:
                    os.rename(last, last, src_dir_fd=folder, dst_dir_fd=target)
                except FileNotFoundError:
                    return False
                if back is not None:
                    os.symlink(back, last, dir_fd=folder)
        return True

    def _quarantine(self, call: str, new: Collection[str]) -> Path:
        """Return the folder for what a call made: in `.piano`, unless the call made that, or it is a link."""
        if PRIVATE in new or (self.workspace / PRIVATE).is_symlink():
            return Path(f"{PRIVATE}-quarantine-{call}")
        return Path(PRIVATE, "quarantine", call)


def _imports(at: str, imported: Collection[str], *, has_notebooks: bool) -> tuple[str, ...]:
    """Return from where the kernel may import what is in a folder: from it, and as a package from the one above."""
    above = at[: at[:-1].rfind("/") + 1]
    return tuple(each for each in dict.fromkeys((at, above)) if each in imported or (each == at and has_notebooks))

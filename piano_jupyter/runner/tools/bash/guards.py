"""What bash must not write in the workspace: what is there is shown read-only, what appears is taken away afterwards.

That is the names of `protected.py`, the folders of skills and, of a git repository, what makes git run something: its
hooks and settings. A name that does not exist yet cannot be shown read-only without leaving an empty file in the user's
folder; so the names are compared before and after each call, and what is new, or came with another folder in the place
of its own, is moved to `.piano/quarantine`. The folder of a database is read-only, for DuckDB follows links beside it.
The gaps: until a call ends, the new file is there, and for good where the kernel is killed; below `DEPTH` folders,
beyond `MOST_FOLDERS` of them and in those named in `PASSED_BY`, nobody looks; a protected file that the user's editor
replaces while a call runs is shielded again at the next; and one that the user makes while a call runs is taken for the
call's.
"""

import os
import secrets
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from piano_jupyter.runner.tools.bash.quarantine import move, reopen
from piano_jupyter.runner.tools.files import protected
from piano_jupyter.runner.tools.files.shadowing import INSTALLED, shadows_import, user_packages
from piano_jupyter.runner.tools.files.workspace import inside

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
class MountOverrides:
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
class WorkspaceScan:
    """What was found in a workspace; paths are relative to it."""

    shields: MountOverrides = field(default_factory=MountOverrides)
    links: tuple[tuple[str, str], ...] = ()  #: protected names that are symlinks, with their targets
    #: All that are protected, or that the kernel might import, with the inode of the folder that each is in: a command
    #: can move that folder away, and put another in its place.
    names: frozenset[tuple[str, int]] = frozenset()


@dataclass(slots=True)
class _FolderScan:
    """What one folder holds of interest."""

    inode: int
    changed: int  #: its ctime, which no program can set back
    imports: tuple[str, ...]  #: from where the kernel may import what is in it: this folder, the one above
    folders: list[str] = field(default_factory=list)
    protected: list[str] = field(default_factory=list)
    private: list[str] = field(default_factory=list)
    shadows: list[str] = field(default_factory=list)
    users: list[str] = field(default_factory=list)  #: of the user's home folder
    has_notebooks: bool = False  #: whose kernels import from here

    @property
    def names(self) -> list[str]:
        """All that are not to be new or exchanged after a command; what DuckDB makes beside its file may be."""
        return [*self.protected, *self.shadows, *self.users]


@dataclass(eq=False)
class WorkspaceGuard:
    """Looks after one workspace."""

    workspace: Path
    database: tuple[str, ...] = ()  #: where it is in the workspace, if it is
    home: tuple[str, ...] | None = None  #: where the user's home folder is in it, if it is
    skills: tuple[tuple[str, ...], ...] = ()  #: where they are
    own: tuple[tuple[str, ...], ...] = ()  #: where Piano has other folders of its own

    def __post_init__(self) -> None:
        self._packages = [inside(self.workspace, each) for each in user_packages()]
        self._folders: dict[str, _FolderScan] = {}
        self._closed: dict[str, int] = {}  #: folders that nobody could look into, with their ctime
        self._running: list[WorkspaceScan] = []  #: what was there before each command that runs now

    def look(self, *, after: bool = False) -> WorkspaceScan:
        """Return what there is. Costs one call to the system for each folder that is as it was at the last look.

        `after` a command, folders of ours that it closed are opened again.
        """
        imported = {"", *self._import_folders()}
        known: dict[str, _FolderScan] = {}
        waiting = sorted(imported) + [at for at, each in self._folders.items() if each.protected or each.private]
        most = len(waiting) + MOST_FOLDERS
        for at in waiting:  # It grows as it goes, so that what is near the top comes first.
            folder = None if at in known else self._read(at, imported, after=after)
            if folder is None:
                continue
            known[at] = folder
            if folder.has_notebooks:
                imported.add(at)
            if ".git" in folder.folders:  # However many folders there are: somebody may have made them for that.
                waiting.append(f"{at}.git/")
                most += 1
            if at.count("/") < DEPTH:
                waiting += [f"{at}{name}/" for name in folder.folders if name != ".git"][: max(most - len(waiting), 0)]
        self._folders = known
        return self._seen(known)

    def begin(self) -> WorkspaceScan:
        """Return what there is before a command, but nothing that one of those that run now may have made."""
        seen = self.look()
        for first in self._running[:1]:
            seen = replace(seen, links=first.links, names=seen.names & first.names)
        self._running.append(seen)
        return seen

    def end_all(self) -> None:
        """Take away what the commands have made that were running, all of which are dead."""
        for before in tuple(self._running):
            self.take_away(before, secrets.token_hex(8))

    def take_away(self, before: WorkspaceScan, into: str) -> list[str]:
        """Move what is new since `before` to `.piano/quarantine/<into>`; return a sentence about each."""
        self._running = [each for each in self._running if each is not before]
        after, links = self.look(after=True), dict(before.links)
        exchanged = [name for name, target in before.links if dict(after.links).get(name) != target]
        new = sorted({*(name for name, _ in after.names - before.names), *exchanged})
        told, where = [], self._quarantine(into, new)
        for name in new:
            if any(name.startswith(f"{other}/") for other in new):
                continue
            try:
                moved = move(self.workspace, name, where, links.get(name))
            except OSError as error:
                told.append(f"protected: tools do not make {name!r}, and it could not be taken away: {error.strerror}")
                continue
            if moved is not None:
                to = where if moved.is_relative_to(where) else moved
                told.append(
                    f"protected: {name!r} was taken away to {to}, tools do not make it; tell the user what it is for"
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

    def _read(self, at: str, imported: Collection[str], *, after: bool = False) -> _FolderScan | None:
        path, changed = self.workspace / at, 0
        try:
            about = path.lstat()
            changed = about.st_ctime_ns
            was = self._folders.get(at)
            if (
                was
                and was.changed == changed
                and was.imports == _imports(at, imported, has_notebooks=was.has_notebooks)
            ):
                return was
            os.stat(f"{path}/.")  # noqa: PTH116  Of one that is closed to us, some could read the names all the same.
            with os.scandir(path) as entries:
                here = {each.name: each.is_dir(follow_symlinks=False) for each in entries}
        except PermissionError:
            if after and self._closed.get(at) != changed and self._reopened(at):
                return self._read(at, imported)
            self._closed[at] = changed
            return None
        except OSError:  # It is gone.
            return None
        has_notebooks = any(name.endswith(".ipynb") for name in here)
        imports = _imports(at, imported, has_notebooks=has_notebooks)
        settled = changed if time.time() - changed / 1e9 > SETTLED else 0
        folder = _FolderScan(about.st_ino, settled, imports, has_notebooks=has_notebooks)
        self._note(folder, at, here)
        return folder

    def _note(self, folder: _FolderScan, at: str, here: Mapping[str, bool]) -> None:
        """Note what is of interest of the names in a folder; each comes with whether it is a folder itself."""
        parents = Path(at).parts
        if parents and parents[-1] == ".git":
            folder.protected = sorted(GIT.intersection(here))
            return
        wanted: Collection[str] = {"HEAD", *GIT} if here.keys() >= BARE else ()
        for name, is_folder in here.items():
            parts = (*parents, name)
            if name == ".git" and is_folder:
                folder.protected.append(name)
                folder.folders.append(name)
            elif name in wanted or protected.protected_part(parts) or protected.instructs_agents(parts, self.skills):
                folder.protected.append(name)
            elif protected.is_private(parts, self.database):
                folder.private.append(name)
            elif self._is_users(parts):
                folder.users.append(name)
            elif not is_folder and self._shadows(at, name, folder.imports):
                folder.shadows.append(name)
            elif is_folder and name not in PASSED_BY:
                folder.folders.append(name)

    def _is_users(self, parts: Sequence[str]) -> bool:
        """Return whether it is the user's: keys, what starts with a shell or with Python, what Piano has of its own."""
        return self._is_hidden(parts) or protected.is_starter(parts, self.home) or parts in self._packages

    def _is_hidden(self, parts: Sequence[str]) -> bool:
        return protected.is_key(parts, self.home) or parts in self.own

    def _shadows(self, at: str, name: str, imports: tuple[str, ...]) -> bool:
        """Return whether what is no folder would be imported: a module, a package's beginning, a link to a package."""
        if at not in imports and not name.startswith("__init__."):
            return False
        parts, folders = (*Path(at).parts, name), [self.workspace / each for each in imports]
        if "." not in name and not (self.workspace / at / name / "__init__.py").exists():
            return False
        parts = parts if "." in name else (*parts, "__init__.py")
        return shadows_import(parts, self.workspace, folders) is not None

    def _reopened(self, at: str) -> bool:
        with suppress(OSError):  # It is gone, or a link by now.
            return reopen(self.workspace, at)
        return False

    def _seen(self, folders: Mapping[str, _FolderScan]) -> WorkspaceScan:
        """Return what was found, of all folders together."""
        found = folders.items()
        protected_names = [at + name for at, folder in found for name in folder.protected]
        private = [at + name for at, folder in found for name in folder.private]
        users = [at + name for at, folder in found for name in folder.users]
        guarded, hidden, files = [], [], []
        own = [name for name in protected_names if Path(name).name == PRIVATE] + private  # nobody sees it
        own += [name for name in users if self._is_hidden(Path(name).parts)]
        fixed = [folder for name in own for folder in _above(name)]
        links = []
        shared = [str(Path(*self.database[:-1]))] if protected.shares_folder(self.database) else []
        for name in sorted([*private, *protected_names, *users, *shared]):
            path = self.workspace / name
            with suppress(OSError):  # It is gone meanwhile.
                if path.is_symlink():
                    links.append((name, str(path.readlink())))
                    fixed += _above("/".join(inside(self.workspace, str(path)))) if name in users else ()
                    continue
                files.append(path.stat().st_ino)
                if name in own:
                    hidden.append(name)
                elif path.name == ".git" and path.is_dir():
                    fixed.append(name)
                elif path.name != "HEAD":  # git writes it.
                    guarded.append(name)
        return WorkspaceScan(
            MountOverrides(tuple(guarded), tuple(hidden), tuple(dict.fromkeys(fixed)), tuple(files)),
            tuple(links),
            frozenset((at + name, each.inode) for at, each in found for name in each.names),
        )

    def _quarantine(self, call: str, new: Collection[str]) -> Path:
        """Return the folder for what a call made: in `.piano`, unless the call made that, or it is a link."""
        if PRIVATE in new or (self.workspace / PRIVATE).is_symlink():
            return Path(f"{PRIVATE}-quarantine-{call}")
        return Path(PRIVATE, "quarantine", call)


def _above(name: str) -> list[str]:
    """Return the folders that a name is in: it could be moved away with them."""
    return [str(folder) for folder in Path(name).parents[-2::-1]]


def _imports(at: str, imported: Collection[str], *, has_notebooks: bool) -> tuple[str, ...]:
    """Return from where the kernel may import what is in a folder: from it, and as a package from the one above."""
    above = at[: at[:-1].rfind("/") + 1]
    return tuple(each for each in dict.fromkeys((at, above)) if each in imported or (each == at and has_notebooks))

"""What bash must not write in the workspace: what exists is mounted read-only, what is new is quarantined afterwards.

These are the names in `protected.py`, the folders of skills, and whatever makes git run something: the hooks and
settings of a repository. A name that does not exist yet cannot be mounted read-only without leaving an empty file in
the user's folder; so the names are compared before and after each call, and what is new, or came with a replaced
folder, is moved to `.piano/quarantine`. The folder of a database is read-only, because DuckDB follows links beside it.

Limitations: until a call ends, the new file is there, and permanently if the kernel is killed; folders deeper than
`MAX_DEPTH`, beyond `MAX_FOLDERS` and those in `SKIPPED_FOLDERS` are not scanned; a protected file that the user's
editor replaces during a call is not protected until the next call; a file that the user makes during a call counts as
made by the call.
"""

import os
import secrets
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from piano_jupyter.runner.tools.bash.quarantine import move_to_quarantine, reopen
from piano_jupyter.runner.tools.files import protected
from piano_jupyter.runner.tools.files.shadowing import INSTALL_FOLDERS, shadows_import, user_packages
from piano_jupyter.runner.tools.files.workspace import parts_inside

#: In `.git`: hooks, settings, and what points git to more of them.
GIT_PROTECTED_NAMES = {"commondir", "config", "config.worktree", "hooks", "modules", "worktrees"}
BARE_REPOSITORY_NAMES = {"HEAD", "objects", "refs"}  #: a folder with these is a bare repository
PRIVATE = ".piano"  #: Piano's own data, which commands cannot even see
MAX_DEPTH = 5
MAX_FOLDERS = 300
MAX_OVERRIDES = 500  #: with more, a sandbox takes too long to start, so none is started
SKIPPED_FOLDERS = {"__pycache__", "node_modules", "site-packages"}
TIMESTAMP_MARGIN_S = 0.1  #: a folder that changes again after this time gets another ctime


@dataclass(frozen=True, slots=True)
class MountOverrides:
    """Which parts of the workspace a sandbox shows differently; paths are relative to the workspace."""

    read_only: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()  #: shown as empty
    not_movable: tuple[str, ...] = ()  #: these cannot be moved away, with the protected files in them
    inodes: tuple[int, ...] = ()  #: of these files: a mount stays with the file that was there when it was made

    @property
    def names(self) -> tuple[str, ...]:
        """All names that are shown differently."""
        return (*self.read_only, *self.hidden, *self.not_movable)


@dataclass(frozen=True, slots=True)
class WorkspaceScan:
    """What was found in a workspace; paths are relative to it."""

    overrides: MountOverrides = field(default_factory=MountOverrides)
    links: tuple[tuple[str, str], ...] = ()  #: protected names that are symlinks, with their targets
    #: All protected names, and those that the kernel might import, each with the inode of its folder, because a command
    #: can replace that folder with another.
    names: frozenset[tuple[str, int]] = frozenset()


@dataclass(slots=True)
class _FolderScan:
    """The relevant contents of one folder."""

    inode: int
    ctime_ns: int  #: which no program can set back; 0 if the folder may still change within the same ctime
    import_roots: tuple[str, ...]  #: folders from which the kernel may import its files: this one, the one above
    folders: list[str] = field(default_factory=list)
    protected: list[str] = field(default_factory=list)
    private: list[str] = field(default_factory=list)
    shadows: list[str] = field(default_factory=list)
    home_names: list[str] = field(default_factory=list)  #: protected names in the user's home folder
    has_notebooks: bool = False  #: their kernels import from this folder

    @property
    def names(self) -> list[str]:
        """All names that a command must not add or replace; what DuckDB makes beside its file is not among them."""
        return [*self.protected, *self.shadows, *self.home_names]


@dataclass(eq=False)
class WorkspaceGuard:
    """Protects one workspace from the commands that run in it."""

    workspace: Path
    database: tuple[str, ...] = ()  #: its path in the workspace, () if it is elsewhere
    home: tuple[str, ...] | None = None  #: the path of the user's home folder in it, None if it is elsewhere
    skills: tuple[tuple[str, ...], ...] = ()  #: the paths of skill folders
    own: tuple[tuple[str, ...], ...] = ()  #: the paths of Piano's other folders

    def __post_init__(self) -> None:
        self._packages = [parts_inside(self.workspace, each) for each in user_packages()]
        self._folders: dict[str, _FolderScan] = {}
        self._unreadable: dict[str, int] = {}  #: folders that we could not read, with their ctime
        self._running: list[WorkspaceScan] = []  #: the scan before each command that is running

    def scan(self, *, after_command: bool = False) -> WorkspaceScan:
        """Scan the workspace. A folder that has not changed since the last scan costs one system call.

        `after_command` makes folders readable again that the command has closed.
        """
        imported = {"", *self._import_folders()}
        scanned: dict[str, _FolderScan] = {}
        queue = sorted(imported) + [at for at, each in self._folders.items() if each.protected or each.private]
        queue += self._folders_of_own()
        max_folders = len(queue) + MAX_FOLDERS
        for at in queue:  # The list grows meanwhile, so that folders near the top come first.
            folder = None if at in scanned else self._scan_folder(at, imported, after_command=after_command)
            if folder is None:
                continue
            scanned[at] = folder
            if folder.has_notebooks:
                imported.add(at)
            if ".git" in folder.folders:  # Always scanned: a command may have made many folders to hide it.
                queue.append(f"{at}.git/")
                max_folders += 1
            if at.count("/") < MAX_DEPTH:
                queue += [f"{at}{name}/" for name in folder.folders if name != ".git"][
                    : max(max_folders - len(queue), 0)
                ]
        self._folders = scanned
        return self._combine(scanned)

    def _folders_of_own(self) -> list[str]:
        """Return the folders that contain Piano's own, however deep those are; none that is hidden itself."""
        above = {folder for each in (*self.own, self.database) for folder in _parents_of("/".join(each))}
        return sorted(f"{folder}/" for folder in above if not protected.is_private(Path(folder).parts))

    def begin_command(self) -> WorkspaceScan:
        """Scan before a command, leaving out what other running commands may have made."""
        scan = self.scan()
        for first in self._running[:1]:
            scan = replace(scan, links=first.links, names=scan.names & first.names)
        self._running.append(scan)
        return scan

    def quarantine_all(self) -> None:
        """Quarantine what the running commands have made; all of them must have ended."""
        for before in tuple(self._running):
            self.quarantine_new(before, secrets.token_hex(8))

    def quarantine_new(self, before: WorkspaceScan, folder: str) -> list[str]:
        """Move what is new since `before` to `.piano/quarantine/<folder>`; return a sentence about each."""
        self._running = [each for each in self._running if each is not before]
        after, links = self.scan(after_command=True), dict(before.links)
        replaced = [name for name, target in before.links if dict(after.links).get(name) != target]
        new = sorted({*(name for name, _ in after.names - before.names), *replaced})
        messages, quarantine = [], self._quarantine_folder(folder, new)
        for name in new:
            if any(name.startswith(f"{other}/") for other in new):
                continue
            try:
                moved = move_to_quarantine(self.workspace, name, quarantine, links.get(name))
            except OSError as error:
                messages.append(
                    f"protected: {name!r}, which tools must not create, could not be moved away: {error.strerror}"
                )
                continue
            if moved is not None:
                destination = quarantine if moved.is_relative_to(quarantine) else moved
                messages.append(
                    f"protected: {name!r} was moved to {destination}, because tools must not create it; "
                    f"tell the user what it is for"
                )
        return messages

    def _import_folders(self) -> Iterator[str]:
        """Yield the folders that the kernel imports from, as paths in the workspace, its working directory first.

        Installed packages are not among them: the sandbox mounts those read-only.
        """
        prefixes = [Path(os.path.realpath(entry)) for entry in (sys.prefix, sys.base_prefix)]
        installed = [entry for entry in prefixes if self.workspace in entry.parents]
        for entry in dict.fromkeys((".", *sys.path)):
            with suppress(OSError, ValueError):  # It does not exist, or is outside the workspace.
                real = Path(os.path.realpath(entry))
                parts = real.relative_to(self.workspace).parts
                if INSTALL_FOLDERS.isdisjoint(parts) and not any(real.is_relative_to(prefix) for prefix in installed):
                    yield "".join(f"{part}/" for part in parts)

    def _scan_folder(self, at: str, imported: Collection[str], *, after_command: bool = False) -> _FolderScan | None:
        path, ctime_ns = self.workspace / at, 0
        try:
            status = path.lstat()
            ctime_ns = status.st_ctime_ns
            previous = self._folders.get(at)
            if (
                previous
                and previous.ctime_ns == ctime_ns
                and previous.import_roots == _import_roots(at, imported, has_notebooks=previous.has_notebooks)
            ):
                return previous
            os.stat(f"{path}/.")  # noqa: PTH116  Raises if we cannot search it, even if we can list it.
            with os.scandir(path) as found:
                entries = {each.name: each.is_dir(follow_symlinks=False) for each in found}
        except PermissionError:
            if after_command and self._unreadable.get(at) != ctime_ns and self._make_readable(at):
                return self._scan_folder(at, imported)
            self._unreadable[at] = ctime_ns
            return None
        except OSError:  # It is gone.
            return None
        has_notebooks = any(name.endswith(".ipynb") for name in entries)
        import_roots = _import_roots(at, imported, has_notebooks=has_notebooks)
        stable_ctime_ns = ctime_ns if time.time() - ctime_ns / 1e9 > TIMESTAMP_MARGIN_S else 0
        folder = _FolderScan(status.st_ino, stable_ctime_ns, import_roots, has_notebooks=has_notebooks)
        self._classify(folder, at, entries)
        return folder

    def _classify(self, folder: _FolderScan, at: str, entries: Mapping[str, bool]) -> None:
        """Sort the names in a folder into the kinds that matter; `entries` says of each whether it is a folder."""
        parents = Path(at).parts
        if parents and parents[-1] == ".git":
            folder.protected = sorted(GIT_PROTECTED_NAMES.intersection(entries))
            return
        wanted: Collection[str] = {"HEAD", *GIT_PROTECTED_NAMES} if entries.keys() >= BARE_REPOSITORY_NAMES else ()
        for name, is_folder in entries.items():
            parts = (*parents, name)
            if name == ".git" and is_folder:
                folder.protected.append(name)
                folder.folders.append(name)
            elif name in wanted or protected.protected_part(parts) or protected.instructs_agents(parts, self.skills):
                folder.protected.append(name)
            elif protected.is_private(parts, self.database):
                folder.private.append(name)
            elif self._is_home_name(parts):
                folder.home_names.append(name)
            elif not is_folder and self._shadows(at, name, folder.import_roots):
                folder.shadows.append(name)
            elif is_folder and name not in SKIPPED_FOLDERS:
                folder.folders.append(name)

    def _is_home_name(self, parts: Sequence[str]) -> bool:
        """Return whether it is a key, a startup file of a shell or of Python, or a folder of Piano."""
        return self._is_hidden(parts) or protected.is_startup_file(parts, self.home) or parts in self._packages

    def _is_hidden(self, parts: Sequence[str]) -> bool:
        return protected.is_key(parts, self.home) or parts in self.own

    def _shadows(self, at: str, name: str, import_roots: tuple[str, ...]) -> bool:
        """Return whether a file would be imported: a module, the `__init__` of a package, or a link to a package."""
        if at not in import_roots and not name.startswith("__init__."):
            return False
        parts, folders = (*Path(at).parts, name), [self.workspace / each for each in import_roots]
        if "." not in name and not (self.workspace / at / name / "__init__.py").exists():
            return False
        parts = parts if "." in name else (*parts, "__init__.py")
        return shadows_import(parts, self.workspace, folders) is not None

    def _make_readable(self, at: str) -> bool:
        with suppress(OSError):  # It is gone, or has become a link.
            return reopen(self.workspace, at)
        return False

    def _combine(self, folders: Mapping[str, _FolderScan]) -> WorkspaceScan:
        """Combine the scans of all folders."""
        found = folders.items()
        protected_names = [at + name for at, folder in found for name in folder.protected]
        private = [at + name for at, folder in found for name in folder.private]
        home_names = [at + name for at, folder in found for name in folder.home_names]
        read_only, hidden, inodes = [], [], []
        hidden_names = [name for name in protected_names if Path(name).name == PRIVATE] + private
        hidden_names += [name for name in home_names if self._is_hidden(Path(name).parts)]
        not_movable = [folder for name in hidden_names for folder in _parents_of(name)]
        links = []
        shared_folder = [str(Path(*self.database[:-1]))] if protected.has_own_folder(self.database) else []
        for name in sorted([*private, *protected_names, *home_names, *shared_folder]):
            path = self.workspace / name
            with suppress(OSError):  # It is gone by now.
                if path.is_symlink():
                    links.append((name, str(path.readlink())))
                    not_movable += (
                        _parents_of("/".join(parts_inside(self.workspace, str(path)))) if name in home_names else ()
                    )
                    continue
                inodes.append(path.stat().st_ino)
                if name in hidden_names:
                    hidden.append(name)
                elif path.name == ".git" and path.is_dir():
                    not_movable.append(name)
                elif path.name != "HEAD":  # git itself writes to it.
                    read_only.append(name)
        return WorkspaceScan(
            MountOverrides(tuple(read_only), tuple(hidden), tuple(dict.fromkeys(not_movable)), tuple(inodes)),
            tuple(links),
            frozenset((at + name, each.inode) for at, each in found for name in each.names),
        )

    def _quarantine_folder(self, call: str, new: Collection[str]) -> Path:
        """Return the quarantine folder of a call: in `.piano`, unless the call made that or it is a link."""
        if PRIVATE in new or (self.workspace / PRIVATE).is_symlink():
            return Path(f"{PRIVATE}-quarantine-{call}")
        return Path(PRIVATE, "quarantine", call)


def _parents_of(name: str) -> list[str]:
    """Return the folders that contain a name, with which it could be moved away."""
    return [str(folder) for folder in Path(name).parents[-2::-1]]


def _import_roots(at: str, imported: Collection[str], *, has_notebooks: bool) -> tuple[str, ...]:
    """Return the folders from which the kernel may import a folder's files: itself, or its parent for a package."""
    above = at[: at[:-1].rfind("/") + 1]
    return tuple(each for each in dict.fromkeys((at, above)) if each in imported or (each == at and has_notebooks))

"""What a sandbox has to know about a whole workspace: what to hide in it, and where its protected links lead.

To find that, all folders have to be looked at. That happens in a thread, once before the first command and then while
commands run, and a folder that has not changed since the last time costs one system call. So a command waits for it
only if it is over sooner, and what somebody else adds to the workspace counts from the next command on. Folders beyond
`MAX_FOLDERS` are not looked at: `is_complete` is False then, and changes to files in them need an approval.
"""

import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from piano_jupyter.runner.tools.files.git_settings import SETTINGS_FILES
from piano_jupyter.runner.tools.files.write_hazards import (
    HazardKind,
    WriteHazards,
    git_targets,
    places_on_the_way,
    protected_link_targets,
)

Parts = tuple[str, ...]
T = TypeVar("T")

MAX_FOLDERS = 200_000
TIMESTAMP_MARGIN_S = 0.1  #: a folder that changes again after this time gets another time
PAUSE_EACH = 50  #: names; each time the event loop needs the interpreter, it would wait for up to 5 ms otherwise
PAUSE_S = 5e-5


@dataclass(frozen=True, slots=True)
class WorkspaceFacts:
    """What was found in a workspace; paths are relative to it."""

    hidden: tuple[str, ...] = ()  #: what commands must not see
    link_targets: frozenset[Parts] = frozenset()  #: where links with such names and settings of git lead, with links
    is_complete: bool = True


@dataclass(frozen=True, slots=True)
class _Folder:
    """What counts in one folder: names only."""

    ctime_ns: int  #: which no program can set back; 0 if the folder may still change within the same time
    folders: tuple[str, ...]
    hidden: tuple[str, ...]
    links: tuple[str, ...]
    has_settings: bool  #: of git


@dataclass(slots=True, eq=False)
class WorkspaceIndex:
    """The facts about one workspace, None before the first `refresh`."""

    hazards: WriteHazards
    facts: WorkspaceFacts | None = None
    _folders: Mapping[Parts, _Folder] = field(default_factory=dict)

    def refresh(self, is_cancelled: Callable[[], bool] = lambda: False) -> WorkspaceFacts:
        """Look at the workspace again and return the facts, which are incomplete if it is cancelled meanwhile."""
        known, found = self._folders, dict[Parts, _Folder]()
        queue: list[Parts] = [()]
        for parts in queue:  # the list grows, the folders near the top come first
            if len(found) >= MAX_FOLDERS or is_cancelled():
                break
            folder = self._look(parts, known.get(parts))
            if folder is not None:
                found[parts] = folder
                queue += [(*parts, name) for name in folder.folders]
        self._folders = found
        self.facts = WorkspaceFacts(
            tuple("/".join((*parts, name)) for parts, folder in found.items() for name in folder.hidden),
            frozenset(self._targets(found)),
            is_complete=len(found) < MAX_FOLDERS and not is_cancelled(),
        )
        return self.facts

    def _look(self, parts: Parts, known: _Folder | None) -> _Folder | None:
        path = "/".join((str(self.hazards.workspace), *parts))  # a Path would take longer than the rest
        with suppress(OSError):  # It is gone, or not to be read: by commands neither.
            ctime_ns = os.lstat(path).st_ctime_ns
            if time.time() - ctime_ns / 1e9 < TIMESTAMP_MARGIN_S:
                ctime_ns = 0
            if known is not None and known.ctime_ns == ctime_ns != 0:
                return known
            folders, hidden, links, has_settings = [], [], [], False
            with os.scandir(path) as entries:
                for entry in _with_pauses(entries):
                    if self.hazards.find_hidden((*parts, entry.name)):
                        hidden.append(entry.name)
                        links += [entry.name] if entry.is_symlink() else []
                        continue
                    has_settings |= entry.name in SETTINGS_FILES
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.name)
                    elif entry.is_symlink():
                        hazard = self.hazards.find((*parts, entry.name), stat.S_IFLNK)
                        if hazard is not None and hazard.kind is not HazardKind.IMPORTED:
                            links.append(entry.name)
            return _Folder(ctime_ns, tuple(folders), tuple(hidden), tuple(links), has_settings and ".git" in parts)
        return None

    def _targets(self, found: Mapping[Parts, _Folder]) -> list[Parts]:
        targets = [*protected_link_targets(self.hazards.workspace, [])]  # of the repository around the workspace
        for parts, folder in found.items():
            for name in _with_pauses(folder.links):
                places = places_on_the_way(self.hazards.workspace.joinpath(*parts, name))
                inside = (each for each in places if each.is_relative_to(self.hazards.workspace))
                targets += (each.relative_to(self.hazards.workspace).parts for each in inside)
            if folder.has_settings:
                targets += git_targets(self.hazards.workspace, self.hazards.workspace.joinpath(*parts))
        return targets


def _with_pauses(names: Iterable[T]) -> Iterator[T]:
    """Yield names, and let other threads run now and then."""
    for number, each in enumerate(names, 1):
        if number % PAUSE_EACH == 0:
            time.sleep(PAUSE_S)
        yield each

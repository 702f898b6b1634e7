"""Applies what a command changed in its overlay to the workspace, except what needs the user's approval.

Both are walked together by descriptors, and no link is followed on the way: the command made the one, and somebody
else may change the other meanwhile. Each path is judged before it is written or removed. What is held back, or was
changed by somebody else while the command ran, stays in the overlay, where it can be looked at, and applied later.

Limitations: a pipe, a socket or a device that a command leaves is not kept; the workspace's folders get no new times.
"""

import errno
import os
import stat
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from piano_jupyter.runner.tools.bash.overlay import Overlay
from piano_jupyter.runner.tools.bash.overlay_files import (
    is_opaque,
    is_same,
    move_file,
    names_in,
    open_folder,
    remove_marks,
    signature_of,
    status_of,
    trace_of,
)
from piano_jupyter.runner.tools.files.write_hazards import HazardKind, WriteHazard
from piano_jupyter.safe_files import (
    NO_FOLLOW,
    OPEN_FOLDER,
    closing_descriptor,
)

Parts = tuple[str, ...]

MAX_DEPTH = 100  #: of folders; what is deeper is not applied
ANY_FOLDER = "folder"  #: a name that protects nothing


class Judge(Protocol):
    """Says what is dangerous about writing or removing a path; `mode` is that of what is written or removed."""

    def __call__(self, path: Parts, mode: int, *, removed: bool = False) -> WriteHazard | None: ...


@dataclass(frozen=True, slots=True)
class HeldChange:
    """A change that is not applied without an approval, or not at all."""

    path: Parts
    hazard: WriteHazard
    removed: bool = False
    root: Parts = ()  #: the topmost folder that the command made, and that this is in


@dataclass(slots=True)
class AppliedChanges:
    """What became of a command's changes."""

    held: list[HeldChange] = field(default_factory=list)
    conflicts: list[Parts] = field(default_factory=list)  #: somebody else changed these while the command ran
    failed: list[tuple[Parts, str]] = field(default_factory=list)  #: these could not be written, and why
    #: What is protected in folders that were removed: the path, the folder, and what it was.
    gone: list[tuple[Parts, Parts, object]] = field(default_factory=list)
    has_removals: bool = False  #: whether something was removed

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left in the overlay."""
        return not (self.held or self.conflicts or self.failed)


@dataclass(frozen=True, slots=True)
class _Place:
    """A folder of the overlay, and the same folder of the workspace."""

    parts: Parts
    changed: int  #: a descriptor of the folder in the overlay
    target: int  #: and of that in the workspace
    hides_target: bool  #: the overlay shows nothing of what is in the workspace's folder
    made: Parts  #: the topmost folder above or here that the command made, () if there is none


def apply_changes(overlay: Overlay, judge: Judge, allowed: Collection[Parts] = ()) -> AppliedChanges:
    """Apply the changes in an overlay; those in `allowed` whatever the judge says.

    A folder that was renamed keeps what is protected in it. A file that was moved to a protected name stays until that
    is approved, and one that could not be written at its new place stays where it was. Raises OSError if the workspace
    or the overlay is gone.
    """
    approved = frozenset(allowed)
    written = _Applier(overlay, judge, approved, removes=False).apply()
    if not written.has_removals:
        return written
    held = [(each, signature_of(overlay.changes.joinpath(*each.path))) for each in written.held]
    moved = frozenset(signature for each, signature in held if signature is not None and not each.hazard.is_forbidden)
    forbidden = [each.path for each in written.held if each.hazard.is_forbidden]
    failed = [path for path, _ in written.failed]
    unwritten = frozenset(_traces(overlay, [*forbidden, *written.conflicts, *failed]))
    applied = _Applier(overlay, judge, approved, moved=moved, unwritten=unwritten).apply()
    renamed = frozenset(_renamed(held, [*written.gone, *applied.gone], judge))
    if not renamed:
        return applied
    return _Applier(overlay, judge, approved | renamed, moved=moved, unwritten=unwritten).apply()


def _traces(overlay: Overlay, paths: Iterable[Parts]) -> Iterator[object]:
    """Yield the traces of files in an overlay, also of those in folders."""
    for path in paths:
        place = overlay.changes.joinpath(*path)
        files = [place, *(Path(folder, name) for folder, _, names in os.walk(place) for name in names)]
        yield from (trace for each in files if (trace := trace_of(each)) is not None)


def _renamed(
    held: Iterable[tuple[HeldChange, tuple[int, object] | None]],
    gone: Iterable[tuple[Parts, Parts, object]],
    judge: Judge,
) -> Iterator[Parts]:
    """Yield the held paths, old and new, that only moved with their whole folder, and have not changed.

    They must be protected in any folder: `vendor/.git` does not become `.git`, nor `vendor/.vscode` `.vscode`. Or what
    they are a part of moved as a whole, too, or they are links that lead to the same place from anywhere.
    """
    old = {(path[len(root) :], signature): path for path, root, signature in gone if signature is not None}
    for made, signature in held:
        inside = made.path[len(made.root) :]
        known = old.get((inside, signature)) if made.root else None
        if known is None or signature is None:
            continue
        is_same_link = made.hazard.kind is HazardKind.LINK and str(signature[1]).startswith("/")
        is_whole = made.hazard.owner is not None and len(made.hazard.owner) > len(made.root)
        if is_same_link or is_whole or judge((ANY_FOLDER, *inside), stat.S_IFREG) is not None:
            yield from (made.path, known)


class _Applier:
    def __init__(
        self,
        overlay: Overlay,
        judge: Judge,
        allowed: frozenset[Parts],
        *,
        removes: bool = True,
        moved: frozenset[object] = frozenset(),
        unwritten: frozenset[object] = frozenset(),
    ) -> None:
        """Without `removes`, what the command removed stays for now.

        `moved` are the signatures of held files, and `unwritten` the traces of those that could not be written.
        """
        self._overlay, self._judge, self._allowed = overlay, judge, allowed
        self._removes, self._moved, self._unwritten = removes, moved, unwritten
        self._above_allowed = {each[:end] for each in allowed for end in range(1, len(each))}
        self._applied = AppliedChanges()
        self._root = -1  #: a descriptor of the workspace, while changes are applied

    def apply(self) -> AppliedChanges:
        self._overlay.changes.chmod(0o700)
        with (
            closing_descriptor(os.open(self._overlay.changes, OPEN_FOLDER | NO_FOLLOW)) as changed,
            closing_descriptor(os.open(self._overlay.workspace, OPEN_FOLDER)) as target,
        ):
            self._root = target
            self._apply_folder(_Place((), changed, target, hides_target=False, made=()))
        return self._applied

    def _apply_folder(self, place: _Place) -> None:
        if place.hides_target:  # Each name gets a mark of its own, so that what is held back can be removed later.
            for name in set(names_in(place.target)).difference(names_in(place.changed)):
                os.mknod(name, stat.S_IFCHR, dir_fd=place.changed)
        for name in sorted(names_in(place.changed)):
            self._try(place, name, lambda name: self._apply_entry(place, name))

    def _try(self, place: _Place, name: str, change: Callable[[str], object]) -> None:
        try:
            change(name)
        except OSError as error:
            self._applied.failed.append(((*place.parts, name), error.strerror or type(error).__name__))

    def _apply_entry(self, place: _Place, name: str) -> None:
        path, new, old = (*place.parts, name), status_of(place.changed, name), status_of(place.target, name)
        if new is None:
            return
        if stat.S_ISCHR(new.st_mode) and new.st_rdev == 0:  # overlayfs' mark for what was removed
            self._applied.has_removals = True
            if not self._removes and not place.hides_target:
                return
            root = place.parts if place.hides_target else path
            if old is None or self._remove(place.target, name, path, root):
                os.unlink(name, dir_fd=place.changed)
        elif stat.S_ISDIR(new.st_mode):
            self._apply_subfolder(place, name, new, old)
        elif stat.S_ISREG(new.st_mode) or stat.S_ISLNK(new.st_mode):
            self._place_file(place, name, new, old)
        else:
            os.unlink(name, dir_fd=place.changed)

    def _apply_subfolder(self, place: _Place, name: str, new: os.stat_result, old: os.stat_result | None) -> None:
        path = (*place.parts, name)
        _check_depth(path)
        made = place.made
        if old is not None and not stat.S_ISDIR(old.st_mode):
            if not self._remove(place.target, name, path, path):
                self._hold_files(path, new, made)
                return
            old = None
        if old is None:
            hazard = self._hazard(path, new.st_mode)
            if hazard is not None and hazard.kind is HazardKind.BYTECODE:  # which Python makes again
                return
            if hazard is not None:
                self._hold_files(path, new, made)
                return
            os.mkdir(name, 0o700, dir_fd=place.target)
            made = made or path
        if new.st_mode & stat.S_IRWXU != stat.S_IRWXU:
            os.chmod(name, 0o700, dir_fd=place.changed)
        with (
            closing_descriptor(os.open(name, OPEN_FOLDER | NO_FOLLOW, dir_fd=place.changed)) as changed,
            closing_descriptor(open_folder(name, place.target)) as target,
        ):
            hides_target = old is not None and (place.hides_target or is_opaque(changed))
            self._apply_folder(_Place(path, changed, target, hides_target, made))
            current, permissions = stat.S_IMODE(os.fstat(target).st_mode), 0o1777
            os.fchmod(target, current & ~permissions | new.st_mode & permissions)
            remove_marks(changed)
            os.fchmod(changed, stat.S_IMODE(new.st_mode))  # for the next time, if something is left in it
        with suppress(OSError):  # Something is left in it.
            os.rmdir(name, dir_fd=place.changed)

    def _place_file(self, place: _Place, name: str, new: os.stat_result, old: os.stat_result | None) -> None:
        path = (*place.parts, name)
        hazard = self._judge(path, new.st_mode)
        is_bytecode = hazard is not None and hazard.kind is HazardKind.BYTECODE
        if is_bytecode or (hazard is not None and old is not None and _is_unchanged(place, name, new, old)):
            os.unlink(name, dir_fd=place.changed)
            return
        if self._holds(path, new.st_mode, place.made):
            return
        if old is not None and stat.S_ISDIR(old.st_mode):
            if not self._remove(place.target, name, path, path):
                self._hold(path, new.st_mode, place.made)
                return
        elif old is not None and self._is_conflict(path, old):
            return
        remove_marks(f"/proc/self/fd/{place.changed}/{name}")
        move_file(name, new, place.changed, place.target, root=self._root)

    def _remove(self, folder: int, name: str, path: Parts, root: Parts) -> bool:
        """Remove something from the workspace; return whether it is gone whole."""
        old = status_of(folder, name)
        if old is None:
            return True
        if stat.S_ISDIR(old.st_mode):
            _check_depth(path)
            with closing_descriptor(open_folder(name, folder)) as inner:
                gone = [self._remove(inner, each, (*path, each), root) for each in sorted(names_in(inner))]
                if not all(gone):
                    os.fchmod(inner, stat.S_IMODE(old.st_mode))
                    return False
            os.rmdir(name, dir_fd=folder)
            return True
        if self._unwritten and trace_of(f"/proc/self/fd/{folder}/{name}") in self._unwritten:
            self._applied.failed.append((path, "where it was moved to, it could not be written"))
            return False
        hazard = self._hazard(path, old.st_mode, removed=True)
        if hazard is None and root == path and path not in self._allowed and self._moved:
            was_moved = signature_of(f"/proc/self/fd/{folder}/{name}") in self._moved
            reason = f"{'/'.join(path)!r} was moved to a protected name"
            hazard = WriteHazard(HazardKind.PROTECTED, name, reason) if was_moved else None
        if hazard is not None:
            self._applied.held.append(HeldChange(path, hazard, removed=True))
        if root != path and self._judge(path, old.st_mode) is not None:
            self._applied.gone.append((path, root, signature_of(f"/proc/self/fd/{folder}/{name}")))
        if hazard is not None or self._is_conflict(path, old):
            return False
        os.unlink(name, dir_fd=folder)
        return True

    def _hold_files(self, folder: Parts, status: os.stat_result, made: Parts) -> None:
        """Hold back all that is in a folder of the overlay, or the folder itself if that is nothing."""
        folders, is_empty = [folder], True
        for at in folders:  # the list grows
            with os.scandir(self._overlay.changes.joinpath(*at)) as entries:
                for entry in entries:
                    path = (*at, entry.name)
                    if entry.is_dir(follow_symlinks=False) and len(path) <= MAX_DEPTH:
                        folders.append(path)
                    else:
                        is_empty = False
                        self._hold(path, entry.stat(follow_symlinks=False).st_mode, made)
        if is_empty:
            self._hold(folder, status.st_mode, made)

    def _hold(self, path: Parts, mode: int, made: Parts) -> None:
        if not self._holds(path, mode, made):
            self._applied.failed.append((path, "what was in its place is held back"))

    def _holds(self, path: Parts, mode: int, made: Parts) -> bool:
        hazard = self._hazard(path, mode)
        if hazard is not None and hazard.kind is not HazardKind.BYTECODE:
            self._applied.held.append(HeldChange(path, hazard, root=made))
        return hazard is not None

    def _hazard(self, path: Parts, mode: int, *, removed: bool = False) -> WriteHazard | None:
        hazard = self._judge(path, mode, removed=removed)
        is_allowed = path in self._allowed or path in self._above_allowed
        return None if hazard is not None and is_allowed and not hazard.is_forbidden else hazard

    def _is_conflict(self, path: Parts, old: os.stat_result) -> bool:
        """Note it if somebody else has changed a file since the overlay was made."""
        if old.st_ctime_ns <= self._overlay.made_at_ns:
            return False
        self._applied.conflicts.append(path)
        return True


def _check_depth(path: Parts) -> None:
    if len(path) > MAX_DEPTH:
        raise OSError(errno.ENAMETOOLONG, f"it is more than {MAX_DEPTH} folders deep")


def _is_unchanged(place: _Place, name: str, new: os.stat_result, old: os.stat_result) -> bool:
    if new.st_mode != old.st_mode:
        return False
    return is_same(f"/proc/self/fd/{place.changed}/{name}", f"/proc/self/fd/{place.target}/{name}")

"""What a command changed: applied as far as it may be, and the rest offered to the user in one approval."""

import asyncio
import os
import re
import stat
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path

from piano_jupyter.runner.tools.bash.changes import AppliedChanges, HeldChange, Parts, apply_changes
from piano_jupyter.runner.tools.bash.overlay import Overlay
from piano_jupyter.runner.tools.bash.workspace_index import WorkspaceFacts
from piano_jupyter.runner.tools.files.write_hazards import HazardKind, WriteHazard, WriteHazards
from piano_jupyter.runner.tools.files.write_rules import WriteRules

MAX_NAMES = 10  #: how many paths a sentence names
MAX_ALSO = 5  #: how many other paths for one reason
#: In the reason of a hazard, what a command can choose.
QUOTED = re.compile(r"""'[^']*'|"[^"]*\"""")
KEPT = "kept for 7 days in"  #: `overlay.RETENTION_S`


class WorkspaceChanges:
    """The changes of one command, which are applied when this is made; it may take a while, so make it in a thread.

    `notes` is what the model has to know about changes that were not applied, and that nobody can allow. `reason` is
    what the user is asked about: the names, why they matter, and where the new files can be looked at.
    """

    def __init__(
        self,
        overlay: Overlay,
        hazards: WriteHazards,
        rules: WriteRules,
        facts: WorkspaceFacts,
        lock: asyncio.Lock,
    ) -> None:
        """`lock` is held by whoever applies changes to the workspace: it is held now, and taken by `accept`."""
        self._overlay, self._rules, self._facts, self._lock = overlay, rules, facts, lock
        self._hazards = replace(hazards, link_targets=facts.link_targets, exists=self._will_exist)
        self._applied = self._apply()
        self._allowable = [each for each in self._applied.held if not each.hazard.is_forbidden]
        self._held_names = _names(self._allowable)
        self.notes = tuple(_notes(self._applied, overlay.changes))
        self.reason = f"{self._held_names}; until you approve, they are held back in {overlay.changes}"
        if not self.needs_approval:
            self._end()

    @property
    def needs_approval(self) -> bool:
        """Whether there is something that the user can allow."""
        return bool(self._allowable)

    async def accept(self) -> str:
        """Apply what the user has allowed; return what the model has to know."""
        async with self._lock:
            left = await asyncio.to_thread(self._apply_allowed)
        return "\n".join(f"[{each}]" for each in ("the user approved these changes, and they were applied", *left))

    async def refuse(self) -> str:
        """Leave what is held back; return what the model has to know."""
        self._overlay.release()
        return (
            f"[not applied, because the user did not approve it: {self._held_names}; do not write these again, "
            f"ask or go on without; {KEPT} {self._overlay.changes}]"
        )

    def _apply_allowed(self) -> tuple[str, ...]:
        self._applied = self._apply([each.path for each in self._allowable])
        self._end()
        return tuple(_notes(self._applied, self._overlay.changes))

    def _apply(self, allowed: Collection[Parts] = ()) -> AppliedChanges:
        try:
            return apply_changes(self._overlay, self._judge, allowed)
        except OSError as error:  # Somebody has moved the whole workspace away.
            return AppliedChanges(failed=[((".",), error.strerror or type(error).__name__)])

    def _end(self) -> None:
        if self._applied.is_complete:
            self._overlay.remove()
        else:
            self._overlay.release()

    def _judge(self, path: Parts, mode: int, *, removed: bool = False) -> WriteHazard | None:
        hazard = self._hazards.find_removal(path, mode) if removed else self._hazards.find(path, mode)
        rule = None if stat.S_ISDIR(mode) else self._rules.find(path)
        if rule is not None and (hazard is None or rule.is_forbidden):
            return rule
        if hazard is None and stat.S_ISLNK(mode) and not removed:
            hazard = self._hazards.find_target(path, self._read_link)
        if hazard is None and not self._facts.is_complete and not stat.S_ISDIR(mode):
            reason = f"{'/'.join(path)!r} may be what a protected link leads to: the workspace has too many folders"
            return WriteHazard(HazardKind.PROTECTED, path[-1], reason)
        return hazard

    def _read_link(self, place: str) -> str:
        """Return the target of a link as it is once all changes are applied. Raises OSError."""
        if Path(place).is_relative_to(self._overlay.workspace):
            changed = self._overlay.changes / Path(place).relative_to(self._overlay.workspace)
            if os.path.lexists(changed):
                return os.readlink(changed)  # noqa: PTH115
        return os.readlink(place)  # noqa: PTH115

    def _will_exist(self, path: Parts) -> bool:
        """Return whether there is something at a path once all changes are applied."""
        for folder in (self._overlay.changes, Path(self._overlay.workspace)):
            try:
                status = os.lstat(folder.joinpath(*path))
            except OSError:  # Not there.
                continue
            return not (stat.S_ISCHR(status.st_mode) and status.st_rdev == 0)
        return False


def _notes(applied: AppliedChanges, folder: Path) -> Iterable[str]:
    forbidden = [each for each in applied.held if each.hazard.is_forbidden]
    if forbidden:
        yield f"protected: not changed, because tools must not: {_names(forbidden)}"
    if applied.conflicts:
        names = _listed([repr("/".join(each)) for each in applied.conflicts])
        yield (
            f"conflict: somebody else changed {names} while the command ran, so these are as they left them; "
            f"the command's are {KEPT} {folder}"
        )
    if applied.failed:
        names = _listed([f"{'/'.join(path)!r} ({reason})" for path, reason in applied.failed])
        yield f"not applied: {names}; {KEPT} {folder}"


def _names(held: Iterable[HeldChange]) -> str:
    """Return the changes with their reasons, as one part of a sentence; each reason is said once, and none left out.

    Reasons that differ only in what they quote count as one: a command could make any number of them, to hide another.
    """
    by_reason: dict[str, tuple[str, list[str]]] = {}
    for each in held:
        name = repr("/".join(each.path))
        reason = each.hazard.reason.removeprefix(f"{name} ") + " (removed)" * each.removed
        is_rule = each.hazard.kind in {HazardKind.DENIED, HazardKind.ASKED}
        by_reason.setdefault(reason if is_rule else QUOTED.sub("", reason), (reason, []))[1].append(name)
    return "; ".join(f"{names[0]} {reason}{_also(names[1:])}" for reason, names in by_reason.values())


def _also(names: list[str]) -> str:
    more = [f"{len(names) - MAX_ALSO:,} more"] if len(names) > MAX_ALSO else []
    return f" (also {', '.join([*names[:MAX_ALSO], *more])})" if names else ""


def _listed(names: list[str]) -> str:
    more = [f"and {len(names) - MAX_NAMES:,} more"] if len(names) > MAX_NAMES else []
    return "; ".join([*names[:MAX_NAMES], *more])

"""Caps on what a whole sandbox uses, where the system lets us make control groups: version 1 and 2.

A limit of the process kind holds each process by itself, and the one on processes does not hold root at all. A group
holds them together. A command can read the name of its group: so that tells nothing of the kernel. Groups of kernels
that died are removed when the next one is made.
"""

import re
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from piano_jupyter.runner.tools.bash.bwrap import SandboxLimits

ROOT = Path("/sys/fs/cgroup")
NAME = re.compile(r"piano-[0-9a-f]{16}")
#: What the kernel counts for each cap, and the files that may say so.
COUNTS = {"pids": ("max", ["pids.events"]), "memory": ("oom_kill", ["memory.events", "memory.oom_control"])}
STARTING = 60.0  #: seconds within which a group that was made gets its first process


class CgroupLimits:
    """Control groups for one sandbox: as many of the two caps as the system gives."""

    def __init__(self, limits: SandboxLimits, root: Path = ROOT) -> None:
        caps = {"memory": limits.memory, "pids": limits.processes}
        self._groups = {each: group for each, limit in caps.items() if (group := _made(each, limit, root))}
        self._hits: dict[str, int] = {}

    @property
    def held(self) -> frozenset[str]:
        """The controllers that hold the sandbox."""
        return frozenset(self._groups)

    def add(self, process: int) -> None:
        """Put a process under the caps, with all that it starts from now on."""
        for controller, group in list(self._groups.items()):
            try:
                (group / "cgroup.procs").write_text(str(process))
            except OSError:  # Not ours to move: one cap less, which `held` tells.
                _remove(self._groups.pop(controller))

    def hit(self) -> list[str]:
        """Return the caps that were run into since this was asked last."""
        before, self._hits = self._hits, {each: _hits(each, group) for each, group in self._groups.items()}
        return [each for each, count in self._hits.items() if count > before.get(each, 0)]

    def remove(self) -> None:
        """Remove the groups; those that are not empty yet are left to the next sandbox."""
        for group in self._groups.values():
            _remove(group)
        self._groups.clear()


def _made(controller: str, limit: int, root: Path) -> Path | None:
    """Make a group under our own or beside it, with the limit in force."""
    for folder in _homes(controller, root):
        remove_empty_groups(folder)
        group = folder / f"piano-{secrets.token_hex(8)}"
        with suppress(OSError):  # Read-only, not ours, or without this controller: another place is tried.
            group.mkdir()
            for name in (f"{controller}.max", "memory.limit_in_bytes"):
                if (group / name).exists():
                    (group / name).write_text(str(limit))
                    return group
        _remove(group)
    return None


def _homes(controller: str, root: Path) -> Iterator[Path]:
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, names, path = line.split(":", 2)
            if not names or controller in names.split(","):
                base = root / controller if names else root
                own = base / path.strip("/")
                yield from (own, own.parent) if own != base else (own,)


def remove_empty_groups(folder: Path) -> None:
    """Remove groups that nobody is in; the system lets none be removed that has a process."""
    for group in folder.glob("piano-*"):
        with suppress(OSError):  # Another kernel removed it.
            if NAME.fullmatch(group.name) and time.time() - group.stat().st_ctime > STARTING:
                _remove(group)


def _hits(controller: str, group: Path) -> int:
    """Return how often a cap was run into, as the kernel counts."""
    word, names = COUNTS[controller]
    for name in names:
        with suppress(OSError):
            lines = dict(each.split() for each in (group / name).read_text(encoding="utf-8").splitlines())
            return int(lines.get(word, 0))
    return 0


def _remove(group: Path) -> None:
    with suppress(OSError):
        group.rmdir()

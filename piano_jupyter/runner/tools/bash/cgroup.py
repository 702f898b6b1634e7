"""Limits for a whole sandbox, where the system lets us create control groups (version 1 or 2).

ulimit limits each process by itself, and its limit on processes does not apply to root. A control group limits all
processes together. A command can read its group's name, so the name reveals nothing about the kernel. Groups left by
kernels that died are removed when the next group is created.
"""

import re
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from piano_jupyter.runner.tools.bash.bwrap import SandboxLimits

CGROUP_ROOT = Path("/sys/fs/cgroup")
GROUP_NAME = re.compile(r"piano-[0-9a-f]{16}")
#: For each controller, the counter of how often its limit was reached, and the files that may contain it.
HIT_COUNTERS = {"pids": ("max", ["pids.events"]), "memory": ("oom_kill", ["memory.events", "memory.oom_control"])}
STARTUP_TIMEOUT_S = 60.0  #: how long a new group may stay empty


class CgroupLimits:
    """The control groups of one sandbox: for memory and for processes, as far as the system allows."""

    def __init__(self, limits: SandboxLimits, root: Path = CGROUP_ROOT) -> None:
        limits_by_controller = {"memory": limits.memory_bytes, "pids": limits.processes}
        self._groups = {
            each: group for each, limit in limits_by_controller.items() if (group := _create_group(each, limit, root))
        }
        self._hit_counts: dict[str, int] = {}

    @property
    def controllers(self) -> frozenset[str]:
        """The controllers whose limit applies to the sandbox."""
        return frozenset(self._groups)

    def add_process(self, process: int) -> None:
        """Apply the limits to a process and to all that it starts from now on."""
        for controller, group in list(self._groups.items()):
            try:
                (group / "cgroup.procs").write_text(str(process))
            except OSError:  # We may not move it: this limit does not apply, and `controllers` lacks it.
                _remove(self._groups.pop(controller))

    def new_hits(self) -> list[str]:
        """Return the limits that were reached since the last call."""
        before, self._hit_counts = (
            self._hit_counts,
            {each: _hit_count(each, group) for each, group in self._groups.items()},
        )
        return [each for each, count in self._hit_counts.items() if count > before.get(each, 0)]

    def remove(self) -> None:
        """Remove the groups; those that are not empty yet are removed with the next sandbox."""
        for group in self._groups.values():
            _remove(group)
        self._groups.clear()


def _create_group(controller: str, limit: int, root: Path) -> Path | None:
    """Create a group with this limit, below our own group or beside it; None if that is not possible."""
    for parent in _parent_groups(controller, root):
        remove_empty_groups(parent)
        group = parent / f"piano-{secrets.token_hex(8)}"
        with suppress(OSError):  # Read-only, not ours, or without this controller: try another place.
            group.mkdir()
            for name in (f"{controller}.max", "memory.limit_in_bytes"):
                if (group / name).exists():
                    (group / name).write_text(str(limit))
                    return group
        _remove(group)
    return None


def _parent_groups(controller: str, root: Path) -> Iterator[Path]:
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers or controller in controllers.split(","):
                mount = root / controller if controllers else root
                own = mount / path.strip("/")
                yield from (own, own.parent) if own != mount else (own,)


def remove_empty_groups(folder: Path) -> None:
    """Remove groups that are empty; the system does not let us remove one that has a process."""
    for group in folder.glob("piano-*"):
        with suppress(OSError):  # Another kernel removed it.
            if GROUP_NAME.fullmatch(group.name) and time.time() - group.stat().st_ctime > STARTUP_TIMEOUT_S:
                _remove(group)


def _hit_count(controller: str, group: Path) -> int:
    """Return how often a limit was reached, as the kernel counts."""
    counter, names = HIT_COUNTERS[controller]
    for name in names:
        with suppress(OSError):
            lines = dict(each.split() for each in (group / name).read_text(encoding="utf-8").splitlines())
            return int(lines.get(counter, 0))
    return 0


def _remove(group: Path) -> None:
    with suppress(OSError):
        group.rmdir()

"""SkillRegistry: the skills in the skill folders, which are scanned on each request.

A skill is a flat `name.md`, or a folder `name/SKILL.md` as in the Agent Skills standard. A folder takes precedence over
a flat file, an earlier root over a later one. A skill never grants a tool. A broken file is a diagnostic, never an
exception.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from piano_jupyter.errors import NotFoundError, SkillError
from piano_jupyter.runner.skills.skill import Skill, read_skill
from piano_jupyter.runner.skills.skill_context import SkillContext, context_of

SKILL_FILE_NAMES = ("SKILL.md", "skill.md")


class SkillRegistry:
    """The skills in some folders, as they are on disk now. `display_path` formats a path for people."""

    def __init__(self, paths: Callable[[], Sequence[Path]], display_path: Callable[[Path], str] = str) -> None:
        self._paths, self._display_path = paths, display_path
        self._cache: dict[tuple[str, int, int, int, int], Skill] = {}

    def list_available(self) -> list[Skill]:
        """Return all usable skills, by name."""
        return [skill for _, skill in sorted(self._scan()[0].items())]

    def load_skill(self, name: str) -> Skill:
        """Return one skill. Raises NotFoundError, which also says if its file is broken."""
        return _find(name, *self._scan())

    def get_prompts(self, names: Iterable[str]) -> SkillContext:
        """Return what a turn gets of these skills: their part of the system prompt, versions and tools.

        The same files give the same bytes, whatever the order of the names. Raises NotFoundError.
        """
        wanted = sorted(set(names))
        found = self._scan() if wanted else ({}, [])
        return context_of([_find(name, *found) for name in wanted])

    def diagnostics(self) -> list[str]:
        """Return one sentence for each problem: first of unusable files, then of usable ones."""
        skills, problems = self._scan()
        warnings = [f"{skill.place}: {each}" for _, skill in sorted(skills.items()) for each in skill.warnings]
        return [text for _, text in problems] + warnings

    def _scan(self) -> tuple[dict[str, Skill], list[tuple[Path, str]]]:
        """Return the skills by name, and the unusable files with the reason."""
        skills: dict[str, Skill] = {}
        problems: list[tuple[Path, str]] = []
        seen: dict[tuple[str, int, int, int, int], Skill] = {}
        for root in self._paths():
            try:
                for path in _candidates(root):
                    skill = self._load(root, path, seen)
                    if isinstance(skill, SkillError):
                        problems.append((path, f"{self._display_path(path)}: {skill}"))
                    elif skill.name in skills:
                        first = skills[skill.name].place
                        problems.append((path, f"{skill.place}: not used; {first} has the same name and comes first"))
                    else:
                        skills[skill.name] = skill
            except OSError as error:
                reason = f"cannot be read ({error.strerror}); check its permissions"
                problems.append((root, f"{self._display_path(root)}: {reason}"))
        self._cache = seen
        return skills, problems

    def _load(self, root: Path, path: Path, seen: dict[tuple[str, int, int, int, int], Skill]) -> Skill | SkillError:
        """Return the skill in a file, from the cache if the file has not changed."""
        try:
            stat = path.stat()
            key = (str(path), stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size)
            seen[key] = self._cache.get(key) or read_skill(root, path, self._display_path(path))
        except SkillError as error:
            return error
        except OSError as error:
            return SkillError(f"cannot be read ({error.strerror}); check that it exists, and its permissions")
        return seen[key]


def _find(name: str, skills: Mapping[str, Skill], problems: Iterable[tuple[Path, str]]) -> Skill:
    if name not in skills:
        error = NotFoundError.among("skill", name, sorted(skills))
        why = [text for path, text in problems if name in {path.stem, path.parent.name}]
        raise NotFoundError("; ".join([str(error), *why]))
    return skills[name]


def _candidates(root: Path) -> Iterator[Path]:
    """Yield the files that should be skills: those in folders first, then flat ones, by name."""
    if not root.is_dir():
        return
    entries = sorted(each for each in root.iterdir() if not each.name.startswith("."))
    for each in entries:
        yield from [each / name for name in SKILL_FILE_NAMES if os.path.lexists(each / name)][:1]
    yield from (each for each in entries if each.suffix == ".md" and each.stem.casefold() != "readme")

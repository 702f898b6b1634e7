"""SkillRegistry: the skills that there are in some folders, looked for each time they are asked for.

A skill is a flat `name.md`, or a folder `name/SKILL.md` as the Agent Skills standard has it; the folder wins over the
flat file, an earlier root over a later one. Nothing in a skill grants a tool. A broken file is a diagnostic, never an
exception.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from piano_jupyter.errors import NotFoundError, SkillError
from piano_jupyter.runner.skills.skill import Skill, read_skill
from piano_jupyter.runner.skills.skill_context import SkillContext, context_of

IN_FOLDER = ("SKILL.md", "skill.md")


class SkillRegistry:
    """The skills that there are in some folders, as they are on the disk now. `shown` is how a path is told."""

    def __init__(self, paths: Callable[[], Sequence[Path]], shown: Callable[[Path], str] = str) -> None:
        self._paths, self._shown = paths, shown
        self._read: dict[tuple[str, int, int, int, int], Skill] = {}

    def list_available(self) -> list[Skill]:
        """Return all skills that can be used, by name."""
        return [skill for _, skill in sorted(self._look()[0].items())]

    def load_skill(self, name: str) -> Skill:
        """Return one skill. Raises NotFoundError, which also says if its file is broken."""
        return _named(name, *self._look())

    def get_prompts(self, names: Iterable[str]) -> SkillContext:
        """Return what a turn is given of these skills: their part of the system prompt, and what belongs to it.

        The same files give the same bytes, whatever the order of the names. Raises NotFoundError.
        """
        wanted = sorted(set(names))
        found = self._look() if wanted else ({}, [])
        return context_of([_named(name, *found) for name in wanted])

    def diagnostics(self) -> list[str]:
        """Return what is wrong with files that cannot be used, then with those that can, a sentence each."""
        skills, problems = self._look()
        doubts = [f"{skill.place}: {each}" for _, skill in sorted(skills.items()) for each in skill.warnings]
        return [text for _, text in problems] + doubts

    def _look(self) -> tuple[dict[str, Skill], list[tuple[Path, str]]]:
        """Return the skills by name, and the files that are none with the reason."""
        skills: dict[str, Skill] = {}
        problems: list[tuple[Path, str]] = []
        seen: dict[tuple[str, int, int, int, int], Skill] = {}
        for root in self._paths():
            try:
                for path in _candidates(root):
                    skill = self._load(root, path, seen)
                    if isinstance(skill, SkillError):
                        problems.append((path, f"{self._shown(path)}: {skill}"))
                    elif skill.name in skills:
                        first = skills[skill.name].place
                        problems.append((path, f"{skill.place}: not used; {first} has the same name and comes first"))
                    else:
                        skills[skill.name] = skill
            except OSError as error:
                why = f"cannot be read ({error.strerror}); check who may read it"
                problems.append((root, f"{self._shown(root)}: {why}"))
        self._read = seen
        return skills, problems

    def _load(self, root: Path, path: Path, seen: dict[tuple[str, int, int, int, int], Skill]) -> Skill | SkillError:
        """Return the skill in a file, from memory where the file is as it was."""
        try:
            about = path.stat()
            key = (str(path), about.st_ino, about.st_mtime_ns, about.st_ctime_ns, about.st_size)
            seen[key] = self._read.get(key) or read_skill(root, path, self._shown(path))
        except SkillError as error:
            return error
        except OSError as error:
            return SkillError(f"cannot be read ({error.strerror}); check that it is there and who may read it")
        return seen[key]


def _named(name: str, skills: Mapping[str, Skill], problems: Iterable[tuple[Path, str]]) -> Skill:
    if name not in skills:
        error = NotFoundError.among("skill", name, sorted(skills))
        why = [text for path, text in problems if name in {path.stem, path.parent.name}]
        raise NotFoundError("; ".join([str(error), *why]))
    return skills[name]


def _candidates(root: Path) -> Iterator[Path]:
    """Yield a root's files that ought to be skills: those in folders first, then the flat ones, by name."""
    if not root.is_dir():
        return
    entries = sorted(each for each in root.iterdir() if not each.name.startswith("."))
    for each in entries:
        yield from [each / name for name in IN_FOLDER if os.path.lexists(each / name)][:1]
    yield from (each for each in entries if each.suffix == ".md" and each.stem.casefold() != "readme")

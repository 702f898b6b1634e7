"""Skill, SkillRegistry: texts that tell an agent how to do something, read from folders each time they are asked for.

A skill is a flat `name.md`, or a folder `name/SKILL.md` as the Agent Skills standard has it; the folder wins over the
flat file, an earlier root over a later one. Nothing in a skill grants a tool. A broken file is a diagnostic, never an
exception.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from piano_jupyter.errors import NotFoundError, PianoError, SkillError
from piano_jupyter.runner.skills import front_matter
from piano_jupyter.runner.tools.files.workspace import open_regular
from piano_jupyter.shipped import shipped
from piano_jupyter.text.truncation import truncated

LARGEST = 100_000  #: bytes
MOST_KEPT = 1_000  #: skills that are kept in memory
IN_FOLDER = ("SKILL.md", "skill.md")


@dataclass(frozen=True, kw_only=True, slots=True)
class Skill:
    """A text that tells an agent how to do something."""

    name: str
    description: str
    body: str
    path: Path
    place: str  #: the path, as people are told it
    sha: str  #: which version of the file it is: the beginning of its SHA-256
    folder: Path | None = None  #: where files stand that belong to it; None for a flat file
    metadata: Mapping[str, Any] = field(default_factory=dict)  #: the whole front matter; shown, never obeyed
    warnings: tuple[str, ...] = ()  #: what the standard has against it

    @property
    def prompt(self) -> str:
        """Its part of a system prompt."""
        return f'<skill name="{self.name}">\n{self.body or self.description}\n</skill>'


def place(path: Path, workspace: Path) -> str:
    """Return a skill's path as people are told it, without those of their machine."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111
    bases = {workspace: "", shipped("skills"): "piano_jupyter/skills/", home: "~/"}
    for base, shown in bases.items():
        if path.is_relative_to(base):
            return shown + path.relative_to(base).as_posix()
    return str(path)


class SkillRegistry:
    """The skills that there are in some folders, as they are on the disk now. `shown` is how a path is told."""

    def __init__(self, paths: Callable[[], Sequence[Path]], shown: Callable[[Path], str] = str) -> None:
        self._paths, self._shown = paths, shown

    def list_available(self) -> list[Skill]:
        """Return all skills that can be used, by name."""
        return [skill for _, skill in sorted(self._look()[0].items())]

    def load_skill(self, name: str) -> Skill:
        """Return one skill. Raises NotFoundError, which also says if its file is broken."""
        return _named(name, *self._look())

    def get_skills(self, names: Iterable[str]) -> list[Skill]:
        """Return these skills, by name, each once. Raises NotFoundError."""
        found = self._look()
        return [_named(name, *found) for name in sorted(set(names))]

    def get_prompts(self, names: Iterable[str]) -> str:
        """Return these skills as a part of a system prompt, the same bytes for the same files. Raises NotFoundError."""
        return "\n\n".join(skill.prompt for skill in self.get_skills(names))

    def diagnostics(self) -> list[str]:
        """Return what is wrong with files that cannot be used, then with those that can, a sentence each."""
        skills, problems = self._look()
        doubts = [f"{skill.place}: {each}" for _, skill in sorted(skills.items()) for each in skill.warnings]
        return [text for _, text in problems] + doubts

    def _look(self) -> tuple[dict[str, Skill], list[tuple[Path, str]]]:
        """Return the skills by name, and the files that are none with the reason."""
        skills: dict[str, Skill] = {}
        problems: list[tuple[Path, str]] = []
        for root in self._paths():
            try:
                for path in _candidates(root):
                    skill = self._load(root, path)
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
        return skills, problems

    def _load(self, root: Path, path: Path) -> Skill | SkillError:
        """Return the skill in a file, from memory where the file is as it was."""
        try:
            about = path.stat()
            version = about.st_ino, about.st_mtime_ns, about.st_ctime_ns, about.st_size
            return _skill(root, path, self._shown(path), version)
        except SkillError as error:
            return error
        except OSError as error:
            return SkillError(f"cannot be read ({error.strerror}); check that it is there and who may read it")


def read_beneath(folder: Path, path: Path) -> bytes:
    """Return what is in a file of a skill. Raises SkillError with the reason and the way out, OSError."""
    real = Path(os.path.realpath(path))
    if not real.is_relative_to(os.path.realpath(folder)):
        raise SkillError("it is a link that leads out of its folder; copy the file, or add its folder to skills_paths")
    if (size := real.stat().st_size) > LARGEST:
        raise SkillError(
            f"it has {size:,} bytes, {LARGEST:,} are allowed; keep the instructions, move the rest elsewhere"
        )
    try:
        with open_regular(real, path.name) as file:
            return file.read(LARGEST + 1)
    except PianoError as error:
        raise SkillError(f"it cannot be read: {error}") from error


def as_text(data: bytes) -> str:
    """Return what is in a file as text. Raises SkillError."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SkillError(f"it is not UTF-8 (byte {error.start}); save it as UTF-8") from error


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


@lru_cache(MOST_KEPT)
def _skill(root: Path, path: Path, shown: str, _version: tuple[int, ...]) -> Skill:
    """Read a skill; each version of its file once. Raises SkillError with the reason and the way out."""
    data = read_beneath(root, path)
    front, body = front_matter.split(as_text(data))
    metadata = front_matter.parsed(front) if front.strip() else {}
    folder = path.parent if path.parent != root else None
    if folder is not None and not {"name", "description"} <= metadata.keys():
        raise SkillError("its front matter must have name and description, between two lines of ---")
    name = front_matter.checked_name(metadata.get("name", path.stem), folder.name if folder else None)
    description = front_matter.checked_description(metadata.get("description"))
    doubts = [
        *front_matter.warnings(metadata, in_folder=folder is not None),
        *([] if body else ["it says nothing beyond its description"]),
    ]
    if not description and (folder is not None or not body):
        raise SkillError("it says nothing; write what the agent should do, and when")
    about = description or " ".join(body.split("\n", 1)[0].lstrip("# ").split())
    return Skill(
        name=name,
        description=truncated(about, front_matter.LONGEST_DESCRIPTION, ""),
        body=body,
        path=path,
        place=shown,
        sha=hashlib.sha256(data).hexdigest()[:12],
        folder=folder,
        metadata=metadata,
        warnings=tuple(doubts),
    )

"""Skill, SkillRegistry: texts that tell an agent how to do something, read from folders each time they are asked for.

A skill is a flat `name.md`, or a folder `name/SKILL.md` as the Agent Skills standard has it; the folder wins over the
flat file, an earlier root over a later one. Nothing in a skill grants a tool. A broken file is a diagnostic, never an
exception.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from piano_jupyter.errors import NotFoundError, PianoError, SkillError
from piano_jupyter.runner.sandbox import open_regular
from piano_jupyter.shipped import shipped

LARGEST = 100_000  #: bytes
LONGEST_FRONT_MATTER = 16_000  #: characters
LONGEST_DESCRIPTION = 1_024  #: characters
MOST_BRACKETS = 100  #: in front matter: PyYAML takes half a minute for a few thousand
NAME = re.compile(r"(?!(?:con|prn|aux|nul|com\d|lpt\d)$)(?=.{1,64}$)[a-z0-9]+(?:-[a-z0-9]+)*")
UNQUOTED = re.compile(r"^(\w[\w-]*):[ \t]+([^\s'\"|>\[{&*!#].*:.*)$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Skill:
    """A text that tells an agent how to do something."""

    name: str
    description: str
    body: str
    path: Path
    metadata: Mapping[str, Any] = field(default_factory=dict)  #: the whole front matter; shown, never obeyed


def skill_roots(workspace: Path, extra: Sequence[str] = ()) -> list[Path]:
    """Return the folders that skills are in, the most important first; `extra` are relative to the workspace."""
    own = [workspace / os.path.expanduser(each) for each in extra]  # noqa: PTH111  Without a home it stays as it is.
    home = Path(os.path.expanduser("~"), ".agents", "skills")  # noqa: PTH111
    roots = [*own, workspace / "skills", workspace / ".agents" / "skills", home, shipped("skills")]
    distinct: dict[str, Path] = {}
    for root in roots:
        distinct.setdefault(os.path.realpath(root), root)
    return list(distinct.values())


class SkillRegistry:
    """The skills that there are in some folders, as they are on the disk now."""

    def __init__(self, paths: Callable[[], Sequence[Path]]) -> None:
        self._paths = paths
        self._read: dict[tuple[str, int, int], Skill] = {}

    def list_available(self) -> list[Skill]:
        """Return all skills that can be used, by name."""
        return [skill for _, skill in sorted(self._look()[0].items())]

    def load_skill(self, name: str) -> Skill:
        """Return one skill. Raises NotFoundError, which also says if its file is broken."""
        return _named(name, *self._look())

    def get_prompts(self, names: Iterable[str]) -> str:
        """Return these skills as a part of a system prompt, the same bytes for the same files. Raises NotFoundError."""
        found = self._look()
        skills = [_named(name, *found) for name in sorted(set(names))]
        return "\n\n".join(f'<skill name="{skill.name}">\n{skill.body}\n</skill>' for skill in skills)

    def diagnostics(self) -> list[str]:
        """Return what is wrong with files that cannot be used, a sentence each."""
        return [text for _, text in self._look()[1]]

    def _look(self) -> tuple[dict[str, Skill], list[tuple[Path, str]]]:
        """Return the skills by name, and the files that are none with the reason."""
        skills: dict[str, Skill] = {}
        problems: list[tuple[Path, str]] = []
        seen: dict[tuple[str, int, int], Skill] = {}
        for root in self._paths():
            here: dict[str, Skill] = {}
            try:
                for path in _candidates(root):
                    skill = self._load(root, path, seen)
                    if isinstance(skill, SkillError):
                        problems.append((path, f"{path}: {skill}"))
                    elif skill.name in here:
                        other = here[skill.name].path
                        problems.append((path, f"{path}: not used, because {other} has the same name; remove one"))
                    else:
                        here[skill.name] = skill
            except OSError as error:
                problems.append((root, f"{root}: cannot be read ({error.strerror}); check who may read it"))
            skills = here | skills
        self._read = seen
        return skills, problems

    def _load(self, root: Path, path: Path, seen: dict[tuple[str, int, int], Skill]) -> Skill | SkillError:
        """Return the skill in a file, from memory where the file is as it was."""
        try:
            about = path.stat()
            key = (str(path), about.st_mtime_ns, about.st_size)
            seen[key] = self._read.get(key) or _skill(root, path, about.st_size)
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
    yield from (each / "SKILL.md" for each in entries if os.path.lexists(each / "SKILL.md"))
    yield from (each for each in entries if each.suffix == ".md" and each.stem.casefold() != "readme")


def _skill(root: Path, path: Path, size: int) -> Skill:
    """Read a skill. Raises SkillError with the reason and the way out."""
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)):
        raise SkillError("it is a link that leads out of its folder; copy the file, or add its folder to skills_paths")
    if size > LARGEST:
        raise SkillError(
            f"it has {size:,} bytes, {LARGEST:,} are allowed; keep the instructions, move the rest elsewhere"
        )
    try:
        with open_regular(Path(os.path.realpath(path)), path.name) as file:
            text = file.read(LARGEST + 1).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SkillError(f"it is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    except PianoError as error:
        raise SkillError(f"it cannot be read: {error}") from error
    front, body = _split(text.replace("\r\n", "\n").replace("\r", "\n"))
    metadata = _parsed(front) if front.strip() else {}
    in_folder = path.name == "SKILL.md"
    default = path.parent.name if in_folder else path.stem
    name, description = metadata.get("name"), metadata.get("description")
    if in_folder and (name is None or description is None):
        raise SkillError("its front matter must have name and description, between two lines of ---")
    name, description = default if name is None else name, "" if description is None else description
    if not isinstance(name, str) or not isinstance(description, str):
        raise SkillError("its name and its description must be text; put them in quotes")
    if not NAME.fullmatch(name):
        raise SkillError(
            f"{name!r} is no name for a skill; use lowercase letters, digits and single hyphens, 64 at most"
        )
    if in_folder and name != default:
        raise SkillError(f"it is named {name!r} but its folder {default!r}; make them the same")
    if not body:
        raise SkillError("it says nothing; write what the agent should do")
    about = " ".join((description or body.split("\n", 1)[0].lstrip("# ")).split())
    return Skill(name=name, description=about[:LONGEST_DESCRIPTION], body=body, path=path, metadata=metadata)


def _split(text: str) -> tuple[str, str]:
    """Return front matter and body."""
    if "\0" in text:
        raise SkillError("it is not a text; write it in Markdown")
    first, *rest = text.split("\n")
    if first.rstrip() != "---":
        return "", text.strip()
    end = next((at for at, line in enumerate(rest) if line.rstrip() == "---"), None)
    if end is None:
        raise SkillError("its front matter has no end; put a line --- after it")
    return "\n".join(rest[:end]), "\n".join(rest[end + 1 :]).strip()


def _parsed(front: str) -> dict[str, Any]:
    """Return front matter as a mapping; a colon in a plain value is taken as text."""
    import yaml  # noqa: PLC0415  Needed only where there is front matter.

    if len(front) > LONGEST_FRONT_MATTER:
        raise SkillError(f"its front matter is longer than {LONGEST_FRONT_MATTER:,} characters; move the text below it")
    if front.count("[") + front.count("{") > MOST_BRACKETS:
        raise SkillError("its front matter has too many brackets; write it as `name: value` lines")
    try:
        try:
            parsed = _loaded(front)
        except yaml.YAMLError:
            parsed = _loaded(UNQUOTED.sub(lambda line: f"{line[1]}: '{line[2].replace(chr(39), chr(39) * 2)}'", front))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 2})" if mark else ""
        raise SkillError(f"its front matter is not YAML{where}; write it as `name: value` lines") from error
    if not isinstance(parsed, dict):
        raise SkillError("its front matter must be `name: value` lines")
    return parsed


def _loaded(front: str) -> Any:
    import yaml  # noqa: PLC0415

    if any(isinstance(token, yaml.AnchorToken | yaml.AliasToken) for token in yaml.scan(front)):
        raise ValueError("anchors multiply")
    return yaml.safe_load(front) or {}

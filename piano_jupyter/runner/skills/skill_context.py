"""SkillContext: what a turn gets of its agent's skills: their full text, or if that is long a list and `load_skill`.

The texts are those at the start of the turn. `load_skill` reads these skills and the files in their folders, and
nothing else.
"""

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from piano_jupyter.errors import NotFoundError, SkillError
from piano_jupyter.runner.skills.skill import Skill, as_text, read_beneath
from piano_jupyter.runner.tools.files.workspace import tool_error
from piano_jupyter.tool import Tool, tool

MAX_INLINE_CHARS = 16_000  #: longer skills are only listed in the system prompt; about 4,000 tokens
MAX_LISTED_FILES = 100  #: per skill
CATALOGUE_PROMPT = (
    "<skills>\nEach of these is a page of instructions. Read it with load_skill before you do what it is about.\n"
    "{skills}\n</skills>"
)


@dataclass(frozen=True, slots=True)
class SkillContext:
    """What a turn gets of its agent's skills."""

    prompt: str = ""  #: a part of the system prompt
    versions: Mapping[str, str] = field(default_factory=dict)  #: the version of each skill, by name
    tools: tuple[Tool, ...] = ()


def context_of(skills: Sequence[Skill]) -> SkillContext:
    """Return what a turn gets of these skills; the same skills give the same bytes."""
    full_text = "\n\n".join(skill.prompt for skill in skills)
    versions = {skill.name: skill.sha for skill in skills}
    if len(full_text) <= MAX_INLINE_CHARS:
        return SkillContext(full_text, versions)
    listed = "\n".join(f"- {skill.name}: {skill.description}" for skill in skills)
    return SkillContext(CATALOGUE_PROMPT.format(skills=listed), versions, (_load_skill_tool(skills),))


def _load_skill_tool(skills: Sequence[Skill]) -> Tool:
    known = {skill.name: skill for skill in skills}

    def load_skill(name: str, file: str = "") -> str:
        """Read one of your skills: its instructions, and the names of other files that belong to it.

        name: as your instructions list it.
        file: one of those other files, for example "references/tables.md"; without it, the instructions.
        """
        if name not in known:
            raise tool_error("no_skill", str(NotFoundError.among("skill", name, known)))
        return _file_text(known[name], file) if file else _instructions(known[name])

    return tool(load_skill)


def _instructions(skill: Skill) -> str:
    files = [f"- {name} ({size:,} bytes)" for name, size in islice(_files(skill), MAX_LISTED_FILES + 1)]
    if not files:
        return skill.body or skill.description
    more = "\nand more" if len(files) > MAX_LISTED_FILES else ""
    listed = "\n".join(files[:MAX_LISTED_FILES]) + more
    return f"{skill.body or skill.description}\n\nOther files of this skill, for load_skill's `file`:\n{listed}"


def _file_text(skill: Skill, name: str) -> str:
    folder = skill.folder
    if folder is None:
        raise tool_error("not_found", f"the skill {skill.name!r} has no other files")
    given = Path(name)
    if "\0" in name or given.is_absolute() or ".." in given.parts:
        raise tool_error("outside_skill", "name a file as the skill lists it, relative to the skill")
    try:
        return as_text(read_beneath(folder, folder / given))
    except OSError:
        existing = [each for each, _ in islice(_files(skill), MAX_LISTED_FILES + 1)]
        matches = difflib.get_close_matches(name, existing, n=5, cutoff=0.4)
        hint = f"similar: {', '.join(matches)}" if matches else "call load_skill without `file` to see its files"
        raise tool_error("not_found", f"the skill {skill.name!r} has no file {name!r}; {hint}") from None
    except SkillError as error:
        raise tool_error("not_readable", f"{name!r}: {error}") from error


def _files(skill: Skill) -> Iterator[tuple[str, int]]:
    """Yield a skill's other files with their sizes, by name; links and hidden files are left out."""
    if skill.folder is None:
        return
    for directory, folders, names in os.walk(skill.folder):
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        for each in sorted(names):
            path = Path(directory, each)
            if each.startswith(".") or path.is_symlink() or not path.is_file() or str(path) == str(skill.path):
                continue
            yield path.relative_to(skill.folder).as_posix(), path.stat().st_size

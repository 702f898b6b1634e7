"""Skill: a text that tells an agent how to do something, and how it is read from its file."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from piano_jupyter.errors import PianoError, SkillError
from piano_jupyter.runner.skills import front_matter
from piano_jupyter.runner.tools.files.workspace import open_regular
from piano_jupyter.shipped import shipped
from piano_jupyter.text.truncation import truncated

LARGEST = 100_000  #: bytes


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


def read_skill(root: Path, path: Path, shown: str) -> Skill:
    """Read a skill. Raises SkillError with the reason and the way out."""
    data = read_beneath(root, path)
    front, body = front_matter.split(as_text(data))
    metadata = front_matter.parsed(front) if front.strip() else {}
    folder = path.parent if path.parent != root else None
    if folder is not None and not {"name", "description"} <= metadata.keys():
        raise SkillError("its front matter must have name and description, between two lines of ---")
    name = front_matter.checked_name(metadata.get("name", path.stem), folder.name if folder else None)
    description = front_matter.checked_description(metadata.get("description"))
    doubts = list(front_matter.warnings(metadata, in_folder=folder is not None))
    if not body:
        doubts.append("it says nothing beyond its description")
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

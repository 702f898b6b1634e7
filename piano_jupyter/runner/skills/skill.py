"""Skill: a text that tells an agent how to do something, and reading it from its file."""

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

MAX_SKILL_BYTES = 100_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Skill:
    """A text that tells an agent how to do something."""

    name: str
    description: str
    body: str
    path: Path
    place: str  #: the path, as shown to people
    sha: str  #: the version of the file: the start of its SHA-256
    folder: Path | None = None  #: the folder with its other files; None for a flat file
    metadata: Mapping[str, Any] = field(default_factory=dict)  #: the whole front matter; only shown
    warnings: tuple[str, ...] = ()  #: its violations of the standard

    @property
    def prompt(self) -> str:
        """Its part of the system prompt."""
        return f'<skill name="{self.name}">\n{self.body or self.description}\n</skill>'


def place(path: Path, workspace: Path) -> str:
    """Return a skill's path as shown to people, without the parts that are specific to the machine."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111
    bases = {workspace: "", shipped("skills"): "piano_jupyter/skills/", home: "~/"}
    for base, shown in bases.items():
        if path.is_relative_to(base):
            return shown + path.relative_to(base).as_posix()
    return str(path)


def read_skill(root: Path, path: Path, shown: str) -> Skill:
    """Read a skill. Raises SkillError, which says what to do."""
    data = read_beneath(root, path)
    front, body = front_matter.split(as_text(data))
    metadata = front_matter.parse(front) if front.strip() else {}
    folder = path.parent if path.parent != root else None
    if folder is not None and not {"name", "description"} <= metadata.keys():
        raise SkillError("its front matter must have name and description, between two lines ---")
    name = front_matter.check_name(metadata.get("name", path.stem), folder.name if folder else None)
    description = front_matter.check_description(metadata.get("description"))
    warnings = list(front_matter.warnings(metadata, in_folder=folder is not None))
    if not body:
        warnings.append("it has no text below its description")
    if not description and (folder is not None or not body):
        raise SkillError("it is empty; write what the agent should do, and when")
    summary = description or " ".join(body.split("\n", 1)[0].lstrip("# ").split())
    return Skill(
        name=name,
        description=truncated(summary, front_matter.MAX_DESCRIPTION_CHARS, ""),
        body=body,
        path=path,
        place=shown,
        sha=hashlib.sha256(data).hexdigest()[:12],
        folder=folder,
        metadata=metadata,
        warnings=tuple(warnings),
    )


def read_beneath(folder: Path, path: Path) -> bytes:
    """Return a skill file's content. Raises SkillError, which says what to do, and OSError."""
    real = Path(os.path.realpath(path))
    if not real.is_relative_to(os.path.realpath(folder)):
        raise SkillError("it is a link that leads out of its folder; copy the file, or add its folder to skills_paths")
    if (size := real.stat().st_size) > MAX_SKILL_BYTES:
        raise SkillError(
            f"it has {size:,} bytes, at most {MAX_SKILL_BYTES:,} are allowed; move all but the instructions elsewhere"
        )
    try:
        with open_regular(real, path.name) as file:
            return file.read(MAX_SKILL_BYTES + 1)
    except PianoError as error:
        raise SkillError(f"it cannot be read: {error}") from error


def as_text(data: bytes) -> str:
    """Decode a file's content. Raises SkillError."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SkillError(f"it is not UTF-8 (byte {error.start}); save it as UTF-8") from error

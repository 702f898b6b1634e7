"""Finds what the settings of a git repository name: hooks in another folder, files to include, programs.

Whoever writes to one of them makes git obey it, like a hook: `core.hooksPath` may be `tools/hooks`, a filter run
`python tools/clean.py`. Only names in files are looked at; that nothing is found means that git has no such settings.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from piano_jupyter.errors import PianoError
from piano_jupyter.safe_files import read_file

SETTINGS_FILES = ("config", "config.worktree")
MAX_SETTINGS_BYTES = 1 << 20
SECTION = re.compile(r'\s*\[\s*([\w.-]+)(?:\s+"(?:[^"\\]|\\.)*")?\s*\]')
SETTING = re.compile(r"\s*([a-z][\w-]*)\s*=\s*(.*)", re.IGNORECASE)
WHOLE_PATHS = frozenset({"hookspath", "path"})  #: settings whose value is one path, which may be missing
#: Settings that name addresses, branches, people, patterns or whole folders of work, and nothing that git runs.
NO_PROGRAMS = frozenset(
    {"active", "attributesfile", "branch", "directory", "email", "excludesfile", "fetch", "merge", "name", "push"}
    | {"pushurl", "remote", "repo", "storage", "url", "worktree"}
)
COMMENT = re.compile(r"\s[#;]")
SEPARATORS = re.compile(r"""[\s"'`=;|&()<>$!:,\\]+""")


def settings_targets(repository: Path, workspace: Path) -> Iterator[str]:
    """Yield what the settings of a repository name; `repository` is its folder `.git`, or one that serves as such.

    Names are relative to that folder, to the one above it, or to where its files are checked out: which of them git
    means depends on the setting, and all count.
    """
    for name in SETTINGS_FILES:
        settings = _settings_in(repository / name, workspace)
        checked_out = [_place(str(repository), value) for key, value in settings if key == "worktree"]
        bases = [str(repository), str(repository.parent), *checked_out]
        found = (place for base in bases for key, value in settings for place in _places_in(key, value, base))
        yield from (each for each in found if each not in bases)


def _settings_in(file: Path, workspace: Path) -> list[tuple[str, str]]:
    """Return the settings in a file, names in lower case, without aliases of git's own commands."""
    if not os.path.isfile(file):  # noqa: PTH113  Path would raise in some folders.
        return []
    try:
        text = read_file(file, workspace=workspace, max_bytes=MAX_SETTINGS_BYTES).decode(errors="surrogateescape")
    except PianoError:  # Git cannot read it either.
        return []
    found, section = [], ""
    for line in text.replace("\\\n", "").replace("\0", "").splitlines():
        setting = line
        if header := SECTION.match(line):
            section, setting = header[1].casefold(), line[header.end() :]
        if named := SETTING.match(setting):
            key, value = named[1].casefold(), named[2].strip()
            if section != "alias" or value.lstrip('"').startswith("!"):
                found.append((key, value))
    return found


def _places_in(key: str, value: str, base: str) -> Iterator[str]:
    if key in WHOLE_PATHS:
        yield _place(base, value.strip('"') if value.startswith('"') else COMMENT.split(value)[0].rstrip())
    elif key not in NO_PROGRAMS:
        for word in SEPARATORS.split(value):
            place = _place(base, word)
            if ("/" in word or "." in word) and os.path.isfile(place):  # noqa: PTH113
                yield place


def _place(base: str, path: str) -> str:
    return os.path.normpath(os.path.join(base, os.path.expanduser(path)))  # noqa: PTH111, PTH118  Path would raise without a home.

"""Whether a command line names a path that a rule is about, or a folder or a glob that contains it.

A word counts as a path in the workspace, and so does each part of it that may be one (`--file=a.txt`, code in quotes).
`cd` must not go where a relative path would no longer be recognized. A path that a program makes up by itself is not
seen.
"""

import os
import re
from collections.abc import Iterator, Sequence
from os.path import realpath
from pathlib import Path, PurePath
from posixpath import isdir, join, lexists, normpath

from piano_jupyter.rules import matches_text, path_patterns
from piano_jupyter.runner.tools.permissions.command_line import CommandLine, RuleMatch
from piano_jupyter.runner.tools.permissions.globs import ANY_TEXT, can_match, fixed_folder, is_glob
from piano_jupyter.text.unicode_forms import comparable

MAX_ENTRIES = 2_000  #: how many names are looked at in the folders that a command line names
MAX_PATH_CHARS = 4_096  #: of a path that can be opened
SEPARATORS = re.compile(r"""[\s'"`=:;,|&(){}<>@]+""")
QUOTES = re.compile(r"""['"\n]""")
BEFORE_PATH = re.compile(r"-\w|[^=:@]*[=:@]")  #: what may stand directly before a path in a word
HOME = re.compile(r"~[^/]*")
PROCESSES = ("/proc", "//proc")  #: from a folder of these, `root` and `cwd` lead anywhere
PROCESS_FOLDER = re.compile(r"/+proc/[^/]+(?:/task/[^/]+)?/(cwd|root)(?=/|$)")  #: where a process is


def match_paths(pattern: str, line: CommandLine, workspace: str) -> RuleMatch:
    """Return whether a command line names what a pattern of paths matches; `*` in it is any text."""
    paths = _PathPattern(pattern, workspace)
    parts = {part for text in line.texts | {word.text for word in line.words} for part in _parts(text)}
    values = {value for word in line.words for value in _values(word.text)}
    folders = {word.text for word in line.folders}
    if (
        any(paths.is_named_by(part, or_above=False) for part in parts)
        or any(map(paths.is_named_by, values))
        or any(map(paths.is_near, folders))
    ):
        return RuleMatch.YES
    unknown = any(not word.is_known and not word.is_glob for word in line.words)
    unknown |= not all(word.is_known and not normpath(word.text).startswith(PROCESSES) for word in line.folders)
    return max(paths.match_content(values), RuleMatch.MAYBE if unknown else RuleMatch.NO)


class _PathPattern:
    """The paths that a rule is about. All are compared as absolute paths, in any case and form of accents."""

    def __init__(self, pattern: str, workspace: str) -> None:
        self._roots = list(dict.fromkeys([normpath(workspace), _resolved(workspace)]))
        self._above = {root: _folders_above(root) for root in self._roots}
        self._is_anywhere = pattern.startswith("*")
        starts = [*self._roots, *([""] if self._is_anywhere else [])]
        # what follows `*/` may be in any folder, or in the one that `*` is for
        written = {
            normpath(each) for whole in path_patterns(pattern, workspace) for each in (whole, whole.removeprefix("*/"))
        }
        self._patterns = [comparable(join(start, each).replace("*", ANY_TEXT)) for start in starts for each in written]
        self._outer = {comparable(each) for root in self._roots for each in [root, *self._above[root]]}
        self._inner = {folder for each in self._patterns for folder in _folders_of(each)} - self._outer
        self._varying = list(filter(is_glob, self._inner))
        fixed = [each.partition(ANY_TEXT)[0] for each in self._patterns]
        #: folders from which `..` may start: none that a rule keeps `cd` out of
        self._parents = [
            each
            for each in dict.fromkeys(folder for start in fixed for folder in _folders_above(start))
            if any(f"{each}/".startswith(f"{comparable(root)}/") for root in self._roots)
        ]

    def is_named_by(self, path: str, *, or_above: bool = True) -> bool:
        """Return whether a path may lead to one of these, or to a folder of them (the workspace only if `or_above`)."""
        containers = self._inner | self._outer if or_above else self._inner
        return any(self._is_at(place, containers) for place in self._places(path))

    def is_near(self, folder: str) -> bool:
        """Return whether `cd` to a folder would hide what a later relative path leads to."""
        return self.is_named_by(folder, or_above=False) or (
            not self._is_anywhere
            and any(
                can_match(f"{place}/{ANY_TEXT}", pattern)
                for place in self._places(folder)
                for pattern in self._patterns
                if place not in self._outer
            )
        )

    def match_content(self, paths: set[str]) -> RuleMatch:
        """Return whether one of the paths is a folder in the workspace with one of these in it."""
        entries_left = MAX_ENTRIES
        for path in paths:
            folder = _resolved(join(self._roots[0], path))
            if not folder.startswith(f"{self._roots[-1]}/") or not isdir(folder):
                continue
            for parent, folders, files in os.walk(folder):
                entries_left -= len(folders) + len(files)
                if entries_left < 0:
                    return RuleMatch.MAYBE
                if any(self._matches(comparable(join(parent, name))) for name in (*folders, *files)):
                    return RuleMatch.YES
        return RuleMatch.NO

    def _is_at(self, place: str, containers: set[str]) -> bool:
        if place in containers or self._matches(place, self._varying):
            return True
        return is_glob(place) and any(can_match(place, each) for each in (*self._patterns, *containers))

    def _matches(self, place: str, folders: Sequence[str] = ()) -> bool:
        return any(matches_text(tuple(each.split(ANY_TEXT)), place) for each in (*self._patterns, *folders))

    def _places(self, path: str) -> Iterator[str]:
        """Yield where a path may lead: from the workspace, from above it or, with `..`, from inside it."""
        if path.startswith("~"):
            path = HOME.sub(lambda start: str(Path.home()) if start[0] == "~" else ANY_TEXT, path, count=1)
        path = PROCESS_FOLDER.sub(lambda found: "." if found[1] == "cwd" else "/", path, count=1)
        relative = normpath(path)
        varies = is_glob(relative)
        for root in self._roots:
            yield comparable(normpath(join(root, relative)))
            for above in self._above[root]:
                if varies or relative.startswith(f"{root[len(above) :].strip('/')}/"):
                    yield comparable(normpath(join(above, relative)))
        if relative.startswith(".."):
            climbed = re.sub(r"^(\.\./?)+", "", relative)
            yield from (comparable(join(each, climbed).rstrip("/")) for each in self._parents)
        fixed = fixed_folder(path)
        start = join(self._roots[0], fixed)
        if lexists(start):  # links may lead on
            yield comparable(normpath(join(_resolved(start), path[len(fixed) :].lstrip("/"))))


def _resolved(path: str) -> str:
    """Return a path with its links resolved, as far as that is possible."""
    try:
        return realpath(path)
    except (OSError, ValueError):  # a folder that may not be read, or no valid path
        return normpath(path)


def _folders_above(path: str) -> list[str]:
    return [str(each) for each in PurePath(path).parents]


def _folders_of(pattern: str) -> Iterator[str]:
    """Yield the folders that a pattern names on the way to what it matches."""
    names = pattern.split("/")
    for length in range(1, len(names)):
        if names[length - 1] != ANY_TEXT:
            yield "/".join(names[:length]) or "/"


def _values(text: str) -> Iterator[str]:
    """Yield a word as a path, and what follows an option or a sign in it."""
    if len(text) <= MAX_PATH_CHARS and text and "\n" not in text:
        yield text
        if (before := BEFORE_PATH.match(text)) and before.end() < len(text):
            yield text[before.end() :]


def _parts(text: str) -> set[str]:
    """Return the parts of a word that may be paths, as in code."""
    parts = {*SEPARATORS.split(text), *QUOTES.split(text)}
    return {each for each in parts if len(each) <= MAX_PATH_CHARS and re.search(r"\w", each)}

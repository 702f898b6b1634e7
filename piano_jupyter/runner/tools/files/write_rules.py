"""Which files the user's rules for the file tools keep from being written by commands, too.

`deny edit_file(config/*)` is about files that exist, `deny create_file(config/*)` about new ones. A rule without a path
is about the tool alone.
"""

import os
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from piano_jupyter.rules import Rule, matches_text, parse_rule, path_patterns
from piano_jupyter.runner.tools.files.write_hazards import HazardKind, WriteHazard
from piano_jupyter.text.unicode_forms import comparable
from piano_jupyter.tool import Verdict

CREATING_TOOL, EDITING_TOOL = "create_file", "edit_file"


class WriteRules:
    """The user's rules about writing files in one workspace; what a rule allows is not looked at."""

    def __init__(self, rules: Iterable[str], workspace: Path) -> None:
        """Take the texts of rules. Raises PianoError for an invalid one."""
        self._workspace = workspace
        found = [rule for rule in map(parse_rule, dict.fromkeys(rules)) if _keeps_files(rule)]
        self._rules = {rule: path_patterns(rule.pattern or "", str(workspace)) for rule in found}

    def find(self, path: tuple[str, ...]) -> WriteHazard | None:
        """Return what a rule says about writing or removing a file, None if no rule says anything."""
        if not self._rules:
            return None
        tool = EDITING_TOOL if os.path.lexists(self._workspace.joinpath(*path)) else CREATING_TOOL
        shown = "/".join(path)
        names = [comparable(each) for each in (shown, *(f"{root}/{shown}" for root in self._roots))]
        found = [rule for rule, patterns in self._rules.items() if rule.tool == tool and _matches(patterns, names)]
        for verdict, kind in ((Verdict.DENY, HazardKind.DENIED), (Verdict.ASK, HazardKind.ASKED)):
            if rule := next((each for each in found if each.verdict is verdict), None):
                return WriteHazard(kind, path[-1], f"{shown!r} is what your rule {rule.text!r} is about")
        return None

    @cached_property
    def _roots(self) -> list[str]:
        return list(dict.fromkeys([str(self._workspace), os.path.realpath(self._workspace)]))


def _keeps_files(rule: Rule) -> bool:
    is_about_writing = rule.tool in {CREATING_TOOL, EDITING_TOOL}
    return is_about_writing and rule.pattern is not None and rule.verdict is not Verdict.ALLOW


def _matches(patterns: list[str], names: list[str]) -> bool:
    return any(matches_text((*pattern.split("*"),), name) for pattern in patterns for name in names)

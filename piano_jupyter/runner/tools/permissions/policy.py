"""Decides whether a call may run, by the user's rules, the tool's own assessment and the mode. Pure: it asks nobody.

In this order: what a rule denies, what the tool denies, what a rule asks about, what the delegating agent may not use,
what the tool asks about whatever the rules allow, what a rule allows, what else the tool asks about; everything else
runs. A rule that allows matches narrowly; one that denies
or asks matches broadly: if a command is known only when it runs, the user is asked. A command that cannot be read
completely is denied if any rule denies something of the tool, and needs approval unless a rule allows all of the tool.
"""

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from os.path import realpath, relpath
from typing import Any

from piano_jupyter.errors import ToolError
from piano_jupyter.records import Mode
from piano_jupyter.rules import (
    READING_TOOL,
    Rule,
    matches_text,
    matches_words,
    parse_rule,
    path_patterns,
    pattern_words,
    plain_command_words,
)
from piano_jupyter.runner.tools.permissions.command_line import (
    CommandLine,
    RuleMatch,
    UnparsableCommandError,
    match_commands,
    read_command_line,
)
from piano_jupyter.runner.tools.permissions.launchers import may_run_others
from piano_jupyter.runner.tools.permissions.named_paths import match_paths
from piano_jupyter.text.unicode_forms import comparable
from piano_jupyter.tool import Tool, ToolAssessment, Verdict

COMMAND, PATH = "command", "path"  # subjects with special matching


@dataclass(frozen=True, slots=True)
class Decision(ToolAssessment):
    """Whether a call may run."""

    always: str = ""  #: the rule that "always" adds; "" if no rule could allow the next such call


def judge(
    tool: Tool,
    arguments: Mapping[str, Any],
    *,
    mode: Mode,
    rules: Sequence[str],
    workspace: str,
    ask_first: str = "",
) -> Decision:
    """Return whether a call may run. `ask_first` is a reason to ask that no rule can override.

    Raises PianoError for an invalid rule.
    """
    assessment = _tool_assessment(tool, arguments, mode)
    decision = _decide(tool, arguments, assessment, rules=rules, workspace=workspace, ask_first=ask_first)
    return replace(decision, target=assessment.target)


def _decide(
    tool: Tool,
    arguments: Mapping[str, Any],
    assessment: ToolAssessment,
    *,
    rules: Sequence[str],
    workspace: str,
    ask_first: str,
) -> Decision:
    tool_rules = [rule for rule in map(parse_rule, rules) if _applies(rule, tool)]
    line, unreadable_reason = _command_line(tool, arguments)
    matches = {rule: _match(rule, tool, arguments, line, workspace) for rule in tool_rules}
    for rule, match in matches.items():
        if rule.verdict is Verdict.DENY and match is RuleMatch.YES:
            return Decision(Verdict.DENY, f"denied: the user's rule {rule.text!r} forbids this; do not try another way")
    if assessment.verdict is Verdict.DENY:
        return Decision(Verdict.DENY, assessment.reason)
    if unreadable_reason and (denying := next((rule for rule in tool_rules if rule.verdict is Verdict.DENY), None)):
        return Decision(
            Verdict.DENY,
            f"denied: {unreadable_reason}, and it may contain what the user's rule {denying.text!r} forbids; "
            f"run several short, simple commands instead",
        )
    for rule, match in matches.items():
        if rule.verdict is not Verdict.ALLOW and match is not RuleMatch.NO:
            unsure = f"may apply: {unreadable_reason or 'what it does is known only when it runs'}"
            return Decision(Verdict.ASK, f"your rule {rule.text!r} {'applies' if match is RuleMatch.YES else unsure}")
    if not ask_first and assessment.verdict is Verdict.ASK and assessment.overrides_rules:
        ask_first = assessment.reason
    if ask_first:
        return Decision(Verdict.ASK, ask_first)
    allowing = [rule for rule, match in matches.items() if rule.verdict is Verdict.ALLOW and match is RuleMatch.YES]
    if any(not unreadable_reason or rule.pattern is None for rule in allowing):
        return Decision(Verdict.ALLOW)
    if unreadable_reason or assessment.verdict is Verdict.ASK or tool.asks:
        reason = "; ".join(filter(None, [assessment.reason, unreadable_reason])) or f"{tool.name} asks each time"
        return Decision(Verdict.ASK, reason, "" if unreadable_reason else _always_rule(tool, arguments, workspace))
    return Decision(Verdict.ALLOW)


def typical_verdict(tool: Tool, *, mode: Mode, rules: Sequence[str], workspace: str) -> Verdict:
    """Return the verdict on a typical call of a tool."""
    plain = dict.fromkeys(tool.parameters.get("required", ()), "x")
    return judge(tool, plain, mode=mode, rules=rules, workspace=workspace).verdict


def _tool_assessment(tool: Tool, arguments: Mapping[str, Any], mode: Mode) -> ToolAssessment:
    try:
        return tool.judge(arguments, mode) if tool.judge is not None else ToolAssessment(Verdict.ALLOW)
    except ToolError as error:
        return ToolAssessment(Verdict.DENY, str(error))


def _applies(rule: Rule, tool: Tool) -> bool:
    """Return whether a rule is about a tool; one that keeps paths from being read is also about commands."""
    keeps_paths = rule.tool == READING_TOOL and rule.pattern is not None and rule.verdict is not Verdict.ALLOW
    return rule.names(tool.name) or (tool.subject == COMMAND and keeps_paths)


def _command_line(tool: Tool, arguments: Mapping[str, Any]) -> tuple[CommandLine | None, str]:
    """Return what the command of a call contains, or None and the reason if it cannot be read completely."""
    if tool.subject != COMMAND:
        return None, ""
    try:
        return read_command_line(str(arguments.get(COMMAND, ""))), ""
    except UnparsableCommandError as error:
        return None, f"the command cannot be read completely: {error}"


def _match(rule: Rule, tool: Tool, arguments: Mapping[str, Any], line: CommandLine | None, workspace: str) -> RuleMatch:
    if rule.pattern is None:
        return RuleMatch.YES
    if not rule.names(tool.name):
        return RuleMatch.MAYBE if line is None else match_paths(rule.pattern, line, workspace)
    subject = arguments.get(tool.subject, "")
    if rule.verdict is Verdict.ALLOW:
        return RuleMatch.YES if _allows(rule.pattern, tool.subject, subject, workspace) else RuleMatch.NO
    if tool.subject == COMMAND and (words := pattern_words(rule.pattern)) is not None:
        return RuleMatch.MAYBE if line is None else match_commands(words, line)
    if tool.subject == PATH:
        subjects = _paths(str(subject), workspace)
        subjects += [posixpath.join(root, each) for root in (workspace, realpath(workspace)) for each in subjects]
        patterns = path_patterns(rule.pattern, workspace)
    else:
        subjects = list(_all_texts(subject if tool.subject else [*_with_defaults(tool, arguments).values()]))
        patterns = [comparable(rule.pattern)]
    found = (matches_text((*pattern.split("*"),), comparable(each)) for pattern in patterns for each in subjects)
    return RuleMatch.YES if any(found) else RuleMatch.NO


def _with_defaults(tool: Tool, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call, including the defaults of those that were left out."""
    properties: Mapping[str, Any] = tool.parameters.get("properties", {})
    return {
        name: each["default"] for name, each in properties.items() if isinstance(each, Mapping) and "default" in each
    } | dict(arguments)


def _all_texts(value: Any) -> Iterator[str]:
    """Yield a value and all values in it as texts."""
    queue = [value]
    while queue:
        value_now = queue.pop()
        yield str(value_now)
        if isinstance(value_now, Mapping):
            queue += [*value_now.keys(), *value_now.values()]
        elif isinstance(value_now, list | tuple):
            queue += value_now


def _allows(pattern: str, subject_name: str, subject: Any, workspace: str) -> bool:
    """Return whether a pattern allows exactly this; a command that runs others must be written out in full."""
    if not subject_name:
        return pattern == "*"
    if not isinstance(subject, str):
        return False
    if subject_name == COMMAND:
        words, command = pattern_words(pattern), plain_command_words(subject)
        if not words or not command or not matches_words(words, command):
            return False
        return words == [(word,) for word in command] or not may_run_others(command)
    paths = _paths(subject, workspace) if subject_name == PATH else [subject]
    return all(matches_text(tuple(pattern.split("*")), each) for each in paths)


def _always_rule(tool: Tool, arguments: Mapping[str, Any], workspace: str) -> str:
    """Return the rule that would allow this from now on: this command, this path, or the tool; "" if there is none."""
    subject = arguments.get(tool.subject, "")
    if tool.subject == COMMAND:
        command = plain_command_words(str(subject))
        return f"allow {tool.name}({subject.strip()})" if command and not may_run_others(command) else ""
    if tool.subject == PATH:
        paths = _paths(str(subject), workspace)
        nameable = len(paths) == 1 and paths[0].isprintable() and "*" not in paths[0] and paths[0].strip() == paths[0]
        return f"allow {tool.name}({paths[0]})" if nameable else ""
    return f"allow {tool.name}"


def _paths(path: str, workspace: str) -> list[str]:
    """Return a path as written and, if that differs, with links resolved; both relative to the workspace."""
    try:
        home = realpath(workspace)
        leads = relpath(realpath(posixpath.join(home, path)), home)
    except (OSError, ValueError):  # not a valid path: the tool returns an error
        return [path]
    for root in (workspace, home):
        if path.startswith(f"{root}/"):
            path = path[len(root) + 1 :]
    return list(dict.fromkeys([posixpath.normpath(path), leads.replace("\\", "/")]))

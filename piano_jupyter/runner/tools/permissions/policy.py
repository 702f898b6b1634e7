"""May this call run? The user's rules, the tool's own opinion and the mode decide. It asks nobody and keeps nothing.

In this order: what a rule denies, what the tool denies, what a rule asks about, what whoever handed the question on
may not use, what a rule allows, what the tool asks about; else it runs. A rule that allows fits narrowly, one that
denies or asks fits generously: about a command that is known only when it runs, the user is asked. One that cannot be
read whole is denied where any rule denies something of the tool, and asked about unless a rule allows all of the tool.
"""

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os.path import realpath, relpath
from typing import Any

from piano_jupyter.errors import ToolError
from piano_jupyter.records import Mode
from piano_jupyter.rules import Rule, fits_text, fits_words, parsed_rule, pattern_words, plain_command
from piano_jupyter.runner.tools.permissions.command_line import RuleMatch, UnparsableCommandError, commands_of, fits
from piano_jupyter.runner.tools.permissions.launchers import may_run_others
from piano_jupyter.runner.tools.permissions.syntax_tree import Command
from piano_jupyter.tool import Tool, ToolAssessment, Verdict

COMMAND, PATH = "command", "path"  # what a tool's subject may be, beside any other argument


@dataclass(frozen=True, slots=True)
class Decision(ToolAssessment):
    """Whether a call may run."""

    always: str = ""  #: the rule that "always" adds; "" where no rule would make the next such call run


def judge(
    tool: Tool,
    arguments: Mapping[str, Any],
    *,
    mode: Mode,
    rules: Sequence[str],
    workspace: str,
    ask_first: str = "",
) -> Decision:
    """Return whether a call may run. `ask_first` is a reason to ask that no rule takes away.

    Raises PianoError for a rule that makes no sense.
    """
    own = [rule for rule in map(parsed_rule, rules) if rule.tool == tool.name]
    commands, unread = _commands(tool, arguments)
    found = {rule: _fits(rule, tool, arguments, commands, workspace) for rule in own}
    opinion = _opinion(tool, arguments, mode)
    for rule, how in found.items():
        if rule.verdict is Verdict.DENY and how is RuleMatch.YES:
            return Decision(Verdict.DENY, f"denied: the user's rule {rule.text!r} forbids this; do not try another way")
    if opinion.verdict is Verdict.DENY:
        return Decision(Verdict.DENY, opinion.reason)
    if unread and (denying := next((rule for rule in own if rule.verdict is Verdict.DENY), None)):
        return Decision(
            Verdict.DENY,
            f"denied: {unread}, and the user's rule {denying.text!r} forbids what may be in it; "
            f"give several short, simple commands",
        )
    for rule, how in found.items():
        if rule.verdict is not Verdict.ALLOW and how is not RuleMatch.NO:
            unsure = f"may be about this: {unread or 'what it does is known only when it runs'}"
            return Decision(Verdict.ASK, f"your rule {rule.text!r} {'says so' if how is RuleMatch.YES else unsure}")
    if ask_first:
        return Decision(Verdict.ASK, ask_first)
    allowing = [rule for rule, how in found.items() if rule.verdict is Verdict.ALLOW and how is RuleMatch.YES]
    if any(not unread or rule.pattern is None for rule in allowing):
        return Decision(Verdict.ALLOW)
    if unread or opinion.verdict is Verdict.ASK or tool.asks:
        reason = "; ".join(filter(None, [opinion.reason, unread])) or f"{tool.name} asks each time"
        return Decision(Verdict.ASK, reason, "" if unread else _always(tool, arguments, workspace))
    return Decision(Verdict.ALLOW)


def usually(tool: Tool, *, mode: Mode, rules: Sequence[str], workspace: str) -> Verdict:
    """Return what becomes of a call of a tool that is nothing special."""
    plain = dict.fromkeys(tool.parameters.get("required", ()), "x")
    return judge(tool, plain, mode=mode, rules=rules, workspace=workspace).verdict


def _opinion(tool: Tool, arguments: Mapping[str, Any], mode: Mode) -> ToolAssessment:
    try:
        return tool.judge(arguments, mode) if tool.judge is not None else ToolAssessment(Verdict.ALLOW)
    except ToolError as error:
        return ToolAssessment(Verdict.DENY, str(error))


def _commands(tool: Tool, arguments: Mapping[str, Any]) -> tuple[list[Command] | None, str]:
    """Return the commands that a call holds; None where they cannot all be read, and why."""
    if tool.subject != COMMAND:
        return [], ""
    try:
        return commands_of(str(arguments.get(COMMAND, ""))), ""
    except UnparsableCommandError as error:
        return None, f"the command cannot be read whole: {error}"


def _fits(
    rule: Rule, tool: Tool, arguments: Mapping[str, Any], commands: list[Command] | None, workspace: str
) -> RuleMatch:
    if rule.pattern is None:
        return RuleMatch.YES
    subject = arguments.get(tool.subject, "")
    if rule.verdict is Verdict.ALLOW:
        return RuleMatch.YES if _allows(rule.pattern, tool.subject, subject, workspace) else RuleMatch.NO
    if tool.subject == COMMAND and (words := pattern_words(rule.pattern)) is not None:
        return RuleMatch.MAYBE if commands is None else fits(words, commands)
    if tool.subject == PATH:
        about = _paths(str(subject), workspace)
        about += [posixpath.join(root, each) for root in (workspace, realpath(workspace)) for each in about]
    else:
        about = list(_texts(subject if tool.subject else [*_given(tool, arguments).values()]))
    pattern = tuple(rule.pattern.casefold().split("*"))
    return RuleMatch.YES if any(fits_text(pattern, each.casefold()) for each in about) else RuleMatch.NO


def _given(tool: Tool, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call, with what the tool takes for those that were left out."""
    properties: Mapping[str, Any] = tool.parameters.get("properties", {})
    return {
        name: each["default"] for name, each in properties.items() if isinstance(each, Mapping) and "default" in each
    } | dict(arguments)


def _texts(value: Any) -> Iterator[str]:
    """Yield a value as a text, and each that is in it."""
    waiting = [value]
    while waiting:
        here = waiting.pop()
        yield str(here)
        if isinstance(here, Mapping):
            waiting += [*here.keys(), *here.values()]
        elif isinstance(here, list | tuple):
            waiting += here


def _allows(pattern: str, kind: str, subject: Any, workspace: str) -> bool:
    """Return whether a rule that allows is about exactly this: of a command that runs others, only if it names it."""
    if not isinstance(subject, str) or not kind:
        return False
    if kind == COMMAND:
        words, command = pattern_words(pattern), plain_command(subject)
        if not words or not command or not fits_words(words, command):
            return False
        return words == [(word,) for word in command] or not may_run_others(command)
    about = _paths(subject, workspace) if kind == PATH else [subject]
    return all(fits_text(tuple(pattern.split("*")), each) for each in about)


def _always(tool: Tool, arguments: Mapping[str, Any], workspace: str) -> str:
    """Return the rule that would allow exactly this from now on: this command, this path, or the tool."""
    subject = arguments.get(tool.subject, "")
    if tool.subject == COMMAND:
        command = plain_command(str(subject))
        return f"allow {tool.name}({subject.strip()})" if command and not may_run_others(command) else ""
    if tool.subject == PATH:
        about = _paths(str(subject), workspace)
        nameable = len(about) == 1 and about[0].isprintable() and "*" not in about[0] and about[0].strip() == about[0]
        return f"allow {tool.name}({about[0]})" if nameable else ""
    return f"allow {tool.name}"


def _paths(path: str, workspace: str) -> list[str]:
    """Return a path as it is written and, if that differs, where its links lead; both relative to the workspace."""
    try:
        home = realpath(workspace)
        leads = relpath(realpath(posixpath.join(home, path)), home)
    except (OSError, ValueError):  # no path at all: the tool refuses it
        return [path]
    for root in (workspace, home):
        if path.startswith(f"{root}/"):
            path = path[len(root) + 1 :]
    return list(dict.fromkeys([posixpath.normpath(path), leads.replace("\\", "/")]))

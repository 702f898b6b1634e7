"""ApprovalGate: checks each tool call of a turn against the policy, and requests approval where that is needed.

Both the mode and rules that the job was sent under and those in force now apply: a call that either denies is denied,
a call that either asks about needs approval, and it runs in the stricter of the two modes. An approval is for exactly
what was asked: if the mode, the workspace or where a path of the call leads has changed when the call is about to run,
the call is checked again.
"""

import asyncio
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from piano_jupyter.bus import EventBus
from piano_jupyter.clock import Clock
from piano_jupyter.config import PianoConfig
from piano_jupyter.events import ToolFlagged, denying
from piano_jupyter.pipeline.approvals import ALWAYS, NO, Approvals
from piano_jupyter.records import Agent, Approval, Job, Mode, ToolCall
from piano_jupyter.runner.schema.coercion import check_arguments
from piano_jupyter.runner.tools.permissions.policy import COMMAND, Decision, judge, typical_verdict
from piano_jupyter.runner.tools.permissions.suspicion import suspicion
from piano_jupyter.runner.turn.tool_call_executor import Permission, Permit
from piano_jupyter.tool import MODES, Tool, ToolCallContext, Verdict, current_call

DENIED = "denied: the user did not allow this call; do not repeat it, ask or go on without"
STRICTNESS = (Verdict.ALLOW, Verdict.ASK, Verdict.DENY)
ASKED_BEFORE_RESTART = "approval was requested before, and then the kernel stopped"


class ApprovalGate:
    """Decides which tool calls may run."""

    def __init__(self, config: PianoConfig, approvals: Approvals, bus: EventBus, clock: Clock) -> None:
        self._config, self._approvals, self._bus, self._clock = config, approvals, bus, clock
        self._added_rules: list[str] = []  # rules that the user added in answer to a request

    def add_rule(self, rule: str) -> None:
        """Add a rule to those in force, and to those of jobs that were sent before."""
        if rule not in self._added_rules:
            self._added_rules.append(rule)
        if rule not in self._config.rules:
            self._config.rules = [*self._config.rules, rule]

    def for_turn(
        self,
        job: Job,
        agent: Agent,
        delegators: Sequence[Agent],
        asked_before: Sequence[Approval] = (),
        skill_tools: Sequence[Tool] = (),
    ) -> Permit:
        """Return the check that a turn makes before each tool call.

        `delegators` delegated the question: tools that they may not use need approval. `asked_before` are requests from
        before a kernel died: a denial counts, all others are made again. `skill_tools` belong to the turn and only read
        skills, so they always run.
        """
        before = {each.call_id: each for each in asked_before}

        async def permit(call: ToolCall, tool: Tool) -> Permission:
            if tool in skill_tools:
                return Permission(mode=self._stricter_mode(job))
            known = before.get(call.id)
            if known is not None and known.allowed is False:
                return Permission(_denied(known))
            return await self._permit(job, agent, delegators, call, tool, ASKED_BEFORE_RESTART if known else "")

        return permit

    def default_verdict(self, tool: Tool) -> Verdict:
        """Return the verdict on an ordinary call of a tool, in the current mode and with the current rules."""
        config = self._config
        return typical_verdict(tool, mode=config.mode, rules=config.rules, workspace=config.workspace)

    async def _permit(
        self, job: Job, agent: Agent, delegators: Sequence[Agent], call: ToolCall, tool: Tool, asked_before: str
    ) -> Permission:
        arguments = check_arguments(tool, call.arguments)
        flag = suspicion(str(arguments.get(COMMAND, ""))) if tool.subject == COMMAND else None
        if flag:
            self._bus.publish(ToolFlagged(thread_id=job.thread_id, job_id=job.id, call=call, reason=flag))
        allowed = ""  # the digest of what the user approved

        async def ask_again(question: str, reason: str) -> bool:
            bound_to = digest(call, self._config.workspace, mode, reason)
            answer = await self._ask(job, call, bound_to, f"{agent.name} has run {call.name}; {question}", reason)
            return bool(answer.allowed)

        while True:
            mode, workspace = self._config.mode, self._config.workspace
            lacking = [each.name for each in delegators if tool.name not in each.enabled_tools]
            ask_first = f"{', '.join(lacking)} may not use {tool.name}" if lacking else ""
            decision = await asyncio.to_thread(
                self._judge, job, call, tool, arguments, ask_first
            )  # it may take a while
            if decision.verdict is Verdict.ALLOW and asked_before:
                decision = Decision(Verdict.ASK, asked_before)
            if decision.verdict is Verdict.DENY:
                return Permission(decision.reason)
            now = digest(call, workspace, mode, decision.target)
            if decision.verdict is Verdict.ALLOW or now == allowed:
                return Permission(mode=self._stricter_mode(job), target=decision.target, ask_again=ask_again)
            for_whom = f", delegated by {', '.join(each.name for each in delegators)}" if delegators else ""
            question = f"{agent.name} wants to run {call.name}{for_whom}"
            reason = "; ".join(filter(None, [decision.reason, flag]))
            answer = await self._ask(job, call, now, question, reason, decision.always)
            if answer.note == ALWAYS:  # perhaps given in another notebook
                self.add_rule(answer.always if answer.allowed else denying(answer.always))
            if not answer.allowed:
                return Permission(_denied(answer))
            allowed = answer.digest

    async def _ask(
        self, job: Job, call: ToolCall, bound_to: str, question: str, reason: str, always: str = ""
    ) -> Approval:
        """Ask the user about a call; return the answer."""
        approval = Approval(
            id=self._clock.new_id(),
            call_id=call.id,
            message_id=call.message_id,
            job_id=job.id,
            thread_id=job.thread_id,
            name=call.name,
            arguments=call.arguments,
            digest=bound_to,
            question=question,
            reason=reason,
            always=always,
            requested_at=self._clock.now(),
        )
        return await self._approvals.ask(approval, call, self._config.approval_timeout)

    def _judge(self, job: Job, call: ToolCall, tool: Tool, arguments: Mapping[str, Any], ask_first: str) -> Decision:
        """Return the stricter decision: under what was in force when the job was sent, or what is in force now."""
        config, runs_in = self._config, self._stricter_mode(job)
        sent = (*job.rules, *(rule for rule in self._added_rules if rule in config.rules and rule not in job.rules))

        def verdict_in(mode: Mode, rules: Sequence[str]) -> Decision:
            with _judging(ToolCallContext(thread_id=job.thread_id, call_id=call.id, mode=mode, say=_ignore)):
                return judge(tool, arguments, mode=mode, rules=rules, workspace=config.workspace, ask_first=ask_first)

        decisions = []
        for mode, rules in {(config.mode, tuple(config.rules)): None, (job.mode, sent): None}:
            decision = verdict_in(mode, rules)
            if decision.verdict is Verdict.ASK and mode != runs_in:  # the request says how the call will run
                narrow = verdict_in(runs_in, rules)
                reason = (
                    narrow.reason if narrow.verdict is Verdict.ASK else f"mode {mode} asks; it runs in mode {runs_in}"
                )
                decision = replace(decision, reason=reason)
            decisions.append(decision)
        return max(decisions, key=lambda each: (STRICTNESS.index(each.verdict), each.always == ""))

    def _stricter_mode(self, job: Job) -> Mode:
        return min(job.mode, self._config.mode, key=MODES.index)


@contextmanager
def _judging(call: ToolCallContext) -> Iterator[None]:
    """Tell the tool which call it judges."""
    token = current_call.set(call)
    try:
        yield
    finally:
        current_call.reset(token)


def _ignore(_: str) -> None:
    """Ignore what a tool says while it judges."""


def digest(call: ToolCall, workspace: str, mode: str, target: str) -> str:
    """Return what an approval is bound to: the tool, its arguments and where they lead, the workspace and the mode."""
    content: Mapping[str, Any] = {
        "tool": call.name,
        "arguments": call.arguments,
        "workspace": workspace,
        "mode": mode,
        "target": target,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode("utf-8", "surrogatepass")).hexdigest()


def _denied(approval: Approval) -> str:
    if approval.note in {NO, ALWAYS}:
        return DENIED
    return f"denied: {approval.note}, so this call was not run; do not repeat it, ask or go on without"

"""ApprovalGate: each call of a turn is judged by the policy, asked about where it must be, and let through or not.

A call runs under what its job was sent under and under what is in force now: what either denies is denied, what either
asks about is asked about, and of the two modes it has the narrower. A yes is for exactly what was asked: if the mode or
the workspace is another one when the call is about to run, it is judged anew and, if need be, asked about anew.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from piano_jupyter.bus import EventBus
from piano_jupyter.clock import Clock
from piano_jupyter.config import PianoConfig
from piano_jupyter.events import ToolFlagged
from piano_jupyter.pipeline.approvals import ALWAYS, NO, Approvals
from piano_jupyter.records import Agent, Approval, Job, Mode, ToolCall
from piano_jupyter.runner.schema.coercion import check_arguments
from piano_jupyter.runner.tools.permissions.policy import COMMAND, Decision, judge, typical_verdict
from piano_jupyter.runner.tools.permissions.suspicion import suspicion
from piano_jupyter.runner.turn.tool_call_executor import Permission, Permit
from piano_jupyter.tool import MODES, Tool, ToolCallContext, Verdict, current_call

DENIED = "denied: the user did not allow this call; do not repeat it, ask or go on without"
STRICTNESS = (Verdict.ALLOW, Verdict.ASK, Verdict.DENY)
ASKED_BEFORE = "it was asked about before, and the kernel stopped"


class ApprovalGate:
    """Says which calls may run, for one turn after the other."""

    def __init__(self, config: PianoConfig, approvals: Approvals, bus: EventBus, clock: Clock) -> None:
        self._config, self._approvals, self._bus, self._clock = config, approvals, bus, clock
        self._always: list[str] = []  # rules that the user has added in answer to a question

    def add_rule(self, rule: str) -> None:
        """Add a rule to those in force, and to those of jobs that were sent before: the user has just said so."""
        self._always.append(rule)
        if rule not in self._config.rules:
            self._config.rules = [*self._config.rules, rule]

    def of(
        self,
        job: Job,
        agent: Agent,
        askers: Sequence[Agent],
        left: Sequence[Approval] = (),
        handed_out: Sequence[Tool] = (),
    ) -> Permit:
        """Return what a turn asks before each call.

        `askers` have handed the question on: what they may not use is asked about. `left` are calls that were asked
        about before a kernel died: a no stands, all else is asked again. `handed_out` are tools of the turn's own,
        which only read skills.
        """
        before = {each.call_id: each for each in left}

        async def permit(call: ToolCall, tool: Tool) -> Permission:
            if tool in handed_out:
                return Permission(mode=self._narrower(job))
            known = before.get(call.id)
            if known is not None and known.allowed is False:
                return Permission(_denied(known))
            return await self._permit(job, agent, askers, call, tool, ASKED_BEFORE if known else "")

        return permit

    def usually(self, tool: Tool) -> Verdict:
        """Return what becomes of a call of a tool that is nothing special, as things stand."""
        config = self._config
        return typical_verdict(tool, mode=config.mode, rules=config.rules, workspace=config.workspace)

    async def _permit(
        self, job: Job, agent: Agent, askers: Sequence[Agent], call: ToolCall, tool: Tool, asked_before: str
    ) -> Permission:
        arguments = check_arguments(tool, call.arguments)
        flag = suspicion(str(arguments.get(COMMAND, ""))) if tool.subject == COMMAND else None
        if flag:
            self._bus.publish(ToolFlagged(thread_id=job.thread_id, job_id=job.id, call=call, reason=flag))
        allowed = ""  # the digest of what the user has said yes to
        while True:
            mode, workspace = self._config.mode, self._config.workspace
            lacking = [each.name for each in askers if tool.name not in each.enabled_tools]
            ask_first = f"{', '.join(lacking)} may not use {tool.name}" if lacking else ""
            decision = self._judge(job, call, tool, arguments, ask_first)
            if decision.verdict is Verdict.ALLOW and asked_before:
                decision = Decision(Verdict.ASK, asked_before)
            if decision.verdict is Verdict.DENY:
                return Permission(decision.reason)
            now = digest(call, workspace, mode)
            if decision.verdict is Verdict.ALLOW or now == allowed:
                return Permission(mode=self._narrower(job))
            for_whom = f", asked by {', '.join(each.name for each in askers)}" if askers else ""
            answer = await self._approvals.ask(
                Approval(
                    id=self._clock.new_id(),
                    call_id=call.id,
                    message_id=call.message_id,
                    job_id=job.id,
                    thread_id=job.thread_id,
                    name=call.name,
                    arguments=call.arguments,
                    digest=now,
                    question=f"{agent.name} wants to run {call.name}{for_whom}",
                    reason="; ".join(filter(None, [decision.reason, flag])),
                    always=decision.always,
                    requested_at=self._clock.now(),
                ),
                call,
                self._config.approval_timeout,
            )
            if not answer.allowed:
                return Permission(_denied(answer))
            allowed = answer.digest

    def _judge(self, job: Job, call: ToolCall, tool: Tool, arguments: Mapping[str, Any], ask_first: str) -> Decision:
        """Return the stricter of what was in force when the job was sent, and what is now."""
        config, runs_in = self._config, self._narrower(job)
        sent = (*job.rules, *(rule for rule in self._always if rule in config.rules and rule not in job.rules))

        def judged(mode: Mode, rules: Sequence[str]) -> Decision:
            with _judged(ToolCallContext(thread_id=job.thread_id, call_id=call.id, mode=mode, say=_nobody)):
                return judge(tool, arguments, mode=mode, rules=rules, workspace=config.workspace, ask_first=ask_first)

        decisions = []
        for mode, rules in {(config.mode, tuple(config.rules)): None, (job.mode, sent): None}:
            decision = judged(mode, rules)
            if decision.verdict is Verdict.ASK and mode != runs_in:  # the question tells how it will run
                narrow = judged(runs_in, rules)
                told = (
                    narrow.reason if narrow.verdict is Verdict.ASK else f"mode {mode} asks; it runs in mode {runs_in}"
                )
                decision = replace(decision, reason=told)
            decisions.append(decision)
        return max(decisions, key=lambda each: (STRICTNESS.index(each.verdict), each.always == ""))

    def _narrower(self, job: Job) -> Mode:
        return min(job.mode, self._config.mode, key=MODES.index)


@contextmanager
def _judged(call: ToolCallContext) -> Iterator[None]:
    """Let the tool know which call it judges."""
    token = current_call.set(call)
    try:
        yield
    finally:
        current_call.reset(token)


def _nobody(_: str) -> None:
    """Hear what a tool says while it judges."""


def digest(call: ToolCall, workspace: str, mode: str) -> str:
    """Return what a yes is bound to: the tool, its arguments, the workspace and the mode."""
    said: Mapping[str, Any] = {"tool": call.name, "arguments": call.arguments, "workspace": workspace, "mode": mode}
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode("utf-8", "surrogatepass")).hexdigest()


def _denied(approval: Approval) -> str:
    if approval.note in {NO, ALWAYS}:
        return DENIED
    return f"denied: {approval.note}, so this call was not run; do not repeat it, ask or go on without"

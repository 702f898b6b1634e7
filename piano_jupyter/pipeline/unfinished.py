"""Unfinished jobs: what an earlier kernel left. They wait until the user goes on, and then for what they need.

Nothing runs because a database was opened. A job that was left goes on once the user has sent something or said so,
where the database is the user's own, the tools of its agent are there, and its question would go to the server that it
was sent to.
"""

from collections.abc import Callable, Iterable
from uuid import UUID

from piano_jupyter.pipeline.agent_registry import AgentRegistry
from piano_jupyter.pipeline.trust import Trust
from piano_jupyter.records import EMBEDDED, Job, short


class UnfinishedJobs:
    """Knows which jobs were left, and what each still waits for.

    `missing` returns which of some tools do not exist; `server` where a question goes now, None if it is not known.
    """

    def __init__(
        self,
        roster: AgentRegistry,
        trust: Trust,
        missing: Callable[[Iterable[str]], list[str]],
        server: Callable[[], str | None],
    ) -> None:
        self._roster, self._trust, self._missing, self._server = roster, trust, missing, server
        self._left: dict[UUID, Job] = {}
        self._resumed = set[UUID]()

    def note(self, jobs: Iterable[Job]) -> None:
        """Note the jobs that were left."""
        self._left |= {job.id: job for job in jobs}

    def forget(self, job: Job) -> None:
        """A job has begun, has ended, or was sent anew: nothing holds it any more."""
        self._left.pop(job.id, None)
        self._resumed.discard(job.id)

    def resume(self, job: Job | None = None) -> None:
        """Let a job go on, or all."""
        if self._trust.given:
            self._resumed.update([job.id] if job else self._left)

    @property
    def resumed(self) -> bool:
        """Whether any job was let go on that has not begun."""
        return bool(self._resumed)

    def all(self) -> list[tuple[Job, str]]:
        """Return the jobs that were left and have not gone on, each with what it waits for ("" for its turn)."""
        return [(job, self.why_held(job)) for job in self._left.values()]

    def why_held(self, job: Job) -> str:
        """Return what a job waits for beside its turn, and the way out; "" if nothing holds it."""
        if job.id not in self._left:
            return ""
        if not self._trust.given:
            return "its database is not known to be yours; %piano trust"
        if job.id not in self._resumed:
            return "an earlier kernel left it; %piano resume"
        agent = self._roster.find(job.agent_id)
        if agent is None:  # waiting would not bring it back: the job fails with that as its reason
            return ""
        if missing := self._missing(agent.enabled_tools):
            names = ", ".join(missing)
            return f"{'tools that are' if missing[1:] else 'a tool that is'} not defined here: {names}; run their cells"
        return self._elsewhere(job)

    def _elsewhere(self, job: Job) -> str:
        now = self._server()
        if job.server == now or (not job.server and now != EMBEDDED):
            return ""
        was = {"": "a server", EMBEDDED: "the embedded model"}.get(job.server, job.server)
        if now is None:
            return f"{was}, which it was sent to, and no server has answered yet; %piano resume looks again"
        goes = "the embedded model" if now == EMBEDDED else now
        return f"{was}, which it was sent to; questions go to {goes} now: %piano retry {short(job.id)} sends it there"

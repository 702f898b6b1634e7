"""Unfinished jobs of an earlier kernel. They wait until the user resumes them, and then for what they need.

Opening a database runs nothing. An unfinished job continues once the user has sent a message or resumed it, if the
database is trusted, the tools of its agent are defined, and its question would go to the server that it was sent to.
"""

from collections.abc import Callable, Iterable
from uuid import UUID

from piano_jupyter.pipeline.agent_registry import AgentRegistry
from piano_jupyter.pipeline.trust import Trust
from piano_jupyter.records import EMBEDDED, Job, short


class UnfinishedJobs:
    """Knows the unfinished jobs, and what each of them waits for.

    `missing` returns which of some tools do not exist; `server` where a question would go now, None if not known.
    """

    def __init__(
        self,
        agents: AgentRegistry,
        trust: Trust,
        missing: Callable[[Iterable[str]], list[str]],
        server: Callable[[], str | None],
    ) -> None:
        self._agents, self._trust, self._missing, self._server = agents, trust, missing, server
        self._jobs: dict[UUID, Job] = {}
        self._resumed = set[UUID]()

    def add(self, jobs: Iterable[Job]) -> None:
        """Add the jobs that an earlier kernel left."""
        self._jobs |= {job.id: job for job in jobs}

    def forget(self, job: Job) -> None:
        """Remove a job that has started, ended or was retried."""
        self._jobs.pop(job.id, None)
        self._resumed.discard(job.id)

    def resume(self, job: Job | None = None) -> None:
        """Resume a job, or all of them."""
        if self._trust.is_trusted:
            self._resumed.update([job.id] if job else self._jobs)

    @property
    def resumed(self) -> bool:
        """Whether any job was resumed and has not started yet."""
        return bool(self._resumed)

    def all(self) -> list[tuple[Job, str]]:
        """Return the jobs that have not continued, each with what it waits for ("" if only for its turn)."""
        return [(job, self.why_held(job)) for job in self._jobs.values()]

    def why_held(self, job: Job) -> str:
        """Return what a job waits for, except its turn, and what to do about it; "" if nothing."""
        if job.id not in self._jobs:
            return ""
        if not self._trust.is_trusted:
            return "its database is not trusted; %piano trust"
        if job.id not in self._resumed:
            return "an earlier kernel left it; %piano resume"
        agent = self._agents.find(job.agent_id)
        if agent is None:  # the job starts, and fails with that as its reason
            return ""
        if missing := self._missing(agent.enabled_tools):
            names = ", ".join(missing)
            if missing[1:]:
                return f"tools that are not defined here: {names}; run their cells"
            return f"a tool that is not defined here: {names}; run its cell"
        return self._other_server(job)

    def _other_server(self, job: Job) -> str:
        now = self._server()
        if job.server == now or (not job.server and now != EMBEDDED):
            return ""
        was = {"": "a server", EMBEDDED: "the embedded model"}.get(job.server, job.server)
        if now is None:
            return f"{was}, which it was sent to, and no server has answered yet; %piano resume tries again"
        goes = "the embedded model" if now == EMBEDDED else now
        return f"{was}, which it was sent to; questions go to {goes} now: %piano retry {short(job.id)} sends it there"

"""Wiring: builds the components of a Piano and connects them. It does nothing else."""

import os
import secrets
import socket
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from piano_jupyter.batch.asker import Asker
from piano_jupyter.batch.batch_run import BatchServices
from piano_jupyter.batch.batches import Batches, BatchOwner
from piano_jupyter.bus import EventBus
from piano_jupyter.clock import Clock
from piano_jupyter.config import PianoConfig
from piano_jupyter.events import ModelLoading
from piano_jupyter.pipeline.agent_registry import AgentRegistry
from piano_jupyter.pipeline.approval_gate import ApprovalGate
from piano_jupyter.pipeline.approvals import Approvals
from piano_jupyter.pipeline.consumer import Consumer
from piano_jupyter.pipeline.event_relay import EventRelay
from piano_jupyter.pipeline.job_log import JobLog
from piano_jupyter.pipeline.job_results import JobResults
from piano_jupyter.pipeline.messages import QuestionSender
from piano_jupyter.pipeline.producer import JobModels, JobOwner, Producer
from piano_jupyter.pipeline.refresher import Refresher
from piano_jupyter.pipeline.rolling_backups import RollingBackups
from piano_jupyter.pipeline.thread_cache import ThreadCache
from piano_jupyter.pipeline.threads import Threads
from piano_jupyter.pipeline.trust import Trust
from piano_jupyter.pipeline.turns import TurnRunner
from piano_jupyter.pipeline.unfinished import UnfinishedJobs
from piano_jupyter.records import Job, Notebook
from piano_jupyter.runner.model.cassette import Cassette
from piano_jupyter.runner.model.client import ChatClient
from piano_jupyter.runner.model.llama_swap.swap_client import SwapClient
from piano_jupyter.runner.model.masked_model import MaskedModel
from piano_jupyter.runner.model.protocol import ChatModel
from piano_jupyter.runner.model.server.endpoint import EndpointFinder
from piano_jupyter.runner.skills.skill import place
from piano_jupyter.runner.skills.skill_registry import SkillRegistry
from piano_jupyter.runner.tools.bash.bash_tool import BashTool
from piano_jupyter.runner.tools.files.file_tools import file_tools
from piano_jupyter.runner.tools.files.skill_folders import skill_roots
from piano_jupyter.runner.tools.mcp.mcp_servers import McpServers
from piano_jupyter.runner.tools.tool_registry import ToolRegistry
from piano_jupyter.secrets.known_secrets import SecretMask, is_secret
from piano_jupyter.store.base import Turn
from piano_jupyter.store.masking_store import MaskingStore
from piano_jupyter.store.server.remote_store import Listener
from piano_jupyter.store.server.shared_store import Client
from piano_jupyter.store.server.workspace_store import WorkspaceStore
from piano_jupyter.tool import Tool

IN_MEMORY = ":memory:"


class Components:
    """The components of a Piano, not opened yet. `model` replaces the server."""

    def __init__(
        self,
        config: PianoConfig,
        bus: EventBus,
        *,
        tools: Iterable[Tool],
        record: str | Path | None,
        replay: str | Path | None,
        model: ChatModel | None,
        notebook: Notebook,
    ) -> None:
        self._config, self.notebook, self._model = config, notebook, model
        self.mask = mask = SecretMask(wanted=lambda: config.mask_secrets, keys=self._keys)
        self.cassette: Cassette | None = None
        if record is not None or replay is not None:
            file = Path(record or replay or "")
            self.cassette = Cassette(file, recording=record is not None, mask=mask, workspace=self._workspace)
        wrap = self.cassette.wrap if self.cassette else None
        self.clock = clock = self.cassette.clock() if self.cassette else Clock()
        self.database = IN_MEMORY if self.cassette else config.database
        self.notices = deque[str]()  #: sentences that the user has still to be told
        process = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"  # never that of a dead Piano
        self.workspace_store = shared = WorkspaceStore(
            self.database,
            Client(owner=process, label=notebook.name, pid=os.getpid()),
            Listener(event=self._receive, recovered=self._recovered, stir=self._stir, missed=self._refresh),
            self.notices.append,
            share=lambda: config.share,
            max_attempts=lambda: config.max_attempts,
        )
        self.store = store = MaskingStore(shared, mask)
        self.relay = EventRelay(bus, shared.publish, lambda: bool(shared.others))

        self.backups = RollingBackups(store)
        self.finder = EndpointFinder(
            config,
            lambda note, fraction: bus.publish(ModelLoading(note=note, fraction=fraction)),
            lambda: self.producer.wake(),  # noqa: PLW0108  It does not exist yet.
        )
        self.swap = SwapClient(self.finder.find, config, wrap)
        self.client = None if model else ChatClient(self.finder.find, config, wrap, self.swap)
        self._has_server = self.client is not None and self.cassette is None
        chat_model: Any = model or self.client

        self.bash = BashTool(config)
        self.mcp = McpServers(config, lambda: self.tools.own_names, mask)
        self.tools = ToolRegistry([*file_tools(config), self.bash.tool(), *tools], self.mcp)
        self.skills = SkillRegistry(
            lambda: skill_roots(self._workspace(), config.skills_paths),
            lambda path: place(path, self._workspace()),
        )

        self.job_results = JobResults(bus)
        self.trust = Trust(self.database, self._workspace, in_memory=self.database == IN_MEMORY)
        self.thread_cache = ThreadCache(store, bus)
        self.agents = AgentRegistry(store, bus, clock, self.trust, self._check_agent)
        self.job_log = job_log = JobLog(bus, self.agents)
        self.threads = Threads(store, bus, clock, self.thread_cache, mask, notebook)
        self.approvals = Approvals(store, bus, clock, job_log)
        self.approval_gate = ApprovalGate(config, self.approvals, bus, clock)
        self.unfinished = UnfinishedJobs(self.agents, self.trust, self.tools.missing, self.known_address)
        models = JobModels(
            loaded=self.swap.loaded if self.client is not None else None,  # what stands in for a server has them all
            aliases=lambda: self.swap.aliases,
        )
        owner = JobOwner(process, notebook, self._alive, lambda: bool(shared.others))
        self.producer = Producer(store, bus, clock, owner, config, models, self.unfinished, job_log)
        self.question_sender = QuestionSender(bus, clock, self.producer, self.thread_cache, self.agents, self.threads)
        turns = TurnRunner(self, config, bus, MaskedModel(chat_model, mask))
        self.consumer = Consumer(store, bus, clock, self.producer, turns, self.question_sender, job_log, mask)
        self.batches = Batches(
            BatchServices(store=store, bus=bus, clock=clock, turn=self._turn),
            BatchOwner(process=process, notebook=notebook, alive=self._alive, address=self.address),
            self._asker,
            config,
        )
        self.refresher = Refresher(
            store,
            self.job_results,
            [each.refresh for each in (self.threads, self.agents, self.consumer, self.approvals, self.producer)],
            self.producer.left_elsewhere,
            self.relay.publish_here,
        )

    async def address(self) -> str:
        """Return the server that a question would go to now; "" if a model or cassette replaces it."""
        return await self.finder.address() if self._has_server else ""

    def known_address(self) -> str | None:
        """Return the same if it is known already, without a request; None if not."""
        return self.finder.known_address() if self._has_server else ""

    async def context(self, model: str) -> int | None:
        """Return the size of a model's context window in tokens, if it is known."""
        return await self.client.context(model) if self.client is not None else None

    async def sees_images(self, model: str) -> bool | None:
        """Return whether a model sees images; None if it is not known."""
        return await self.client.sees_images(model) if self.client is not None else None

    async def _alive(self) -> set[str]:
        return {client.owner for client in await self.workspace_store.clients()}

    def _receive(self, event: bytes) -> None:
        self.relay.receive(event)

    def _recovered(self, jobs: list[Job]) -> None:
        self.thread_cache.forget_all()  # first: whoever runs these jobs now must know what was done for them
        self.relay.recovered(jobs)
        self.refresher.begin()  # a kernel of this notebook may have run them

    def _stir(self) -> None:
        self.producer.wake()
        self.batches.stir()

    async def _turn(self, model: str) -> Turn:
        return await self.producer.turn({model, *(agent.model for agent in self.agents.all())})

    def _asker(
        self, model: str, options: Mapping[str, Any], schema: Any, max_in_flight: int | None, servers: Sequence[str]
    ) -> Asker:
        """Return what asks the rows of a batch; in a recording one after another, so that the replay is the same."""
        wanted = self._config.max_in_flight if max_in_flight is None else max_in_flight
        limit = 1 if self.clock.repeats else wanted
        given: Sequence[Any] = servers or [self.finder.find]
        wrap = self.cassette.wrap if self.cassette else None
        return Asker(
            given,
            model,
            schema=schema,
            options=options,
            max_in_flight=limit,
            config=self._config,
            mask=self.mask,
            wrap=wrap,
            chat_model=self._model,
        )

    def _refresh(self) -> None:
        self.thread_cache.forget_all()  # at once: a job may start before all the rest is refreshed
        self.refresher.begin()

    def _keys(self) -> list[str]:
        model_keys = [self._config.api_key, self.finder.endpoint.api_key if self.finder.endpoint else ""]
        return [*model_keys, *filter(is_secret, self.mcp.secrets)]

    def _check_agent(self, fields: Mapping[str, Any]) -> None:
        self.tools.get_tools(fields.get("enabled_tools", ()))
        self.skills.get_prompts(fields.get("enabled_skills", ()))

    def _workspace(self) -> Path:
        return Path(self._config.workspace)

"""The names that TAB completes, read from an open Piano with a short timeout."""

import concurrent.futures
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from functools import partial
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from piano_jupyter.errors import PianoError
from piano_jupyter.jupyter.magic.into_option import data_in
from piano_jupyter.jupyter.magic.schema_option import schemas_in
from piano_jupyter.mcp_server import SERVER_NAME
from piano_jupyter.records import JobStatus, short
from piano_jupyter.text.short_paths import short_paths
from piano_jupyter.text.truncation import truncated

if TYPE_CHECKING:
    from piano_jupyter.piano import Piano

Reader = Callable[["Piano"], Coroutine[Any, Any, list[str]]]
Peek = Callable[[Reader], concurrent.futures.Future[list[str]] | None]
#: the tables that %piano sql can read
TABLES = (
    *("agents", "threads", "messages", "tool_calls", "tool_results", "approvals", "decisions", "jobs", "notebooks"),
    *("batches", "batch_answers"),
)
ANSWER_TIMEOUT_S = 0.04
MODELS_TIMEOUT_S = 0.3  # the server is asked
MAX_IDS = 100  # of jobs or messages
MAX_LABEL_CHARS = 40
COLUMNS_QUERY = "SELECT DISTINCT column_name FROM duckdb_columns() WHERE NOT internal ORDER BY 1"


class LabelledId(str):
    """An id with a label that is shown beside it in the list of completions."""

    __slots__ = ("about",)

    about: str

    def __new__(cls, name: str, about: str) -> Self:
        """Return the id with a one-line, shortened label."""
        labelled = super().__new__(cls, name)
        labelled.about = truncated(" ".join(about.split()), MAX_LABEL_CHARS)
        return labelled


class CompletionNames:
    """The names that an open Piano knows; if it is slow, those of its last answer."""

    def __init__(self, peek: Peek, variables: Callable[[], Mapping[str, Any]] = dict) -> None:
        self._peek, self._variables = peek, variables
        self._known: dict[str, list[str]] = {}

    def of(self, kind: str) -> list[str]:
        """Return the names of a kind; waits `ANSWER_TIMEOUT_S` seconds at most, for models `MODELS_TIMEOUT_S`."""
        if kind == "SCHEMA":
            return schemas_in(self._variables())
        if kind == "FRAME":
            from piano_jupyter.jupyter.magic.map_option import tables_in  # noqa: PLC0415  At the first TAB.

            return tables_in(self._variables())
        if kind == "NAME":
            return data_in(self._variables())
        if kind == "TOPIC":
            from piano_jupyter.jupyter.magic.manual import topics  # noqa: PLC0415  Loads the table renderer.

            return topics()
        read = READERS.get(kind)
        asked = self._peek(read) if read else None
        if asked is None:
            return []
        asked.add_done_callback(partial(self._keep, kind))
        with contextlib.suppress(TimeoutError, PianoError):
            asked.result(MODELS_TIMEOUT_S if kind == "MODEL" else ANSWER_TIMEOUT_S)
        return self._known.get(kind, [])

    def _keep(self, kind: str, answered: "concurrent.futures.Future[list[str]]") -> None:
        if not answered.cancelled() and answered.exception() is None:
            self._known[kind] = answered.result()


async def _named(records: Awaitable[Iterable[Any]], name: Callable[[Any], str] = attrgetter("name")) -> list[str]:
    """Return the names of records without duplicates."""
    return list(dict.fromkeys(map(name, await records)))


async def _models(piano: "Piano") -> list[str]:
    return list(dict.fromkeys([*await piano.model_names(), *(agent.model for agent in await piano.agents())]))


async def _jobs(piano: "Piano") -> list[str]:
    """Return the ids of jobs, those that have not ended first, then the newest, each with what it is."""
    newest = (await piano.jobs(last=MAX_IDS))[::-1]
    newest.sort(key=lambda job: job.status not in {JobStatus.QUEUED, JobStatus.RUNNING})
    titles = short_paths(job.notebook.name for job in newest)
    return [LabelledId(short(job.id), f"{job.status} {titles[job.notebook.name]}") for job in newest]


async def _messages(piano: "Piano") -> list[str]:
    messages = await piano.messages(piano.thread, MAX_IDS) if piano.thread else []
    return [LabelledId(short(each.id), each.shown) for each in reversed(messages)]


async def _mcp_texts(piano: "Piano") -> list[str]:
    """Return what inserts the prompts and resources of the MCP servers that are known, and how the others start."""
    servers = await piano.mcp_servers()
    known = [text.placeholder(each.name) for each in servers for text in each.texts]
    return known + [f'mcp("{each.name}", "' for each in servers if not each.texts and SERVER_NAME.fullmatch(each.name)]


READERS: Mapping[str, Reader] = {
    "AGENT": lambda piano: _named(piano.agents()),
    "THREAD": lambda piano: _named(piano.threads("active"), attrgetter("title")),
    "MODEL": _models,
    "TOOL": lambda piano: _named(piano.tools()),
    "SERVER": lambda piano: _named(piano.mcp_servers()),
    "MCP": _mcp_texts,
    "SKILL": lambda piano: _named(piano.skills()),
    "JOB": _jobs,
    "MESSAGE": _messages,
    "BATCH": lambda piano: _named(piano.batches()),
    "CALL": lambda piano: _named(piano.approvals(), lambda request: short(request.call.id)),
    "COLUMN": lambda piano: _named(piano.sql(COLUMNS_QUERY), itemgetter(0)),
}


def matching_files(written: str) -> list[str]:
    """Return the files and folders whose path starts with `written`; hidden ones only after a dot."""
    above, slash, prefix = written.rpartition("/")
    hidden = prefix.startswith(".")
    try:
        entries = sorted(Path(f"{above}{slash}" or ".").expanduser().iterdir())
        return [
            f"{above}{slash}{each.name}{'/' if each.is_dir() else ''}"
            for each in entries
            if each.name.startswith(prefix) and each.name.startswith(".") == hidden
        ]
    except (OSError, RuntimeError):  # no such folder, or no such user's home
        return []

"""How IPython shows records: registered by name, so that nothing is imported before one is shown."""

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from IPython.display import display

from piano_jupyter.errors import PianoError

if TYPE_CHECKING:
    from piano_jupyter.jupyter.session import Session
    from piano_jupyter.piano import Piano
    from piano_jupyter.records import Message, Rows

RECORDS = "piano_jupyter.records"
CARDS = (*(f"{RECORDS}.{kind}" for kind in ("Agent", "Job", "Model", "Thread")), "piano_jupyter.piano.Status")
LINES = (
    *(f"{RECORDS}.{kind}" for kind in ("Agent", "Hit", "Job", "Message", "Model", "Thread", "ToolCall")),
    "piano_jupyter.batch_records.Batch",
    "piano_jupyter.piano.Status",
    "piano_jupyter.tool.Tool",
    "piano_jupyter.runner.skills.skill.Skill",
)


def register(shell: Any, session: "Session") -> None:
    """Register how a shell shows records, until the session is unloaded."""
    for formatter, name, show in _formatters(shell, session):
        formatter.for_type(name, show)
        session.unloading.callback(formatter.pop, name, None)


def _formatters(shell: Any, session: "Session") -> list[tuple[Any, str, Callable[..., Any]]]:
    """Return the formatters: each with the name of a class and the function that shows it."""
    records = _RecordFormatter(session)
    displayed, formats = shell.display_formatter.ipython_display_formatter, shell.display_formatter.formatters
    return [
        *((displayed, name, records.show_card) for name in CARDS),
        (displayed, f"{RECORDS}.Message", records.show_message),
        (formats["text/html"], f"{RECORDS}.Rows", _html_rows),
        (formats["text/plain"], f"{RECORDS}.Rows", _plain_rows),
        *((formats["text/plain"], name, _line) for name in LINES),
    ]


class _RecordFormatter:
    """Shows records with the names of agents and threads, unless the Piano is closed."""

    def __init__(self, session: "Session") -> None:
        self._session = session

    def show_card(self, record: Any) -> None:
        from piano_jupyter.jupyter.render import cards  # noqa: PLC0415  Slow to import.

        kind = type(record).__name__
        names: tuple[Any, ...] = (self._names(),) if kind in {"Thread", "Job"} else ()
        names = (self._answering_model(record.model),) if kind == "Agent" else names
        display(getattr(cards, f"{kind.lower()}_card")(record, *names))

    def _answering_model(self, model: str) -> str:
        async def read(piano: "Piano") -> str:
            return piano.answering_model(model)

        with contextlib.suppress(PianoError):
            return self._session.call(read)
        return ""

    def _names(self) -> dict[Any, str]:
        async def read(piano: "Piano") -> dict[Any, str]:
            threads = {thread.id: thread.title for thread in await piano.threads()}
            return threads | {agent.id: agent.name for agent in await piano.agents(deleted=True)}

        with contextlib.suppress(PianoError):  # a record outlives its chat
            return self._session.call(read)
        return {}

    def show_message(self, message: "Message") -> None:
        from piano_jupyter.jupyter.render import transcript  # noqa: PLC0415
        from piano_jupyter.jupyter.render.attachments import MAX_SHOWN_BYTES  # noqa: PLC0415

        if message.id in self._session.shown:
            return

        async def read(piano: "Piano") -> "tuple[dict[Any, str], list[Any], Message]":
            [shown] = await piano.with_content([message], MAX_SHOWN_BYTES)
            names = {agent.id: agent.name for agent in await piano.agents(deleted=True)}
            if message.job_id is None:
                return names, [], shown
            thread = await piano.find_thread(message.thread_id)
            message_ids = {
                each.id for each in await piano.messages(thread, at=message) if each.job_id == message.job_id
            }
            calls = [call for call in await piano.tool_calls(thread) if call.message_id in message_ids]
            return names, await piano.with_content(calls, MAX_SHOWN_BYTES), shown

        names: dict[Any, str] = {}
        calls: list[Any] = []
        shown = message
        with contextlib.suppress(PianoError):
            names, calls, shown = self._session.call(read)
        bundle = transcript.answer_bundle(shown, transcript.speaker(message, names), calls)
        display(bundle, raw=True, metadata=transcript.ANSWER if message.role == "assistant" else {})


def _line(record: Any, printer: Any, _cycle: bool) -> None:  # noqa: FBT001  IPython's signature.
    from piano_jupyter.jupyter.render import record_lines  # noqa: PLC0415

    printer.text(record_lines.record_line(record))


def _plain_rows(rows: "Rows", printer: Any, _cycle: bool) -> None:  # noqa: FBT001  IPython's signature.
    from piano_jupyter.jupyter.render import tables  # noqa: PLC0415

    printer.text(tables.rows_plain(rows))


def _html_rows(rows: "Rows") -> str:
    from piano_jupyter.jupyter.render import tables  # noqa: PLC0415

    return tables.html_table(rows.columns, rows)

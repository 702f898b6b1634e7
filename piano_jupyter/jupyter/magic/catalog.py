"""COMMANDS: the sub-commands of %piano, in the order of `%piano help`."""

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from piano_jupyter.errors import NotFoundError
from piano_jupyter.jupyter.magic.command import Command
from piano_jupyter.jupyter.magic.commands import (
    agents,
    ask,
    batch_commands,
    copies,
    failed_cells,
    history,
    import_export,
    mcp_servers_command,
    models,
    queue,
    status,
)
from piano_jupyter.jupyter.magic.manual import ManualPage, topics
from piano_jupyter.jupyter.render.tables import Note, RecordTable
from piano_jupyter.jupyter.session import Session

MAX_USAGE_CHARS = 60  # in the list of sub-commands
TOPICS_IN_A_ROW = 8  # of the manual, there
HEADINGS = ("%piano", "takes", "what it does")
CELL_ROW = ("%%piano", "[@AGENT …] [options]", "Ask the text of the cell; {{name}} inserts your variable.")


def _in_rows(names: Sequence[str]) -> list[Sequence[str]]:
    return [names[at : at + TOPICS_IN_A_ROW] for at in range(0, len(names), TOPICS_IN_A_ROW)]


def help_(_session: Session, text: str) -> Any:
    """List the sub-commands, explain one (as --help after it does), or show a page of the manual."""
    if text in COMMANDS:
        return Note(COMMANDS[text].explanation)
    if text in topics():
        return ManualPage(text)
    if text:
        raise NotFoundError.among("sub-command or topic", text, [*COMMANDS, *topics()])
    rows = [
        (name, each.usage if len(each.usage) < MAX_USAGE_CHARS else f"{each.takes} [options]", each.summary)
        for name, each in COMMANDS.items()
    ]
    pages = [", ".join(each) for each in _in_rows(topics())]
    manual = [("help", "TOPIC", f"Manual: {each}") for each in pages]
    return RecordTable([CELL_ROW, *rows, *manual], "", **{head: itemgetter(at) for at, head in enumerate(HEADINGS)})


ALL = [
    Command(
        ask.ask,
        "[@AGENT …] [--thread THREAD] [--model MODEL] [--json SCHEMA] [--into NAME] [--no-wait] [--raw]"
        " [--map FRAME] [--limit N] [--name BATCH] TEXT",
        "@ada @bob --thread Sales what do these figures say?",
        cell="your question; {{name}} inserts your variable",
    ),
    Command(
        ask.send,
        "[@AGENT …] [--thread THREAD] [--model MODEL] [--json SCHEMA] TEXT",
        "@ada read the report and sum it up",
        cell="your question",
    ),
    Command(ask.wait, "[JOB]", "3fa9c1"),
    Command(ask.panel, "[THREAD] [--side]", "Sales"),
    Command(failed_cells.explain, "[@AGENT …] [--of N]", "@ada"),
    Command(failed_cells.fix, "[@AGENT]", "@ada"),
    Command(history.fork, "[MESSAGE] [--title TITLE]", '3fa9c1 --title "Another way"'),
    Command(ask.edit, "MESSAGE TEXT", "3fa9c1 and in Spain?", cell="the new text, after a first line with MESSAGE"),
    Command(ask.regenerate, "[MESSAGE]"),
    Command(history.threads, "[--all] [--here] [--archived] [--purge] [--yes]", "--all"),
    Command(history.thread, "[THREAD] [--new] [--rename TITLE] [--archive] [--delete] [--yes]", "--new Sales review"),
    Command(history.history, "[THREAD] [--last N] [--at MESSAGE] [--ids]", "--last 10 --ids"),
    Command(history.search, "WORDS [--limit N]", "quarterly revenue --limit 5"),
    Command(agents.agents),
    Command(
        agents.agent,
        "AGENT [--model MODEL] [--system PROMPT] [--system-file FILE] [--description LINE] [--tools TOOL,…]"
        " [--skills SKILL,…] [--temperature NUMBER] [--option NAME=VALUE,…] [--max-iterations N]"
        " [--rename NAME] [--delete] [--yes]",
        agents.EXAMPLE,
        cell="the system prompt",
    ),
    Command(agents.tools),
    Command(agents.skills, "[SKILL]", "sql-with-duckdb"),
    Command(mcp_servers_command.mcp, "[trust|SERVER] [--restart SERVER] [--yes]", "--restart github"),
    Command(models.models, "[--load MODEL] [--unload MODEL|all]", "--load qwen3:8b"),
    Command(models.stats, "[--by agent|model|day|batch] [--plot]", "--by model --plot"),
    Command(batch_commands.batches),
    Command(
        batch_commands.batch,
        "BATCH [--cancel] [--retry] [--export FILE] [--delete] [--yes]",
        "reviews-3fa9 --retry",
    ),
    Command(queue.queue, "[--all]", "--all"),
    Command(queue.resume, "[JOB]"),
    Command(queue.cancel, "JOB", "3fa9c1"),
    Command(queue.retry, "JOB", "3fa9c1"),
    Command(queue.approve, "[CALL] [--always]", "3fa9c1 --always"),
    Command(queue.deny, "[CALL] [--always]", "3fa9c1"),
    Command(queue.stop),
    Command(queue.start),
    Command(status.status, "[--all]", "--all"),
    Command(status.trust),
    Command(status.sql, "SELECT …", "SELECT role, count(*) FROM messages GROUP BY role", cell="the query"),
    Command(status.events, "[--last N]", "--last 20"),
    Command(help_, "[SUB-COMMAND|TOPIC]", "trouble"),
    Command(
        import_export.export,
        "FILE [--thread THREAD] [--format md|html|ipynb|jsonl] [--force]",
        "review.md --thread Sales",
    ),
    Command(import_export.import_, "FILE [--title TITLE]", 'talk.jsonl --title "An old talk"'),
    Command(copies.backup, "[FILE]", "~/piano-2026.duckdb"),
    Command(copies.restore, "[FILE] [--yes]", "2026-11-30.duckdb"),
    Command(import_export.record, "[FILE] [--stop] [--force]", "talk.jsonl"),
    Command(import_export.replay, "[FILE] [--stop]", "talk.jsonl"),
]
COMMANDS = {each.name: each for each in ALL}

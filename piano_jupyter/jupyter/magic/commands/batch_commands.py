"""%piano batches, batch: the questions that are asked about each row of a table."""

from typing import TYPE_CHECKING, Any

from piano_jupyter.batch_records import Batch
from piano_jupyter.errors import PianoError
from piano_jupyter.jupyter.magic.command import required
from piano_jupyter.jupyter.magic.confirmation import UNCHANGED, confirmed
from piano_jupyter.jupyter.render.batch_tables import MANY_EVENTS_COUNT, batch_card, batches_table, latest_progress
from piano_jupyter.jupyter.render.tables import Note, counted
from piano_jupyter.jupyter.session import Session

if TYPE_CHECKING:
    from piano_jupyter.piano import Piano

ERRORS_QUERY = """
SELECT error, count(*) FROM batch_answers WHERE batch_id = '{}' AND error IS NOT NULL
GROUP BY error ORDER BY count(*) DESC, error
"""


async def batches(piano: "Piano") -> Any:
    """List the batches, newest first: rows that are done and that failed, the speed and the time that is left.

    A batch asks about each row of a table: %%piano --map FRAME. Those of all notebooks that share the history are
    listed; %piano help ask-a-table has more.
    """
    found = await piano.batches()
    progress = latest_progress(piano.recent_events(MANY_EVENTS_COUNT))
    return batches_table(found[::-1], progress, piano.notebook)


def batch(
    session: Session,
    text: str,
    *,
    cancel: bool = False,
    retry: bool = False,
    export: str | None = None,
    delete: bool = False,
    yes: bool = False,
) -> Any:
    """Show a batch: its question, who answers, how far it is, and which errors there were.

    --cancel ends it in whichever notebook it runs, and keeps what was answered. --retry forgets its errors, so that the
    next run asks those rows again. --export writes what was asked and answered to a new Parquet file. --delete deletes
    it with its answers, once you have said so.
    """
    name = required("batch", text, "%piano batch reviews (%piano batches lists them)")
    given = {"--cancel": cancel, "--retry": retry, "--export": export is not None, "--delete": delete}
    if sum(given.values()) > 1:
        wanted = " and ".join(option for option, is_given in given.items() if is_given)
        raise PianoError(f"{wanted} do not go together; give one of them")
    found = session.call(lambda piano: piano.batch(name))
    if cancel:
        return Note(_status_line(session.call(lambda piano: piano.cancel_batch(found.name))))
    if retry:
        session.call(lambda piano: piano.retry_batch(found.name))
        return Note(f"{counted(found.failed, 'row')} that failed will be asked again when you run the batch again")
    if export is not None:
        return _export(session, found, export)
    return _delete(session, found, yes=yes) if delete else _card(session, found)


def _status_line(found: Batch) -> str:
    return f"batch {found.name} is {found.status}: {found.done:,} of {counted(found.row_count, 'row')} answered"


def _export(session: Session, found: Batch, file: str) -> Note:
    """Write the answers of a batch to a Parquet file."""
    rows = session.call(lambda piano: piano.export_batch(found.name, file))
    return Note(f"exported {counted(rows, 'row')} of {found.name} to {file}")


def _delete(session: Session, found: Batch, *, yes: bool) -> Note:
    """Delete a batch, once the user has said so."""
    told = f"the batch {found.name!r} with {counted(found.done + found.failed, 'answer')}"
    if not confirmed(session, f"Delete {told} from the history and its copies, for good?", yes=yes):
        return Note(UNCHANGED)
    left = session.call(lambda piano: piano.delete_batch(found.name))
    return Note("\n".join([f"{told} is deleted", *left]))


def _card(session: Session, found: Batch) -> Any:
    async def read(piano: "Piano") -> Any:
        errors = await piano.sql(ERRORS_QUERY.format(found.id)) if found.failed else []
        progress = latest_progress(piano.recent_events(MANY_EVENTS_COUNT)).get(found.id)
        return batch_card(found, progress, [(str(why), int(count)) for why, count in errors])

    return session.call(read)

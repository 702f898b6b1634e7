"""%piano backup, restore: copies of the history."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from piano_jupyter.jupyter.magic.confirmation import UNCHANGED, confirmed
from piano_jupyter.jupyter.render.tables import Note, RecordTable
from piano_jupyter.jupyter.session import Session
from piano_jupyter.records import Backup

if TYPE_CHECKING:
    from piano_jupyter.piano import Piano


async def backup(piano: "Piano", text: str) -> Any:
    """Copy the history to a file, or into its backup folder; work goes on meanwhile.

    A copy of each day on which something changed is made by itself, and kept for a week: %piano restore lists them.
    """
    return Note(f"the history is copied to {await piano.backup(text or None)}")


def restore(session: Session, text: str, *, yes: bool = False) -> Any:
    """List the copies of the history, or go on with one; what is there now is put aside, never overwritten.

    A copy is named as it is listed, or as a file. It works where the history cannot be opened, too.
    """
    copies = session.loop.run(session.backups())
    if not text:
        return RecordTable(
            copies,
            "no copy has been made yet; %piano backup makes one",
            copy=lambda each: Path(each.file).name,
            made=lambda each: f"{each.made_at:%Y-%m-%d %H:%M}",
            MB=lambda each: f"{each.size / 1e6:,.1f}",
            what=lambda each: each.about,
        )
    known = {name: each.file for each in copies for name in _names(each)}
    file = known.get(text, text)
    if not confirmed(session, f"Put the present history aside and go on with {file}?", yes=yes):
        return Note(UNCHANGED)
    aside = session.loop.run(session.restore(file))
    kept = f"; what was there before is in {aside}" if aside else ""
    return Note(f"the history is that of {file}{kept}")


def _names(copy: Backup) -> tuple[str, str]:
    name = Path(copy.file).name
    return name, name.removesuffix(".duckdb")

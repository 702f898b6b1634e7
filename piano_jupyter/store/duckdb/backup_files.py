"""The folder of a database's copies: what they are called, which of them stay, and how one takes the file's place.

A database's own folder has them in `.piano/backup/`, any other file in `FILE.backup/`. It holds a copy of each of the
last days on which something changed, one from before each upgrade of the tables, and what a restore has put aside.
Everything here is done by name, to files that no DuckDB of this process has open.
"""

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from piano_jupyter.records import Backup
from piano_jupyter.store.duckdb.database_file import whole_path
from piano_jupyter.store.duckdb.file_access import ignore_in_git, is_in_own_folder
from piano_jupyter.store.duckdb.file_format import BLOCKS_START

DAY_S = 86_400.0
KEPT_DAYS = 7
MAX_TOTAL_BYTES = 1_000_000_000
MAX_BYTES_AT_CLOSE = 64_000_000  #: of a file that is copied while it is closed: a larger one would delay the exit
MEMORY = ":memory:"
OWN_NAME = "piano.duckdb"
UNFINISHED = ".new-"
OF_A_DAY = "of that day"
KINDS = {
    re.compile(r"\d{4}-\d\d-\d\d\.duckdb"): OF_A_DAY,
    re.compile(r"before-\d+-.*\.duckdb"): "before an upgrade of the tables",
    re.compile(r"replaced-.*\.duckdb"): "put aside by a restore",
}
KINDS_BESIDE = {
    re.compile(r"piano-recovered-.*\.duckdb"): "saved when the file was deleted or moved",
    re.compile(r".*\.damaged-[\d-]+"): "as it was found damaged",
}
STAYS = "replaced-"  #: what only the user removes: nothing else has it


def backup_folder(real: str) -> Path:
    """Return where the copies of a database are, by its real path."""
    path = Path(real)
    return path.parent / "backup" if is_in_own_folder(real) and path.name == OWN_NAME else Path(f"{real}.backup")


def backups(path: str) -> list[Backup]:
    """Return the copies of a database, newest first."""
    real = os.path.realpath(whole_path(path)) if path != MEMORY else ""
    found = [(each, about) for each in _files(real) if (about := _about(each))] if real else []
    found += [(each, _about(each, KINDS_BESIDE)) for each in (*recovered(real), *damaged(real))] if real else []
    listed = [
        Backup(
            file=str(each),
            made_at=datetime.fromtimestamp(each.stat().st_mtime, UTC),
            size=each.stat().st_size,
            about=about,
        )
        for each, about in found
    ]
    return sorted(listed, key=lambda each: each.made_at, reverse=True)


def copies_of(real: str) -> list[Path]:
    """Return all files that may hold a history of this database, but for itself and those that are damaged.

    What was saved of a lost file may be of another database in the folder, and has a folder of copies itself.
    """
    saved = recovered(real)
    folders = [backup_folder(real), *(backup_folder(str(each)) for each in saved)]
    if _is_recovered(real):  # then the copies were made for the file that was lost
        folders += [Path(real).parent / "backup", *Path(real).parent.glob("*.backup")]
    copies = [each for folder in folders for each in _regular(folder) if each.suffix == ".duckdb"]
    return sorted({*copies, *saved})


def recovered(real: str) -> list[Path]:
    """Return what was saved when the file of a database in this folder was lost, but for the file itself."""
    files = _regular(Path(real).parent)
    return sorted(each for each in files if _is_recovered(str(each)) and str(each) != real)


def damaged(real: str) -> list[Path]:
    """Return the damaged files that were kept when this database, or one that was lost in its folder, was recovered."""
    name = r"[^/]+" if _is_recovered(real) else rf"({re.escape(Path(real).name)}|piano-recovered-[^/]*\.duckdb)"
    kept = [each for each in _regular(Path(real).parent) if re.fullmatch(rf"{name}\.damaged-[\d-]+", each.name)]
    return sorted(each for each in kept if each.stat().st_size > BLOCKS_START or os.path.lexists(f"{each}.wal"))


def is_due(real: str, now: float, older_than_s: float) -> bool:
    """Return whether something changed since the newest copy of a day, and that is older than so many seconds."""
    copy = newest_daily(real, now)
    newest = copy.stat().st_mtime if copy else 0.0
    changed = max((each.stat().st_mtime for each in (Path(real), Path(f"{real}.wal")) if each.exists()), default=0.0)
    return changed > newest and now - newest >= older_than_s


def newest_daily(real: str, now: float) -> Path | None:
    """Return the newest copy of a day, but for those that a wrong clock has dated into the future."""
    files = [each for each in _files(real) if _about(each) == OF_A_DAY]
    daily = [each for each in files if each.stat().st_mtime <= now]
    return max(daily, key=lambda each: each.stat().st_mtime, default=None)


def day_name(now: float) -> str:
    """Return what the copy of a day is called."""
    return f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d}.duckdb"


def moment(now: float) -> str:
    """Return a moment as it stands in the name of a file."""
    return f"{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}"


def prune(real: str, now: float) -> None:
    """Remove copies that are older than a week, and the oldest while they take more than a gigabyte.

    The newest stays, and so does what a restore has put aside.
    """
    files = [each for each in _files(real) if _about(each) and not each.name.startswith(STAYS)]
    total, is_full = 0, False
    for at, each in enumerate(sorted(files, key=lambda each: each.stat().st_mtime, reverse=True)):
        about = each.stat()
        total += about.st_size
        is_full |= total > MAX_TOTAL_BYTES  # then those that are older go as well
        if at and (is_full or now - about.st_mtime > KEPT_DAYS * DAY_S):
            remove(each)


def clear_unfinished(real: str) -> None:
    """Remove what a killed process was copying. Call it only with the lock."""
    for each in backup_folder(real).glob(f"{UNFINISHED}*"):
        with contextlib.suppress(OSError):
            each.unlink()


def new_name(real: str) -> Path:
    """Return a name in the folder for a copy that is to be made; `clear_unfinished` knows it by that."""
    folder = backup_folder(real)
    folder.mkdir(mode=0o700, exist_ok=True)
    if not is_in_own_folder(real):
        ignore_in_git(folder)
    return folder / f"{UNFINISHED}{secrets.token_hex(6)}.duckdb"


def remove(copy: Path) -> None:
    """Remove a copy with its log, as far as it is there."""
    for each in (copy, Path(f"{copy}.wal")):
        each.unlink(missing_ok=True)


@contextmanager
def unfinished(real: str) -> Iterator[Path]:
    """Give a name in the folder for a copy to be made; what is there in the end and was not renamed is removed."""
    made = new_name(real)
    try:
        yield made
    finally:
        remove(made)


def finish(made: Path, name: Path, time: float) -> None:
    """Put a copy in its place, as it was at a time: whole, and on the disk."""
    made.chmod(0o600)
    os.utime(made, (time, time))
    _sync(made)
    made.replace(name)
    _sync(name.parent)


def copy_closed(real: str, name: str, now: float) -> str:
    """Copy a database that nobody has open, with its log; return the copy's path. Raises OSError."""
    with unfinished(real) as made:
        target = backup_folder(real) / name
        shutil.copyfile(real, made)
        if os.path.lexists(f"{real}.wal"):
            shutil.copyfile(f"{real}.wal", f"{made}.wal")
            finish(Path(f"{made}.wal"), Path(f"{target}.wal"), now)
        finish(made, target, now)
    return str(target)


def replace_closed(real: str, by: Path, now: float) -> Path | None:
    """Put a database aside, with its log, and another file in its place; return where the old one is. Raises OSError.

    At no moment is there neither: what is put aside has two names until the new file has the place.
    """
    aside = backup_folder(real) / f"{STAYS}{moment(now)}.duckdb"
    number = 1
    while os.path.lexists(aside):
        number += 1
        aside = aside.with_name(f"{STAYS}{moment(now)}-{number}.duckdb")
    for old, new in ((real, str(aside)), (f"{real}.wal", f"{aside}.wal")):
        if os.path.lexists(old):
            _second_name(old, new)
    _sync(aside.parent)
    Path(f"{real}.wal").unlink(missing_ok=True)  # it would be taken for the new file's
    finish(by, Path(real), now)
    return aside if aside.exists() else None


def _second_name(old: str, new: str) -> None:
    try:
        os.link(old, new)
    except OSError:  # a file system without hard links
        shutil.copyfile(old, new)
        _sync(Path(new))


def orphaned_logs(real: str) -> list[Path]:
    """Return the logs that were left when this database, or one that was lost in its folder, was deleted or moved."""
    beginning = "" if _is_recovered(real) else f"{Path(real).name}.damaged-"
    logs = [each for each in _regular(Path(real).parent) if re.fullmatch(rf"{re.escape(beginning)}.*\.wal", each.name)]
    return sorted(each for each in logs if not os.path.lexists(each.with_suffix("")))


def _files(path: str) -> list[Path]:
    return _regular(backup_folder(os.path.realpath(path)))


def _is_recovered(path: str) -> bool:
    return Path(path).name.startswith("piano-recovered-") and path.endswith(".duckdb")


def _regular(folder: Path) -> list[Path]:
    """Return the files of a folder, but no links; none if it cannot be read."""
    with contextlib.suppress(OSError):
        return [each for each in folder.iterdir() if not each.is_symlink() and each.is_file()]
    return []


def _about(file: Path, kinds: Mapping[re.Pattern[str], str] = KINDS) -> str:
    return next((about for name, about in kinds.items() if name.fullmatch(file.name)), "")


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)

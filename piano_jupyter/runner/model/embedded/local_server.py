"""The embedded model: a llama.cpp server in its own process, with a small model that is downloaded once.

Only this machine can reach it, and only with its key. It ends when this process ends, however that happens.
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
    megabytes,
)

SERVER_SCRIPT = Path(__file__).with_name("local_server_main.py")
MAX_ANSWER_TOKENS = 512  #: if a request sets no max_tokens: a small model may repeat itself forever


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """The address of a model's server; `model` and `note` are for people."""

    url: str  #: ends in /v1
    api_key: str = field(default="", repr=False)
    model: str | None = None
    note: str = ""


def installed() -> bool:
    """Return whether the extra `[local]` is installed."""
    return importlib.util.find_spec("xllamacpp") is not None


class LocalServer:
    """Runs the embedded model: starts it when it is first needed, and again if it died.

    `gguf` is another model's file; without it, `weights` are downloaded to `folder` (default: the user's cache).
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
        self.alias = alias or (gguf.stem if gguf else weights.name)
        self._lock = threading.Lock()
        self._current_run: _ServerRun | None = None

    async def start(self, progress: Progress) -> Endpoint:
        """Return its address; start it first if it does not run. Concurrent callers share one start.

        Raises ModelUnavailableError.
        """
        loop = asyncio.get_running_loop()

        def report(line: str, fraction: float | None) -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(progress, line, fraction)

        with self._lock:
            run = self._current_run
            if run is not None and run.alive:
                run.listeners.append(report)
            else:
                run = self._current_run = _ServerRun(report)
                # Not an executor: Python waits for its threads at exit, and a download takes minutes.
                threading.Thread(
                    target=self._run_in_thread, args=(run,), name="piano-local-server", daemon=True
                ).start()
        try:
            return await asyncio.shield(asyncio.wrap_future(run.endpoint))
        finally:
            run.listeners.remove(report)

    def stop(self) -> None:
        """Stop the server, or its start, at once."""
        with self._lock:
            run, self._current_run = self._current_run, None
        if run is not None:
            run.terminate()

    def _run_in_thread(self, run: "_ServerRun") -> None:
        try:
            run.endpoint.set_result(self._start_server(run))
        except Exception as error:  # noqa: BLE001  Raised where the endpoint is awaited.
            problem: Exception = error
            if run.stopped:
                problem = ModelUnavailableError(f"{self.alias} was stopped while it started")
            elif isinstance(error, OSError):
                problem = ModelUnavailableError(f"{self.alias} could not be started: {error}")
            run.terminate()
            run.endpoint.set_exception(problem)

    def _start_server(self, run: "_ServerRun") -> Endpoint:
        if not installed():
            raise ModelUnavailableError("the embedded model is not installed: pip install 'piano_jupyter[local]'")
        gguf = self._gguf or fetch(self._weights, self._folder or cache_folder(), run.report, spawn=run.spawn)
        run.report(f"starting {self.alias}", None)
        key = secrets.token_urlsafe(32)
        url = self._spawn_server(
            run,
            gguf=str(gguf),
            alias=self.alias,
            key=key,
            context=self._context,
            max_answer_tokens=MAX_ANSWER_TOKENS,
            parent=os.getpid(),
        )
        size = megabytes(gguf.stat().st_size) if self._gguf else self._weights.size
        note = f"{self.alias}, a small model ({size}), runs on this computer"
        return Endpoint(url=f"{url}/v1", api_key=key, model=self.alias, note=note)

    def _spawn_server(self, run: "_ServerRun", **settings: str | int) -> str:
        """Start the process and return its address. The key is sent on stdin: other users can read arguments."""
        timed_out = threading.Event()
        with tempfile.TemporaryFile() as log:
            server = run.spawn(
                [
                    sys.executable,
                    "-P",
                    str(SERVER_SCRIPT),
                ],  # -P: modules in the user's folder must not shadow libraries
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                # Waiting threads sleep: spinning ones starve each other on a busy machine.
                env={**os.environ, **SYSTEM_PATH, "OMP_WAIT_POLICY": "passive"},
            )
            assert server.stdin
            assert server.stdout

            def give_up() -> None:
                timed_out.set()
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
            if timed_out.is_set():
                raise ModelUnavailableError(f"{self.alias} did not start within {self._start_timeout:g} seconds")
            raise ModelUnavailableError(
                f"{self.alias} did not start: {_error_in_log(log) or f'exit {server.returncode}'}"
            )


class _ServerRun:
    """One run of the server: its process (pip during the download), and its endpoint once it answers."""

    def __init__(self, listener: Progress) -> None:
        self.endpoint: Future[Endpoint] = Future()
        self.listeners = [listener]
        self.stopped = False
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    @property
    def alive(self) -> bool:
        """Whether it is starting or running."""
        if self.stopped or not self.endpoint.done():
            return not self.stopped
        if self._process is not None and self._process.poll() is None:
            return True
        self.terminate()
        return False

    def report(self, line: str, fraction: float | None) -> None:
        for listener in tuple(self.listeners):
            listener(line, fraction)

    def spawn(self, command: list[str], **options: Any) -> "subprocess.Popen[bytes]":
        # Ctrl-C and the kernel's interrupt go to the whole process group, and must not stop these.
        own_group = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
        with self._lock:
            if self.stopped:
                raise ModelUnavailableError("stopped")
            self._process = subprocess.Popen(  # noqa: S603  Only our own commands.
                command, start_new_session=True, creationflags=own_group, **options
            )
            return self._process

    def terminate(self) -> None:
        with self._lock:
            self.stopped = True
            process = self._process
            if process is None:
                return
            if process.stdin:
                with suppress(OSError, subprocess.TimeoutExpired):
                    process.stdin.close()  # tells the server to stop
                    process.wait(timeout=0.3)  # not noticed while it loads
            process.kill()
            process.wait()


def _error_in_log(log: IO[bytes]) -> str:
    """Return the first error that llama.cpp logged, or else the last line that Python wrote."""
    log.seek(0)
    text = log.read().decode(errors="replace").strip()
    first = re.search(r"^[\d.]+ E (.+)$", text, re.MULTILINE)
    return first[1] if first else text.rpartition("\n")[2]

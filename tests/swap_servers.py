"""llama-swap in front of two tiny models: the fixture `swap_server`, over the stand-in and over the real one.

A folder's conftest takes it by `from swap_servers import start_swap, swap_server`. The real one is `llama-swap` on the
path, or `$PIANO_LLAMA_SWAP`; its tests are skipped where it is not there, and fail under `PIANO_NEED_LLAMA_SWAP=1`.
"""

import contextlib
import http.client
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

HERE = Path(__file__).parent
KINDS = ("stand-in", "llama-swap")
START = 20  # seconds that it may take
SAYS = {"tiny-a": "This is the first of two.", "tiny-b": "And here the second one speaks."}


def swap_command(kind):
    """Return the command that starts a llama-swap of this kind, and None with the reason where it is not there."""
    if kind == "stand-in":
        return [sys.executable, str(HERE / "stand_in_swap.py")], ""
    found = os.environ.get("PIANO_LLAMA_SWAP") or shutil.which("llama-swap", path=_path())
    return ([found], "") if found else (None, "llama-swap is not there: put it on the path, or set PIANO_LLAMA_SWAP")


def model_command(gguf, name, *more):
    """Return the `cmd` of a model: a real llama.cpp server at llama-swap's port."""
    tiny = str(HERE / "tiny_server.py")
    words = [sys.executable, "-P", tiny, str(gguf), name, *map(str, more)]
    return f"{shlex.join(words)} ${{PORT}}"


@dataclass
class SwapServer:
    """A llama-swap that runs, and what its own events have told."""

    command: list
    config: dict
    folder: Path
    models: tuple = tuple(SAYS)  #: the two that can be asked
    kind: str = ""
    key: str = ""
    port: int = 0
    process: subprocess.Popen | None = None
    states: dict = field(default_factory=dict)  #: by model, from the events
    history: list = field(default_factory=list)  #: the models in the order in which they were started

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self):
        """Start it, and follow its events."""
        self.port, first = free_ports(1 + len(self.config["models"]))
        config = self.folder / "llama-swap.yaml"
        config.write_text(yaml.safe_dump({**self.config, "startPort": first}))
        log = (self.folder / "llama-swap.log").open("ab")
        self.process = subprocess.Popen(
            [*self.command, "--config", str(config), "--listen", f"127.0.0.1:{self.port}"], stdout=log, stderr=log
        )
        log.close()
        late = time.monotonic() + START
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > late:
                raise RuntimeError(f"{self.command[0]} did not start; see {self.folder / 'llama-swap.log'}")
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.02)
        self._told = threading.Condition()
        self._following = threading.Thread(target=self._follow, daemon=True)
        self._following.start()
        with self._told:
            self._told.wait_for(lambda: self.states, START)
        return self

    def stop(self):
        """End it, with the models that it has started."""
        self.process.terminate()
        try:
            self.process.wait(START)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._following.join()

    def restart(self):
        """Stop it and start it again, at another port."""
        self.stop()
        self.states, self.history = {}, []
        return self.start()

    def reset(self):
        """Unload all models and count from nought."""
        self.ask("POST", "/api/models/unload")
        self.settle()
        self.history.clear()

    def swaps(self):
        """Return how often one model made room for another, by llama-swap's own events."""
        self.settle()
        return sum(one != other for one, other in zip(self.history, self.history[1:], strict=False))

    def settle(self):
        """Return when the events have told what is."""
        with self._told:
            assert self._told.wait_for(self._is_told, START), "the events do not tell what runs"

    def ask(self, method, path, body=None):
        """Return the status and the text of one request."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body, method=method)
        if self.key:
            request.add_header("Authorization", f"Bearer {self.key}")
        try:
            with urllib.request.urlopen(request, timeout=START) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def _is_told(self):
        running = {each["model"]: each["state"] for each in json.loads(self.ask("GET", "/running")[1])["running"]}
        return running == {model: state for model, state in self.states.items() if state != "stopped"}

    def _answers(self):
        with contextlib.suppress(OSError):
            return self.ask("GET", "/health")[0] == 200
        return False

    def _follow(self):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/api/events")
        request.add_header("Authorization", f"Bearer {self.key}")
        with contextlib.suppress(OSError, http.client.HTTPException), urllib.request.urlopen(request) as events:
            for line in events:
                event = json.loads(line.removeprefix(b"data:")) if line.startswith(b"data:") else {}
                if event.get("type") == "modelStatus":
                    self._hear({each["id"]: each["state"] for each in json.loads(event["data"])})

    def _hear(self, states):
        with self._told:
            here = {model for model, state in states.items() if state in {"starting", "ready"}}
            was = {model for model, state in self.states.items() if state in {"starting", "ready"}}
            self.history.extend(sorted(here - was))
            self.states = states
            self._told.notify_all()


def free_ports(count):
    """Return a port, and the first of `count` more in a row, that nobody has now."""
    while True:
        with contextlib.ExitStack() as held, contextlib.suppress(OSError, OverflowError):
            first = held.enter_context(socket.socket())
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            for place in range(1, count + 1):
                held.enter_context(socket.socket()).bind(("127.0.0.1", port + place))
            return port, port + 1


def serve(kind, folder, models, **settings):
    """Return a SwapServer over these models (name to settings, with `cmd`), not started yet; None with the reason."""
    command, reason = swap_command(kind)
    if command is None:
        return None, reason
    for model in models.values():
        model.setdefault("proxy", "http://127.0.0.1:${PORT}")
    return SwapServer(
        command, {"models": models, **settings}, folder, kind=kind, key=settings.get("apiKeys", [""])[0]
    ), ""


@pytest.fixture(scope="session")
def start_swap(llama_cpp, tmp_path_factory):
    """Start a llama-swap: `start_swap(kind, {"m": {"cmd": …}}, apiKeys=[…])`."""
    with contextlib.ExitStack() as running:

        def start(kind, models, **settings):
            server, reason = serve(kind, tmp_path_factory.mktemp("swap"), models, **settings)
            if server is None and os.environ.get("PIANO_NEED_LLAMA_SWAP") == "1":
                pytest.fail(reason)
            if server is None:
                pytest.skip(reason)
            server.start()
            running.callback(server.stop)
            return server

        yield start


@pytest.fixture(scope="session")
def swap_models(tiny, tmp_path_factory):
    """The settings of the two tiny models; the second one has an alias."""
    folder = tmp_path_factory.mktemp("models")
    models = {}
    for seed, (name, says) in enumerate(SAYS.items()):
        gguf = tiny.write_tiny_gguf(folder / f"{name}.gguf", seed=seed, says=says)
        models[name] = {"cmd": model_command(gguf, name)}
    models["tiny-b"] |= {"aliases": ["tiny-bee"], "description": "the second one"}
    return models


@pytest.fixture(scope="session", params=KINDS)
def swap_server(request, start_swap, swap_models):
    """A llama-swap in front of two tiny models, one loaded at a time."""
    return start_swap(request.param, swap_models)


def _path():
    """Where programs are: those of the environment of this Python too."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])

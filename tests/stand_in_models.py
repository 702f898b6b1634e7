"""The models behind the stand-in for llama-swap: one process at a time, and the line of those that wait for theirs."""

import contextlib
import http.client
import json
import queue
import shlex
import subprocess
import threading
import time
from collections import deque

MOST_REQUESTS = 10  # of one model, those that wait included
KINDS = {
    401: ("authentication_error", "unauthorized"),
    404: ("invalid_request_error", "not_found"),
    429: ("rate_limit_error", "concurrency_limit"),
}


class Refusal(Exception):  # noqa: N818  It is an answer.
    """An answer that is an error, in llama-swap's envelope."""

    def __init__(self, status, message, **headers):
        super().__init__(message)
        kind, code = KINDS.get(status, ("server_error", "internal_error"))
        error = {"message": message, "type": kind, "param": None, "code": code}
        self.status, self.headers = status, headers
        self.body = json.dumps({"src": "llama-swap", "error": error}).encode()


class Gone(Exception):  # noqa: N818
    """The client went away while it waited."""


class Served:
    """One model of the configuration, and its process while it is loaded."""

    def __init__(self, name, settings, port):
        self.name, self.port = name, port
        self.command = shlex.split(settings["cmd"].replace("${PORT}", str(port)))
        self.aliases = settings.get("aliases", [])
        self.description = settings.get("description", "")
        self.limit = settings.get("concurrencyLimit") or MOST_REQUESTS
        self.state, self.process, self.context = "stopped", None, None
        self.asked = 0  #: requests that wait for it or are answered by it
        self.answering = 0

    def get(self, path):
        """Return the JSON at a path of the model's server, None if it does not answer (yet)."""
        try:
            upstream = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            upstream.request("GET", path)
            answer = upstream.getresponse()
            body = answer.read()
            upstream.close()
            return json.loads(body) if answer.status == 200 else None
        except (OSError, ValueError):
            return None


class Swapper:
    """Which model is loaded, who waits, and who hears of it. One lock over all."""

    def __init__(self, config):
        first = config.get("startPort", 5800)
        self.models = {
            name: Served(name, settings, first + place)
            for place, (name, settings) in enumerate(sorted(config["models"].items()))
        }
        self.names = {alias: name for name, model in self.models.items() for alias in (name, *model.aliases)}
        self.keys = config.get("apiKeys", [])
        self.tells_loading = config.get("sendLoadingState", False)
        self.start_timeout = config.get("healthCheckTimeout", 120)
        self.changed = threading.Condition(threading.RLock())
        self.swapping = False
        self.line = deque()  #: the requests that wait, in order
        self.listeners = []

    def named(self, name, missing="no router for requested model"):
        if name not in self.names:
            raise Refusal(404, missing)
        return self.models[self.names[name]]

    def running(self):
        return [model for model in self.models.values() if model.state != "stopped"]

    def status(self):
        """Return the event that tells the state of all models."""
        told = [
            {
                "id": model.name,
                "name": "",
                "description": model.description,
                "state": model.state,
                "unlisted": False,
                "peerID": "",
                **({"aliases": model.aliases} if model.aliases else {}),
            }
            for model in self.models.values()
        ]
        return {"type": "modelStatus", "data": json.dumps(told)}

    def listen(self):
        """Return a queue of the events to come; it begins with the states as they are."""
        events = queue.Queue()
        log = {"source": "proxy", "data": "stand-in for llama-swap\n"}
        with self.changed:
            events.put({"type": "logData", "data": json.dumps(log)})
            events.put(self.status())
            self.listeners.append(events)
        return events

    @contextlib.contextmanager
    def lent(self, model, is_gone):
        """Lend a model that is loaded; load it first, when its turn has come. Raises Refusal, Gone."""
        with self.changed:
            if model.asked >= model.limit:
                raise Refusal(429, "Too many requests", **{"Retry-After": "1"})
            model.asked += 1
        try:
            self._wait_for(model, is_gone)
            try:
                yield
            finally:
                with self.changed:
                    model.answering -= 1
                    self.changed.notify_all()
        finally:
            with self.changed:
                model.asked -= 1

    def _wait_for(self, model, is_gone):
        place = object()  # in the line
        with self.changed:
            self.line.append((place, model))
            try:
                while True:
                    if (place, model) not in self.line:
                        raise Refusal(500, "unspecific error: group: model unloaded")
                    if model.state == "ready" and not self.swapping:  # whoever asks for what is loaded need not wait
                        model.answering += 1
                        return
                    others = [other for other in self.running() if other is not model]
                    free = not self.swapping and not any(other.answering for other in others)
                    if free and self.line[0][0] is place:
                        self.swapping = True
                        break
                    self.changed.wait(0.05)
                    if is_gone():
                        raise Gone
            finally:
                with contextlib.suppress(ValueError):
                    self.line.remove((place, model))
        try:
            for other in others:
                self.stop(other)
            problem = self._start(model)
        finally:
            with self.changed:
                self.swapping = False
                if model.state == "ready":
                    model.answering += 1
                self.changed.notify_all()
        if problem:
            raise Refusal(500, f"unspecific error: {problem}")

    def _start(self, model):
        """Start a model's server and wait until it answers; return what went wrong, if anything did."""
        self._tell(model, "starting")
        try:
            process = subprocess.Popen(model.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        except OSError as error:
            self._tell(model, "stopped")
            return f"failed to start command '{shlex.join(model.command)}': {error}"
        model.process = process
        late = time.monotonic() + self.start_timeout
        while model.get("/health") is None:
            ended = process.poll() is not None
            if ended or time.monotonic() > late or model.state != "starting":
                aborted = model.state != "starting"
                self.stop(model)
                if aborted:
                    return "aborted"
                return "upstream command exited prematurely" if ended else "health check timed out"
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.02)
        properties = model.get("/props") or {}
        model.context = properties.get("default_generation_settings", {}).get("n_ctx")
        self._tell(model, "ready")
        return None

    def stop(self, model):
        """End a model's server; return when it is gone."""
        process, model.process = model.process, None
        if process is not None:
            self._tell(model, "stopping")
            process.terminate()
            process.wait()
        self._tell(model, "stopped")

    def unload(self, models):
        """End these models' servers, and send away who waits for them."""
        with self.changed:
            self.line = deque(each for each in self.line if each[1] not in models)
            self.changed.notify_all()
        for model in models:
            self.stop(model)

    def _tell(self, model, state):
        with self.changed:
            if model.state != state:
                model.state = state
                for listener in self.listeners:
                    listener.put(self.status())
            self.changed.notify_all()

"""What the tests of the sandbox share: whether it works here, other users, finding processes, and weakened sandboxes.

A test of a defence runs its attack twice: in the sandbox as it is, and in one without that defence, where the attack
must succeed. So it fails if the defence is missing, and if the attack has become harmless by itself.
"""

import functools
import os
import shutil
import subprocess
import tempfile
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil

from piano_jupyter.runner.tools.bash.bwrap import Bubblewrap, SandboxSpec, bwrap_arguments
from piano_jupyter.runner.tools.bash.seccomp import filter_file

ANOTHER_USER = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
#: A launcher under which bubblewrap really fails, as in a container that forbids user namespaces.
FORBIDDEN = ("bwrap", "--unshare-user", "--disable-userns", "--bind", "/", "/", "--dev", "/dev", "--")
SYSTEM = (("PATH", "/usr/bin:/bin:/usr/sbin:/sbin"),)


@functools.cache
def why_no_sandbox(launcher: tuple[str, ...] = ()) -> str:
    """Return why the tests of the sandbox cannot run here, "" if they can."""
    if launcher and (os.geteuid() or shutil.which(launcher[0]) is None):
        return "only root can become another user"
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        return Bubblewrap(launcher).unavailable_reason(
            SandboxSpec(workspace=folder, writable=not launcher, environment=SYSTEM)
        )


def run_in(spec, command, launcher=(), *, without=(), also=(), seccomp=True, disable_userns=True):
    """Run a command in a sandbox; `without` some of bwrap's options, `also` with others. Return code and output."""
    words = bwrap_arguments(
        spec,
        writable=spec.workspace if spec.writable else None,
        seccomp=-1 if seccomp else None,
        disable_userns=disable_userns,
    )
    for option in without:
        at = next(i for i in range(len(words)) if words[i : i + len(option)] == list(option))
        del words[at : at + len(option)]
    file = filter_file() if seccomp else None
    if file is not None:
        words[words.index("-1")] = str(file)
    elif seccomp:
        words = [word for word in words if word not in {"--seccomp", "-1"}]
    ran = subprocess.run(
        [*launcher, "bwrap", *also, *words, "--", "bash", "--norc", "-c", command],
        pass_fds=() if file is None else (file,),
        env={},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=False,
        text=True,
        errors="replace",
    )
    if file is not None:
        os.close(file)
    return ran.returncode, ran.stdout.strip()


def running(word):
    """Return the processes of this machine that have a word in their command line."""
    found = []
    for process in psutil.process_iter():
        try:
            if word in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_until(condition, what, seconds=10.0):
    """Wait until something is so; return how long that took."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < seconds, what
        threading.Event().wait(0.01)
    return time.monotonic() - begun


def wait_until_gone(pid):
    """Wait until a process runs no more; who is to reap it is not our concern."""

    def gone():
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    wait_until(gone, f"process {pid} survived")


class Listener(ThreadingHTTPServer):
    """A server of this machine that remembers who came: a connection each, and the paths that were asked for."""

    def __init__(self):
        self.connections, self.paths = 0, []
        super().__init__(("127.0.0.1", 0), Asked)
        self.url = f"http://127.0.0.1:{self.server_port}"

    def get_request(self):
        self.connections += 1
        return super().get_request()


class Asked(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.paths.append(self.path)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


@contextmanager
def listening():
    """Yield a Listener at work."""
    with Listener() as listener:
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield listener
        listener.shutdown()
        thread.join()

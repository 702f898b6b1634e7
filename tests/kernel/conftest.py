"""A real Jupyter kernel, driven as a front end drives it, with a scripted model behind it."""

import os
import queue
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from jupyter_client import KernelManager
from own_kernel import OwnKernels

ROOT = Path(__file__).parents[2]
DEADLINE = 60  # seconds


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("kernel")


@dataclass
class Cell:
    """What came of one cell."""

    status: str
    outputs: list = field(default_factory=list)  # (kind, data), in order
    prompts: list = field(default_factory=list)

    @property
    def stream(self):
        return "".join(data for kind, data in self.outputs if kind in {"stdout", "stderr"})

    @property
    def shown(self):
        """The bundles that are still there at the end, as nbval sees them."""
        return [data for kind, data in self.outputs if kind in {"display_data", "execute_result"} and data]

    @property
    def text(self):
        return "\n".join(bundle.get("text/plain", "") for bundle in self.shown)

    @property
    def updates(self):
        return [data for kind, data in self.outputs if kind == "update_display_data"]


class Kernel:
    """One kernel process in a folder of its own. Those of one folder belong to one notebook, unless told otherwise."""

    def __init__(self, folder, stub, *, stdin=False, **env):
        self.folder, self.stdin = folder, stdin
        paths = {"IPYTHONDIR": folder / ".ipython", "JUPYTER_RUNTIME_DIR": folder / ".runtime", "PYTHONPATH": ROOT}
        settings = {"PIANO_BASE_URL": stub.url, "JPY_SESSION_NAME": str(folder / "notebook.ipynb")}
        self.env = os.environ | {name: str(path) for name, path in paths.items()} | settings | env
        self._begin()
        self._connect_or_begin_again()

    def _begin(self):
        self.manager = KernelManager(kernel_spec_manager=OwnKernels())
        self.manager.start_kernel(cwd=str(self.folder), env=self.env)

    def _connect_or_begin_again(self):
        try:
            self._connect()
        except RuntimeError:
            if self.manager.is_alive():
                raise
            self.end()  # something else has taken one of its ports before it could; a manager keeps its ports
            self._begin()
            self._connect()

    def _connect(self):
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(DEADLINE)

    @property
    def process(self):
        return self.manager.provisioner.process

    def start(self, code):
        return self.client.execute(code, allow_stdin=self.stdin)

    def finish(self, started, answers=()):
        """Return the cell once it has ended; `answers` are typed at its prompts."""
        cell, answers, idle = Cell(""), list(answers), False
        deadline = time.monotonic() + DEADLINE
        while not (cell.status and idle):
            assert time.monotonic() < deadline, f"the cell did not end: {cell.outputs}"
            if self.process.poll() is not None:
                cell.status = "dead"
                return cell
            try:
                message = self.client.get_iopub_msg(timeout=0.02)
            except queue.Empty:
                message = None
            if message and message["parent_header"].get("msg_id") == started:
                idle = self._note(cell, message) or idle
            if self.stdin and self.client.stdin_channel.msg_ready():
                cell.prompts.append(self.client.get_stdin_msg(timeout=1)["content"]["prompt"])
                self.client.input(answers.pop(0))
            while self.client.shell_channel.msg_ready():
                reply = self.client.get_shell_msg(timeout=1)
                if reply["parent_header"].get("msg_id") == started:
                    cell.status = reply["content"]["status"]
        return cell

    @staticmethod
    def _note(cell, message):
        content, kind = message["content"], message["msg_type"]
        if kind == "stream":
            cell.outputs.append((content["name"], content["text"]))
        elif kind in {"display_data", "execute_result", "update_display_data"}:
            cell.outputs.append((kind, content["data"]))
        elif kind == "error":
            cell.outputs.append(("stderr", "\n".join(content["traceback"]) + "\n"))
        return kind == "status" and content["execution_state"] == "idle"

    def run(self, code, answers=()):
        return self.finish(self.start(code), answers)

    def error_of(self, code):
        """Return the error that a cell ends in, as front ends and the tools that run notebooks are told of it."""
        started = self.start(code)
        while True:
            message = self.client.get_iopub_msg(timeout=DEADLINE)
            if message["msg_type"] == "error" and message["parent_header"].get("msg_id") == started:
                self.finish(started)
                return message["content"]

    def load(self):
        assert self.run("%load_ext piano_jupyter").status == "ok"
        return self

    def restart(self):
        self.client.stop_channels()
        self.manager.restart_kernel(now=False, newports=False)
        self._connect_or_begin_again()

    def kill(self):
        """Have it die, as when the memory is full."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(DEADLINE)
        self.end(kill=True)

    def end(self, *, kill=False):
        self.client.stop_channels()
        if self.manager.has_kernel:
            self.manager.shutdown_kernel(now=kill)
        self.manager.cleanup_resources()


@pytest.fixture(scope="module", autouse=True)
def _shared():
    """Have kernels and scripts share databases, as users have it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIANO_SHARE", "1")
        yield


@pytest.fixture(scope="module")
def seen_kernel(tmp_path_factory, _stub_server):
    """One kernel for all tests of a module that only look: `name` is 1, and one message was answered.

    `bad.jsonl` is a file of no sense.
    """
    home = tmp_path_factory.mktemp("seen")
    (home / "bad.jsonl").write_text("nonsense")
    (home / ".ipython").mkdir()
    kernel = Kernel(home, _stub_server).load()
    kernel.run("name = 1")
    kernel.run("%%piano\nhello")
    yield kernel
    kernel.end()


@pytest.fixture
def kernel_of(tmp_path, stub_model):
    """`kernel_of()` starts a kernel in a folder of the test's own."""
    kernels = []

    def make(folder=None, **options):
        home = folder or tmp_path
        (home / ".ipython").mkdir(exist_ok=True)
        kernels.append(Kernel(home, stub_model, **options))
        return kernels[-1]

    yield make
    for kernel in kernels:
        kernel.end()


@pytest.fixture
def kernel(kernel_of):
    """A kernel with the extension loaded."""
    return kernel_of().load()

"""A real JupyterLab, and a notebook in it, or in Jupyter Notebook 7, as its user sees it.

Nothing sleeps: all waiting is for a condition, with a deadline.
"""

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

LONG = 60_000  # ms
SHOTS = os.environ.get("E2E_SHOTS")  # a folder for pictures
SETTINGS = {
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/docmanager-extension/plugin": {"autosave": False},
}
FOLDERS = {
    "JUPYTER_CONFIG_DIR": "config",
    "JUPYTER_DATA_DIR": "data",
    "JUPYTER_RUNTIME_DIR": "runtime",
    "IPYTHONDIR": "ipython",
    "JUPYTERLAB_SETTINGS_DIR": "settings",
    "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
    "JUPYTER_PATH": "here",  # with the extension of this source, which goes before an installed one
}
EXTENSION = Path(__file__).parents[2] / "piano_jupyter" / "labextension"


class Lab:
    """A JupyterLab server in a folder of its own, with its own settings."""

    def __init__(self, folder: Path, environment: dict[str, str]):
        self.notebooks, self._folder, self._token = folder / "notebooks", folder, secrets.token_hex(16)
        for name in ("notebooks", *FOLDERS.values()):
            (folder / name).mkdir()
        (folder / FOLDERS["JUPYTER_PATH"] / "labextensions").mkdir()
        (folder / FOLDERS["JUPYTER_PATH"] / "labextensions" / "piano-jupyter").symlink_to(EXTENSION)
        for name, values in SETTINGS.items():
            file = folder / "settings" / f"{name}.jupyterlab-settings"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(values))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        options = [
            f"--ServerApp.port={port}",
            "--ServerApp.ip=127.0.0.1",
            f"--ServerApp.root_dir={self.notebooks}",
            f"--IdentityProvider.token={self._token}",
            "--ServerApp.shutdown_no_activity_timeout=1800",
            "--LabApp.expose_app_in_browser=True",
            "--JupyterNotebookApp.expose_app_in_browser=True",
        ]
        with (folder / "lab.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", *options],
                cwd=folder,
                env=os.environ | {name: str(folder / place) for name, place in FOLDERS.items()} | environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._wait_until_it_serves()

    def _wait_until_it_serves(self):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self._process.poll() is None:
            for file in (self._folder / "runtime").glob("jpserver-*.json"):
                try:
                    self.url = json.loads(file.read_text())["url"]
                    self.api("api/status")
                except (OSError, ValueError):
                    continue
                return
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.05)
        self.stop()
        raise RuntimeError("JupyterLab did not start:\n" + (self._folder / "lab.log").read_text()[-3000:])

    def api(self, path, method="GET"):
        key = {"Authorization": f"token {self._token}"}
        request = urllib.request.Request(self.url + path, method=method, headers=key)
        with urllib.request.urlopen(request, timeout=20) as answer:
            raw = answer.read()
        return json.loads(raw) if raw else None

    def write(self, path, cells, kernel="python3"):
        """Put a notebook with these code cells, or whole cells, into a folder, which may be new."""
        written = [
            {"cell_type": "code", "id": f"c{i}", "metadata": {}, "execution_count": None, "outputs": []}
            | (cell if isinstance(cell, dict) else {"source": cell})
            for i, cell in enumerate(cells)
        ]
        spec = {"name": kernel, "display_name": kernel, "language": "python"}
        content = {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": spec}, "cells": written}
        file = self.notebooks / path
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(content))

    def add_kernel(self, name, code):
        """Add a kind of kernel: Python that runs `code` first."""
        folder = self._folder / FOLDERS["JUPYTER_PATH"] / "kernels" / name
        folder.mkdir(parents=True, exist_ok=True)
        argv = [
            sys.executable,
            "-c",
            f"{code}\nfrom ipykernel.kernelapp import IPKernelApp\nIPKernelApp.launch_instance()",
        ]
        (folder / "kernel.json").write_text(
            json.dumps({"argv": [*argv, "-f", "{connection_file}"], "display_name": name, "language": "python"})
        )

    def address(self, path="", *, reset=True):
        """Return the address of JupyterLab, with a notebook; `reset` forgets what else was open."""
        return f"{self.url}lab{'/tree/' if path else ''}{path}?token={self._token}{'&reset' if reset else ''}"

    def classic_address(self, path):
        """Return the address of a notebook in Jupyter Notebook 7, which is served along."""
        return f"{self.url}notebooks/{path}?token={self._token}"

    def end_kernels(self):
        for session in self.api("api/sessions"):
            self.api(f"api/sessions/{session['id']}", "DELETE")

    def stop(self):
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


# the panel of the notebook at this path, once its kernel is ready
FIND = """path => {
    const open = [...jupyterapp.shell.widgets('main')];
    const found = open.find(each => each.context?.path === path && each.content?.widgets);
    const kernel = found?.sessionContext.session?.kernel;
    if (!kernel?.info || kernel.status !== 'idle') return false;
    window.panels = {...window.panels, [path]: found};
    window.runs ??= {};
    return true;
}"""


class Notebook:
    """An open notebook. `page` is Playwright's, `panel` the last chat panel in it."""

    front_end = "lab"

    def __init__(self, page, lab, path):
        self.page, self._lab, self.path = page, lab, path

    @property
    def root(self):
        """The locator of the notebook."""
        return self.page.locator(f"[id='{self.page.evaluate('path => panels[path].id', self.path)}']")

    @property
    def panel(self):
        """The locator of its last chat panel."""
        return self.root.locator(".piano-panel").last

    def open(self, mode="tab-after"):
        """Open it: as a tab, or beside the others with `mode` "split-right"."""
        ask = """async ([path, mode]) => {
            await jupyterapp.serviceManager.kernelspecs.refreshSpecs();  // a test may have added one
            jupyterapp.commands.execute('docmanager:open', {path, factory: 'Notebook', options: {mode}});
        }"""
        self.page.evaluate(ask, [self.path, mode])
        self._wait_until_ready()

    def reload(self, *, reset=True):
        """Load the whole page again, as F5 does; `reset` forgets where things were."""
        self.page.goto(self._lab.address(self.path, reset=reset), wait_until="domcontentloaded")
        self.page.wait_for_function("() => window.jupyterapp", timeout=LONG)
        self._wait_until_ready()

    def _wait_until_ready(self):
        self.page.wait_for_function(FIND, arg=self.path, timeout=LONG)

    def run(self, index, *, wait=True):
        """Run a cell as the menu does. With `wait`, return when it has ended."""
        start = """([path, i]) => {
            const notebook = panels[path].content;
            notebook.activeCellIndex = i;
            notebook.deselectAll();
            runs[path + i] = false;
            jupyterapp.commands.execute('notebook:run-cell').then(() => { runs[path + i] = true; });
        }"""
        self.page.evaluate("path => jupyterapp.shell.activateById(panels[path].id)", self.path)
        self.page.wait_for_function("path => jupyterapp.shell.currentWidget === panels[path]", arg=self.path)
        self.page.evaluate(start, [self.path, index])
        if wait:
            self.wait_for(index)

    def wait_for(self, index):
        """Wait for the end of a cell that was started."""
        self.page.wait_for_function("key => runs[key]", arg=f"{self.path}{index}", timeout=LONG)

    def has_ended(self, index):
        return self.page.evaluate("key => runs[key]", f"{self.path}{index}")

    def outputs(self, index):
        """Return a cell's outputs, as the file would hold them."""
        read = "([path, i]) => panels[path].content.widgets[i].model.outputs.toJSON()"
        return self.page.evaluate(read, [self.path, index])

    def text(self, index):
        """Return a cell's outputs as plain text."""
        told = []
        for output in self.outputs(index):
            text = output.get("text", output.get("traceback", output.get("data", {}).get("text/plain", "")))
            told.append(text if isinstance(text, str) else "".join(text))
        return re.sub(r"\x1b\[[\d;]*m", "", "\n".join(told))

    def cell(self, index):
        """Return the locator of a cell."""
        return self.root.locator(".jp-Cell").nth(index)

    def sources(self):
        read = "path => panels[path].content.widgets.map(cell => cell.model.sharedModel.getSource())"
        return self.page.evaluate(read, self.path)

    def restart(self):
        """Restart the kernel."""
        self.page.evaluate("path => panels[path].sessionContext.session.kernel.restart()", self.path)
        self._wait_until_ready()

    def kill(self, pid):
        """Kill the kernel, which is that process; return when the server has started another in its place."""
        os.kill(pid, signal.SIGKILL)
        self.page.locator(".jp-Dialog").get_by_role("button", name="Ok").click()  # it has died and will be restarted
        self._wait_until_ready()

    def end_kernel(self):
        """Shut the kernel down."""
        self.page.evaluate("path => panels[path].sessionContext.shutdown()", self.path)

    def until_layout_is_saved(self, name):
        """Wait until the server knows of something with this name in the layout of JupyterLab."""
        self.until(lambda: name in json.dumps(self._lab.api("lab/api/workspaces")))

    def save(self):
        """Save, and return the file's content."""
        self.page.evaluate("path => panels[path].context.save()", self.path)
        return json.loads((self._lab.notebooks / self.path).read_text())

    def until(self, condition, seconds=20):
        """Return what `condition` returns once that is true."""
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < deadline, f"still not so after {seconds} s"
            self.page.wait_for_timeout(30)
        return found

    def shot(self, name):
        """Keep a picture, where E2E_SHOTS names a folder."""
        if SHOTS:
            Path(SHOTS).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=f"{SHOTS}/{name}.png")

    def close(self):
        """Close it."""
        end = """path => {
            const panel = window.panels?.[path];
            if (panel) { panel.context.model.dirty = false; panel.close(); }
        }"""
        self.page.evaluate(end, self.path)


class ClassicNotebook(Notebook):
    """A notebook in Jupyter Notebook 7: a page of its own."""

    front_end = "notebook7"

    def open(self, mode="tab-after"):  # noqa: ARG002  There is one place only.
        self.reload()

    def reload(self, *, reset=False):  # noqa: ARG002  Nothing else is open.
        self.page.goto(self._lab.classic_address(self.path), wait_until="domcontentloaded")
        self.page.wait_for_function("() => window.jupyterapp", timeout=LONG)
        self._wait_until_ready()

    def until_layout_is_saved(self, name):
        """Return at once: here the page keeps it."""

"""A real JupyterLab, driven by a real browser, with a scripted model behind it.

`notebook(cells)` opens a new notebook in a folder (and so with a database) of its own; `stub_model` says what the test
wrote. Where the browser or JupyterLab is missing the tests are skipped; in CI they fail.
"""

import importlib.util
import os
import re
import shutil
from pathlib import Path

import pytest
from browser.lab import LONG, ClassicNotebook, Lab, Notebook
from swap_servers import start_swap  # noqa: F401  A fixture.

ROOT = Path(__file__).parents[2]
PATIENCE_MS = 15_000  #: until what is expected is seen: several browsers run at once, on two cores
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")

FLAGS = [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # a test never leaves this machine
]


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("browser")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.when == "call":
        item.failed = report.failed
    return report


def _need(found, what):
    if not found:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"browser tests need {what}")
    return found


@pytest.fixture(scope="session")
def lab(tmp_path_factory, _stub_server):
    """A JupyterLab server whose kernels find this source and the scripted model."""
    _need(importlib.util.find_spec("jupyterlab"), "jupyterlab: pip install 'piano_jupyter[lab]'")
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    server = Lab(
        tmp_path_factory.mktemp("lab"), {"PYTHONPATH": path, "PIANO_BASE_URL": _stub_server.url, "PIANO_SHARE": "1"}
    )
    yield server
    server.end_kernels()
    server.stop()


@pytest.fixture(scope="module")  # not longer: its event loop would stand in the way of other modules' async tests
def chromium():
    """A browser, started."""
    _need(importlib.util.find_spec("playwright"), "playwright: pip install 'piano_jupyter[test]'")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE_MS)
    found = os.environ.get("E2E_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_need(found, "chromium"), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def window(chromium, lab):
    """One JupyterLab window a module: it takes seconds to load."""
    context = chromium.new_context(viewport={"width": 1200, "height": 950})
    page = context.new_page()
    page.goto(lab.address(), wait_until="domcontentloaded")
    page.wait_for_function("() => window.jupyterapp", timeout=LONG)
    page.evaluate("() => jupyterapp.restored")
    yield page
    context.close()


@pytest.fixture(scope="module")
def classic_window(chromium):
    """A window for Jupyter Notebook 7."""
    context = chromium.new_context(viewport={"width": 1200, "height": 950})
    yield context.new_page()
    context.close()


@pytest.fixture(params=[Notebook, ClassicNotebook], ids=["lab", "notebook7"])
def notebook_in_each(request):
    """Open notebooks as `notebook` does, in JupyterLab and in Jupyter Notebook 7."""
    page = request.getfixturevalue("window" if request.param is Notebook else "classic_window")
    yield from _notebooks(request, page, request.param)


@pytest.fixture
def notebook(window, request):
    """Open notebooks: `notebook(["%load_ext piano_jupyter", ...])`. A picture is kept where E2E_SHOTS says.

    One that is opened `beside` another is in the same folder, and so in the same workspace; both are seen.
    """
    yield from _notebooks(request, window, Notebook)


def _notebooks(request, window, kind):
    lab, opened, said = request.getfixturevalue("lab"), [], []
    request.getfixturevalue("stub_model")

    def note(message):
        said.append(f"{message.type}: {message.text}")

    def make(cells, beside=None, file="notebook.ipynb", kernel="python3"):
        name = re.sub(r"[^0-9a-zA-Z]+", "-", request.node.name)[:60]
        folder = f"{name}-{len(list(lab.notebooks.iterdir()))}" if beside is None else Path(beside.path).parent
        path = f"{folder}/{file}"
        lab.write(path, cells, kernel)
        opened.append(kind(window, lab, path))
        opened[-1].open("tab-after" if beside is None else "split-right")
        return opened[-1]

    window.on("console", note)
    yield make
    window.remove_listener("console", note)
    failed = getattr(request.node, "failed", False)
    if failed:
        print("\n".join(said[-40:]))
    for each in opened:
        each.shot(f"{'FAILED-' if failed else ''}{request.node.name}")
        each.close()
    lab.end_kernels()

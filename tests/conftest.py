"""What tests share: real llama.cpp servers, with a tiny model that the tests write or with the embedded one."""

import asyncio
import os
import runpy
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import pytest
from chat_templates import ChatTemplate, chat_templates
from making import Make
from sandboxing import why_no_sandbox

from piano_jupyter.errors import ModelUnavailableError
from piano_jupyter.runner.model.embedded.local_server import Endpoint, LocalServer, installed
from piano_jupyter.runner.model.embedded.weights import SMOLLM2, cache_folder, fetch
from piano_jupyter.testing import ScriptedServer, echo

SENTENCE = "All is well on this tiny server."
#: Files that take minutes: they go first, so that no worker is left with one of them at the end.
LONG_FILES = {
    *("test_kills.py", "test_panel.py", "test_life.py", "test_workspace_changes.py", "test_magics.py"),
    *("test_flipped_bytes.py", "test_torn_writes.py", "test_recovery.py", "test_extension.py"),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first."""
    items.sort(key=lambda item: item.path.name not in LONG_FILES)


@pytest.fixture(scope="session", autouse=True)
def _data_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Have the tests' databases noted in a folder of their own, kernels and other processes included."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _alone() -> Iterator[None]:
    """Have each database in the process that opens it, unless a test is about sharing it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIANO_SHARE", "0")
        yield


@pytest.fixture
def make():
    """Make records: ids 1, 2, 3, and times a second apart."""
    return Make()


@pytest.fixture(scope="session")
def _stub_server() -> Iterator[ScriptedServer]:
    with ScriptedServer(answer=echo) as server:
        yield server


@pytest.fixture
def stub_model(_stub_server: ScriptedServer) -> Iterator[ScriptedServer]:
    """A scripted server, its script empty: then it echoes."""
    _stub_server.reset()
    yield _stub_server
    _stub_server.reset()


@pytest.fixture(scope="session")
def tiny() -> SimpleNamespace:
    """tests/tiny_gguf.py: `tiny.write_tiny_gguf(path, ...)` and its chat templates `tiny.PLAIN` and `tiny.TOOLS`."""
    try:
        return SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("tiny_gguf.py"))))
    except ModuleNotFoundError as error:
        _missing(f"{error.name} is not installed: pip install 'piano_jupyter[test]'")


@pytest.fixture(scope="session")
def tiny_gguf(tiny: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a model that answers everything with one sentence."""
    return tiny.write_tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf", says=SENTENCE)


@pytest.fixture(scope="session")
def template_texts() -> dict[str, str]:
    """The chat templates that llama.cpp ships, by name."""
    try:
        return chat_templates()
    except (OSError, subprocess.SubprocessError) as error:
        _missing(f"llama.cpp's chat templates cannot be had: {error}")


@pytest.fixture(scope="session")
def templates(template_texts: dict[str, str]) -> dict[str, ChatTemplate]:
    """The same, to render."""
    return {name: ChatTemplate(text) for name, text in template_texts.items()}


@pytest.fixture
def closed_port() -> Iterator[str]:
    """The address of a server that is not there."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound and not listening: nobody else gets it, and it refuses
        yield f"http://127.0.0.1:{held.getsockname()[1]}/v1"


@pytest.fixture(scope="session")
def llama_cpp() -> None:
    """The extra `[local]` is there."""
    _need_llama_cpp()


@pytest.fixture(scope="session")
def start_server() -> Iterator[Callable[[LocalServer], Endpoint]]:
    """Start a real server, and end it with the session."""
    started: list[LocalServer] = []

    def start(server: LocalServer) -> Endpoint:
        _need_llama_cpp()
        started.append(server)
        with ThreadPoolExecutor(1) as apart:  # the test's own event loop stays as it is
            return apart.submit(asyncio.run, server.start(lambda _line, _fraction: None)).result()

    yield start
    for server in started:
        server.stop()


@pytest.fixture(scope="session")
def tiny_server(start_server: Callable[[LocalServer], Endpoint], tiny_gguf: Path) -> Endpoint:
    """A real server that answers everything with one sentence."""
    return start_server(LocalServer(tiny_gguf, context=2048))


@pytest.fixture(scope="session")
def serve_tiny(
    start_server: Callable[[LocalServer], Endpoint], tiny: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Endpoint]:
    """Serve a tiny model of one's own: `serve_tiny(says="...", chat_template=tiny.TOOLS)`."""

    def serve(context: int = 2048, **model: str | int | None) -> Endpoint:
        gguf = tiny.write_tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf", **model)
        return start_server(LocalServer(gguf, context=context))

    return serve


@pytest.fixture(scope="session")
def embedded_server(start_server: Callable[[LocalServer], Endpoint]) -> Endpoint:
    """The embedded model, as users get it: fetched into the user's cache if it is not there."""
    try:
        fetch(SMOLLM2, cache_folder(), lambda _line, _fraction: None)
    except ModelUnavailableError as error:
        _missing(str(error))
    return start_server(LocalServer())


def _need_llama_cpp() -> None:
    if not installed():
        _missing("xllamacpp is not installed: pip install 'piano_jupyter[local]'")


def _missing(reason: str) -> NoReturn:
    """Skip what this machine cannot run; in CI nothing may be missing."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture
def sandboxed():
    """Skip where there is no sandbox, with the reason."""
    if why := why_no_sandbox():
        pytest.skip(f"no sandbox: {why}")

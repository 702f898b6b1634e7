"""The race for a folder: a path beneath the workspace stays there, even if others replace folders meanwhile.

That these tests can fail is checked each time, by taking the defence out: `Realpath` resolves the path, looks at where
it leads, and opens that. The same 20,000 reads by the code that did so before gave the secret away 231 times.
"""

import itertools
import os
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from child import run_child

from piano_jupyter.errors import ToolError
from piano_jupyter.runner.tools.files.beneath import OpenAt2Resolver, StepwiseResolver, best_resolver, resolver_name
from piano_jupyter.runner.tools.files.workspace import Workspace

READS = 20_000
SWAPPER = """
import ctypes, os, sys
exchange = ctypes.CDLL(None, use_errno=True).renameat2
at = os.open(sys.argv[1], os.O_RDONLY)
print("ready", flush=True)
parent = os.getppid()
while os.getppid() == parent:
    for _ in range(1000):
        if exchange(at, b"d", at, b"L", 2):
            sys.exit(os.strerror(ctypes.get_errno()))
"""

needs_openat2 = pytest.mark.skipif(resolver_name() != "openat2", reason="this system has no openat2")
ways = pytest.mark.parametrize(
    "by", [pytest.param(OpenAt2Resolver(), marks=needs_openat2), StepwiseResolver()], ids=lambda by: by.name
)


class Realpath(StepwiseResolver):
    """Without the defence: resolve, check, then open."""

    name = "realpath"

    def find(self, root, path):
        home = Path(f"/proc/self/fd/{root}").readlink()
        there = os.path.realpath(f"{home}/{path}")
        if not Path(there).is_relative_to(home):
            raise OSError(18, "it leads out")
        return os.open(there, os.O_RDONLY)


@pytest.fixture
def racing(tmp_path):
    """Yield a workspace where another process keeps swapping the folder d and the link L, which leads out."""
    for folder in ("ws/d", "outside"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "ws/d/f").write_text("inside")
    (tmp_path / "outside/f").write_text("secret")
    (tmp_path / "ws/L").symlink_to("../outside")
    (tmp_path / "ws/.piano/tmp").mkdir(parents=True)

    @contextmanager
    def race():
        command = [sys.executable, "-c", SWAPPER, str(tmp_path / "ws")]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as swapper:
            try:
                assert swapper.stdout.readline() == b"ready\n"
                yield tmp_path / "ws"
                assert swapper.poll() is None, "nobody raced any more"
            finally:
                swapper.kill()

    return race


def attempt(action):
    """Return the result of a call, or the code of its error."""
    try:
        return action()
    except ToolError as refusal:
        return str(refusal).partition(":")[0]


def read(sandbox):
    with sandbox.find("d/f") as found, found.open() as file:
        return file.read().decode()


def outside(ws):
    """Return the contents of the folder outside the workspace."""
    return {each.name: each.read_text() if each.is_file() else "" for each in (ws.parent / "outside").iterdir()}


@ways
def test_a4_a_folder_that_is_replaced_with_a_link_reveals_nothing(racing, by):
    with racing() as ws:
        sandbox = Workspace(ws, resolver=by)
        came = Counter(attempt(lambda: read(sandbox)) for _ in range(READS))

    assert came["secret"] == 0
    assert came["inside"] > 0, came
    assert came.total() - came["inside"] > 0, "the race was not on"


def test_a4_the_race_is_real_resolving_a_path_and_then_opening_it_reveals_the_secret(racing):
    came, deadline = Counter(), time.monotonic() + 60
    with racing() as ws:
        while not came["secret"] and time.monotonic() < deadline:
            came.update(attempt(lambda: read(Workspace(ws, resolver=Realpath()))) for _ in range(1000))

    assert came["secret"] > 0, came


def edit(ws, by, number):
    sandbox = Workspace(ws, resolver=by)
    with sandbox.find("d/f") as found:
        sandbox.replace(found, f"inside {number}".encode())
    return "edited"


def create(ws, by, number):
    Workspace(ws, resolver=by).make(f"d/new{number}/file", b"made")
    return "created"


@ways
@pytest.mark.parametrize("write", [edit, create])
def test_a5_a_file_written_during_that_race_is_never_outside(racing, by, write):
    came, deadline = Counter(), time.monotonic() + 60
    with racing() as ws:
        while time.monotonic() < deadline and (came.total() < 1500 or not came["edited"] + came["created"]):
            came[attempt(partial(write, ws, by, came.total()))] += 1

    assert came["edited"] + came["created"] > 0, came
    assert came.total() - came["edited"] - came["created"] > 0, "the race was not on"
    assert outside(ws) == {"f": "secret"}
    assert list((ws / ".piano/tmp").iterdir()) == []


@pytest.mark.parametrize("write", [edit, create])
def test_a5_the_race_is_real_resolving_a_path_and_then_writing_there_writes_outside(racing, write):
    deadline = time.monotonic() + 60
    with racing() as ws:
        for number in itertools.count():
            attempt(lambda number=number: write(ws, Realpath(), number))
            if outside(ws) != {"f": "secret"} or time.monotonic() > deadline:
                break

    assert outside(ws) != {"f": "secret"}


def test_the_name_of_the_resolver_in_use_can_be_read():
    assert resolver_name() == best_resolver().name
    assert resolver_name() in {"openat2", "walk"}


def test_a_system_without_openat2_uses_the_walk_and_says_so(tmp_path):
    (tmp_path / "f").write_text("one")
    (tmp_path / "l").symlink_to("f")

    said = run_child(
        """
refuse({"x86_64": 437, "aarch64": 437}, 38)
read = file_tools(PianoConfig(workspace=sys.argv[1], tool_output_limit=1000))[0]
try:
    read("l")
except Exception as error:
    print(beneath.resolver_name(), read("f"), error, sep="|")
""",
        tmp_path,
    )

    assert said == ("walk|1\tone|bad_path: 'l': it is a link, which cannot be followed safely on this system")


class ActingResolver(OpenAt2Resolver):
    """Acts between the first and the second check of where a path leads."""

    def __init__(self, act):
        self.acts = [lambda: None, act]

    def resolved_names(self, root, found, path):
        if self.acts:
            self.acts.pop(0)()
        return super().resolved_names(root, found, path)


@needs_openat2
def test_a5_a_folder_that_is_renamed_while_a_file_is_created_in_it_is_checked_again(tmp_path):
    (tmp_path / "d").mkdir()
    sandbox = Workspace(tmp_path, resolver=ActingResolver(lambda: (tmp_path / "d").rename(tmp_path / ".git")))

    with pytest.raises(ToolError, match=r"^protected: tools must not write '\.git'"):
        sandbox.make("d/hooks/post-checkout", b"#!/bin/sh")

    assert list((tmp_path / ".git" / "hooks").iterdir()) == []


@needs_openat2
def test_a5_a_folder_that_is_replaced_with_a_link_while_a_file_in_it_is_edited_is_checked_again(tmp_path):
    for folder in ("d", ".git"):
        (tmp_path / folder).mkdir()
    (tmp_path / "d" / "config").write_text("old")
    (tmp_path / ".git" / "config").hardlink_to(tmp_path / "d" / "config")

    def exchange():
        (tmp_path / "d").rename(tmp_path / "before")
        (tmp_path / "d").symlink_to(".git")

    sandbox = Workspace(tmp_path)
    with sandbox.find("d/config") as found:
        exchange()
        with pytest.raises(ToolError, match=r"^stale: 'd/config' was just changed by another program"):
            sandbox.replace(found, b"new")

    assert (tmp_path / ".git" / "config").read_text() == "old"

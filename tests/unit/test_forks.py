"""A forked process is told at once that Piano works where it was opened, and harms nothing there."""

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import piano_jupyter
from piano_jupyter import Piano

ROOT = Path(piano_jupyter.__file__).parents[1]
WAS_FORKED = "this process was forked from the one where Piano is open, and Piano works only there"

IN_CHILD = """
import asyncio, json, multiprocessing, os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of a fork where there are threads

def in_child(function):
    "Return what a function returns or raises in a fork, which then exits as a process does."
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            said = function()
        except Exception as error:
            said = str(error)
        os.write(writer, json.dumps(said).encode())
        os.close(writer)
        sys.exit()
    os.close(writer)
    said = json.loads(os.fdopen(reader).read())
    os.waitpid(child, 0)
    return said
"""
PIANO = """
from piano_jupyter import Piano
from piano_jupyter.jupyter.loop import LoopThread

async def say(piano, name):
    try:
        result = getattr(piano, name)()
        return repr(await result if asyncio.iscoroutine(result) else result)
    except Exception as error:
        return str(error)

parent = LoopThread()
piano = Piano(database=sys.argv[1], workspace=sys.argv[2], embedded="never")
parent.run(piano.open())
parent.run(piano.open_thread("before"))
told = [
    in_child(lambda: {name: asyncio.run(say(piano, name)) for name in json.loads(sys.argv[3])}),
    in_child(lambda: asyncio.run(piano.close())),
    in_child(piano.close_now),
    [each.title for each in parent.run(piano.threads())],
]
parent.run(piano.close())
print(json.dumps(told))
"""
SHELL = """
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "piano_jupyter")
shell.run_line_magic("config", f"PianoConfig.workspace = {sys.argv[1]!r}")
shell.run_line_magic("piano", "thread --new before")
piano = shell.user_ns["piano"]

def says(line):
    try:
        return repr(shell.run_line_magic("piano", line))
    except Exception as error:
        return str(error)

async def awaited():
    return await piano.threads()

told = [in_child(lambda: says(line)) for line in ("", "threads", "ask hello", "help", "panel")]
told.append(in_child(lambda: asyncio.run(awaited())))
queue = multiprocessing.get_context("fork").SimpleQueue()
process = multiprocessing.get_context("fork").Process(target=lambda: queue.put(says("threads")))
process.start()
told.append(queue.get())
process.join()
print(json.dumps([told, says("threads")]))
"""


def printed(script, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", IN_CHILD + script, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "IPYTHONDIR": str(arguments[-1]) + "/.ipython"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are what is tested")
def test_each_verb_is_refused_in_a_fork_and_closing_there_closes_nothing(tmp_path):
    verbs = [name for name, verb in vars(Piano).items() if inspect.isfunction(verb) and not name.startswith("_")]
    verbs = sorted(set(verbs) - {"close", "close_now", "open"})

    said, closed, now, after = printed(PIANO, tmp_path / "x.duckdb", tmp_path, json.dumps(verbs))

    assert len(verbs) > 50
    assert {name: WAS_FORKED in each for name, each in said.items()} == dict.fromkeys(verbs, True)
    assert (closed, now, after) == (None, None, ["before"])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are what is tested")
def test_each_magic_is_refused_in_a_fork_and_the_kernel_goes_on(tmp_path):
    told, after = printed(SHELL, tmp_path)

    assert [WAS_FORKED in each for each in told] == [True] * 7
    assert "before" in after


def test_verbs_are_still_what_they_are():
    assert inspect.iscoroutinefunction(Piano.ask)
    assert not inspect.iscoroutinefunction(Piano.events)
    assert "schema" in inspect.signature(Piano.ask).parameters
    assert Piano.ask.__doc__.startswith("Send a message")

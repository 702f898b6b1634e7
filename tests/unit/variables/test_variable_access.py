"""What is read of the user's namespace: its names and their data, and nothing behind them."""

import asyncio
import collections
import functools
import inspect
import io
import logging
import os
import sys
from dataclasses import dataclass
from types import FrameType, MappingProxyType, SimpleNamespace

import ipykernel.kernelapp
import IPython
import numpy as np
import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.text import SList
from jupyter_client.session import Session

import piano_jupyter
from piano_jupyter.agent_code import redirect_output
from piano_jupyter.config import PianoConfig
from piano_jupyter.errors import PianoError
from piano_jupyter.jupyter.kernel_tools.description import described
from piano_jupyter.variables.fill_in import fill_in
from piano_jupyter.variables.variable_access import look_up

SECRET = "only-the-environment-has-this"


@dataclass
class Settings:
    env: object


class Holder:
    """An object of the user's that leads to others."""

    def __init__(self, **parts):
        vars(self).update(parts)


def generator():
    yield SECRET


async def coroutine():
    return SECRET


def wrapped():
    @functools.wraps(generator)
    def inner():
        return SECRET

    return inner


@pytest.fixture
def variables(monkeypatch):
    """A user's namespace with ways to all that is not the user's data."""
    monkeypatch.setenv("PIANO_TEST_PART", SECRET)
    waits = coroutine()
    with redirect_output(io.StringIO()):
        out = sys.stdout
    session = Session(key=SECRET.encode())
    with pytest.raises(ZeroDivisionError) as caught:
        _ = len(SECRET) / 0
    yield {
        "os": os,
        "sys": sys,
        "env": os.environ,
        "envb": os.environb,
        "settings": Settings(os.environ),
        "chain": collections.ChainMap({}, os.environ),
        "copy": os.environ.copy() | {"MORE": "1"},
        "nested": {"all": [os.environ]},
        "copies": [{"env": os.environ.copy(), "size": 3}],
        "chains": [collections.ChainMap(os.environ)],
        "frame": inspect.currentframe(),
        "stack": inspect.stack(),
        "gen": generator(),
        "waits": waits,
        "tb": caught.value.__traceback__,
        "error": caught.value,
        "function": generator,
        "wrapped": wrapped(),
        "default": lambda env=os.environ: env,
        "default_copy": lambda env=os.environ.copy(): env,  # noqa: B008  It is what is tested.
        "views": [os.environ.copy().items(), os.environ.copy().values()],
        "ordered": [collections.OrderedDict(os.environ), collections.defaultdict(str, os.environ)],
        "raw": [dict(os.environb)],
        "proxy": MappingProxyType(os.environ),
        "wrapper": collections.UserDict(os.environ),
        "wrappers": [MappingProxyType(dict(os.environ)), collections.UserDict(os.environ)],
        "ip": InteractiveShell.instance(),
        "IPython": IPython,
        "ipykernel": ipykernel,
        "holder": Holder(shell=InteractiveShell.instance(), session=session, parts=[session]),
        "session": session,
        "out": out,
        "log": SimpleNamespace(handlers=[logging.StreamHandler(out)]),
        "piano_jupyter": piano_jupyter,
        "config": PianoConfig(api_key=SECRET),
        "pd": pd,
        "np": np,
        "asyncio": asyncio,
        "everything": sys.modules,
    }
    waits.close()
    InteractiveShell.clear_instance()


@pytest.mark.parametrize(
    ("expression", "what"),
    [
        ("os.environ", "os.environ is data inside a module"),
        ("os.environ['PIANO_TEST_PART']", "os.environ is data inside a module"),
        ("os.environ._data", "os.environ is data inside a module"),
        ("os.path.os.environ", "os.path.os.environ is data inside a module"),
        ("everything['os'].environ", "data inside a module"),
        ("sys.modules['os']", "sys.modules is data inside a module"),
        ("os.sys.argv", "data inside a module"),
        ("pd._libs", "pd._libs is an internal"),
        ("pd.__version__", "pd.__version__ is an internal"),
        ("env", "env is the environment of the process"),
        ("env['PIANO_TEST_PART']", "env is the environment of the process"),
        ("envb", "the environment"),
        ("settings.env", "settings.env is the environment"),
        ("settings.env['PIANO_TEST_PART']", "the environment"),
        ("chain", "chain is the environment"),
        ("chain['PIANO_TEST_PART']", "chain is the environment"),
        ("copy", "copy is the environment"),
        ("proxy", "proxy is the environment"),
        ("proxy['PIANO_TEST_PART']", "proxy is the environment"),
        ("wrapper.data", "wrapper is the environment"),
        ("raw[0]", "raw[0] is the environment"),
        ("views[0]", "views[0] is the environment"),
        ("copy['PIANO_TEST_PART']", "copy is the environment"),
        ("nested['all'][0]['PIANO_TEST_PART']", "nested['all'][0] is the environment"),
        ("frame", "frame is a stack frame"),
        ("frame.f_globals", "a stack frame"),
        ("stack[0].frame", "a stack frame"),
        ("stack[0][0].f_locals", "a stack frame"),
        ("gen.gi_frame", "a stack frame"),
        ("waits.cr_frame", "a stack frame"),
        ("tb.tb_frame", "a stack frame"),
        ("error.__traceback__", "an internal of Python"),
        ("function.__globals__", "an internal of Python"),
        ("function.__globals__['os'].environ", "an internal of Python"),
        ("function.__code__", "an internal of Python"),
        ("function.__closure__", "an internal of Python"),
        ("wrapped.__wrapped__", "an internal of Python"),
        ("function.__class__.__base__.__subclasses__", "an internal of Python"),
        ("ip", "ip is an object of IPython"),
        ("ip.user_ns", "an object of IPython"),
        ("holder.shell.kernel.session.key", "holder.shell is an object of IPython"),
        ("holder.session.key", "holder.session is an object of jupyter_client"),
        ("holder.parts[0].key", "an object of jupyter_client"),
        ("session", "an object of jupyter_client"),
        ("IPython.core.interactiveshell.InteractiveShell._instance", "an object of IPython"),
        ("out", "an object of Piano"),
        ("out.session", "an object of Piano"),
        ("log.handlers[0].stream", "an object of Piano"),
        ("config", "config is an object of Piano"),
        ("config.api_key", "an object of Piano"),
    ],
)
def test_what_lies_behind_the_users_data_is_refused_with_a_sentence_in_inspect_and_in_braces(
    variables, expression, what
):
    with pytest.raises(PianoError, match="which is not read; put the part you need into a var") as refused:
        look_up(expression, variables)
    with pytest.raises(PianoError, match="which is not read"):
        fill_in(f"{{{{{expression}}}}}", variables)

    assert what in str(refused.value)
    assert SECRET not in str(refused.value)


def test_the_objects_of_ipykernel_are_refused():
    app = ipykernel.kernelapp.IPKernelApp()

    with pytest.raises(PianoError, match="app is an object of ipykernel"):
        look_up("app.session.key", {"app": app})


@pytest.mark.parametrize(
    "name", ["settings", "nested", "copies", "chains", "default", "default_copy", "views", "ordered", "raw", "wrappers"]
)
def test_data_that_holds_the_environment_is_shown_without_it(variables, name):
    told = described(look_up(name, variables))

    assert SECRET not in told
    assert os.environ["PATH"] not in told
    assert "<the environment, which is not read>" in told


@pytest.mark.parametrize(
    "name", ["settings", "nested", "copies", "chains", "default", "default_copy", "views", "ordered", "raw", "wrappers"]
)
def test_data_that_holds_the_environment_is_inserted_without_it(variables, name):
    assert SECRET not in fill_in(f"{{{{{name}}}}}", variables).sent


def test_data_that_shows_the_environment_is_filled_into_no_prompt(variables):
    variables["settings"] = type("Settings", (), {"__repr__": lambda _: f"Settings({os.environ})"})()

    with pytest.raises(PianoError, match=r"\{\{settings\}\}: it shows the environment of the process; put the part"):
        fill_in("{{settings}}", variables)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("home", "/home/me"),
        ("rows[-1]['k']", 2),
        ("frame.shape", (1, 1)),
        ("holder._part", 3),
        ("files[0]", "a.txt"),
        ("answer.content", "hello"),
        ("os.path.join", os.path.join),
        ("pd.DataFrame.merge", pd.DataFrame.merge),
        ("np.add", np.add),
        ("os.path", os.path),
        ("options", {"PATH": os.environ["PATH"], "size": 3}),
        ("chain['size']", 3),
        ("kinds[0]", FrameType),
    ],
)
def test_the_users_data_and_the_functions_of_modules_are_read(make, expression, value):
    variables = {
        "home": "/home/me",
        "rows": [{"k": 1}, {"k": 2}],
        "frame": pd.DataFrame({"a": [1]}),
        "holder": Holder(_part=3),
        "files": SList(["a.txt"]),
        "answer": make.message("hello"),
        "os": os,
        "pd": pd,
        "np": np,
        "options": {"PATH": os.environ["PATH"], "size": 3},
        "chain": collections.ChainMap({"size": 3}, {}),
        "kinds": [FrameType],
    }

    assert look_up(expression, variables) == value

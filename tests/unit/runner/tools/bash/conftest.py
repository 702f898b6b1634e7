"""What the tests of bash share: a command in the sandbox, as a model runs it."""

import asyncio
import secrets

import pytest
from sandboxing import running, wait_until


@pytest.fixture
def run(bash_of, sandboxed):
    """Run a command in the sandbox; return what the model reads. `run.bash` has the questions and the answer."""
    bash = bash_of()

    async def run(command):
        return (await bash(command, mode="write"))[1]

    run.bash = bash
    return run


@pytest.fixture
def paused(bash_of, sandboxed, tmp_path_factory):
    """Start a command; return its call once it has come to `$pause`, and a function that lets it go on."""
    signals = tmp_path_factory.mktemp("signals")
    bash = bash_of(readable_paths=[str(signals)])

    async def start(command, **how):
        number = f"{secrets.randbelow(10**8):08}"
        mark = f"sleep 3{number}"  # a process that can be seen from outside; the command itself has a quote in it
        pause = f"sleep 3'{number}' & while [ ! -e {signals}/go ]; do sleep 0.01; done"
        call = asyncio.create_task(bash(command.replace("$pause", pause), **{"mode": "write", **how}))
        await asyncio.to_thread(wait_until, lambda: running(mark), "the command did not begin")
        return call, (signals / "go").touch

    return start

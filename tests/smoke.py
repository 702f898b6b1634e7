"""One conversation in a real kernel of the Python that runs this: load, ask, panel, tools, unload; prints one line.

It needs no more than `piano_jupyter` and `jupyter_client`: `.ci/run versions` runs it on each Python that is there.
"""

import os
import platform
import sys
import tempfile
import time
from pathlib import Path

from jupyter_client import KernelManager
from own_kernel import OwnKernels

from piano_jupyter.testing import ScriptedServer, echo, tool_call

DEADLINE = 60  # seconds, for a start and for a cell
PRICE = """
from piano_jupyter import tool
@tool
def price(item: str) -> float:
    "Return the price of an item."
    return {"tea": 2.5}[item]
"""
#: A tool of the user's own, a file tool, bash and two kernel tools: the arguments, and a part of the result.
CALLS = {
    "price": ({"item": "tea"}, "2.5"),
    "create_file": ({"path": "made.txt", "content": "made"}, "made.txt"),
    "bash": ({"command": "cat made.txt"}, "made"),
    "inspect": ({"name": "basket"}, "list"),
    "run_python": ({"code": "len(basket) + 40"}, "42"),
}


class Notebook:
    """A kernel in a folder, in which each cell must end well."""

    def __init__(self, folder, environment):
        self.manager = KernelManager(kernel_spec_manager=OwnKernels())
        self.manager.start_kernel(cwd=str(folder), env=environment)
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(DEADLINE)

    def run(self, code):
        """Run a cell, say yes to what it asks, and return all that it shows."""
        shown = []
        reply = self.client.execute_interactive(
            code,
            allow_stdin=True,
            timeout=DEADLINE,
            output_hook=lambda message: shown.append(str(message["content"])),
            stdin_hook=lambda _message: self.client.input("y"),
        )
        check(reply["content"]["status"] == "ok", code, *shown)
        return "\n".join(shown)

    def end(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel()
        self.manager.cleanup_resources()


def check(holds, *what):
    """End with what was seen, also under `python -O`, if something does not hold."""
    if not holds:
        sys.exit("\n".join(["the smoke test failed:", *map(str, what)]))


def converse(notebook, stub):
    """Do once what users do."""
    notebook.run("%load_ext piano_jupyter")
    answer = notebook.run("%%piano\nhello")
    check("You said: hello" in answer, answer)
    panel = notebook.run("%piano panel")
    check("application/vnd.jupyter.widget-view+json" in panel, panel)
    notebook.run(f"basket = ['tea', 'bread']\n{PRICE}")
    notebook.run(f"%piano agent Assistant --tools {','.join(CALLS)}")
    asked_before = len(stub.requests)
    stub.says(*(tool_call(name, **arguments) for name, (arguments, _result) in CALLS.items()), "All done.")
    answer = notebook.run("%%piano\nUse every tool.")
    check("All done." in answer, answer)
    results = [request["messages"][-1]["content"] for request in stub.requests[asked_before + 1 :]]
    for (name, (_arguments, expected)), result in zip(CALLS.items(), results, strict=True):
        check(expected in result, f"{name} returned: {result}")
    notebook.run("%unload_ext piano_jupyter\nassert 'piano' not in get_ipython().magics_manager.magics['line']")


def main():
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name, ScriptedServer(answer=echo) as stub:
        folder = Path(name)
        own = {"IPYTHONDIR": ".ipython", "JUPYTER_RUNTIME_DIR": ".runtime", "XDG_DATA_HOME": ".data"}
        os.environ |= {variable: str(folder / inside) for variable, inside in own.items()}
        workspace = folder / "workspace"
        workspace.mkdir()
        notebook = Notebook(workspace, os.environ | {"PIANO_BASE_URL": stub.url})
        try:
            converse(notebook, stub)
        finally:
            notebook.end()
    tools = ", ".join(CALLS)
    seconds = time.monotonic() - began
    print(f"Python {platform.python_version()}: loaded, asked, panel, tools ({tools}), unloaded; {seconds:.0f} s")


if __name__ == "__main__":
    main()

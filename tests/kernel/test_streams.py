"""What the user's threads print and what tools print, in a real kernel."""

import pytest

from piano_jupyter.testing import tool_call

PRINTERS = """
import sys, threading
sys.setswitchinterval(0.0002)
pause = threading.Event()
def keep_printing():
    while not pause.wait(0.02):
        for _ in range(25):
            print("", end="")
            print("", end="", file=sys.stderr)
for _ in range(25):
    threading.Thread(target=keep_printing, daemon=True).start()
prices = list(range(200))
"""
TOOL = """
from piano_jupyter import tool
@tool
def look_up(number: int) -> str:
    '''Print and return.'''
    print("looked up")
    return f"found {number}"
"""


@pytest.mark.parametrize(
    ("name", "arguments", "result"),
    [
        ("inspect", lambda number: {"name": f"prices[{number}]"}, "prices[199] is int\n199"),
        ("look_up", lambda number: {"number": number}, "looked up\nfound 199"),
        (
            "run_python",
            lambda number: {"code": f"threading.Thread(target=print, args=(' ',)).start()\nprint('ran')\n{number}"},
            "ran\n199",
        ),
    ],
)
def test_two_hundred_tool_calls_while_many_threads_print_do_not_end_the_kernel(
    kernel_of, stub_model, name, arguments, result
):
    kernel = kernel_of().load()
    kernel.run(TOOL)
    kernel.run("%config PianoConfig.rules = ['allow run_python']")
    kernel.run(f"%piano agent Assistant --tools {name}")
    kernel.run(PRINTERS)

    for begin in range(0, 200, 50):
        stub_model.says([tool_call(name, **arguments(number)) for number in range(begin, begin + 50)], "done")
        cell = kernel.run("%%piano\nlook")
        assert (cell.status, kernel.process.poll()) == ("ok", None)

    results = [message["content"] for message in stub_model.requests[-1]["messages"] if message["role"] == "tool"]
    assert len(results) == 200
    assert results[-1] == result


def test_the_streams_stay_the_same_objects_through_tool_calls_and_reloads(kernel, stub_model):
    kernel.run(TOOL)
    kernel.run("%piano agent Assistant --tools look_up,inspect")
    kernel.run("import sys, threading\nstreams = sys.stdout, sys.stderr")
    stub_model.says(tool_call("look_up", number=1), tool_call("inspect", name="streams"), "done")

    kernel.run("%%piano\nlook")
    kernel.run("%unload_ext piano_jupyter")
    kernel.run("%load_ext piano_jupyter")
    kernel.run("%reload_ext piano_jupyter")
    seen = kernel.run("print(sys.stdout is streams[0], sys.stderr is streams[1])")

    assert seen.stream == "True True\n"


def test_unloading_restores_the_output_streams(kernel):
    seen = kernel.run(
        "import io, ipykernel.iostream, sys, threading\n"
        "print(isinstance(sys.stdout, ipykernel.iostream.OutStream), sys.stdout.name, sys.stdout.encoding)\n"
        "thread = threading.Thread(target=print, args=['from a thread'])\nthread.start()\nthread.join()\n"
        "print('error', file=sys.stderr)"
    )
    captured = kernel.run("%%capture kept\nprint('kept')")
    after = kernel.run("print(repr(kept.stdout), file=sys.stdout, flush=True)")

    assert seen.outputs == [("stdout", "True stdout UTF-8\nfrom a thread\n"), ("stderr", "error\n")]
    assert captured.stream == ""
    assert after.stream == "'kept\\n'\n"


@pytest.mark.parametrize("first", ["%%capture kept", "%%capture --no-stderr kept"])
def test_in_a_cell_whose_output_is_captured_a_tool_keeps_what_it_prints_and_later_cells_print(
    kernel, stub_model, first
):
    kernel.run(TOOL)
    kernel.run("%piano agent Assistant --tools look_up")
    stub_model.says(tool_call("look_up", number=1), "done")

    kernel.run(f"{first}\nprint('before')\nanswer = %piano ask look\nprint('after')")
    seen = kernel.run("print('looked up' in kept.stdout, 'before' in kept.stdout, 'after' in kept.stdout)")

    assert stub_model.requests[-1]["messages"][-1]["content"] == "looked up\nfound 1"
    assert seen.stream == "False True True\n"

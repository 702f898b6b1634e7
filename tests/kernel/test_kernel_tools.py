"""Tools that see the user's variables, in a real kernel: while a cell waits, while none runs, while another runs."""

import os
import re
import subprocess
import sys
import time

import psutil
import pytest
from kernel.conftest import Kernel
from waiting import until

from piano_jupyter.testing import tool_call

SALES = "import pandas as pd\nsales = pd.DataFrame({'item': ['tea', 'bread'], 'price': [2.5, 3.2]})"
LOOKS = "%piano agent Assistant --tools variables,inspect,query,add_cell"
RUNS = "%piano agent Assistant --tools run_python"
UNTIL = """
import time
def until(sign):
    while sign not in repr(get_ipython().run_line_magic("piano", "events")):
        time.sleep(0.01)
"""
LONG = "import time\nbegun = True\nfor _ in range(6000):\n    time.sleep(0.01)\nended = True"


def told(stub_model):
    """What the model was told last: the result of its call."""
    return stub_model.requests[-1]["messages"][-1]["content"]


def calls(stub_model, tool, /, **arguments):
    stub_model.says(tool_call(tool, **arguments), "done")


def run_python(kernel, stub_model, code):
    """Have an agent run code while a cell waits; return the cell, and what the model was told."""
    calls(stub_model, "run_python", code=code)
    cell = kernel.run("%%piano\ngo", answers=["y"])
    return cell, told(stub_model)


FORK = """
import multiprocessing
child = multiprocessing.get_context("fork").Process(target=print, args=("from a fork",))
child.start()
child.join()
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory, _stub_server):
    """One kernel, with `price`, for all code of agents that must leave it as it is."""
    home = tmp_path_factory.mktemp("running")
    (home / ".ipython").mkdir()
    kernel = Kernel(home, _stub_server, stdin=True).load()
    kernel.run("price = 2")
    kernel.run(RUNS)
    yield kernel
    kernel.end()


def test_a_waiting_cell_lets_its_agent_see_the_variables(kernel, stub_model):
    kernel.run(SALES)
    kernel.run("def total(frame):\n    'Add it up.'\n    return frame['price'].sum()")
    kernel.run(LOOKS)
    stub_model.says(
        tool_call("variables"),
        tool_call("inspect", name="sales"),
        tool_call("inspect", name="total"),
        tool_call("query", sql="SELECT max(price) AS most FROM sales"),
        "done",
    )

    cell = kernel.run("%%piano\nWhat is there?")

    variables, sales, total, query = [each["messages"][-1]["content"] for each in stub_model.requests[1:]]
    assert cell.text.splitlines()[-1] == "done"
    assert variables == (
        "name   type              size                memory\n"
        f"sales  pandas.DataFrame  2 rows × 2 columns  {variables.splitlines()[1].split('  ')[-1]}\n"
        "functions and classes: total\nmodules: pd"
    )
    assert "price   float64  0      2.5 to 3.2, mean 2.85" in sales
    assert "def total(frame):" in total
    assert query == "most\n3.2"


def test_an_idle_kernel_lets_an_agent_see_the_variables(kernel, stub_model):
    kernel.run(SALES)
    kernel.run(LOOKS)
    calls(stub_model, "inspect", name="sales['price']")

    kernel.run("%piano send look")
    until(lambda: len(stub_model.requests) == 2, "the tool did not return")

    assert told(stub_model).startswith("sales['price'] is pandas.Series, 2 values")


def test_tools_read_variables_for_awaited_answers_and_tasks(kernel, stub_model):
    kernel.run(SALES)
    kernel.run(LOOKS)
    calls(stub_model, "query", sql="SELECT count(*) FROM sales")
    calls(stub_model, "query", sql="SELECT sum(price) FROM sales")

    awaited = kernel.run("print((await piano.ask('how many?')).content)")
    first = told(stub_model)
    kernel.run(
        "import asyncio\nasync def ask(): return await piano.ask('how much?')\ntask = asyncio.create_task(ask())"
    )
    until(lambda: len(stub_model.requests) == 4, "the tool did not return")

    assert awaited.stream == "done\n"
    assert first == "count_star()\n2"
    assert told(stub_model) == "sum(price)\n5.7"


def test_reading_a_variable_waits_for_another_running_cell_and_says_so(kernel, stub_model):
    kernel.run(UNTIL)
    kernel.run(LOOKS)
    calls(stub_model, "variables", pattern="half")

    cell = kernel.run("%piano send look\nuntil('ToolWaiting')\nhalf_way = len('waited')")
    until(lambda: len(stub_model.requests) == 2, "the tool did not return")

    assert cell.status == "ok"
    assert "half_way  int" in told(stub_model)


def test_a_read_that_started_to_wait_in_one_cell_runs_in_the_next_waiting_cell(kernel, stub_model):
    kernel.run(UNTIL)
    kernel.run(LOOKS)
    stub_model.says(tool_call("variables"), "looked", "and this")

    cell = kernel.run("%piano send look\nuntil('ToolWaiting')\nanswer = %piano wait\nprint(answer.content)")

    assert (cell.status, cell.stream) == ("ok", "looked\n")


def test_code_runs_with_the_users_variables_after_approval(kernel_of, stub_model):
    kernel = kernel_of(stdin=True).load()
    kernel.run("price = 2")
    kernel.run(RUNS)

    cell, result = run_python(kernel, stub_model, "print('twice')\ndouble = price * 2\ndouble")

    assert "double = price * 2" in cell.prompts[0]
    assert result == "twice\n4"
    assert kernel.run("double").text == "4"


def test_code_without_approval_does_not_run(kernel, stub_model):
    kernel.run(RUNS)

    _, result = run_python(kernel, stub_model, "ran = True")

    assert "did not allow" in result
    assert kernel.run("'ran' in globals()").text == "False"


def test_code_that_an_agent_runs_leaves_the_history_of_cells_as_it_is(kernel_of, stub_model):
    kernel = kernel_of(stdin=True).load()
    kernel.run(RUNS)
    kernel.run("hooked = []\nget_ipython().events.register('post_run_cell', lambda *_: hooked.append(1))\n40 + 2")

    run_python(kernel, stub_model, "mine = 7\nmine")
    seen = kernel.run("print(sorted(Out), Out[3], 'mine' in ''.join(In[:-1]), len(In), len(hooked), mine)")

    assert seen.stream == "[2, 3, 4] 42 False 6 2 7\n"  # 4 is the answer of %%piano


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("1 +", "failed: the code raised an error:\nSyntaxError: invalid syntax (line 1: 1 +)"),
        ("await x", "SyntaxError: 'await' outside function; await works only in a cell (line 1: await x)"),
        ("import sys\nsys.exit(3)", "  line 2: sys.exit(3)\nSystemExit: 3"),
        (
            "def f(x):\n    return x['no']\nf({})",
            "  line 3: f({})\n  line 2 in f: return x['no']\nKeyError: 'no'",
        ),
        ("import json\njson.loads('{')", "  line 2: json.loads('{')\njson.decoder.JSONDecodeError: Expecting"),
        ("raise KeyboardInterrupt", "  line 1: raise KeyboardInterrupt\nKeyboardInterrupt"),
        ("class A:\n    def __repr__(self): raise OSError('no')\nA()", "<a A, whose repr raised OSError>"),
        ("'x' * 10**8", "xxx'… (100,000,000 characters)"),
        ("[0] * 10**7", "0,\n ...]"),
        ("%time 1 + 1", "2"),
        ("!echo from the shell", "from the shell"),
        ("%%bash\necho from bash\necho wrong >&2", "from bash"),
        ("import subprocess\nsubprocess.run(['echo', 'from a program'])", "from a program\nCompletedProcess("),
        ("import os\nos.system('echo wrong >&2')", "wrong\n0"),
        ("import os\nos.write(1, 'grün'.encode())", "grün5"),
        (FORK, "from a fork"),
        (
            "import os\nfor n in range(3): print(n); _ = os.system(f'echo {n}{n}'); os.write(2, b'x')",
            "0\n00\nx1\n11\nx2",
        ),
        ("import os\nos.system('head -c 5000000 /dev/zero | tr \\\\0 y')", "characters left out"),
        ("import sys, warnings\nprint('e', file=sys.stderr)\nwarnings.warn('w')\n3;", "e\n<run_python"),
        ("from IPython.display import HTML\ndisplay({'a': 1}, HTML('<b>x</b>'))", "{'a': 1}\n<IPython.core.display"),
        ("get_ipython().run_line_magic('piano', 'ask hi')", "code that an agent runs cannot ask or wait"),
        ("x = 1", "it ran and printed nothing"),
    ],
)
def test_output_and_errors_of_code_go_to_the_agent_and_not_into_the_cell(running, stub_model, code, says):
    cell, result = run_python(running, stub_model, code)

    assert says in result
    assert len(result) < 31_000
    assert cell.status == "ok"
    assert cell.stream == ""
    assert [output for output, _ in cell.outputs].count("display_data") == 2  # the live output and the answer
    assert running.run("1").text == "1"


def test_what_programs_of_an_agent_print_goes_to_the_agent_where_the_kernel_watches_its_descriptors(
    kernel_of, stub_model, monkeypatch
):
    monkeypatch.delenv("PYTEST_CURRENT_TEST", raising=False)  # with it, ipykernel does not watch them
    kernel = kernel_of(stdin=True).load()
    kernel.run(RUNS)
    watched = kernel.run("import os\n[os.fstat(each).st_ino for each in (1, 2)]").text

    cell, result = run_python(kernel, stub_model, "import subprocess\nsubprocess.run(['echo', 'theirs'])")

    assert result.startswith("theirs\nCompletedProcess(")
    assert "theirs" not in cell.stream
    assert kernel.run("[os.fstat(each).st_ino for each in (1, 2)]").text == watched


SURVIVES = "import asyncio\nawait asyncio.sleep(0.3)\nprice"  # a kernel that is told to exit ends in 0.1 s


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("print('so far')\nexit()", "so far\n  line 2: exit()\nSystemExit: an agent's code cannot end the"),
        ("exit", "  line 1: exit()\nSystemExit: an agent's code cannot end the kernel"),
        ("quit()", "  line 1: quit()\nSystemExit: an agent's code"),
        ("exit(keep_kernel=True)", "SystemExit: an agent's code"),
        ("get_ipython().ask_exit()", "SystemExit: an agent's code"),
        ("get_ipython().exit_now = True", "SystemExit: an agent's code"),
        ("get_ipython().kernel.do_shutdown(True)", "SystemExit: an agent's code"),
        ("import IPython\nIPython.Application.instance().exit()", "SystemExit: 0"),
        (
            "try:\n    exit()\nexcept BaseException as error:\n    print(repr(error))",
            'SystemExit("an agent',
        ),
    ],
)
def test_an_exit_in_code_that_an_agent_runs_is_told_to_the_agent_and_the_kernel_lives(running, stub_model, code, says):
    cell, result = run_python(running, stub_model, code)

    assert says in result
    assert cell.status == "ok"
    assert running.run(SURVIVES).text == "2"


def test_an_exit_in_a_tool_a_repr_or_a_task_left_behind_does_not_end_the_kernel(kernel_of, stub_model):
    kernel = kernel_of(stdin=True).load()
    kernel.run("price = 2")
    kernel.run("class Exits:\n    def __repr__(self): exit()\nexits = Exits()")
    kernel.run(
        "from piano_jupyter import tool\n@tool\ndef leave() -> str:\n    'Leave.'\n    exit()\n    return 'left'\n"
        "@tool\nasync def go_away() -> str:\n    'Go away.'\n    quit()\n    return 'gone'"
    )
    kernel.run("%piano agent Assistant --tools leave,go_away,inspect,run_python")
    later = "import asyncio\nasync def later():\n    exit()\ntask = asyncio.get_event_loop().create_task(later());"
    stub_model.says(
        tool_call("leave"),
        tool_call("go_away"),
        tool_call("inspect", name="exits"),
        tool_call("run_python", code=later),
        "done",
    )

    kernel.run("%%piano\ngo", answers=["y"])

    left, gone, looked, _ = [each["messages"][-1]["content"] for each in stub_model.requests[1:]]
    assert "SystemExit: an agent's code cannot end the kernel" in left
    assert "SystemExit: an agent's code cannot end the kernel" in gone
    assert looked == "it ended with SystemExit"
    assert kernel.run(SURVIVES).text == "2"
    assert "RuntimeError(\"an agent's code cannot" in kernel.run("task.exception()").text


def test_an_async_tool_that_would_wait_for_the_loop_that_it_runs_on_is_told_so(kernel, stub_model):
    kernel.run(
        "from piano_jupyter import tool\n"
        "@tool\nasync def title() -> str:\n    'Title.'\n    return piano.thread.title\n"
        "@tool\nasync def list_them() -> str:\n    'List.'\n    get_ipython().run_line_magic('piano', 'threads')\n"
        "@tool\nasync def count() -> int:\n    'Count.'\n    return len(await piano.threads())"
    )
    kernel.run("%piano agent Assistant --tools title,list_them,count")
    stub_model.says(tool_call("title"), tool_call("list_them"), tool_call("count"), "done")
    cell = kernel.run("%%piano\ngo")

    title, listed, counted = [each["messages"][-1]["content"] for each in stub_model.requests[1:]]
    for each in (title, listed):
        assert "runs on the chat's own loop, which cannot wait for itself: define the tool with def" in each
    assert (counted, cell.status) == ("1", "ok")


@pytest.mark.parametrize("before", ["1", "%unload_ext piano_jupyter"])
def test_the_user_can_still_end_the_kernel(kernel, before):
    kernel.run(before)

    kernel.run("exit()")

    assert kernel.process.wait(30) == 0


def test_an_interrupt_in_the_middle_of_code_ends_the_code_and_the_turn(kernel_of, stub_model):
    kernel = kernel_of(stdin=True).load()
    kernel.run(RUNS)
    calls(stub_model, "run_python", code=LONG.replace("begun = True", "open('begun', 'w').close()"))

    started = kernel.start("%%piano\ngo")
    until(kernel.client.stdin_channel.msg_ready, "nobody was asked")
    kernel.client.get_stdin_msg(timeout=1)
    kernel.client.input("y")
    until((kernel.folder / "begun").exists, "the code did not begin")
    kernel.manager.interrupt_kernel()
    cell = kernel.finish(started)
    stub_model.script.clear()

    assert cell.stream == "AnswerFailedError: interrupted; the job was cancelled; its unfinished answer is not kept\n"
    assert kernel.run("'ended' in globals()").text == "False"
    assert "cancelled" in kernel.run("%piano queue --all").text
    assert kernel.run("%%piano\nagain").text == "You said: again"


def begin_while_idle(kernel, stub_model, code):
    """Have an agent begin to run code while no cell does; return once it has begun."""
    calls(stub_model, "run_python", code="open('begun', 'w').close()\n" + code)
    kernel.run("%piano send go")
    until(lambda: "run_python" in kernel.run("%piano approve").text, "nobody was asked")
    call = kernel.run("%piano approve").text.split()[0]
    kernel.run(f"%piano approve {call}")
    until((kernel.folder / "begun").exists, "the code did not begin")


def test_an_interrupt_of_an_idle_kernel_ends_the_code_that_runs_there_and_its_turn(kernel, stub_model):
    kernel.run(RUNS)
    begin_while_idle(kernel, stub_model, LONG)

    kernel.manager.interrupt_kernel()

    until(lambda: "cancelled" in kernel.run("%piano queue --all").text, "the turn did not end")
    assert kernel.run("'ended' in globals()").text == "False"
    assert kernel.run("1").text == "1"


@pytest.mark.parametrize(
    "code",
    [
        LONG,
        "while True:\n    try:\n        time.sleep(60)\n    except KeyboardInterrupt:\n        if stop.pop(): break",
    ],
)
def test_code_that_takes_too_long_is_stopped_and_its_output_returned(kernel, stub_model, code):
    kernel.run(RUNS)
    kernel.run("%config PianoConfig.tool_timeout = 2")
    kernel.run("import time; stop = [True, False]")

    begin_while_idle(kernel, stub_model, "print('so far')\n" + code)
    until(lambda: len(stub_model.requests) == 2, "the tool did not return")

    assert told(stub_model).startswith("timeout: it was stopped after 1 s; it had printed:\nso far")
    assert kernel.run("'ended' in globals()").text == "False"


def test_a_read_that_hangs_is_stopped_and_the_cell_continues(kernel, stub_model):
    kernel.run("class Hangs:\n    def __repr__(self):\n        while True: pass\nhangs = Hangs()")
    kernel.run(LOOKS)
    kernel.run("from piano_jupyter.jupyter.kernel_tools import toolset\ntoolset.LOOK_TIMEOUT_S = 0.5")
    calls(stub_model, "inspect", name="hangs")

    cell = kernel.run("%%piano\nlook")

    assert told(stub_model) == "timeout: it was stopped after 0.5 s"
    assert cell.text.endswith("done")


def test_a_call_that_is_cancelled_before_it_starts_never_runs(kernel, stub_model):
    kernel.run(UNTIL)
    kernel.run("class Seen:\n    looked = 0\n    def __repr__(self):\n        Seen.looked += 1\n        return ''")
    kernel.run("seen = Seen()")
    kernel.run(LOOKS)
    calls(stub_model, "inspect", name="seen")

    cell = kernel.run(
        "job = %piano send look\nuntil('ToolWaiting')\nget_ipython().run_line_magic('piano', f'cancel {job.id}')"
    )

    assert cell.status == "ok"
    assert kernel.run("Seen.looked").text == "0"
    assert kernel.run("Seen.looked").text == "0"


def test_a_call_that_waits_too_long_for_another_cell_does_not_run(kernel, stub_model):
    kernel.run(UNTIL)
    kernel.run(LOOKS)
    kernel.run("%config PianoConfig.tool_timeout = 2")
    calls(stub_model, "variables")

    cell = kernel.run("%piano send look\nuntil('JobDone')")

    assert cell.status == "ok"
    assert told(stub_model) == "busy: the kernel was busy with another cell for 1 s, so it did not run"


def test_stopping_code_that_takes_too_long_does_not_hit_the_next_cell(kernel, stub_model):
    kernel.run(RUNS)
    kernel.run("%config PianoConfig.tool_timeout = 1")

    begin_while_idle(kernel, stub_model, LONG)
    cell = kernel.run("sum(range(10**7))")  # it stands in the kernel's queue behind the code

    assert (cell.status, cell.text) == ("ok", "49999995000000")
    assert until(lambda: len(stub_model.requests) == 2, "the tool did not return")
    assert told(stub_model).startswith("timeout: ")


def test_ten_million_rows_are_described_without_a_copy(kernel, stub_model):
    kernel.run(
        "import numpy as np, pandas as pd\nrows = 10_000_000\n"
        "big = pd.DataFrame({'n': np.arange(rows), 'x': np.random.default_rng(0).random(rows)})\n"
        "big['word'] = pd.Categorical.from_codes(np.arange(rows) % 3, ['a', 'b', 'c'])"
    )
    kernel.run(LOOKS)
    kernel.run(  # what was used at most is measured from here on
        "def peak():\n    lines = open('/proc/self/status').read().splitlines()\n"
        "    return next(int(line.split()[1]) for line in lines if line.startswith('VmHWM'))\n"
        "open('/proc/self/clear_refs', 'w').write('5')\nbefore = peak()"
    )
    calls(stub_model, "inspect", name="big")

    begun = time.monotonic()
    kernel.run("%%piano\nlook")
    took = time.monotonic() - begun

    result = told(stub_model)
    assert result.startswith("big is pandas.DataFrame, 10,000,000 rows × 3 columns, 170 MB")
    assert "those of a sample: 10,000 rows, drawn at random" in result
    assert int(kernel.run("peak() - before").text) < 20_000  # kB, the whole turn: a copy of one column is 80,000
    assert took < 5


def test_a_query_that_runs_for_long_is_ended_by_an_interrupt(kernel, stub_model):
    kernel.run("import pandas as pd\nnumbers = pd.DataFrame({'n': range(100_000)})")
    kernel.run(LOOKS)
    kernel.run("%piano")
    calls(stub_model, "query", sql="SELECT sum(a.n * b.n) FROM numbers a, numbers b, numbers c")

    started = kernel.start("%%piano\ngo")
    until(lambda: stub_model.requests, "the model was not asked")
    while "running query" not in str(kernel.client.get_iopub_msg(timeout=30)["content"].get("data")):
        pass  # it comes, or the client says that nothing did
    before = psutil.Process(kernel.process.pid).cpu_times().user
    until(lambda: psutil.Process(kernel.process.pid).cpu_times().user > before + 1, "the query did not run")
    kernel.manager.interrupt_kernel()
    cell = kernel.finish(started)
    stub_model.script.clear()

    assert cell.stream == "AnswerFailedError: interrupted; the job was cancelled; its unfinished answer is not kept\n"
    assert kernel.run("%%piano\nagain").text == "You said: again"


def test_an_interrupt_of_code_ends_its_turn_though_the_cell_only_waits_for_it(kernel_of, stub_model):
    kernel = kernel_of(stdin=True).load()
    kernel.run(RUNS)
    calls(stub_model, "run_python", code="open('begun', 'w').close()\n" + LONG)

    kernel.run("%piano send go")
    started = kernel.start("%piano wait")
    until(kernel.client.stdin_channel.msg_ready, "nobody was asked")
    kernel.client.get_stdin_msg(timeout=1)
    kernel.client.input("y")
    until((kernel.folder / "begun").exists, "the code did not begin")
    kernel.manager.interrupt_kernel()
    cell = kernel.finish(started)

    assert cell.stream == "AnswerFailedError: interrupted; the job was cancelled; its unfinished answer is not kept\n"


def test_the_environment_and_internals_reach_no_model(kernel, stub_model):
    kernel.run(
        "import os, sys, logging, ipykernel.kernelapp\nip = get_ipython()\nkernel = ip.kernel\nstream = sys.stdout"
    )
    key = kernel.run("print(kernel.session.key.decode(), os.environ['IPYTHONDIR'])").stream.split()
    kernel.run("everything = {'all': [os.environ, ip.kernel.session]}")
    kernel.run(LOOKS)
    looks = (
        "os.environ",
        "os.environ['IPYTHONDIR']",
        "ip.kernel.session.key",
        "kernel.session",
        "stream.session.key",
        "ipykernel.kernelapp.IPKernelApp._instance.session.key",
        "everything",
        "everything['all'][1].key",
        "get_ipython",
        "In",
    )
    stub_model.says(tool_call("variables"), *(tool_call("inspect", name=name) for name in looks), "done")
    kernel.run("%config PianoConfig.max_iterations = 20")
    kernel.run("%config PianoConfig.mask_secrets = False")

    kernel.run("%%piano\nlook")

    results = [each["messages"][-1]["content"] for each in stub_model.requests[1:]]
    assert len(results) == 1 + len(looks)
    assert [each for each in results if any(secret in each for secret in key)] == []
    refused = [each for each in results if each.startswith("refused: ") and "which is not read" in each]
    assert len(refused) == len(looks) - 3
    assert [each[:10] for each in results[-2:]] == ["not_found:"] * 2


def next_input(kernel, code):
    """Run a cell; return what its reply asks to put into a new cell."""
    started = kernel.start(code)
    while True:
        reply = kernel.client.get_shell_msg(timeout=30)
        if reply["parent_header"].get("msg_id") == started:
            return [(each["text"], each["replace"]) for each in reply["content"]["payload"]]


@pytest.mark.parametrize("code", ["%%piano\nhelp me", "print(await piano.ask('help me'))"])
def test_code_for_a_new_cell_comes_with_the_end_of_the_cell_that_waits(kernel, stub_model, code):
    kernel.run(LOOKS)
    stub_model.says(tool_call("add_cell", code="x = 1"), tool_call("add_cell", code="x + 1"), "done")

    payload = next_input(kernel, code)

    assert payload == [("x = 1\n\nx + 1", False)]
    assert told(stub_model) == "the code is put into a new cell below; the user decides whether to run it"
    assert next_input(kernel, "1") == []
    assert kernel.run("'x' in globals()").text == "False"


def test_code_for_a_cell_that_nobody_can_add_goes_into_the_answer(kernel, stub_model):
    kernel.run(LOOKS)
    calls(stub_model, "add_cell", code="x = 1")

    kernel.run("%piano send help me")
    until(lambda: len(stub_model.requests) == 2, "the tool did not return")

    assert told(stub_model).startswith("no_place: no cell waits and no chat panel is open that could add a cell")
    assert next_input(kernel, "1") == []


def test_the_tools_come_back_after_a_replay_and_are_listed(kernel):
    kernel.run("%piano record talk.jsonl")
    kernel.run("%piano record --stop")

    tools = kernel.run("%piano tools").text

    assert "variables    pattern" in tools
    assert re.search(r"^run_python +code +asks ", tools, re.MULTILINE)


def terminal(folder, stub_model, *cells):
    """Run cells in a terminal's IPython; return what it printed."""
    ran = subprocess.run(
        [sys.executable, "-m", "IPython", "--simple-prompt", "--no-banner", "--no-confirm-exit", "--colors=nocolor"],
        cwd=folder,
        env=os.environ | {"PIANO_BASE_URL": stub_model.url, "IPYTHONDIR": str(folder / ".ipython")},
        input="\n".join(["%load_ext piano_jupyter", *cells, ""]),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return ran.stdout + ran.stderr


def test_in_a_terminal_variables_are_read_only_while_a_cell_waits(tmp_path, stub_model):
    calls(stub_model, "variables")
    stub_model.says(tool_call("variables"), "seen")

    printed = terminal(
        tmp_path,
        stub_model,
        "price = 3",
        LOOKS,
        "%piano send look",
        "import time",
        "%piano",
        "while 'JobDone' not in repr(get_ipython().run_line_magic('piano', 'events')): time.sleep(0.01)\n",
        "%piano ask look",
    )

    refused, seen = [asked["messages"][-1]["content"] for asked in stub_model.requests[1::2]]
    assert refused.startswith("not_here: in a terminal this works only while %%piano waits")
    assert "price  int" in seen
    assert "seen" in printed


def test_in_a_terminal_an_agents_exit_is_refused_and_tools_keep_their_output(tmp_path, stub_model):
    stub_model.says(
        tool_call("look_up"),
        tool_call("run_python", code="print('so far')\nexit()"),
        tool_call("run_python", code="quit()"),
        "done",
    )

    printed = terminal(
        tmp_path,
        stub_model,
        "from piano_jupyter import tool; import sys",
        "@tool\ndef look_up() -> str:\n    'Look it up.'\n    print('kept by the tool')\n    return 'found'\n",
        "%piano agent Assistant --tools look_up,run_python",
        "stream = sys.stdout",
        "%piano ask go\ny\ny",
        "print('still', 'here', sys.stdout is stream, sys.stdout.fileno())",
        "exit()",
        "print('not', 'reached')",
    )

    results = [asked["messages"][-1]["content"] for asked in stub_model.requests[1:]]
    assert results[0] == "kept by the tool\nfound"
    assert "so far\n  line 2: exit()\nSystemExit: an agent's code cannot end the kernel" in results[1]
    assert "SystemExit: an agent's code cannot end" in results[2]
    assert "still here True 1" in printed
    assert "\nkept by the tool\n" not in printed
    assert "not reached" not in printed

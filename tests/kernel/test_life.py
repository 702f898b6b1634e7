"""The life of a kernel: restart, exit, a second kernel, and death at any moment."""

import random
import signal
import threading
from pathlib import Path

from waiting import until

from piano_jupyter import Piano
from piano_jupyter.testing import ServerReply, tool_call

LEFT = [".gitignore", "backup", "piano.duckdb", "piano.duckdb.lock"]  # of Piano's folder, once a kernel has ended


def test_a_restart_keeps_the_conversation(kernel, stub_model):
    kernel.run("%%piano\nhello")

    kernel.restart()
    kernel.load()

    assert "hello" in kernel.run("%piano threads").text
    kernel.run("%piano thread hello")
    assert kernel.run("%piano history").text == "hello\n\nYou: hello\n\nAssistant: You said: hello"


def test_the_exit_of_a_kernel_leaves_one_clean_file(kernel, tmp_path):
    kernel.run("%%piano\nhello")

    kernel.end()

    until(lambda: sorted(path.name for path in (tmp_path / ".piano").iterdir()) == LEFT, "the file was not closed")


def test_the_exit_in_the_middle_of_an_answer_is_quick_and_the_next_kernel_answers(kernel_of, stub_model, tmp_path):
    first = kernel_of().load()
    stub_model.says(ServerReply("never finished", held=True))
    first.run("%config PianoConfig.shutdown_timeout = 0.1")
    first.run("%%piano --no-wait\nhello")
    while not stub_model.requests:
        first.run("pass")

    first.end()
    second = kernel_of().load()

    assert "%piano resume" in second.run("%piano wait").stream
    assert second.run("%piano resume").text == "resumed 1 job"
    assert second.run("%piano wait").text == "You said: hello"


def test_loading_opens_nothing_and_a_first_use_opens_the_database(kernel, tmp_path):
    assert not (tmp_path / ".piano").exists()

    kernel.run("%piano")

    assert (tmp_path / ".piano" / "piano.duckdb").exists()


def test_j2_a_second_kernel_names_the_process_that_locks_the_database_and_the_fix_even_if_that_one_is_frozen(
    kernel_of, stub_model, tmp_path
):
    kernel = kernel_of(PIANO_SHARE="0").load()
    kernel.run("%%piano\nhello")
    kernel.process.send_signal(signal.SIGSTOP)

    cell = kernel_of().load().run("%%piano\nhello")
    kernel.process.send_signal(signal.SIGCONT)

    assert cell.status == "error"
    assert kernel.run("%%piano\nagain").status == "ok"
    assert cell.stream.startswith("StoreLockedError: ")
    for part in (str(tmp_path / ".piano" / "piano.duckdb"), str(kernel.process.pid), "PianoConfig.database"):
        assert part in cell.stream


def test_the_way_out_of_a_locked_database_can_be_copied_and_names_the_notebook(kernel_of, stub_model, tmp_path):
    alone = {"JPY_SESSION_NAME": str(tmp_path / "Sales review.ipynb-jvsc-1"), "PIANO_SHARE": "0"}
    kernel_of(**alone).load().run("%%piano\nhello")
    second = kernel_of().load()

    refused = second.run("%%piano\nhello")
    way_out = refused.stream.splitlines()[-1]
    second.run(way_out)

    assert ", the kernel of Sales review.ipynb: stop that kernel" in refused.stream
    assert way_out == '%config PianoConfig.database = ".piano/other.duckdb"'
    assert second.run("%%piano\nhello").text == "You said: hello"


def test_slow_packages_are_imported_at_first_use(kernel_of):
    kernel = kernel_of()
    code = "import sys; print([name for name in {names} if name in sys.modules])"
    heavy = [
        "duckdb",
        "httpx",
        "anywidget",
        "ipywidgets",
        "markdown_it",
        "nh3",
        "jsonschema_rs",
        "yaml",
        "xllamacpp",
        "pygments.lexers",
    ]

    before = kernel.run(code.format(names=heavy)).stream
    kernel.load()

    assert kernel.run(code.format(names=heavy)).stream == before


def test_the_package_imports_no_jupyter(kernel_of):
    code = (
        "import subprocess, sys\n"
        "print(subprocess.run([sys.executable, '-c', 'import sys, piano_jupyter; piano_jupyter.Piano; "
        'print([name for name in ("IPython", "ipywidgets", "anywidget", "ipykernel") if name in sys.modules])\'], '
        "capture_output=True, text=True).stdout)"
    )

    assert kernel_of().run(code).stream.strip() == "[]"


async def test_j1_killed_at_twenty_random_moments_nothing_is_lost_or_done_twice(kernel_of, stub_model, tmp_path):
    """Each message asks for one effect, a line in a file; the model answers once it has read the tool's result."""

    def answer(asked):
        last = asked["messages"][-1]
        if last["role"] == "tool":
            return f"read: {last['content']}"
        return ServerReply("calling", calls=[tool_call("effect", token=last["content"].splitlines()[-1])])

    define = """
%load_ext piano_jupyter
from piano_jupyter import tool
@tool
def effect(token: str) -> str:
    "Do it once."
    with open("effects", "a") as file:
        file.write(token + "\\n")
    __import__("time").sleep(0.1)  # it takes a while, so that some kills fall into it
    return "did " + token
"""
    stub_model.answer = answer
    chance = random.Random(20)
    accepted = []
    for moment in range(20):
        kernel = kernel_of()
        kernel.run(define)
        if not moment:
            kernel.run("%piano agent Assistant --tools effect")
        kernel.run("%piano resume")  # the jobs of the last kernel go on
        killer = threading.Timer(chance.uniform(0.0, 0.4), kernel.process.send_signal, [signal.SIGKILL])
        killer.start()
        for number in range(2):
            token = f"m{moment}-{number}"
            if kernel.run(f"%piano thread --new {token}\n%piano ask --no-wait {token}").status != "ok":
                break
            accepted.append(token)
        killer.join()
        kernel.process.wait(30)
        kernel.end(kill=True)

    last = kernel_of()
    last.run(define)
    cell = last.run("await piano.resume()\nawait piano.drain()")
    last.end()
    effects = Path(tmp_path / "effects").read_text().split()
    async with Piano(workspace=tmp_path, base_url=stub_model.url) as piano:
        asked = {row[0]: row[1] for row in await piano.sql("SELECT content, id FROM messages WHERE role = 'user'")}
        ends = await piano.sql(
            "SELECT q.content, j.status, count(a.id) FROM jobs j JOIN messages q ON q.id = j.message_id "
            "LEFT JOIN messages a ON a.job_id = j.id AND a.content LIKE 'read:%' GROUP BY ALL"
        )
        calls = await piano.sql("SELECT call_id FROM tool_results GROUP BY call_id HAVING count(*) > 1")
        again = await piano.sql("SELECT count(*) FROM jobs WHERE attempt > 1")
        unknown = await piano.sql("SELECT count(*) FROM tool_results WHERE status = 'unknown'")

    assert cell.status == "ok"
    assert accepted
    assert set(accepted) <= set(asked)
    assert len(effects) == len(set(effects))
    assert sorted(content for content, _, _ in ends) == sorted(asked)
    assert {(status, answers) for _, status, answers in ends} <= {("done", 1), ("failed", 0)}
    assert sum(status == "done" for _, status, _ in ends) >= len(accepted) * 3 // 4
    assert list(calls) == []
    assert again[0][0] > 3  # it was put to the test: turns were cut off, and tools in the middle of their work
    assert unknown[0][0] > 1

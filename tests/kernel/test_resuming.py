"""What a kernel that was killed left: the next one runs nothing of it until its user goes on."""

import os
import subprocess
import sys

import pytest
from store_processes import end_store_process

from piano_jupyter.testing import ServerReply, tool_call

WRITES = ServerReply("writing", calls=[tool_call("create_file", path="made", content="x")])
LOOKS = ("%piano", "%piano help", "%piano queue", "%piano threads", "%piano agents", "%piano sql SELECT 1", "piano")


@pytest.fixture
def killed_in_the_middle(kernel_of, stub_model):
    """Ask something of an agent that may write files, and kill the kernel while it answers; `first` are cells."""

    def kill(*first, **options):
        kernel = kernel_of(**options).load()
        for cell in ("%piano agent Assistant --tools create_file", *first):
            assert kernel.run(cell).status == "ok"
        stub_model.says(ServerReply("never finished", held=True))
        kernel.run("%%piano --no-wait\nwrite it")
        while not stub_model.requests:
            kernel.run("pass")
        kernel.kill()
        stub_model.reset()

    return kill


def test_loading_and_looking_run_nothing_and_a_job_keeps_its_mode(
    killed_in_the_middle, kernel_of, stub_model, tmp_path
):
    killed_in_the_middle("%config PianoConfig.mode = 'read'")
    stub_model.says(WRITES, "it was denied")

    kernel = kernel_of().load()
    seen = [kernel.run(each).text for each in LOOKS]
    kernel.client.complete("%piano retry ", 13)
    before = len(stub_model.requests)
    resumed = kernel.run("%piano resume")
    answer = kernel.run("%piano wait")

    assert before == 0
    assert "1 job waiting: an earlier kernel left it; %piano resume" in seen[0]
    assert "queued" not in seen[0], "it is counted once"
    assert "waits: an earlier kernel left it; %piano resume" in seen[2]
    assert resumed.text == "resumed 1 job"
    assert answer.text.endswith("it was denied")
    assert not (tmp_path / "made").exists()
    assert "read" in stub_model.requests[-1]["messages"][-1]["content"]


@pytest.mark.parametrize("cell", ["%%piano --thread new\nhello", "%piano panel"])
def test_a_question_and_a_panel_go_on_with_it(killed_in_the_middle, kernel_of, stub_model, tmp_path, cell):
    killed_in_the_middle()
    stub_model.answer = lambda asked: "done" if asked["messages"][-1]["role"] == "tool" else WRITES

    kernel = kernel_of().load()
    kernel.run("await piano.open_thread('new')")
    assert kernel.run(cell).status == "ok"
    kernel.run("await piano.drain()")

    assert (tmp_path / "made").read_text() == "x"
    assert "done" in kernel.run("%piano queue --all").text


def test_a_dock_that_comes_back_by_itself_runs_nothing_and_one_that_is_opened_goes_on(
    killed_in_the_middle, kernel_of, stub_model, tmp_path
):
    killed_in_the_middle()
    stub_model.answer = lambda asked: "done" if asked["messages"][-1]["role"] == "tool" else WRITES
    show = "from piano_jupyter.jupyter import docked; docked.show(resume={})"  # True on a click

    kernel = kernel_of()
    assert kernel.run(show.format("False")).status == "ok"
    seen = kernel.run("%piano").text
    before = len(stub_model.requests)
    kernel.run(show.format("True"))
    kernel.run("await piano.drain()")

    assert "1 job waiting: an earlier kernel left it" in seen
    assert before == 0
    assert (tmp_path / "made").read_text() == "x"


DEFINE = """
from piano_jupyter import tool
@tool
def price() -> str:
    "Return the price."
    return "3"
"""


def test_a_job_waits_for_the_tool_that_the_notebook_defines_later(killed_in_the_middle, kernel_of, stub_model):
    killed_in_the_middle(DEFINE, "%piano agent Assistant --tools price")
    stub_model.says(ServerReply("looking", calls=[tool_call("price")]), "it is 3")

    kernel = kernel_of().load()
    waits = kernel.run("%piano resume").text
    status = kernel.run("%piano").text
    kernel.run(DEFINE)
    answer = kernel.run("%piano wait")

    assert "waits: a tool that is not defined here: price; run its cell" in waits
    assert "1 job waiting: a tool that is not defined here: price" in status
    assert answer.text.endswith("it is 3")


def test_of_many_jobs_that_wait_the_first_are_named(kernel_of, stub_model):
    kernel = kernel_of().load()
    kernel.run(DEFINE)
    kernel.run("%piano agent Assistant --tools price\n%piano stop\nfor _ in range(30): await piano.send('what is it?')")
    kernel.kill()

    kernel = kernel_of().load()
    lines = kernel.run("%piano resume").text.splitlines()

    assert len(lines) == 21
    assert lines[-1] == "10 more are waiting; %piano shows for what"


def test_a_job_for_a_server_is_not_answered_by_the_embedded_model(
    killed_in_the_middle, kernel_of, stub_model, closed_port, llama_cpp
):
    killed_in_the_middle()

    kernel = kernel_of(PIANO_BASE_URL=closed_port).load()
    resumed = kernel.run("%piano resume").text
    kernel.run("await piano.drain()")

    assert f"waits: {stub_model.url}, which it was sent to; questions go to the embedded model now" in resumed
    assert "running" not in kernel.run("%piano queue").text


def test_a_job_for_a_server_goes_on_once_the_settings_name_it(killed_in_the_middle, kernel_of, stub_model, closed_port):
    killed_in_the_middle()

    kernel = kernel_of(PIANO_BASE_URL=closed_port).load()
    kernel.run("%config PianoConfig.embedded = 'never'")
    waits = kernel.run("%piano resume").text
    kernel.run(f"%config PianoConfig.base_url = {stub_model.url!r}")
    answer = kernel.run("%piano wait")

    assert (
        f"waits: {stub_model.url}, which it was sent to, and no server has answered yet; %piano resume tries again"
        in waits
    )
    assert answer.text == "You said: write it"


def test_a_database_that_came_with_a_checkout_runs_nothing_until_it_is_trusted(
    killed_in_the_middle, kernel_of, stub_model, tmp_path, tmp_path_factory
):
    killed_in_the_middle(XDG_DATA_HOME=str(tmp_path_factory.mktemp("theirs")))
    stub_model.answer = lambda asked: "done" if asked["messages"][-1]["role"] == "tool" else WRITES
    mine = {"XDG_DATA_HOME": str(tmp_path_factory.mktemp("mine"))}
    end_store_process(tmp_path)  # it knows that it made the database

    kernel = kernel_of(**mine).load()
    first = " ".join(kernel.run("%piano threads").stream.split())  # broken into lines
    again = kernel.run("%piano threads").stream
    status = kernel.run("%piano").text
    refused = kernel.run("%piano resume").stream
    kernel.run("%piano thread --new mine\n%piano ask hello")
    made_before = (tmp_path / "made").exists()
    trusted = kernel.run("%piano trust").text
    kernel.run("%piano resume")
    kernel.run("await piano.drain()")
    kernel.end()
    next_kernel = kernel_of(**mine).load()

    assert "was not made by you on this machine" in first
    assert "run %piano trust" in first
    assert again == ""
    assert "its database is not trusted" in status
    assert "jobs of a database that is not trusted are not resumed" in refused
    assert not made_before
    assert trusted.startswith("trusted from now on: ")
    assert "Assistant may use create_file" in trusted
    assert "1 unfinished job may be resumed (%piano resume)" in trusted
    assert (tmp_path / "made").read_text() == "x"
    assert next_kernel.run("%piano threads").stream == ""


def test_where_the_data_folder_cannot_be_written_the_user_is_told_once(kernel_of, stub_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "no folder"
    folder.write_text("")

    kernel = kernel_of(XDG_DATA_HOME=str(folder)).load()
    first = kernel.run("%%piano\nhello")
    again = kernel.run("%%piano\nhello")

    assert "the next kernel will not trust database" in " ".join(first.stream.split())
    assert first.text == "You said: hello"
    assert again.stream == ""


def asked_in_a_terminal(folder, stub_model, *words, **env):
    return subprocess.run(
        [sys.executable, "-m", "piano_jupyter", *words],
        cwd=folder,
        env=os.environ | {"PIANO_BASE_URL": stub_model.url} | env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


def test_a_question_from_the_terminal_leaves_the_unfinished_jobs_of_a_notebook_alone(
    killed_in_the_middle, stub_model, kernel_of, tmp_path
):
    killed_in_the_middle()

    ran = asked_in_a_terminal(tmp_path, stub_model, "hello")

    assert ran.stdout == "You said: hello\n"
    assert [each["messages"][-1]["content"] for each in stub_model.requests] == ["hello"]
    assert "waits: an earlier kernel left it" in kernel_of().load().run("%piano queue").text


def test_trust_in_the_terminal_says_what_is_trusted(killed_in_the_middle, stub_model, tmp_path, tmp_path_factory):
    killed_in_the_middle()
    mine = {"XDG_DATA_HOME": str(tmp_path_factory.mktemp("mine"))}
    end_store_process(tmp_path)  # it knows that it made the database

    first = asked_in_a_terminal(tmp_path, stub_model, "hello", "--trust", **mine)
    again = asked_in_a_terminal(tmp_path, stub_model, "hello", "--trust", **mine)

    assert f"trusted from now on: {tmp_path}/.piano/piano.duckdb; Assistant may use create_file" in first.stderr
    assert "trusted" not in again.stderr

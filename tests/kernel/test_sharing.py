"""Several real notebooks on one history: two kernels in one folder, known by the files of their notebooks."""

import os
import re
import subprocess
import sys

import pytest
from waiting import until

from piano_jupyter.testing import ServerReply, tool_call

DEFINE = """
from piano_jupyter import tool
@tool
def price() -> str:
    "Return the price."
    return "3"
"""
BASH = "%config PianoConfig.mode = 'full'\n%piano agent Assistant --tools bash"  # each call asks
BOB = "%piano agent bob --model another"  # whom no job of the Assistant hinders


@pytest.fixture
def notebook(kernel_of, tmp_path):
    """`notebook("a.ipynb")` starts the kernel of a notebook of this folder."""

    def start(path, **options):
        return kernel_of(JPY_SESSION_NAME=str(tmp_path / path), **options).load()

    return start


@pytest.fixture
def two(notebook):
    return notebook("a.ipynb"), notebook("b.ipynb")


def rows(cell):
    """Return the rows of a table, each by the names of its columns."""
    head, *lines = cell.text.splitlines()
    starts = [found.start() for found in re.finditer(r"(?:^|(?<=  ))\S", head)]
    cut = [[line[at:to].strip() for at, to in zip(starts, [*starts[1:], None], strict=True)] for line in (head, *lines)]
    return [dict(zip(cut[0], row, strict=True)) for row in cut[1:]]


def test_notebooks_list_the_same_threads_and_each_goes_on_in_its_own_also_in_a_new_kernel(
    notebook, stub_model, tmp_path
):
    a, b, c = notebook("a.ipynb"), notebook("b.ipynb"), notebook("reports/b.ipynb")
    a.run("%%piano\nof a")
    b.run("%%piano\nof b")
    c.run("%piano threads")

    for each in (a, b, c):
        assert [row["title"] for row in rows(each.run("%piano threads"))] == ["of b", "of a"]
    assert [row["title"] for row in rows(b.run("%piano threads --here"))] == ["of b"]
    assert c.run("%piano threads --here").text == "no threads yet; %%piano opens one"
    status, other_b = a.run("%piano status"), f"{tmp_path.name}/b.ipynb"  # two have one name
    assert f"\nhistory  shared with 2 other notebooks: {other_b}, reports/b.ipynb\n" in status.text
    assert f"shared with 2 other notebooks: {other_b}, reports/b.ipynb</td>" in status.shown[0]["text/html"]
    assert [row["notebook"] for row in rows(c.run("%piano queue --all"))] == ["a.ipynb", other_b]

    a.restart()
    assert a.load().run("%piano thread").text.startswith("current thread: of a (")
    b.end()
    b = notebook("b.ipynb")
    b.run("%%piano\nagain")
    assert "You said: of b\n\nYou: again" in b.run("%piano history of b").text


def test_a_job_of_another_notebook_is_seen_and_cancelled_there(two, stub_model):
    a, b = two
    stub_model.says(ServerReply("never finished", held=True))
    job = a.run("%piano send slowly").text.split()[1]
    until(lambda: stub_model.requests, "the model was not asked")
    b.run("%piano send @Assistant next")

    seen = {row["notebook"]: (row["status"], row["id"]) for row in rows(b.run("%piano queue"))}
    assert seen["a.ipynb"] == ("running", job)
    assert seen["this one"][0] == "queued"
    assert rows(a.run("%piano queue"))[1]["notebook"] == "b.ipynb"

    assert b.run(f"%piano cancel {job}").text == f"job {job} is cancelled"
    assert b.run("%piano wait").text == "You said: next"
    assert "was cancelled" in a.run("%piano wait").stream


def test_a_call_is_approved_in_another_notebook_whose_own_cells_are_not_asked(notebook, stub_model, tmp_path):
    a, b = notebook("a.ipynb"), notebook("b.ipynb", stdin=True)
    calls = {"user": tool_call("bash", command="touch made"), "tool": "done"}
    stub_model.answer = lambda asked: "hello" if asked["model"] == "another" else calls[asked["messages"][-1]["role"]]
    a.run(BASH)
    a.run(BOB)
    a.run("%piano send go")
    shown = until(
        lambda: "wants to run" in (text := b.run("%piano approve").text) and text, "the call does not wait in b"
    )

    own = b.run("%%piano @bob\nhi")  # no answer is typed: a prompt would fail
    beside = asked_in_a_terminal(tmp_path, stub_model, "hi", "--agent", "bob")
    made_before = (tmp_path / "made").exists()
    approved = b.run(f"%piano approve {shown.split()[0]} --always").text

    assert "Assistant wants to run bash in a.ipynb (" in shown
    assert (own.text, own.prompts, beside.stdout) == ("hello", [], "hello\n")
    assert not made_before
    assert "is added to the PianoConfig.rules of a.ipynb; to keep it" in approved
    assert a.run("%piano wait").text.splitlines()[-1] == "done"
    assert (tmp_path / "made").exists()
    assert a.run("%config PianoConfig.rules").text == "['allow bash(touch made)']"


def asked_in_a_terminal(folder, stub_model, *words):
    return subprocess.run(
        [sys.executable, "-m", "piano_jupyter", *words],
        cwd=folder,
        env=os.environ | {"PIANO_BASE_URL": stub_model.url},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


def test_the_job_of_a_notebook_that_was_killed_waits_until_another_one_is_told_to_run_it(two, stub_model):
    a, b = two
    stub_model.says(tool_call("price"), ServerReply("never finished", held=True))
    a.run(DEFINE)
    a.run("%piano agent Assistant --tools price")
    a.run(BOB)
    job = a.run("%piano send what is it?").text.split()[1]
    until(lambda: len(stub_model.requests) == 2, "the result of the tool was not sent")
    waiting = b.start(f"%piano wait {job}")
    until(lambda: b.client.get_iopub_msg(timeout=30)["msg_type"] == "display_data", "the cell did not begin")
    a.kill()
    given_up = b.finish(waiting)
    stub_model.reset()
    stub_model.says("hello", "it is 3")

    queue = until(lambda: (cell := b.run("%piano queue")) and "is gone" in cell.text and cell, "its job did not wait")
    status = b.run("%piano").text
    own = b.run("%%piano @bob\nhi")
    left = rows(b.run("%piano queue"))
    unasked = b.run("%piano resume").text
    resumed = b.run(f"%piano resume {job}").text
    before = len(stub_model.requests)
    b.run(DEFINE)
    answer = b.run(f"%piano wait {job}").text

    why = f"its notebook, a.ipynb, is gone; %piano resume {job} runs it here, once price is defined"
    assert [(row["id"], row["notebook"], row["reason"]) for row in rows(queue)] == [
        (job, "a.ipynb (gone)", f"waits: {why}")
    ]
    assert given_up.stream == f"AnswerFailedError: job {job} waits: {why}\n"
    assert f"1 job waiting: {why}" in status
    assert own.text == "hello"
    assert left == rows(queue)
    assert unasked == f"job {job} waits: {why}"
    assert resumed == f"job {job} waits: a tool that is not defined here: price; run its cell"
    assert before == 1
    assert answer.endswith("it is 3")
    assert b.run(f"%piano resume {job}").text == f"job {job} is done"


COPIES = """
import pathlib, shutil, zipfile
shutil.copytree(".", "../copy")
zipfile.ZipFile("../copy.zip", "w").write(".piano/piano.duckdb")
assert pathlib.Path(".piano/piano.duckdb").read_bytes()
"""


def test_a_notebook_that_copies_the_file_harms_none_that_is_opened_then(notebook, stub_model, kernel_of, tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    a = kernel_of(folder).load()
    a.run("%%piano\nof a")
    copied = a.run(COPIES)
    b = kernel_of(folder, JPY_SESSION_NAME=str(folder / "b.ipynb")).load()
    ran = [b.run("%%piano\nof b"), a.run("%%piano\nagain")]
    a.kill()
    b.end()
    after = kernel_of(folder).load()

    assert [copied.status, *(cell.status for cell in ran)] == ["ok"] * 3
    assert {row["title"]: row["messages"] for row in rows(after.run("%piano threads"))} == {"of a": "4", "of b": "2"}


@pytest.mark.parametrize("first", ["shares", "does not share"])
def test_a_notebook_that_does_not_share_is_told_who_has_the_history_open(notebook, stub_model, tmp_path, first):
    a, b = notebook("a.ipynb", PIANO_SHARE=str(int(first == "shares"))), notebook("b.ipynb")
    a.run("%%piano\nhello")
    if first == "shares":
        b.run("%config PianoConfig.share = False")

    refused = b.run("%%piano\nhello")
    b.run(refused.stream.splitlines()[-1])

    assert refused.stream.startswith("StoreLockedError: ")
    assert str(tmp_path / ".piano" / "piano.duckdb") in refused.stream
    assert "is open in process " in refused.stream
    assert b.run("%%piano\nhello").text == "You said: hello"

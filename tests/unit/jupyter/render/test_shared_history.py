"""What a notebook shows of the others that share its history."""

import re
from types import SimpleNamespace

import pytest
from making import Make

from piano_jupyter.jupyter.render.cards import jobs_table, status_card
from piano_jupyter.records import JobStatus, Notebook, short

make = Make()
ADA = make.agent("ada")
HERE, OTHER = Notebook("1", "/notes/a.ipynb"), Notebook("2", "/notes/b.ipynb")
SAME_NAME, SCRIPT = Notebook("3", "/notes/reports/b.ipynb"), Notebook()


def job_of(notebook, status=JobStatus.QUEUED):
    return make.job(make.message("hello"), ADA, notebook=notebook, status=status)


def test_a_job_shows_its_notebook_and_whether_that_is_gone():
    jobs = [job_of(each) for each in (HERE, OTHER, SAME_NAME, SCRIPT)]
    held = {jobs[0].id: "an earlier kernel left it", jobs[2].id: "its notebook is gone"}

    table = jobs_table(jobs, {ADA.id: "ada"}, held, here=HERE)

    shown = ("this one", "notes/b.ipynb", "reports/b.ipynb (gone)", "a script")
    for line, notebook in zip(repr(table).splitlines()[1:], shown, strict=True):
        assert re.search(rf"  {re.escape(notebook)}(  |$)", line)
    assert '<td style="text-align:left">this one</td>' in table._repr_html_()


def test_where_all_jobs_are_of_this_notebook_none_is_named():
    assert "notebook" not in repr(jobs_table([job_of(HERE)], {ADA.id: "ada"}, here=HERE))


def test_only_the_jobs_of_a_notebook_that_is_stopped_wait_for_its_start():
    jobs = [job_of(HERE), job_of(OTHER)]
    table = jobs_table(jobs, {ADA.id: "ada"}, stopped=True, here=HERE)
    assert ["waits: stopped; %piano start resumes" in line for line in repr(table).splitlines()[1:]] == [True, False]


def status_of(others=(), unfinished=()):
    names = (
        "models",
        "rules",
        "layers",
        "warnings",
        "database",
        "workspace",
        "distrust",
        "server",
        "mode",
        "answering_model",
        "mcp_servers",
    )
    counts = dict.fromkeys(("running", "queued", "approvals", "threads", "agents", "stopped"), 0)
    given = {"others": others, "unfinished": unfinished, "agent": None, "thread": None, "cassette": None}
    return SimpleNamespace(**dict.fromkeys(names, ""), **counts, **given)


@pytest.mark.parametrize(
    ("others", "said"),
    [
        (["/notes/b.ipynb"], "shared with 1 other notebook: b.ipynb"),
        (["/notes/b.ipynb", "kernel 2ab4c6"], "shared with 2 other notebooks: b.ipynb, kernel 2ab4c6"),
        (["/notes/b.ipynb", "process 71"], "shared with 2 others: b.ipynb, process 71"),
        (["/notes/reports/a.ipynb"], "shared with 1 other notebook: reports/a.ipynb"),
    ],
)
def test_the_status_says_with_whom_the_history_is_shared(others, said):
    assert f"history  {said}\n" in repr(status_card(status_of(others), is_short=True, here=HERE))


def test_a_history_that_nobody_shares_is_not_mentioned():
    assert "shared" not in repr(status_card(status_of(), here=HERE))


def test_many_jobs_of_a_notebook_that_is_gone_take_one_line():
    jobs = [job_of(OTHER) for _ in range(3)]
    left = [(job, f"its notebook is gone; %piano resume {short(job.id)} runs it here") for job in jobs]

    assert "3 jobs waiting: its notebook is gone; %piano resume JOB runs it here\n" in repr(
        status_card(status_of(unfinished=left), is_short=True)
    )
    assert f"1 job waiting: {left[0][1]}\n" in repr(status_card(status_of(unfinished=left[:1]), is_short=True))

"""The log lines of a job: each step at DEBUG, its end at INFO."""

import asyncio
import logging

import pytest

from piano_jupyter import Piano
from piano_jupyter.errors import ModelError
from piano_jupyter.events import ApprovalRequested
from piano_jupyter.records import short
from piano_jupyter.runner.model.protocol import LoadingNotice, Reply, StreamRestarted

TOKEN = "ghp_" + "a1B2" * 9


def steps(caplog, level=logging.DEBUG):
    return [record.what for record in caplog.records if hasattr(record, "what") and record.levelno >= level]


async def test_each_step_of_a_job_is_logged_with_its_job_agent_model_and_attempt(tmp_path, scripted, asks_for, caplog):
    caplog.set_level("DEBUG", logger="piano_jupyter")
    model = scripted([asks_for("bash", command="curl example.com")], "done that")
    async with Piano(database=":memory:", workspace=tmp_path, model=model, default_model="qwen") as piano:
        await piano.update_agent("Assistant", enabled_tools=["bash"])
        asked = asyncio.Queue()
        piano.bus.subscribe(asked.put_nowait, ApprovalRequested)
        piano.config.rules = ["ask bash"]

        job = await piano.send("?")
        await piano.deny(await asked.get())
        await piano.wait(job)

    assert steps(caplog) == [
        *("queued", "started", "model asked", "tool flagged", "approval requested", "approval decided"),
        *("tool called", "tool returned", "model asked", "first token", "answered", "acked", "done"),
    ]
    assert steps(caplog, logging.INFO) == ["done"]
    lines = [record for record in caplog.records if hasattr(record, "what")]
    assert {(each.job, each.agent, each.model) for each in lines} == {(str(job.id), "Assistant", "qwen")}
    assert [each.attempt for each in lines] == [0] + [1] * 12
    assert lines[0].getMessage() == f"job {short(job.id)} (Assistant, qwen, attempt 0): queued"


async def test_a_model_that_loads_and_a_reply_that_restarts_are_logged(tmp_path, scripted, caplog):
    caplog.set_level("DEBUG", logger="piano_jupyter")
    loading = [LoadingNotice(note="qwen is loading", seconds=each) for each in (1, 2)]
    async with Piano(
        database=":memory:", workspace=tmp_path, model=scripted([*loading, StreamRestarted(), Reply(text="hi")])
    ) as piano:
        await piano.ask("?")

    assert steps(caplog)[2:5] == ["model asked", "model loading", "reply restarted"]
    assert caplog.text.count("qwen is loading") == 1


async def test_a_failure_with_its_reason_and_a_retry_are_logged_without_secrets(tmp_path, scripted, caplog):
    caplog.set_level("DEBUG", logger="piano_jupyter")
    model = scripted(ModelError(f"wrong key {TOKEN}"), "hi")
    async with Piano(database=":memory:", workspace=tmp_path, model=model) as piano:
        job = await piano.send("?")
        with pytest.raises(ModelError):
            await piano.wait(job)
        await piano.wait(await piano.retry(job))

    assert steps(caplog, logging.INFO) == ["failed", "done"]
    assert [each for each in steps(caplog) if each in {"queued", "retried"}] == ["queued", "queued", "retried"]
    (failed,) = [record for record in caplog.records if getattr(record, "what", "") == "failed"]
    assert "wrong key ghp_" in failed.detail
    assert TOKEN not in failed.detail + caplog.text


async def test_a_cancelled_job_is_logged(tmp_path, scripted, caplog):
    caplog.set_level("INFO", logger="piano_jupyter")
    async with Piano(database=":memory:", workspace=tmp_path, model=scripted(asyncio.Event())) as piano:
        await piano.cancel(await piano.send("?"))

    assert steps(caplog) == ["cancelled"]

"""No secret is stored, published or sent: a Piano with a real store, a scripted model and tools that leak."""

import contextlib
import json
import random
import string

import pytest

from piano_jupyter import Piano, PianoError
from piano_jupyter.attachments.attachment import Attachment
from piano_jupyter.errors import ModelError
from piano_jupyter.events import JobFailed, ToolCalled, ToolWaiting
from piano_jupyter.records import CallStatus
from piano_jupyter.runner.tools.tool_registry import run_tool
from piano_jupyter.secrets.redactor import MASK
from piano_jupyter.tool import current_call, tool

RANDOM = random.Random(11)
TOKEN = "ghp_" + "".join(RANDOM.choice(string.ascii_letters + string.digits) for _ in range(36))
OWN = "own-value-of-the-kernel"


@pytest.fixture
def piano_of(tmp_path, monkeypatch):
    monkeypatch.setenv("TEA_API_KEY", OWN)

    def make(model, **knobs):
        return Piano(**{"database": ":memory:", "workspace": tmp_path, "model": model, **knobs})

    return make


def leaky(kind):
    def leak() -> object:
        """Leak."""
        if kind == "prints":
            print(f"it is {TOKEN}")
        if kind == "says":
            current_call.get().say(f"waits with {TOKEN}")
        if kind == "raises":
            raise ValueError(f"no {TOKEN}")
        return {"returns": TOKEN, "own": OWN} if kind == "returns" else "done"

    return tool(leak)


async def everything(piano, model, events):
    """Return all that was stored, published and sent, as one text."""
    tables = [await piano.sql(f"SELECT * FROM {table}") for table in ("agents", "threads", "messages", "tool_calls")]
    tables += [await piano.sql("SELECT * FROM tool_results"), await piano.sql("SELECT * FROM jobs")]
    told = [*map(repr, events), *map(repr, (event for _, event in piano.recent_events(1000)))]
    return "\n".join([*map(str, map(list, tables)), *told, *map(repr, model.requests)])


@pytest.mark.parametrize("kind", ["prints", "returns", "raises", "says"])
async def test_g4_secrets_in_tool_results_are_neither_stored_nor_published_nor_sent(piano_of, scripted, asks_for, kind):
    model = scripted([asks_for("leak")], "done")
    async with piano_of(model, tools=[leaky(kind)]) as piano:
        events = []
        piano.bus.subscribe(events.append)
        await piano.update_agent("Assistant", enabled_tools=["leak"])
        await piano.ask("go")
        whole = await everything(piano, model, events)

    assert TOKEN not in whole
    assert OWN not in whole
    assert "ghp_" + MASK in whole
    if kind == "returns":
        assert f"$TEA_API_KEY {MASK}" in model.requests[-1].messages[-1]["content"]
    if kind == "says":
        assert [event.note for event in events if isinstance(event, ToolWaiting)] == [f"waits with ghp_{MASK}"]


async def test_g4_secrets_in_the_users_messages_are_masked_before_they_are_stored(piano_of, scripted):
    line = json.dumps({"messages": [{"role": "user", "content": f"imported {TOKEN}"}]})
    model = scripted("one", "two", "three")
    async with piano_of(model) as piano:
        events = []
        piano.bus.subscribe(events.append)
        await piano.add_agent("ada", model="m", system_prompt=f"You know {TOKEN}.", description=OWN)
        await piano.update_agent("ada", system_prompt=f"You still know {TOKEN}.")
        await piano.ask(f"my key is {TOKEN} and {OWN}", agent="ada")
        question = (await piano.messages(piano.thread))[0]
        [job] = await piano.edit(question, f"edited: {TOKEN}")
        await piano.wait(job)
        await piano.rename_thread(piano.thread, TOKEN)
        await piano.fork_thread(question, f"fork {TOKEN}")
        await piano.open_thread(TOKEN)
        await piano.import_thread(line)
        imported = await piano.messages(piano.thread)
        whole = await everything(piano, model, events)

    assert (question.content, imported[0].content) == (
        f"my key is ghp_{MASK} and $TEA_API_KEY {MASK}",
        f"imported ghp_{MASK}",
    )
    assert TOKEN not in whole
    assert OWN not in whole


async def test_g4_secrets_in_older_messages_and_tool_schemas_are_masked_when_sent(piano_of, scripted):
    def look(key: str = OWN) -> str:
        """Look."""
        return key

    model = scripted("before", "after")
    async with piano_of(model, mask_secrets=False, tools=[look]) as piano:
        await piano.update_agent("Assistant", enabled_tools=["look"], system_prompt=f"Know {TOKEN}")
        await piano.ask(f"this was kept: {TOKEN}")
        piano.config.mask_secrets = True
        await piano.ask("and now?")

    sent = [json.dumps([request.messages, request.tools]) for request in model.requests]
    assert (sent[0].count(TOKEN), sent[0].count(OWN)) == (2, 1)
    assert (TOKEN in sent[1], OWN in sent[1]) == (False, False)


async def test_g4_answers_and_failure_reasons_are_stored_without_secrets(piano_of, scripted, caplog):
    model = scripted(
        f"take {TOKEN}", ModelError(f"the server answered 400: bad key {OWN}"), LookupError(f"odd {TOKEN}")
    )
    async with piano_of(model, api_key="the-servers-own-key") as piano:
        events = []
        piano.bus.subscribe(events.append, JobFailed)
        said = await piano.ask("one")
        with pytest.raises(ModelError) as refused:
            await piano.ask("two")
        with pytest.raises(PianoError) as broken:
            await piano.ask("three")
        jobs = await piano.jobs()

    assert said.content == f"take ghp_{MASK}"
    assert str(refused.value) == f"the server answered 400: bad key $TEA_API_KEY {MASK}"
    assert TOKEN not in str(broken.value)
    told = repr([jobs, events, [event.error for event in events]]) + caplog.text
    assert "odd ghp_" in told
    assert TOKEN not in told
    assert OWN not in told


async def test_the_servers_key_is_masked_as_it_now_is(piano_of, scripted):
    async with piano_of(
        scripted("the-first-key-of-all", "the-other-key-of-all"), api_key="the-first-key-of-all"
    ) as piano:
        first = await piano.ask("?")
        piano.config.api_key = "the-other-key-of-all"
        second = await piano.ask("?")

    assert [first.content, second.content] == [f"api_key {MASK}"] * 2


@pytest.mark.parametrize("value", [f"curl -H 'Authorization: token {TOKEN}' x", f"TOKEN=ghp_{MASK}", f"echo {OWN}"])
async def test_g4_a_call_with_a_secret_or_a_mask_is_shown_masked_and_does_not_run(piano_of, scripted, asks_for, value):
    ran = []

    @tool(asks=True)
    def write(text: str) -> None:
        """Write."""
        ran.append(text)

    model = scripted([asks_for("write", text=value)], "done")
    async with piano_of(model, tools=[write]) as piano:
        events = []
        piano.bus.subscribe(events.append)
        await piano.update_agent("Assistant", enabled_tools=["write"])
        await piano.ask("go")
        [call] = await piano.tool_calls(piano.thread)
        whole = await everything(piano, model, events)

    assert ran == []
    assert call.status is CallStatus.FAILED
    assert call.result.startswith("secret: the arguments contain a secret, or the mask in place of one")
    assert [MASK in event.call.arguments["text"] for event in events if isinstance(event, ToolCalled)] == [True]
    assert TOKEN not in whole
    assert OWN not in whole


async def test_nothing_is_masked_if_the_user_turns_masking_off(piano_of, scripted, asks_for):
    model = scripted([asks_for("leak")], f"it is {TOKEN}")
    async with piano_of(model, mask_secrets=False, tools=[leaky("prints")]) as piano:
        await piano.update_agent("Assistant", enabled_tools=["leak"])
        answer = await piano.ask("go")
        [call] = await piano.tool_calls(piano.thread)

    assert (call.result, answer.content) == (f"it is {TOKEN}\ndone", f"it is {TOKEN}")


async def test_g4_a_secret_at_the_place_where_a_long_output_is_cut_leaves_no_half_of_it():
    def chatter() -> None:
        """Print a lot, with a known value across the place where the output is cut."""
        print("x " * 3_990 + OWN + " " + "y" * 50)
        print("z")

    def mask(text):
        return text.replace(OWN, "(masked)")

    for limit in range(998, 1005):
        result = await run_tool(tool(chatter), {}, timeout=10, output_limit=limit, mask=mask)

        assert not any(piece in result.text for piece in (OWN, OWN[:6], OWN[-6:]))
        assert "left out" in result.text


#: What is said with each verb that takes a text; what it raises counts as said by it.
SAID = {
    "ask": lambda piano, _: piano.ask(f"ask {TOKEN}"),
    "ask_all": lambda piano, _: piano.ask_all(f"ask all {TOKEN}", agents=["ada"]),
    "send": lambda piano, _: piano.send(f"send {TOKEN}"),
    "send_all": lambda piano, _: piano.send_all(f"all {{{{word}}}} {TOKEN}", variables={"word": TOKEN}),
    "edit": lambda piano, question: piano.edit(question, f"edit {TOKEN}"),
    "regenerate": lambda piano, _: piano.regenerate(TOKEN),
    "value": lambda piano, _: piano.value(TOKEN, str),
    "open_thread": lambda piano, _: piano.open_thread(f"open {TOKEN}"),
    "find_thread": lambda piano, _: piano.find_thread(f"find {TOKEN}"),
    "rename_thread": lambda piano, _: piano.rename_thread(piano.thread, f"rename {TOKEN}"),
    "keep_draft": lambda piano, _: piano.keep_draft(piano.thread, f"draft {TOKEN}"),
    "fork_thread": lambda piano, question: piano.fork_thread(question, f"fork {TOKEN}"),
    "find_message": lambda piano, _: piano.find_message(TOKEN),
    "backup": lambda piano, _: piano.backup(f"/none/{TOKEN}"),
    "restore": lambda piano, _: piano.restore(f"/none/{TOKEN}"),
    "search": lambda piano, _: piano.search(TOKEN),
    "map": lambda piano, _: piano.map([{"a": f"row {TOKEN}"}], f"map {TOKEN} {{{{a}}}}", name=f"batch {TOKEN}"),
    "plan_map": lambda piano, _: piano.plan_map([{"a": f"row {TOKEN}"}], f"plan {TOKEN} {{{{a}}}}"),
    "batch": lambda piano, _: piano.batch(TOKEN),
    "cancel_batch": lambda piano, _: piano.cancel_batch(TOKEN),
    "retry_batch": lambda piano, _: piano.retry_batch(TOKEN),
    "delete_batch": lambda piano, _: piano.delete_batch(TOKEN),
    "export_batch": lambda piano, _: piano.export_batch(f"export {TOKEN}", f"/none/{TOKEN}"),
    "import_thread": lambda piano, _: piano.import_thread(LINE, f"import {TOKEN}"),
    "agent": lambda piano, _: piano.agent(TOKEN),
    "add_agent": lambda piano, _: piano.add_agent("bo", system_prompt=f"add {TOKEN}", options={"stop": TOKEN}),
    "update_agent": lambda piano, _: piano.update_agent("ada", description=f"update {TOKEN}"),
    "rename_agent": lambda piano, _: piano.rename_agent("ada", f"rename-{TOKEN}"),
    "delete_agent": lambda piano, _: piano.delete_agent(f"delete-{TOKEN}"),
    "set_primary_agent": lambda piano, _: piano.set_primary_agent(piano.thread, f"primary {TOKEN}"),
    "check_model": lambda piano, _: piano.check_model(f"check {TOKEN}"),
    "model_status": lambda piano, _: piano.model_status(f"status {TOKEN}"),
    "restart_mcp_server": lambda piano, _: piano.restart_mcp_server(TOKEN),
    "trust_mcp_file": lambda piano, _: piano.trust_mcp_file(TOKEN),
    "read_mcp_text": lambda piano, _: piano.read_mcp_text(TOKEN, TOKEN),
    "skill": lambda piano, _: piano.skill(TOKEN),
    "sql": lambda piano, _: piano.sql(f"SELECT {TOKEN}"),
    "load_model": lambda piano, _: piano.load_model(TOKEN),
    "unload_model": lambda piano, _: piano.unload_model(TOKEN),
    "find_job": lambda piano, _: piano.find_job(TOKEN),
    "cancel": lambda piano, _: piano.cancel(TOKEN),
    "retry": lambda piano, _: piano.retry(TOKEN),
    "resume": lambda piano, _: piano.resume(TOKEN),
}
LINE = json.dumps({"messages": [{"role": "user", "content": f"imported {TOKEN}"}]})
#: What takes no text of the user's, or nothing that is kept: what a query of frames says is asked and answered here.
SAYS_NOTHING = {
    "batches",
    *("add_tool", "agents", "approvals", "approve", "archive_thread", "attachments", "backups", "branches"),
    *("close", "close_now", "with_content"),
    *(
        "delete_thread",
        "deny",
        "distrust",
        "draft",
        "draft_files",
        "drain",
        "events",
        "export",
        "jobs",
        "known_models",
        "message",
        "messages",
    ),
    *("answering_model", "model_names", "models", "notices", "open"),
    *(
        "frame_budget",
        "mcp_file",
        "mcp_servers",
        "images_refused",
        "check_mentions",
        "choose_branch",
        "mentioned",
        "check_sandbox",
        "thread_use",
        "unarchive_thread",
        "query_frames",
        "recent_events",
        "skill_problems",
        "skills",
        "start",
        "stats",
        "status",
        "stop",
        "threads",
    ),
    *("tool_calls", "tool_verdicts", "tools", "trust", "unfinished", "wait"),
}


def test_g4_each_verb_that_takes_a_text_is_among_those_that_a_secret_goes_through():
    verbs = {name for name, value in vars(Piano).items() if callable(value) or isinstance(value, staticmethod)}

    assert {name for name in verbs if not name.startswith("_")} == SAID.keys() | SAYS_NOTHING


async def test_g4_a_secret_passed_to_every_verb_is_never_stored_published_sent_or_logged(
    piano_of, scripted, caplog, tmp_path
):
    caplog.set_level("DEBUG")
    database = tmp_path / "kept.duckdb"
    model = scripted(*(lambda _: f"I say {TOKEN}" for _ in range(20)))
    async with piano_of(model, database=database, embedded="never", base_url="http://127.0.0.1:9/v1") as piano:
        events, exports = [], []
        piano.bus.subscribe(events.append)
        await piano.add_agent("ada")
        question = (await piano.messages((await piano.ask("first")) and piano.thread))[0]
        for say in SAID.values():
            with contextlib.suppress(PianoError):  # there is nothing of that name
                await say(piano, question)
        await piano.drain()
        for thread in await piano.threads():
            exports += [await piano.export(thread, form) for form in ("markdown", "notebook", "jsonl")]
        whole = await everything(piano, model, events)
        titles = [thread.title for thread in await piano.threads()]

    assert len(model.requests) > 5
    assert {f"rename ghp_{MASK}", f"fork ghp_{MASK}", f"import ghp_{MASK}"} <= set(titles)
    assert TOKEN not in whole
    assert TOKEN not in "\n".join(exports)
    assert TOKEN not in caplog.text
    assert TOKEN.encode() not in database.read_bytes()


async def test_p1_a_secret_in_a_draft_and_its_files_is_masked(scripted, tmp_path):
    async with Piano(database=":memory:", workspace=tmp_path, model=scripted()) as piano:
        thread = await piano.open_thread("Talk")
        notes = Attachment.of(f"use {TOKEN} here".encode(), "text/plain", name="notes.txt")
        await piano.keep_draft(thread, f"use {TOKEN} here", [notes])

        [kept] = await piano.draft_files(thread)
        for text in (await piano.draft(thread), kept.text):
            assert TOKEN not in text
            assert text.startswith("use ")

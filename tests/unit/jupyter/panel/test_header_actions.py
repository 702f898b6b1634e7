"""What the header of the panel asks of the kernel: threads, who answers, the model and the mode."""

import asyncio
import json
import re
from dataclasses import replace

import pytest

from piano_jupyter.config import PianoConfig
from piano_jupyter.errors import NotFoundError, PianoError
from piano_jupyter.events import MessageDelta, ModelLoading, ThreadOpened
from piano_jupyter.jupyter.panel.actions import ACTIONS
from piano_jupyter.jupyter.panel.actions.page_request import PageRequest
from piano_jupyter.jupyter.panel.actions.thread_actions import file_name
from piano_jupyter.jupyter.panel.news import News
from piano_jupyter.jupyter.panel.uploads import Uploads
from piano_jupyter.piano import Piano
from piano_jupyter.records import NEW_TITLE, Notebook
from piano_jupyter.testing import ScriptedServer


class Shown:
    """A panel without a page."""

    def __init__(self, piano):
        self.piano, self.thread, self.picked, self.told = piano, None, {}, []
        self.questions, self.uploads = lambda: ["Why?"], Uploads()

    async def show_thread(self, thread):
        self.piano.thread = self.thread = thread

    async def filled(self, text):
        return text

    def tell(self, *topics):
        self.told.extend(topics)

    async def do(self, action, about="", **content):
        return await ACTIONS[action](self, PageRequest("p", action, {"about": about, **content}))


@pytest.fixture
async def panel(scripted, tmp_path):
    """A panel on a thread with one question, and a thread that was opened before."""
    model = scripted(*["It is fine."] * 5)
    async with Piano(
        database=":memory:", workspace=tmp_path, model=model, notebook=Notebook("k", "/n/a.ipynb")
    ) as piano:
        shown = Shown(piano)
        await piano.ask("Is there a whale?", thread=await piano.open_thread("Sea"))
        await piano.ask("Is there a cat?", thread=await piano.open_thread("Home"))
        shown.thread = piano.thread
        yield shown


def titles(reply):
    return [each["title"] for each in reply["threads"]]


async def test_the_list_has_the_thread_used_last_first_with_its_use(panel):
    await panel.piano.ask("More?", thread="Sea")

    reply = await panel.do("threads")

    assert titles(reply) == ["Sea", "Home"]
    assert [(each["messages"], each["shown"], each["elsewhere"]) for each in reply["threads"]] == [
        (4, False, ""),
        (2, True, ""),
    ]
    assert reply["formats"] == ["markdown", "notebook", "html", "jsonl"]
    json.dumps(reply)


async def test_a_search_finds_titles_and_texts_and_shows_where(panel):
    by_text, by_title = await panel.do("threads", "whale"), await panel.do("threads", "HOME")

    assert (titles(by_text), titles(by_title)) == (["Sea"], ["Home"])
    assert by_text["threads"][0]["excerpt"] == "Is there a whale?"
    assert by_title["threads"][0]["excerpt"] == ""


IMPORTED = json.dumps({"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]})


async def test_threads_of_another_notebook_are_marked_with_its_name(scripted, tmp_path):
    settings = {"database": str(tmp_path / "piano.duckdb"), "workspace": tmp_path, "share": False}
    for name in ("a", "b"):
        notebook = Notebook(name, f"/n/{name}.ipynb")
        async with Piano(**settings, model=scripted("Yes."), notebook=notebook) as piano:
            await piano.import_thread(IMPORTED, f"came to {name}")
            await piano.ask(f"Is this {name}?", thread=await piano.open_thread(name))
            use = await piano.thread_use()
            shown = Shown(piano)
            shown.thread = piano.thread
            reply = await shown.do("threads")

    where = {each["title"]: each["elsewhere"] for each in reply["threads"]}
    assert where == {"b": "", "a": "a.ipynb", "came to b": "", "came to a": ""}  # nobody has asked in these two
    assert {each.notebook and each.notebook.name for each in use.values()} == {"/n/a.ipynb", "/n/b.ipynb", None}


async def test_a_thread_is_renamed_archived_and_made_active_again_by_its_id(panel):
    sea = await panel.piano.find_thread("Sea")

    await panel.do("rename", "  Ocean\nfloor ", thread=str(sea.id))
    await panel.do("archive", thread=str(sea.id))
    archived = await panel.do("threads")
    await panel.do("unarchive", thread=str(sea.id))

    assert [(each["title"], each["archived"]) for each in archived["threads"]] == [("Home", False), ("Ocean", True)]
    assert not any(each["archived"] for each in (await panel.do("threads"))["threads"])
    with pytest.raises(PianoError, match="needs a title"):
        await panel.do("rename", "  ")


async def test_when_the_thread_shown_is_deleted_the_newest_other_one_is_shown(panel):
    home = panel.thread

    left = await panel.do("delete", thread=str(home.id))

    assert (left, panel.thread.title, panel.piano.thread.title) == ([], "Sea", "Sea")
    await panel.do("delete", thread=str(panel.thread.id))
    assert panel.thread.title == NEW_TITLE
    assert [thread.title for thread in await panel.piano.threads()] == [NEW_TITLE]


async def test_a_thread_that_cannot_be_deleted_stays_shown(scripted, tmp_path):
    writes = asyncio.Event()
    async with Piano(database=":memory:", workspace=tmp_path, model=scripted(writes, "done")) as piano:
        panel = Shown(piano)
        job = await piano.send("Go on", thread=await piano.open_thread("Busy"))
        async for event in piano.events():
            if isinstance(event, MessageDelta):
                break
        busy = panel.thread = piano.thread

        with pytest.raises(PianoError, match="runs in 'Busy'"):
            await panel.do("delete")
        assert (panel.thread, piano.thread) == (busy, busy)
        writes.set()
        await piano.wait(job)


async def test_a_fork_is_shown_and_an_empty_thread_has_nothing_to_fork(panel):
    await panel.do("fork")
    assert panel.thread.title == "Home (fork)"

    await panel.do("open_thread")
    fresh = panel.thread
    await panel.do("open_thread")
    assert panel.thread == fresh, "a new thread without messages is new enough"
    with pytest.raises(PianoError, match="nothing to fork"):
        await panel.do("fork")


async def test_a_thread_is_exported_as_a_file(panel):
    made = await panel.do("export", format="markdown")

    assert (made["name"], made["type"]) == ("Home.md", "text/markdown")
    assert "Is there a cat?" in made["text"]
    page = await panel.do("export", format="html")
    assert (page["name"], page["type"]) == ("Home.html", "text/html")
    assert "Is there a cat?" in page["text"]
    with pytest.raises(NotFoundError, match="no format named 'exe'"):
        await panel.do("export", format="exe")


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Sales in May", "Sales in May"),
        ("../../etc/passwd", "etc passwd"),
        ("a\u202egnp.exe\n<b>", "a gnp.exe b"),
        ("...", "chat"),
        ("CON: \\\\host\\share", "CON host share"),
        ("Größe von 数据", "Größe von 数据"),
    ],
)
def test_o1_the_name_of_an_exported_file_has_only_letters_digits_and_plain_signs(title, name):
    assert file_name(title) == name
    assert len(file_name("x" * 500)) <= 60


async def test_one_agent_is_kept_with_the_thread_and_several_with_the_panel(panel):
    ada = await panel.piano.add_agent("ada", enabled_tools=["read_file"])
    assistant = await panel.piano.agent("Assistant")

    await panel.do("pick", agents=[str(ada.id)])
    panel.thread = await panel.piano.find_thread(panel.thread.id)
    one = await panel.do("agents")
    await panel.do("pick", agents=[str(assistant.id), str(ada.id)])
    several = await panel.do("agents")

    assert one["answering"] == ["ada"]
    assert panel.thread.primary_agent_id == ada.id
    assert several["answering"] == ["Assistant", "ada"]
    assert several["agents"][1]["tools"] == ["read_file"]
    assert "agents" in panel.told
    with pytest.raises(NotFoundError):
        await panel.do("pick", agents=[])


async def test_the_picked_agents_answer_a_question_that_mentions_nobody(panel):
    ada = await panel.piano.add_agent("ada")
    assistant = await panel.piano.agent("Assistant")
    await panel.do("pick", agents=[str(assistant.id), str(ada.id)])

    await panel.do("send", "What do you think?")
    both = await panel.piano.jobs(thread=panel.thread, last=2)
    await panel.do("send", "@ada and you?")
    mentioned = await panel.piano.jobs(thread=panel.thread, last=1)

    assert [job.agent_id for job in both] == [assistant.id, ada.id]
    assert len({job.message_id for job in both}) == 1
    assert [job.agent_id for job in mentioned] == [ada.id]
    assert mentioned[0].message_id != both[0].message_id


async def test_the_state_of_the_model_is_told_for_each_that_answers(panel):
    ada = await panel.piano.add_agent("ada", model="other")
    await panel.do("pick", agents=[str((await panel.piano.agent("Assistant")).id), str(ada.id)])

    [first, second] = (await panel.do("model"))["models"]

    assert (first["state"], second["model"], second["state"]) == ("loaded", "other", "loaded")
    assert first["note"] == "a model in this process answers"


async def test_a_server_that_does_not_answer_is_told_as_that(tmp_path, unused_tcp_port):
    url = f"http://127.0.0.1:{unused_tcp_port}/v1"
    async with Piano(database=":memory:", workspace=tmp_path, base_url=url, embedded="never") as piano:
        status = await piano.model_status("qwen3:32b")

    assert (status.state, status.swaps) == ("no server", False)
    assert status.note.startswith(url)


async def test_o2_the_mode_becomes_full_only_when_that_is_confirmed(panel):
    await panel.do("set_mode", "read")
    assert (await panel.do("mode"))["mode"] == "read"

    for content in ({}, {"sure": "true"}, {"sure": 1}):
        with pytest.raises(PianoError, match="not confirmed"):
            await panel.do("set_mode", "full", **content)
    assert panel.piano.config.mode == "read"
    await panel.do("set_mode", "full", sure=True)

    assert panel.piano.config.mode == "full"
    with pytest.raises(NotFoundError, match="no mode named 'root'"):
        await panel.do("set_mode", "root")


async def test_many_changes_become_one_message_that_names_their_topics(panel):
    sent = asyncio.Queue()
    news = News(panel.piano.bus, panel.piano.config, asyncio.get_running_loop(), lambda *told: sent.put_nowait(told))

    for _ in range(50):
        panel.piano.bus.publish(ThreadOpened(thread=replace(panel.thread), thread_id=panel.thread.id))
    panel.piano.bus.publish(ModelLoading(note="loading m", fraction=0.5))
    await asyncio.to_thread(setattr, panel.piano.config, "mode", "read")
    topics, loading = await sent.get()
    news.close()
    news.close()
    panel.piano.config.mode = "write"
    news.add("threads")

    assert topics == ["threads", "model", "settings"]
    assert loading == {"note": "loading m", "fraction": 0.5, "seconds": None}
    assert isinstance(panel.piano.config, PianoConfig)
    assert sent.empty()


async def test_a_setting_is_changed_and_a_wrong_value_is_refused(panel):
    config = panel.piano.config

    await panel.do("set_setting", "base_url", value=" http://gpu:8080/v1/chat/completions ")
    await panel.do("set_setting", "max_demand", value="3")
    shown = await panel.do("settings")

    assert (config.base_url, config.max_demand) == ("http://gpu:8080/v1", 3)
    assert "c.PianoConfig.base_url = 'http://gpu:8080/v1'" in shown["keep"]
    assert (shown["agent"], shown["settings"][0]["value"]) == ("Assistant", "http://gpu:8080/v1")
    for name, value in [("embedded", "maybe"), ("max_demand", "0"), ("max_demand", "many"), ("default_model", " ")]:
        with pytest.raises(PianoError):
            await panel.do("set_setting", name, value=value)
    assert (config.embedded, config.max_demand) == ("auto", 3)
    json.dumps(shown)


@pytest.mark.parametrize("name", ["api_key", "mode", "rules", "workspace", "database", "__class__"])
async def test_o3_only_a_few_settings_can_be_changed_by_a_page(panel, name):
    before = getattr(panel.piano.config, name)

    with pytest.raises(NotFoundError, match="no setting to change here"):
        await panel.do("set_setting", name, value="full")

    assert getattr(panel.piano.config, name) == before
    assert name not in {each["name"] for each in (await panel.do("settings"))["settings"]}


async def test_the_model_and_the_sandbox_are_tested_with_a_sentence_each(panel):
    told = await panel.do("check_model"), await panel.do("check_sandbox")

    assert told[0] == "a model in this process answers, without a server"
    assert "sandbox" in told[1]
    assert await panel.do("questions") == ["Why?"]


async def test_the_model_that_answers_in_place_of_an_agent_s_own_is_named_in_every_sheet(panel, monkeypatch):
    monkeypatch.setattr(Piano, "answering_model", lambda _, model: f"smollm2 for {model}")
    shown = "smollm2 for qwen3:32b (answers for qwen3:32b)"

    told = [(await panel.do("agents"))["agents"][0]["model"], (await panel.do("settings"))["model"]]

    assert told == [shown, shown]
    [agent] = (await panel.do("agent_form"))["agents"]
    assert (agent["answers"], agent["model"]) == (shown, "qwen3:32b")


async def test_testing_a_model_asks_the_server_for_one_word(tmp_path):
    with ScriptedServer(answer=lambda _: "OK") as server:
        async with Piano(database=":memory:", workspace=tmp_path, base_url=server.url) as piano:
            told = await piano.check_model("qwen3:32b")
            threads = await piano.threads()

    assert re.fullmatch(r"\d+ models? (is|are) served; \S+ answered after \d+\.\d s", told)
    assert [request["max_tokens"] for request in server.requests] == [16]
    assert threads == []


FORM = {
    "name": "@ada",
    "model": " qwen3:8b ",
    "description": "Careful",
    "system_prompt": "You count.",
    "enabled_tools": ["read_file"],
    "enabled_skills": [],
    "options": '{"temperature": 0.2}',
    "max_iterations": "4",
}


async def test_an_agent_is_created_changed_renamed_and_deleted_by_a_form(panel):
    ada = await panel.do("save_agent", **FORM)
    created = await panel.piano.agent("ada")
    await panel.do("save_agent", ada, **(FORM | {"name": "grace", "options": "", "max_iterations": ""}))
    changed = await panel.piano.agent("grace")
    form = await panel.do("agent_form")
    await panel.do("delete_agent", ada)

    assert (created.model, created.enabled_tools, created.options) == ("qwen3:8b", ("read_file",), {"temperature": 0.2})
    assert (created.max_iterations, created.system_prompt) == (4, "You count.")
    assert (str(changed.id), changed.options, changed.max_iterations) == (ada, {}, None)
    assert [agent["name"] for agent in form["agents"]] == ["Assistant", "grace"]
    assert ["read_file", "allow"] in [[name, verdict] for name, _, verdict in form["tools"]]
    assert [agent.name for agent in await panel.piano.agents()] == ["Assistant"]
    json.dumps(form)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"name": "all"}, "cannot be an agent's name"),
        ({"name": "assistant"}, "already"),
        ({"model": " "}, "needs a model"),
        ({"options": "[1]"}, "JSON object"),
        ({"options": "{" * 5000}, "not valid JSON"),
        ({"max_iterations": "0"}, "at least 1"),
        ({"max_iterations": "-1"}, "at least 1"),
        ({"enabled_tools": ["nosuch"]}, "no tool named 'nosuch'"),
        ({"enabled_skills": ["nosuch"]}, "nosuch"),
    ],
)
async def test_a_form_with_a_wrong_value_creates_no_agent(panel, wrong, said):
    with pytest.raises(PianoError, match=said):
        await panel.do("save_agent", **(FORM | wrong))

    assert [agent.name for agent in await panel.piano.agents()] == ["Assistant"]


async def test_an_agent_that_is_gone_is_not_changed(panel):
    with pytest.raises(NotFoundError, match="not there any more"):
        await panel.do("delete_agent", "00000000-0000-7000-8000-000000000000")

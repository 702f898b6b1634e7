"""What a page asks while a question is written."""

import base64
from types import SimpleNamespace

import pytest
from pictures import png

from piano_jupyter.errors import NotFoundError, PianoError
from piano_jupyter.jupyter.panel.actions import ACTIONS
from piano_jupyter.jupyter.panel.actions.page_request import PageRequest
from piano_jupyter.jupyter.panel.uploads import Uploads
from piano_jupyter.piano import Piano


@pytest.fixture
async def panel(scripted, tmp_path):
    """A panel as its actions see it, on a new thread."""
    async with Piano(database=":memory:", workspace=tmp_path, model=scripted("one", "two", "three")) as piano:
        thread = await piano.open_thread("Talk")

        async def filled(text):
            return text

        yield SimpleNamespace(piano=piano, thread=thread, uploads=Uploads(), filled=filled, picked={})


async def act(panel, action, about="", **content):
    return await ACTIONS[action](panel, PageRequest("p", action, {"about": about, **content}))


async def test_a_draft_is_kept_and_returned_by_thread(panel):
    other = await panel.piano.open_thread("Other")

    await act(panel, "keep_draft", panel.thread.id, text="half a")

    assert await act(panel, "draft", panel.thread.id) == {"text": "half a", "files": []}
    assert await act(panel, "draft", other.id) == {"text": "", "files": []}
    with pytest.raises(PianoError, match="which is not an id"):
        await act(panel, "draft", "nothing")
    with pytest.raises(PianoError, match="is kept in this tab only"):  # else the tab would drop it, too
        await act(panel, "keep_draft", panel.thread.id, text="x" * 200_001)


async def test_the_files_of_a_draft_are_there_for_another_panel_and_sent_from_it(panel, tmp_path):
    (tmp_path / "notes.txt").write_text("some notes")
    part = base64.b64encode(png(8, 6)).decode()
    await act(panel, "attach_file", "a", path="notes.txt")
    await act(panel, "attach_part", "b", name="plot.png", part=part, number=0, last=True)
    await act(panel, "keep_draft", panel.thread.id, text="what", files=["b", "a"])
    await act(panel, "keep_draft", panel.thread.id, text="what is it?")

    panel.uploads = Uploads()
    draft = await act(panel, "draft", panel.thread.id)
    await act(panel, "send", draft["text"], files=[each["key"] for each in draft["files"]])

    assert [each["label"] for each in draft["files"]] == ["plot.png, 8 × 6", "notes.txt, 10 bytes"]
    assert draft["files"][0]["thumbnail"].startswith("data:image/png")
    [question] = [each for each in await panel.piano.messages(panel.thread) if each.role == "user"]
    assert [each.label for each in question.attachments] == ["plot.png, 8 × 6", "notes.txt, 10 bytes"]
    await act(panel, "keep_draft", panel.thread.id, text="", files=[])
    assert await panel.piano.draft_files(panel.thread) == []


async def test_the_last_questions_are_recalled_each_once(panel):
    for text in ("one", "two", "one"):
        await panel.piano.ask(text, thread=panel.thread)

    assert await act(panel, "recall") == ["one", "two"]


async def test_agents_and_files_are_suggested_and_of_a_folder_only_its_files(panel, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv").write_text("1")
    (tmp_path / ".hidden").write_text("1")

    first, folder = await act(panel, "suggest"), await act(panel, "suggest", "data/")

    assert [(each["kind"], each["inserts"]) for each in first] == [("agent", "@Assistant "), ("folder", "data/")]
    assert [(each["kind"], each["inserts"]) for each in folder] == [("file", "data/a.csv")]


@pytest.mark.parametrize("folder", ["../", "../../", "/", "/etc/", "link/", "none/", "\0/"])
async def test_p3_nothing_outside_the_workspace_is_listed(panel, tmp_path, folder):
    (tmp_path / "link").symlink_to("/etc")

    assert [each for each in await act(panel, "suggest", folder) if each["kind"] != "agent"] == []


@pytest.mark.parametrize("path", ["/etc/hosts", "../outside.txt", "link/hosts"])
async def test_p3_no_file_outside_the_workspace_is_attached(panel, tmp_path, path):
    (tmp_path.parent / "outside.txt").write_text("private")
    (tmp_path / "link").symlink_to("/etc")

    with pytest.raises(PianoError):
        await act(panel, "attach_file", "k", path=path)
    with pytest.raises(PianoError, match="attach it again"):
        panel.uploads.attachments(["k"])


async def test_files_are_sent_with_the_question_and_forgotten_then(panel, tmp_path):
    (tmp_path / "notes.txt").write_text("some notes")
    await act(panel, "attach_file", "a", path="notes.txt")
    part = base64.b64encode(png(8, 6)).decode()
    shown = await act(panel, "attach_part", "b", name="plot.png", part=part, number=0, last=True)

    await act(panel, "send", "what is it?", files=["a", "b"])

    assert (shown["label"], shown["refused"]) == ("plot.png, 8 × 6", "")
    [question] = [each for each in await panel.piano.messages(panel.thread) if each.role == "user"]
    assert [each.label for each in question.attachments] == ["notes.txt, 10 bytes", "plot.png, 8 × 6"]
    with pytest.raises(PianoError, match="attach it again"):
        panel.uploads.attachments(["a"])


async def test_a_question_that_is_refused_keeps_its_files(panel, tmp_path):
    (tmp_path / "notes.txt").write_text("some notes")
    await act(panel, "attach_file", "a", path="notes.txt")

    with pytest.raises(NotFoundError, match="no agent named 'nobody'; known: Assistant"):
        await act(panel, "send", "@nobody what is it?", files=["a"])

    assert len(panel.uploads.attachments(["a"])) == 1
    assert await panel.piano.messages(panel.thread) == []


@pytest.mark.parametrize(
    "text", ["@Assistant hi", "ada@example.com asks", "@Assistant: @nobody said", "so @nobody says"]
)
async def test_what_begins_with_no_handle_of_nobody_is_sent(panel, text):
    await act(panel, "send", text)

    assert len(await panel.piano.messages(panel.thread)) >= 1

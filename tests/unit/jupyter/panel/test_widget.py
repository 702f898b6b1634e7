import asyncio
import json
import threading
import time
from types import SimpleNamespace
from uuid import UUID

import pytest
from pictures import png

from piano_jupyter.errors import PianoError
from piano_jupyter.events import MessageDelta
from piano_jupyter.jupyter.loop import LoopThread
from piano_jupyter.jupyter.panel.widget import CLOSED, FLUSH_INTERVAL_S, KERNEL, ChatPanel
from piano_jupyter.jupyter.render.markdown_html import MAX_RENDERED_CHARS
from piano_jupyter.piano import Piano
from piano_jupyter.records import NEW_TITLE
from piano_jupyter.variables.fill_in import fill_in

SENT = threading.Condition()


class Recorded(ChatPanel):
    """A panel whose messages to the page are kept here."""

    def send(self, content, buffers=None):
        assert buffers is None
        with SENT:
            self.__dict__.setdefault("sent", []).append(content)
            SENT.notify_all()

    def told(self, kind):
        return [content for content in self.__dict__.get("sent", []) if content["kind"] == kind]

    def clicks(self, do, about="", action=1, page="p", message=""):
        self.receive(self, {"do": do, "about": about, "page": page, "action": action, "message": message}, [])

    def edits(self, message, text, action=1):
        self.clicks("edit", text, action, message=message)

    def answer(self, action=1):
        """Return what came of an action, once it is known."""
        return until(lambda: [done["error"] for done in self.told("done") if done["action"] == action])[0]

    def states(self):
        return [
            change["state"] for message in self.told("changes") for change in message["changes"] if "entry" in change
        ]


def until(condition):
    """Return what a condition on what was sent gives, once it is true."""
    with SENT:
        found = SENT.wait_for(condition, 20)
    assert found
    return found


@pytest.fixture
def opened(scripted, tmp_path):
    """Return `opened(*script)`: an open panel on a new thread, its Piano and its loop; all are closed at the end."""
    loop, made = LoopThread(), []

    def make(*script, **knobs):
        piano = Piano(database=":memory:", workspace=tmp_path, model=scripted(*script), **knobs)
        loop.run(piano.open())
        panel = Recorded(piano, loop, loop.run(piano.open_thread("Talk")))
        made.extend([panel, piano])
        return panel, piano, loop

    yield make
    for each in made:
        each.close() if isinstance(each, ChatPanel) else loop.run(each.close())
    loop.stop()


def test_a_click_is_received_then_done_and_its_answer_reaches_the_page(opened):
    panel, _, _ = opened("It is fine.")
    panel.clicks("hello")

    panel.clicks("send", "How is it?", action=2)

    assert panel.answer(2) == ""
    until(lambda: "done" in panel.states())
    assert [message["kind"] for message in panel.sent[:3]] == ["received", "all", "done"]
    assert panel.told("received")[1]["action"] == 2
    assert [message["sequence"] for message in panel.told("changes")] == list(range(1, len(panel.told("changes")) + 1))


def test_nothing_is_sent_while_no_page_is_open(opened):
    panel, piano, loop = opened("fine")

    loop.run(piano.ask("How is it?"))
    assert not hasattr(panel, "sent")
    panel.clicks("hello")
    panel.answer()

    [everything] = panel.told("all")
    assert [change.get("state") for change in everything["changes"] if "entry" in change] == ["said", "done"]


def test_g6_many_deltas_become_at_most_twenty_messages_a_second(opened):
    panel, piano, loop = opened(asyncio.Event(), "never said")
    panel.clicks("hello")
    panel.answer()

    async def write(count):
        job = await piano.send("go")
        for _ in range(count):
            piano.bus.publish(MessageDelta(thread_id=job.thread_id, job_id=job.id, message_id=job.id, text="word "))
            await asyncio.sleep(0)

    began = time.monotonic()
    loop.run(write(10_000))
    panel.clicks("stop", action=2)
    until(lambda: "cancelled" in panel.states())
    took = time.monotonic() - began

    assert len(panel.told("changes")) <= took / FLUSH_INTERVAL_S + 2
    assert len(json.dumps(panel.sent)) < 3 * MAX_RENDERED_CHARS


def test_no_message_to_the_page_has_an_id_at_its_top(opened):
    panel, piano, loop = opened("fine")
    panel.clicks("hello")
    loop.run(piano.ask("How is it?"))
    until(lambda: "done" in panel.states())

    assert not any("id" in message for message in panel.sent)


def test_a_repeated_action_runs_once(opened):
    panel, piano, loop = opened("one", "two")
    panel.clicks("send", "hello", action=7)
    panel.answer(7)

    panel.clicks("send", "hello", action=7)
    until(lambda: len(panel.told("done")) == 2)

    assert len(loop.run(piano.jobs())) == 1


@pytest.mark.parametrize(
    ("do", "about", "words"),
    [
        ("send", "   ", "the message is empty"),
        ("retry", "01a202bc-6bc1-7d37-9da1-98009aeb1ff8", "no job with the id"),
        ("retry", "what", "the panel sent 'what', which is not an id; reload the page"),
        ("regenerate", "what", "the panel sent 'what', which is not an id; reload the page"),
        ("edit", "what", "the panel sent '', which is not an id; reload the page"),
        ("dance", "", "reload the page"),
    ],
)
def test_an_action_that_fails_is_answered_with_a_sentence(opened, do, about, words):
    panel, _, _ = opened()

    panel.clicks(do, about)

    assert words in panel.answer()


def test_stop_cancels_running_jobs_and_leaves_queued_ones(opened):
    panel, piano, loop = opened(asyncio.Event(), "never", "the second")
    panel.clicks("hello")
    panel.clicks("send", "one", action=2)
    until(lambda: "writing" in panel.states())
    panel.clicks("send", "two", action=3)
    panel.answer(3)

    panel.clicks("stop", action=4)

    assert panel.answer(4) == ""
    loop.run(piano.drain())
    assert [str(job.status) for job in loop.run(piano.jobs())] == ["cancelled", "done"]


def test_a_new_panel_shows_the_last_messages_and_earlier_ones_on_demand(opened):
    _, piano, loop = opened("one", "two", "three", panel_messages=2)
    for text in ("1?", "2?", "3?"):
        loop.run(piano.ask(text))

    later = Recorded(piano, loop, piano.thread)
    later.clicks("hello")
    later.answer()
    later.clicks("earlier", action=2)
    later.answer(2)
    later.close()

    first, second = later.told("all")
    assert [change["text"] for change in first["changes"] if change.get("text")] == ["3?"]
    assert [change["text"] for change in second["changes"] if change.get("text")] == ["2?", "3?"]
    assert (first["earlier"], second["earlier"], second["page"]) == (True, True, None)


def test_a_closed_panel_gets_no_more_events(opened):
    panel, piano, loop = opened("fine")
    panel.clicks("hello")
    panel.answer()

    panel.close()
    loop.run(piano.ask("?"))

    assert panel.told("changes") == []


@pytest.fixture
def outputs(monkeypatch):
    """Return what panels show, an output each, as a notebook has it after all updates."""
    shown = []

    def display(value, **_options):
        at = len(shown)
        shown.append(value)
        return SimpleNamespace(update=lambda new, **_: shown.__setitem__(at, new))

    for module in ("widget", "saved_transcript"):
        monkeypatch.setattr(f"piano_jupyter.jupyter.panel.{module}.display", display)
    return shown


def test_closing_a_panel_puts_a_sentence_in_its_place(opened, outputs):
    panel, _, _ = opened()
    panel._ipython_display_()

    panel.close()

    assert repr(outputs[0]) == CLOSED
    assert "nothing said yet" in outputs[1]["text/plain"]


def test_a_panel_whose_cell_runs_again_without_showing_it_is_closed(opened, outputs):
    panel, _, _ = opened()
    panel.running_cell = lambda: "c1"
    panel._ipython_display_()

    panel.leave_cell("another")
    panel.close_if_left()
    assert panel.comm is not None
    panel.leave_cell("c1")
    panel._ipython_display_()
    panel.close_if_left()
    assert panel.comm is not None, "the cell shows it again"
    panel.leave_cell("c1")
    panel.close_if_left()

    assert panel.comm is None


def test_a_panel_that_another_cell_shows_too_stays(opened, outputs):
    panel, _, _ = opened()
    for cell in ("c1", "c2"):
        panel.running_cell = lambda cell=cell: cell
        panel._ipython_display_()

    panel.leave_cell("c1")
    panel.close_if_left()

    assert panel.comm is not None
    panel.leave_cell("c2")
    panel.close_if_left()
    assert panel.comm is None


def test_a_closed_panel_that_is_shown_again_is_a_sentence(opened, outputs):
    panel, _, _ = opened()
    panel.close()

    panel._ipython_display_()

    assert list(map(repr, outputs)) == [CLOSED]


@pytest.mark.filterwarnings("error")
def test_a_panel_that_is_shown_after_the_loop_has_ended_is_a_sentence(scripted, tmp_path, outputs):
    loop = LoopThread()
    piano = Piano(database=":memory:", workspace=tmp_path, model=scripted())
    loop.run(piano.open())
    panel = Recorded(piano, loop, loop.run(piano.open_thread("Talk")))
    loop.run(piano.close())
    loop.stop()

    panel._ipython_display_()
    panel.close()

    assert list(map(repr, outputs)) == [CLOSED]


def test_a_click_after_the_loop_has_stopped_is_answered(scripted, tmp_path):
    loop = LoopThread()
    piano = Piano(database=":memory:", workspace=tmp_path, model=scripted())
    loop.run(piano.open())
    panel = Recorded(piano, loop, loop.run(piano.open_thread("Talk")))
    loop.run(piano.close())
    loop.stop()

    panel.clicks("send", "hello?")
    panel.close()

    assert "run %piano panel again" in panel.answer()


def test_a_panel_reads_the_same_each_time_it_is_printed(opened):
    panel, _, _ = opened()

    assert repr(panel) == "ChatPanel('Talk')"


def test_a_panel_whose_thread_cannot_be_read_leaves_nothing_behind(opened):
    _, piano, loop = opened()
    subscribe, listening = piano.bus.subscribe, []

    def counted(handler, *kinds, **where):
        undo = subscribe(handler, *kinds, **where)
        listening.append(handler)
        return lambda: (undo(), listening.remove(handler))

    async def refuse(*_args):
        raise PianoError("the database is gone")

    piano.messages, piano.bus.subscribe = refuse, counted
    with pytest.raises(PianoError, match="the database is gone"):
        ChatPanel(piano, loop, piano.thread)

    assert listening == []


def shown(panel):
    """Return the texts of the entries and parts that were sent last as everything."""
    return [change.get("text") or change.get("html") for change in panel.told("all")[-1]["changes"]]


def test_an_edited_question_replaces_the_messages_from_there_on(opened):
    panel, piano, loop = opened("four", "nine")
    panel.clicks("hello")
    loop.run(piano.ask("2 + 2?"))
    question = loop.run(piano.messages(piano.thread))[0]

    panel.edits(str(question.id), "3 * 3?", action=2)

    assert panel.answer(2) == ""
    until(lambda: len(panel.told("all")) == 2)
    assert shown(panel)[0] == "3 * 3?"
    loop.run(piano.drain())
    assert [message.content for message in loop.run(piano.messages(piano.thread))] == ["3 * 3?", "nine"]


def test_a_regenerated_answer_replaces_the_old_one(opened):
    panel, piano, loop = opened("old", "new")
    panel.clicks("hello")
    loop.run(piano.ask("?"))
    [job] = loop.run(piano.jobs())

    panel.clicks("regenerate", str(job.id), action=2)
    assert panel.answer(2) == ""
    loop.run(piano.drain())
    panel.clicks("hello", action=3)
    panel.answer(3)

    until(lambda: shown(panel) == ["?", None, "<p>new</p>\n"])  # the other branch is read in the background


def test_a_message_that_names_two_agents_is_answered_by_both(opened):
    panel, piano, loop = opened("one", "two")
    loop.run(piano.add_agent("bo"))
    panel.clicks("hello")

    panel.clicks("send", "@Assistant @bo count", action=2)
    panel.answer(2)
    loop.run(piano.drain())

    assert [job.status for job in loop.run(piano.jobs())] == ["done", "done"]


def test_the_old_answer_does_not_appear_below_an_edited_question(opened):
    slow = asyncio.Event()
    panel, piano, loop = opened(slow, "old answer", "new answer")
    panel.clicks("hello")
    panel.clicks("send", "typo?", action=2)
    until(lambda: "writing" in panel.states())
    [question] = loop.run(piano.messages(piano.thread))

    panel.edits(str(question.id), "right?", action=3)
    assert panel.answer(3) == ""
    loop.loop.call_soon_threadsafe(slow.set)
    loop.run(piano.drain())
    until(lambda: "new answer" in str(panel.sent))

    assert "old answer" not in str(panel.sent)


def test_two_concurrent_loads_lose_nothing(opened):
    panel, piano, loop = opened("one", "two")
    panel.clicks("hello")
    loop.run(piano.ask("1?"))
    read, begun, gate = piano.messages, asyncio.Event(), asyncio.Event()

    async def slow(*arguments, **more):
        told = await read(*arguments, **more)
        begun.set()
        await gate.wait()
        return told

    async def overlap():
        piano.messages = slow
        for action in (2, 3):
            panel.clicks("earlier", action=action)
        await begun.wait()
        piano.messages = read
        await piano.ask("2?")
        gate.set()

    loop.run(overlap())
    assert [panel.answer(action) for action in (2, 3)] == ["", ""]

    assert shown(panel) == ["1?", None, "<p>one</p>\n", "2?", None, "<p>two</p>\n"]


def test_the_panel_still_works_after_a_failed_load(opened):
    panel, piano, loop = opened("one")
    panel.clicks("hello")
    read = piano.messages

    async def refuse(*_arguments):
        raise PianoError("the disk is gone")

    piano.messages = refuse
    panel.clicks("earlier", action=2)
    failed = panel.answer(2)
    piano.messages = read
    loop.run(piano.ask("1?"))
    until(lambda: "done" in panel.states())

    assert failed == "the disk is gone"


def test_an_internal_error_is_distinguished_from_a_users_mistake(opened):
    panel, piano, _ = opened()

    async def fail(*_arguments, **_more):
        raise ValueError("a slip")

    piano.send_all = fail
    panel.clicks("send", "hello?")

    assert panel.answer() == "an error inside Piano: ValueError: a slip"


def test_the_panel_remembers_only_its_last_actions(opened):
    panel, _, _ = opened()

    for action in range(400):
        panel.clicks("hello", action=action)
    until(lambda: len(panel.told("done")) == 400)

    panel.clicks("hello", action=100)  # it is known what came of it, so nothing is done
    until(lambda: len(panel.told("done")) == 401)
    known = len(panel.told("all"))
    panel.clicks("hello", action=99)
    until(lambda: len(panel.told("done")) == 402)

    assert (known, len(panel.told("all"))) == (400, 401)


@pytest.mark.parametrize("do", ["edit", "regenerate"])
def test_an_action_makes_the_thread_of_the_panel_the_current_one(opened, do):
    panel, piano, loop = opened("one", "two")
    loop.run(piano.ask("1?"))
    here, [question, _] = piano.thread, loop.run(piano.messages(piano.thread))
    elsewhere = loop.run(piano.open_thread("Elsewhere"))
    nothing = "01a202bc-6bc1-7d37-9da1-98009aeb1ff8"

    panel.edits(nothing, "2?") if do == "edit" else panel.clicks("regenerate", nothing)
    refused, stays = panel.answer(), piano.thread
    panel.edits(str(question.id), "2?", action=2) if do == "edit" else panel.clicks(do, str(question.id), action=2)
    done, goes_on = panel.answer(2), piano.thread

    assert "no message" in refused
    assert stays == elsewhere
    assert done == ""
    assert goes_on == here
    assert {job.thread_id for job in loop.run(piano.jobs())} == {here.id}


def test_a_question_on_another_branch_is_shown_there(opened):
    panel, piano, loop = opened("one", "two", PianoError("the model is down"), "three")
    panel.clicks("hello")
    for text in ("1?", "2?"):
        loop.run(piano.ask(text))
    panel.clicks("regenerate", str(loop.run(piano.jobs())[0].id), action=2)
    panel.answer(2)
    loop.run(piano.drain())  # in vain: the thread goes on behind the second question

    loop.run(piano.ask("3?"))
    until(lambda: "3?" in shown(panel))

    assert [text for text in shown(panel) if text and text.endswith("?")] == ["1?", "2?", "3?"]


def test_what_another_branch_has_is_never_sent_before_the_page_is_emptied_for_it(opened):
    panel, piano, loop = opened("one", "two")
    panel.clicks("hello")
    loop.run(piano.ask("1?"))
    [question, answer] = loop.run(piano.messages(piano.thread))
    until(lambda: str(answer.id) in str(panel.told("changes")))

    panel.edits(str(question.id), "2?", action=2)
    panel.answer(2)
    loop.run(piano.drain())
    until(lambda: "2?" in shown(panel))
    before = next(i for i, each in enumerate(panel.sent) if each["kind"] == "all" and "2?" in str(each["changes"]))

    assert not [each for each in panel.sent[:before] if each["kind"] == "changes" and "2?" in str(each["changes"])]
    assert "1?" not in shown(panel)


def test_e7_a_click_on_a_card_that_was_answered_elsewhere_does_nothing_and_says_so(opened):
    panel, _, _ = opened()
    panel.clicks("hello")

    for action, choice in enumerate(("approve", "always", "deny"), 2):
        panel.clicks(choice, str(UUID(int=7)), action)

    assert [panel.answer(action) for action in (2, 3, 4)] == ["this call has already been answered"] * 3


def test_the_panel_of_a_deleted_thread_is_taken_away_and_another_one_stays(opened):
    panel, piano, loop = opened("fine")
    other = Recorded(piano, loop, loop.run(piano.open_thread("Other")))
    for each in (panel, other):
        each.clicks("hello")
        each.answer()
    [thread] = [each for each in loop.run(piano.threads()) if each.id == panel.thread_id]

    loop.run(piano.delete_thread(thread))

    assert (panel.comm is None, other.comm is None) == (True, False)
    other.close()


def test_an_image_that_a_question_names_goes_along_and_an_edit_draws_it_again(scripted, tmp_path):
    shades = iter([png(4, 4, 1), png(4, 4, 2)])

    async def filled(_piano, text, _thread):
        return fill_in(text, {"fig": next(shades)})

    async def begun():
        piano = Piano(database=":memory:", workspace=tmp_path, model=scripted("one", "two"))
        await piano.open()
        await piano.open_thread("Talk")
        return piano

    loop = LoopThread()
    piano = loop.run(begun())
    panel = Recorded(piano, loop, piano.thread, filled)
    try:
        panel.clicks("send", "See {{fig}}")
        assert panel.answer() == ""
        [question] = loop.run(piano.messages(piano.thread))[:1]
        panel.edits(str(question.id), "See again {{fig}}", action=2)
        assert panel.answer(2) == ""
        [edited] = loop.run(piano.messages(piano.thread))[:1]
        sent = [each.content for each in loop.run(piano.with_content([question, edited]))]
        kept = [each.attachments[0].content for each in loop.run(piano.with_content([question, edited]))]
    finally:
        panel.close()
        loop.run(piano.close())
        loop.stop()

    assert sent == ["See [fig, 4 × 4]", "See again [fig, 4 × 4]"]
    assert kept == [png(4, 4, 1), png(4, 4, 2)]
    assert len(edited.attachments) == 1


def test_a_question_names_variables_and_an_edit_begins_with_what_was_typed(scripted, tmp_path):
    async def filled(_piano, text, thread):
        assert thread.title == "Talk"
        return fill_in(text, {"rows": ["long"] * 40})

    async def begun():
        piano = Piano(database=":memory:", workspace=tmp_path, model=scripted("one", "two"))
        await piano.open()
        await piano.open_thread("Talk")
        return piano

    loop = LoopThread()
    piano = loop.run(begun())
    panel = Recorded(piano, loop, piano.thread, filled)
    try:
        panel.clicks("hello")
        panel.clicks("send", "Count {{rows}}", action=2)
        assert panel.answer(2) == ""
        question = until(
            lambda: [each for sent in panel.told("changes") for each in sent["changes"] if each.get("can") == "edit"]
        )[0]
        panel.clicks("send", "{{nothing}}", action=3)
        assert "no variable named 'nothing'" in panel.answer(3)
    finally:
        panel.close()
        loop.run(piano.close())
        loop.stop()

    assert question["text"] == "Count {{rows}}"
    assert question["said"] == ["Count ", ["rows · 320 characters", str(["long"] * 40)]]


def test_a_page_gets_the_names_of_images_and_asks_for_their_content(opened):
    panel, piano, loop = opened("a plot")
    panel.clicks("hello")
    loop.run(piano.ask("look", attachments=[png()]))
    until(lambda: "done" in panel.states())
    question = next(
        change for message in panel.told("changes") for change in message["changes"] if change.get("text") == "look"
    )
    [[hash_, label]] = question["attachments"]

    panel.clicks("attachment", hash_, action=2)

    assert panel.answer(2) == ""
    assert label == "image, 3 × 2"
    [sent] = [done for done in panel.told("done") if done["action"] == 2]
    assert sent["page"] == "p"
    assert sent["reply"].startswith('<img src="data:image/png;base64,')


def test_a_thread_born_in_the_panel_is_named_after_its_first_question(opened):
    panel, piano, loop = opened("Paris.", "Madrid.")
    loop.run(panel.show_thread(loop.run(piano.open_thread(NEW_TITLE))))
    titles = [panel.title]

    for action, text in enumerate(("The capital of France?", "And Spain?"), 2):
        panel.clicks("send", text, action)
        assert panel.answer(action) == ""
        titles.append(panel.title)

    assert titles == ["New chat", "The capital of France?", "The capital of France?"]


def test_the_title_follows_a_rename_here_and_elsewhere(opened):
    panel, piano, loop = opened()

    panel.clicks("rename", "Sales in May")
    assert panel.answer() == ""
    here = panel.title, piano.thread.title
    loop.run(piano.rename_thread(piano.thread, "Sales in June"))

    assert here == ("Sales in May", "Sales in May")
    assert panel.title == "Sales in June"


def test_a_panel_shows_another_thread_and_no_longer_the_first(opened):
    panel, piano, loop = opened("one", "two")
    first = panel.thread
    loop.run(piano.ask("1?"))
    other = loop.run(piano.open_thread("Other"))
    panel.clicks("hello")
    panel.answer()

    panel.clicks("show", str(other.id), action=2)
    assert panel.answer(2) == ""
    loop.run(piano.ask("in the first", thread=first))
    piano.thread = other
    panel.clicks("send", "in the other", action=3)
    assert panel.answer(3) == ""
    loop.run(piano.drain())
    panel.clicks("hello", action=4)
    panel.answer(4)

    assert panel.title == "Other"
    assert [change["text"] for change in panel.told("all")[-1]["changes"] if change.get("text")] == ["in the other"]


@pytest.mark.parametrize(
    ("is_chosen", "kernel", "before", "shown"),
    [
        (False, "another", "Sales", "Sales"),
        (True, "another", "Sales", "Talk"),
        pytest.param(False, KERNEL, "Sales", "Talk", id="the same kernel"),
        (False, "another", "deleted", "Talk"),
        (False, "another", "archived", "Talk"),
    ],
)
def test_a_panel_comes_back_to_the_thread_of_an_earlier_kernel_unless_one_was_chosen(
    opened, is_chosen, kernel, before, shown
):
    _, piano, loop = opened()
    threads = {title: loop.run(piano.open_thread(title)) for title in ("deleted", "archived", "Sales", "Talk")}
    loop.run(piano.delete_thread(threads["deleted"]))
    loop.run(piano.archive_thread(threads["archived"]))
    panel = Recorded(piano, loop, threads["Talk"], is_chosen=is_chosen)

    about = {"do": "hello", "page": "p", "action": 1, "thread": str(threads[before].id), "kernel": kernel}
    panel.receive(panel, about, [])

    assert panel.answer() == ""
    [everything] = panel.told("all")
    assert everything["thread"] == str(threads[shown].id)
    panel.close()


def test_a_page_gets_the_last_entries_at_once_and_older_ones_bit_by_bit(opened, monkeypatch):
    monkeypatch.setattr("piano_jupyter.jupyter.panel.widget.ENTRIES_AT_ONCE", 2)
    panel, piano, loop = opened("1", "2", "3")
    for text in ("one?", "two?", "three?"):
        loop.run(piano.ask(text))

    panel.clicks("hello")
    until(lambda: panel.told("complete"))

    [everything], older, [complete] = panel.told("all"), panel.told("older"), panel.told("complete")
    assert [[change["text"] for change in each["changes"] if change.get("text")] for each in (everything, *older)] == [
        ["three?"],
        ["two?"],
        ["one?"],
    ]
    assert {each["filling"] for each in (everything, *older, complete)} == {1}


def test_older_entries_of_a_thread_that_is_no_longer_shown_are_not_sent(opened, monkeypatch):
    monkeypatch.setattr("piano_jupyter.jupyter.panel.widget.ENTRIES_AT_ONCE", 1)
    panel, piano, loop = opened("1")
    loop.run(piano.ask("one?"))
    other = loop.run(piano.open_thread("Other"))

    async def hello_and_show():
        panel.send_everything("p")
        await panel.show_thread(other)

    loop.run(hello_and_show())
    until(lambda: panel.told("complete"))

    assert panel.told("older") == []
    assert [each["filling"] for each in panel.told("complete")] == [2]


def entries(message):
    return [change for change in message["changes"] if "entry" in change]


def test_the_text_of_a_stopped_answer_is_shown_by_the_next_panel_too(opened):
    panel, piano, loop = opened(asyncio.Event())
    panel.clicks("hello")
    panel.clicks("send", "go on", action=2)
    until(lambda: "writing" in panel.states())
    panel.clicks("stop", action=3)
    panel.answer(3)

    again = Recorded(piano, loop, panel.thread)
    again.clicks("hello")
    again.answer()

    [everything] = again.told("all")
    assert [entry["state"] for entry in entries(everything)] == ["said", "cancelled"]
    assert "…" in str(everything["changes"])
    again.close()


def test_another_version_is_shown_on_request_with_the_numbers_of_each(opened):
    panel, piano, loop = opened("old", "new")
    loop.run(piano.ask("one?"))
    question, old = loop.run(piano.messages(panel.thread))
    panel.clicks("hello")
    panel.clicks("regenerate", str(question.id), action=2)
    shown = until(lambda: [entry for told in panel.told("changes") for entry in entries(told) if entry["branch"]])
    assert (shown[-1]["branch"]["at"], shown[-1]["branch"]["before"]) == (2, str(old.id))

    panel.clicks("branch", str(old.id), action=3)

    assert panel.answer(3) == ""
    until(lambda: entries(panel.told("all")[-1])[-1]["branch"] is not None and "old" in str(panel.told("all")[-1]))
    branch = entries(panel.told("all")[-1])[-1]["branch"]
    assert (branch["at"], branch["of"], branch["before"]) == (1, 2, None)


def test_a_text_in_messages_that_are_not_shown_is_found_and_shown(opened):
    panel, piano, loop = opened("the needle", "two", "three", panel_messages=2)
    for text in ("one?", "two?", "three?"):
        loop.run(piano.ask(text, thread=panel.thread))
    again = Recorded(piano, loop, panel.thread)
    again.clicks("hello")
    again.clicks("find_earlier", "NEEDLE", action=2)
    assert again.answer(2) == ""
    again.clicks("find_earlier", "nowhere", action=3)
    assert again.answer(3) == ""
    replies = {done["action"]: done["reply"] for done in again.told("done")}
    assert (replies[2], replies[3]) == (True, False)
    assert "the needle" in str(again.told("all")[-1])
    assert "one?" not in str(again.told("all")[-1])
    again.close()


def test_the_text_of_an_answer_is_told_as_it_was_written(opened):
    panel, piano, loop = opened("**bold**")
    loop.run(piano.ask("?"))
    panel.clicks("hello")
    panel.answer()
    key = entries(panel.told("all")[0])[-1]["entry"]

    panel.clicks("markdown", key, action=2)

    panel.answer(2)
    assert panel.told("done")[-1]["reply"] == "**bold**"

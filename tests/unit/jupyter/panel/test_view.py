from dataclasses import replace
from datetime import UTC, datetime
from html import escape
from uuid import UUID

import pytest

from piano_jupyter.attachments.attachment import Attachment
from piano_jupyter.events import (
    AgentAdded,
    Answered,
    ApprovalRequested,
    HistoryTrimmed,
    JobCancelled,
    JobDone,
    JobFailed,
    JobQueued,
    JobStarted,
    MessageAdded,
    MessageDelta,
    ModelLoading,
    ToolCalled,
    ToolFlagged,
    ToolReturned,
    ToolWaiting,
)
from piano_jupyter.jupyter.panel.view import ThreadView
from piano_jupyter.jupyter.render.tables import MAX_TEXT_CHARS
from piano_jupyter.records import CallStatus, JobStatus

QUEUED, RUNNING, DONE, FAILED, CANCELLED = JobStatus


def everything(view):
    """Return all that a view shows, at once."""
    return next(view.slices(10_000), [])


class Page:
    """A page that applies what it is told, as panel.js does."""

    def __init__(self):
        self.entries, self.parts = [], {}

    def apply(self, changes):
        for change in changes:
            if "drop" in change:
                del self.parts[change["drop"]]
            elif "entry" in change:
                self._enter(change)
            elif "stream" in change:
                self._stream(self.parts[change["stream"]], change)
            else:
                assert change["in"] in [each["entry"] for each in self.entries]
                self.parts[change["part"]] = dict(change)
        return self

    def _enter(self, change):
        keys = [each["entry"] for each in self.entries]
        if change["entry"] in keys:
            self.entries[keys.index(change["entry"])] = change
        else:
            self.entries.insert(keys.index(change["after"]) + 1 if change["after"] else 0, change)

    @staticmethod
    def _stream(part, news):
        part["reasoning"] += news["reasoning"]
        if "append" in news:
            part["tail"] = part["tail"].replace("</code>", escape(news["append"]) + "</code>")
        else:
            part["html"] += news["html"]
            part["tail"] = news["tail"]

    def reads(self):
        """Return each entry's speaker, state and texts."""
        return [
            (each["who"], each["state"], each["text"] or "".join(self._texts(each["entry"]))) for each in self.entries
        ]

    def _texts(self, entry):
        return [each["html"] + each["tail"] for each in self.parts.values() if each["in"] == entry and "html" in each]


class Scene:
    """A conversation with one agent, a page that follows it, and events made short."""

    def __init__(self, make):
        self.make, self.shown, self.page = make, ThreadView(), Page()
        self.ada = make.agent("ada")
        self.happens(AgentAdded(agent=self.ada))

    def happens(self, *events):
        for event in events:
            self.shown.apply(event)
            self.page.apply(self.shown.changes())

    def loads(self, *stored):
        self.shown.load([self.ada], *stored)
        self.page.apply(self.shown.changes())
        self.page = Page().apply(everything(self.shown))

    def asks(self, text):
        message = self.make.message(text)
        job = self.make.job(message, self.ada)
        self.happens(MessageAdded(message=message), JobQueued(job=job))
        return job

    def starts(self, job):
        self.happens(JobStarted(job=replace(job, status=RUNNING)))

    def writes(self, job, text="", reasoning="", message=1000):
        self.happens(MessageDelta(job_id=job.id, message_id=UUID(int=message), text=text, reasoning=reasoning))

    def answer(self, job, text, message=1000):
        return replace(
            self.make.message(text, role="assistant", agent_id=self.ada.id, job_id=job.id), id=UUID(int=message)
        )

    def answers(self, job, text, message=1000):
        answer = self.answer(job, text, message)
        self.happens(Answered(message=answer), JobDone(job=replace(job, status=DONE), message=answer))
        return answer

    def states(self):
        return [each["state"] for each in self.page.entries if each["state"] != "said"]

    def note(self):
        return self.page.entries[-1]["note"]


@pytest.fixture
def scene(make):
    return Scene(make)


def test_a_message_goes_from_the_queue_to_its_answer(scene):
    job = scene.asks("What *is* it?")
    seen = [scene.states()]
    scene.starts(job)
    seen.append(scene.states())
    scene.happens(ModelLoading(job_id=job.id, note="loading m", fraction=0.5))
    seen.append([*scene.states(), scene.note(), scene.page.entries[-1]["fraction"]])
    scene.writes(job, "It is ")
    seen.append(scene.states())
    scene.writes(job, "**fine**.")
    scene.answers(job, "It is **fine**.")

    assert seen == [["queued"], ["thinking"], ["loading", "loading m", 0.5], ["writing"]]
    assert scene.page.reads() == [
        ("You", "said", "What *is* it?"),
        ("ada", "done", "<p>It is <strong>fine</strong>.</p>\n"),
    ]
    assert not scene.shown.busy


def test_an_answer_that_is_data_is_a_code_block(scene):
    job = scene.asks("How old?")
    scene.starts(job)
    scene.answers(job, '{"age": 36}')

    (part,) = scene.page.parts.values()
    assert part["html"].startswith('<div class="piano-code"')
    assert "age" in part["html"]


def test_each_answer_follows_its_question(scene):
    first, second = scene.asks("one?"), scene.asks("two?")
    scene.starts(first)
    scene.answers(first, "one.", message=1001)
    scene.starts(second)
    scene.answers(second, "two.", message=1002)

    assert [text for _, _, text in scene.page.reads()] == ["one?", "<p>one.</p>\n", "two?", "<p>two.</p>\n"]


@pytest.mark.parametrize(
    ("end", "state", "note"),
    [
        (lambda job: JobFailed(job=replace(job, status=FAILED), reason="no server"), "failed", "no server"),
        (lambda job: JobCancelled(job=replace(job, status=CANCELLED)), "cancelled", "stopped"),
    ],
)
def test_a_job_without_an_answer_keeps_its_text_so_far_and_says_why(scene, end, state, note):
    job = scene.asks("?")
    scene.starts(job)
    scene.writes(job, "half an ")

    scene.happens(end(job))

    assert scene.page.reads()[-1] == ("ada", state, "<p>half an</p>\n")
    assert scene.note() == note
    assert not scene.shown.busy


def test_an_answer_that_restarts_replaces_the_unfinished_one(scene):
    job = scene.asks("?")
    scene.starts(job)
    scene.writes(job, "half an ", message=1001)
    scene.writes(job, "whole", message=1002)
    again = scene.page.reads()[-1]
    scene.happens(JobFailed(job=replace(job, status=FAILED), reason="gone"))
    scene.starts(job)
    retried = scene.page.reads()[-1]

    assert again == ("ada", "writing", "<p>whole</p>\n")
    assert retried == ("ada", "thinking", "")


def test_reasoning_is_separate_from_the_answer(scene):
    job = scene.asks("?")
    scene.starts(job)
    scene.writes(job, reasoning="hm, ")
    thinking = scene.states()
    scene.writes(job, reasoning="yes")
    scene.writes(job, "Yes.")

    [part] = scene.page.parts.values()
    assert thinking == ["thinking"]
    assert (part["reasoning"], part["tail"]) == ("hm, yes", "<p>Yes.</p>\n")


def test_a_finished_answer_says_what_it_cost(scene):
    job = scene.asks("?")
    answer = replace(scene.answer(job, "Yes."), usage={"model": "<m>", "completion_tokens": 2})

    scene.happens(Answered(message=answer), JobDone(job=replace(job, status=DONE), message=answer))

    [part] = scene.page.parts.values()
    assert part["cost"] == "&lt;m&gt; · 2 written"


def test_a_tool_call_shows_its_arguments_then_its_result(scene, make):
    job = scene.asks("?")
    scene.starts(job)
    asked = scene.answer(job, "Let me see.")
    call = make.call(asked, "look", result=None, arguments={"where": "a\u202eb", "deep": {"n": 1}})
    scene.happens(MessageAdded(message=asked), ToolCalled(job_id=job.id, call=call))
    running = dict(scene.page.parts[str(call.id)]), scene.states()
    scene.happens(ToolReturned(job_id=job.id, call=replace(call, status=CallStatus.OK, result="<b>")))

    assert running[0]["arguments"] == [["where", "a<mark>U+202E</mark>b"], ["deep", '{"n": 1}']]
    assert (running[0]["state"], running[0]["result"], running[1]) == ("running", None, ["calling"])
    assert list(scene.page.parts) == [str(asked.id), str(call.id)]
    assert scene.page.parts[str(call.id)]["result"] == "&lt;b&gt;"
    assert scene.page.parts[str(call.id)]["state"] == "ok"


def test_trimmed_history_is_announced_and_stays_as_a_note(scene, make):
    job = scene.asks("?")
    scene.starts(job)
    note = make.message("The first 3 turns …", "system", agent_id=job.agent_id, job_id=job.id, parent_id=job.message_id)

    scene.happens(HistoryTrimmed(job_id=job.id, turns=3, note=note.content))
    told = scene.note()
    scene.happens(MessageAdded(message=note))

    assert told == "The first 3 turns …"
    assert scene.page.parts[str(note.id)]["html"] == "<p><em>The first 3 turns …</em></p>"
    assert scene.states() == ["thinking"]


def test_a_call_that_waits_for_approval_is_a_question_until_it_runs_or_its_job_ends(scene, make):
    job = scene.asks("?")
    scene.starts(job)
    call = make.call(scene.answer(job, ""), result=None)
    request = ApprovalRequested(
        id=UUID(int=900), job_id=job.id, call=call, question="may I?", reason="it <asks>", always="allow look(a\u200b)"
    )

    scene.happens(request)
    asked = dict(scene.page.parts[str(call.id)]), scene.states()
    scene.happens(ToolCalled(job_id=job.id, call=call))
    ran = dict(scene.page.parts[str(call.id)])
    scene.happens(request, JobCancelled(job=replace(job, status=CANCELLED)))
    ended = dict(scene.page.parts[str(call.id)])

    assert (asked[0]["question"], asked[0]["state"], asked[1]) == ("may I?", "asks", ["asking"])
    assert asked[0]["request"] == str(request.id)
    assert (asked[0]["reason"], asked[0]["always"]) == ("it &lt;asks&gt;", "allow look(a<mark>U+200B</mark>)")
    assert (ran["question"], ran["state"], ran["request"]) == ("", "running", "")
    assert (ended["question"], ended["state"]) == ("", "cancelled")


def test_a_call_that_was_denied_is_not_one_that_failed(scene, make):
    job = scene.asks("?")
    scene.starts(job)
    call = make.call(scene.answer(job, ""), status=CallStatus.FAILED, result="denied: the user did not allow this call")

    scene.happens(ToolReturned(job_id=job.id, call=call))

    assert scene.page.parts[str(call.id)]["state"] == "denied"


def test_the_columns_of_a_result_line_up_and_hidden_characters_are_named(scene, make):
    job = scene.asks("?")
    scene.starts(job)
    result = f"a{' ' * 40}b\n\n\n\n\n\n\u202e1{' ' * 40}2"
    call = make.call(scene.answer(job, ""), status=CallStatus.OK, result=result)

    scene.happens(ToolReturned(job_id=job.id, call=call))

    assert scene.page.parts[str(call.id)]["result"] == result.replace("\u202e", "<mark>U+202E</mark>")


def test_e9_a_value_that_must_be_scrolled_has_its_number_of_lines_beside_it(scene, make):
    job = scene.asks("?")
    scene.starts(job)
    values = {"command": "echo\n" * 400 + "rm -rf ~", "timeout": 5}
    call = make.call(scene.answer(job, ""), result=None, arguments=values)

    scene.happens(ApprovalRequested(id=call.id, job_id=job.id, call=call, question="may I?"))

    assert [title for title, _ in scene.page.parts[str(call.id)]["arguments"]] == ["command<br>401 lines", "timeout"]


def test_f1_a_card_shows_the_flag_of_its_call_once(scene, make):
    job = scene.asks("?")
    scene.starts(job)
    call = make.call(scene.answer(job, ""), result=None)
    request = ApprovalRequested(id=call.id, job_id=job.id, call=call, question="may I?", reason="it asks; it reaches")

    scene.happens(ToolFlagged(job_id=job.id, call=call, reason="it reaches"), request)

    card = scene.page.parts[str(call.id)]
    assert (card["flag"], card["reason"]) == ("it reaches", "it asks")


def test_a_call_keeps_its_flag_and_says_what_it_waits_for(scene, make):
    job = scene.asks("?")
    scene.starts(job)
    call = make.call(scene.answer(job, ""), result=None)

    scene.happens(
        ToolFlagged(job_id=job.id, call=call, reason="it reaches for <keys>"), ToolCalled(job_id=job.id, call=call)
    )
    scene.happens(ToolWaiting(job_id=job.id, call=call, note="another cell runs"))
    waits, state = scene.page.entries[-1]["note"], scene.page.parts[str(call.id)]["state"]
    scene.happens(ToolReturned(job_id=job.id, call=replace(call, status=CallStatus.OK, result="x")))

    assert (waits, state) == (f"{call.name} waits: another cell runs", "waiting")
    assert scene.page.parts[str(call.id)]["flag"] == "it reaches for &lt;keys&gt;"


def test_a_new_page_shows_the_same_as_one_that_followed_all_changes(scene, make):
    first, second = scene.asks("one?"), scene.asks("two?")
    scene.starts(first)
    asked = scene.answer(first, "", message=1001)
    scene.happens(MessageAdded(message=asked), ToolCalled(job_id=first.id, call=make.call(asked, result=None)))
    scene.answers(first, "one.", message=1002)
    scene.starts(second)
    scene.writes(second, "para\n\n```py\nx =", reasoning="hm", message=1003)
    scene.writes(second, " 1\ny = '<'", message=1003)

    fresh = Page().apply(everything(scene.shown))

    assert fresh.reads() == scene.page.reads()
    assert list(fresh.parts) == list(scene.page.parts)
    assert fresh.parts[str(UUID(int=1003))]["reasoning"] == "hm"
    assert [each["note"] for each in fresh.entries] == [each["note"] for each in scene.page.entries]


def without_times(changes):
    return [{name: value for name, value in change.items() if name != "begun"} for change in changes]


def test_a_stored_thread_looks_like_it_did_live(scene, make):
    done, failed, queued = (scene.asks(text) for text in ("one?", "two?", "three?"))
    scene.starts(done)
    asked = scene.answer(done, "Let me see.", message=1001)
    call = make.call(asked, result=None)
    returned = replace(call, status=CallStatus.OK, result="2")
    scene.happens(MessageAdded(message=asked), ToolCalled(job_id=done.id, call=call))
    scene.happens(ToolReturned(job_id=done.id, call=returned))
    answer = scene.answers(done, "one.", message=1002)
    scene.happens(JobFailed(job=replace(failed, status=FAILED, reason="no"), reason="no"))
    questions = [
        replace(scene.make.message(text), id=job.message_id)
        for text, job in zip(("one?", "two?", "three?"), (done, failed, queued), strict=True)
    ]

    kept = ThreadView()
    kept.load(
        [scene.ada],
        [questions[0], asked, answer, *questions[1:]],
        [returned],
        [replace(done, status=DONE), replace(failed, status=FAILED, reason="no"), queued],
    )

    assert without_times(everything(kept)) == without_times(everything(scene.shown))


def test_loading_again_keeps_the_answer_that_is_being_written(scene):
    job = scene.asks("now?")
    scene.starts(job)
    scene.writes(job, "yes, ")
    earlier, now = scene.make.message("before?"), replace(scene.make.message("now?"), id=job.message_id)

    scene.shown.load([scene.ada], [earlier, now], [], [replace(job, status=RUNNING)])
    scene.shown.changes()
    scene.page = Page().apply(everything(scene.shown))
    scene.writes(job, "now")

    assert scene.page.reads() == [
        ("You", "said", "before?"),
        ("You", "said", "now?"),
        ("ada", "writing", "<p>yes, now</p>\n"),
    ]


def test_changes_between_two_flushes_are_sent_once(scene):
    job = scene.asks("?")
    scene.starts(job)
    for word in ("a ", "b ", "c"):
        scene.shown.apply(MessageDelta(job_id=job.id, message_id=UUID(int=1000), text=word))

    changes = scene.shown.changes()

    assert ["entry" if "entry" in change else "part" for change in changes] == ["entry", "part"]
    assert changes[1]["tail"] == "<p>a b c</p>\n"
    assert scene.shown.changes() == []


def test_delegated_answers_follow_in_the_same_turn(scene):
    bo = scene.make.agent("bo")
    first = scene.asks("one?")
    scene.asks("two?")
    answer = scene.answer(first, "@bo?")
    handed = scene.make.job(answer, bo, hops=1)

    scene.happens(AgentAdded(agent=bo), Answered(message=answer), JobQueued(job=handed))
    scene.happens(JobDone(job=replace(first, status=DONE), message=answer))

    assert [each["who"] for each in scene.page.entries] == ["You", "ada", "bo", "You", "ada"]


def test_a_note_is_part_of_the_job_that_it_is_about(scene):
    job = scene.asks("go")
    scene.answers(job, "@bo?")
    note = scene.make.message("not asked: <b>@bo</b>", role="system", job_id=job.id)

    scene.happens(MessageAdded(message=note))

    assert scene.page.reads()[-1] == ("ada", "done", "<p>@bo?</p>\n<p><em>not asked: &lt;b&gt;@bo&lt;/b&gt;</em></p>")


def test_a_question_can_be_edited_and_a_finished_answer_regenerated(scene):
    job = scene.asks("one?")
    before = [each["can"] for each in scene.page.entries]
    scene.answers(job, "yes")

    assert before == ["edit", ""]
    assert [each["can"] for each in scene.page.entries] == ["edit", "regenerate"]
    assert scene.shown.answer_in(str(job.id)) == str(UUID(int=1000))


def test_a_question_too_long_to_show_completely_cannot_be_edited(scene):
    scene.asks("x" * (MAX_TEXT_CHARS + 1))

    assert scene.page.entries[0]["can"] == ""


def test_what_happens_on_a_branch_that_is_not_shown_is_left_out(scene):
    scene.asks("typo?")
    hidden = scene.make.job(scene.make.message("elsewhere"), scene.ada)
    before = scene.page.reads()

    scene.happens(JobQueued(job=hidden), JobStarted(job=replace(hidden, status=RUNNING)))
    scene.writes(hidden, "not here")
    scene.answers(hidden, "not here")
    scene.happens(JobFailed(job=replace(hidden, status=FAILED), reason="not here"))

    assert scene.page.reads() == before


def test_messages_of_a_job_that_ended_while_the_thread_was_read_are_shown(scene):
    question = scene.make.message("?")
    job = scene.make.job(question, scene.ada)
    asked = replace(scene.answer(job, "Let me see.", 1001), parent_id=question.id)
    answer = replace(scene.answer(job, "@bo?", 1002), parent_id=asked.id)
    note = scene.make.message("not asked: @bo", role="system", job_id=job.id, parent_id=answer.id)
    done = replace(job, status=DONE)
    call = scene.make.call(asked)

    scene.loads([question], [], [done])  # the messages were read first
    scene.happens(MessageAdded(message=asked), ToolReturned(job_id=job.id, call=call), Answered(message=answer))
    scene.happens(MessageAdded(message=note), JobDone(job=done, message=answer))

    assert [state for _, state, _ in scene.page.reads()] == ["said", "done"]
    assert list(scene.page.parts) == [str(each.id) for each in (asked, call, answer, note)]


def test_of_what_was_loaded_only_an_answer_without_an_end_is_sent_as_a_change(scene):
    first, second = scene.make.message("one?"), scene.make.message("two?")
    done = scene.make.job(first, scene.ada, status=DONE)
    stopped = replace(scene.make.job(second, scene.ada, status=CANCELLED), partial="ha")

    scene.shown.load([scene.ada], [first, scene.answer(done, "one."), second], [], [done, stopped])

    assert {each.get("entry") or each["in"] for each in scene.shown.changes()} == {str(stopped.id)}
    texts = [text.strip() for *_, text in Page().apply(everything(scene.shown)).reads()]
    assert texts == ["one?", "<p>one.</p>", "two?", "<p>ha</p>"]


def test_a_job_whose_question_is_too_far_back_to_show_continues(scene):
    bo = scene.make.agent("bo")
    question = scene.make.message("long ago")
    job = scene.make.job(question, scene.ada, status=RUNNING)
    asked = replace(scene.answer(job, "Let me see."), parent_id=question.id)
    handed = scene.make.job(asked, bo, hops=1)

    scene.happens(AgentAdded(agent=bo))
    scene.loads([asked], [], [job])
    loaded = scene.shown.busy
    scene.happens(JobQueued(job=handed), JobFailed(job=replace(job, status=FAILED), reason="no server"))

    assert loaded
    assert [(each["who"], each["state"]) for each in scene.page.entries] == [("ada", "failed"), ("bo", "queued")]


def test_an_answer_to_an_inherited_question_of_a_fork_follows_it(scene):
    first, second = scene.make.message("one?"), scene.make.message("two?")
    inherited = scene.make.message("one.", role="assistant", agent_id=scene.ada.id, parent_id=first.id)
    again = scene.make.job(first, scene.ada)

    scene.loads([first, inherited, second], [], [])
    scene.happens(JobQueued(job=again))

    assert [state for _, state, _ in scene.page.reads()] == ["said", "done", "queued", "said"]


def test_late_events_do_not_revive_a_job_that_has_ended(scene):
    job = scene.asks("?")
    scene.starts(job)
    scene.writes(job, "half")
    scene.happens(JobCancelled(job=replace(job, status=CANCELLED)))
    before = scene.page.reads()

    scene.writes(job, " of it")
    scene.writes(job, "anew", message=1001)
    scene.happens(
        ModelLoading(job_id=job.id, note="loading m"),
        ToolWaiting(job_id=job.id, call=scene.make.call(scene.make.message("?")), note="busy"),
    )

    assert scene.page.reads() == before
    assert (scene.states(), scene.note()) == (["cancelled"], "stopped")


def test_a_loading_model_is_shown_on_running_jobs_and_not_on_queued_ones(scene):
    running, queued = scene.asks("one?"), scene.asks("two?")
    scene.starts(running)

    scene.happens(ModelLoading(note="fetching the model", fraction=0.5))

    assert scene.states() == ["loading", "queued"]
    assert scene.note() == "waiting in the queue"

    scene.happens(ModelLoading(job_id=queued.id, note="loading m"))

    assert scene.note() == "loading m"


def test_a_job_that_an_earlier_kernel_left_says_what_it_waits_for(scene, make):
    question = make.message("?")
    job = make.job(question, scene.ada)
    why = "waits: a tool that is not defined here: price; run their cells"

    scene.shown.load([scene.ada], [question], [], [job], unfinished={job.id: why})
    scene.page.apply(everything(scene.shown))
    shown = scene.note()
    scene.starts(job)

    assert shown == why
    assert scene.note() == "thinking"


def test_a_call_tells_the_names_of_its_figures_when_it_returns(scene):
    plot = Attachment.of(b"bytes", "image/png", width=640, height=480)
    job = scene.asks("plot it")
    scene.starts(job)
    asking = scene.answer(job, "")
    scene.happens(MessageAdded(message=asking))
    call = scene.make.call(asking, "run_python", None, status=CallStatus.STARTED)
    scene.happens(ToolCalled(job_id=job.id, call=call))
    ended = replace(call, status=CallStatus.OK, result="done", attachments=(plot,))

    scene.happens(ToolReturned(job_id=job.id, call=ended))

    assert scene.page.parts[str(call.id)]["attachments"] == [[plot.sha256, "image, 640 × 480"]]


def test_slices_are_the_last_entries_first_and_together_everything(scene):
    for text in ("one?", "two?", "three?"):
        scene.asks(text)
    slices = list(scene.shown.slices(2))

    together = [change for each in reversed(slices) for change in each]
    assert together == everything(scene.shown)
    assert len({change.get("entry") or change["in"] for change in slices[0]}) == 2


def test_it_is_told_for_how_long_a_model_thought_once_it_writes(make):
    scene = Scene(make)
    times = iter([datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC) for second in (1, 13)])
    scene.shown = ThreadView(now=lambda: next(times))
    job = scene.asks("?")
    scene.starts(job)
    scene.writes(job, reasoning="hm")
    assert "thought" not in str(everything(scene.shown))

    scene.writes(job, "It is")

    [text] = [change for change in everything(scene.shown) if change.get("kind") == "text"]
    assert text["thought"] == 12.0


def test_for_how_long_a_model_thought_is_known_after_a_restart(make):
    scene = Scene(make)
    question = scene.make.message("?")
    job = replace(scene.make.job(question, scene.ada), status=DONE)
    answer = replace(scene.answer(job, "So."), reasoning="hm", usage={"thought_s": 12.0})

    _, view = loaded(scene, [question, answer], [job])

    [text] = [change for change in everything(view) if change.get("kind") == "text"]
    assert text["thought"] == 12.0


def loaded(scene, messages, jobs, alternatives=()):
    view = ThreadView()
    view.load([scene.ada], messages, [], jobs, alternatives=dict(alternatives))
    return [change for change in everything(view) if "entry" in change], view


def test_what_was_written_of_a_stopped_answer_is_shown_with_its_job(scene):
    question = scene.make.message("?")
    job = replace(scene.make.job(question, scene.ada), status=CANCELLED, partial="half an **answer**")
    [_, entry], view = loaded(scene, [question], [job])
    view.changes()

    assert (entry["state"], entry["note"]) == ("cancelled", "stopped")
    assert [change["tail"] for change in everything(view) if "part" in change] == [
        "<p>half an <strong>answer</strong></p>\n"
    ]
    assert view.markdown_of(str(job.id)) == "half an **answer**"


def test_a_version_says_which_it_is_and_which_are_beside_it(scene):
    question = scene.make.message("?")
    ids = [UUID(int=1), question.id, UUID(int=3)]

    [entry], view = loaded(scene, [question], [], {question.id: ids})

    assert entry["branch"] == {"id": str(question.id), "at": 2, "of": 3, "before": str(ids[0]), "after": str(ids[2])}
    view.set_alternatives({})
    assert [change["branch"] for change in view.changes()] == [None]


def test_an_answer_that_is_written_on_another_branch_is_not_shown(scene):
    question = scene.make.message("?")
    first, second = (scene.make.job(question, scene.ada) for _ in range(2))
    old = scene.answer(first, "old")
    entries, view = loaded(scene, [question, old], [replace(first, status=DONE), replace(second, status=RUNNING)])

    view.apply(JobStarted(job=replace(second, status=RUNNING)))
    view.apply(Answered(message=scene.answer(second, "new", message=2)))

    assert [entry["who"] for entry in entries] == ["You", "ada"]
    assert "new" not in str(everything(view))
    assert not view.busy

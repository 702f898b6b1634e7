"""What is shown as plain text, which a terminal prints as it is: none of it steers the terminal."""

from dataclasses import replace
from uuid import UUID

import pytest
from hostile import HOSTILE, OBEYED, ORDINARY
from making import START, Make

from piano_jupyter.events import ApprovalRequested, JobFailed, ModelLoading
from piano_jupyter.jupyter.cell.live_cell import LiveAnswer, LiveCell, LivePart
from piano_jupyter.jupyter.render.cards import (
    ApprovalCards,
    agent_card,
    agents_table,
    hits_table,
    job_card,
    jobs_table,
    model_card,
    models_table,
    thread_card,
    threads_table,
)
from piano_jupyter.jupyter.render.event_lines import event_line
from piano_jupyter.jupyter.render.record_lines import record_line
from piano_jupyter.jupyter.render.tables import Note, RecordTable, rows_plain
from piano_jupyter.jupyter.render.transcript import AnswerGroup, Transcript, answer_bundle
from piano_jupyter.jupyter.render.usage_table import UsageStatistics
from piano_jupyter.records import Hit, Model, Rows, Thread

make = Make()
ADA = make.agent(HOSTILE, model=HOSTILE, description=HOSTILE, system_prompt=HOSTILE, options={HOSTILE: HOSTILE})
TALK = Thread(id=UUID(int=9), title=HOSTILE, inserted_at=START, primary_agent_id=ADA.id)
SAID = make.message(HOSTILE, "assistant", agent_id=ADA.id)
CALL = make.call(SAID, HOSTILE, HOSTILE, arguments={HOSTILE: [HOSTILE]})
JOB = make.job(SAID, ADA, reason=HOSTILE)
MODEL = Model(name=HOSTILE, description=HOSTILE, aliases=(HOSTILE,))
NAMES = {ADA.id: HOSTILE, TALK.id: HOSTILE}
HIT = Hit(thread=TALK, message=SAID, excerpt=HOSTILE, marks=((3, 6),), at=0, score=1.0)
REQUEST = ApprovalRequested(
    id=UUID(int=3), job_id=UUID(int=4), call=CALL, question=HOSTILE, reason=HOSTILE, always=HOSTILE
)
ROWS = Rows((HOSTILE, "n"), ((HOSTILE, 1), (None, 2)))

PLAIN = {
    "note": repr(Note(HOSTILE)),
    "agent": repr(agent_card(ADA)),
    "thread": repr(thread_card(TALK, NAMES)),
    "job": repr(job_card(JOB, NAMES)),
    "model": repr(model_card(MODEL)),
    "agents": repr(agents_table([ADA])),
    "threads": repr(threads_table([TALK], {})),
    "jobs": repr(jobs_table([JOB], NAMES)),
    "models": repr(models_table([MODEL])),
    "hits": repr(hits_table([HIT], NAMES)),
    "nothing": repr(RecordTable([], HOSTILE)),
    "rows": rows_plain(ROWS),
    "figures": repr(UsageStatistics(ROWS)),
    "requests": repr(ApprovalCards([REQUEST])),
    "events": repr(RecordTable([JobFailed(job=JOB, reason=HOSTILE)], "", about=lambda each: event_line(each, NAMES))),
    "transcript": repr(Transcript(HOSTILE, [SAID], [CALL], NAMES)),
    "silence": repr(Transcript(HOSTILE, [], [], NAMES)),
    "answers": repr(AnswerGroup([(HOSTILE, SAID, [CALL])])),
    "answer": answer_bundle(SAID, HOSTILE, [CALL], headed=True)["text/plain"],
    "raw answer": answer_bundle(SAID, HOSTILE, [CALL], raw=True)["text/plain"],
    **{f"line of {type(each).__name__}": record_line(each) for each in (ADA, TALK, SAID, CALL, JOB, MODEL, HIT)},
    **{f"repr of {type(each).__name__}": repr(each) for each in (ADA, TALK, SAID, CALL, JOB, MODEL, HIT, ROWS)},
}


@pytest.mark.parametrize("shown", PLAIN.values(), ids=PLAIN)
def test_plain_text_cannot_control_a_terminal(shown):
    assert not OBEYED.search(shown)


def test_ordinary_text_is_shown_as_it_is():
    assert repr(Note(ORDINARY)) == ORDINARY
    assert answer_bundle(replace(SAID, content=ORDINARY), "ada")["text/plain"] == ORDINARY.rstrip()


@pytest.mark.parametrize("size", [1, 2, 7])
def test_an_answer_in_pieces_cannot_control_a_terminal(capsys, size):
    live = LiveCell(in_notebook=False)
    for end in range(size, len(HOSTILE) + size, size):
        live.draw([LiveAnswer(HOSTILE, (LivePart(HOSTILE[:end]),)), LiveAnswer("bo")])
    live.draw([LiveAnswer(HOSTILE, (LivePart("anew\r"),)), LiveAnswer("bo")])
    live.draw(
        [
            LiveAnswer(HOSTILE, (LivePart("anew\r\nof it"),), has_ended=True),
            LiveAnswer("bo", (LivePart("a\r"),), has_ended=True),
        ]
    )
    live.end()

    shown = capsys.readouterr().out
    assert "[2J‹U+001B›]0;owned" in shown
    assert shown.endswith("end\nanew\nof it\nbo:\na‹U+000D›\n")
    assert not OBEYED.search(shown)


def test_the_progress_of_a_download_cannot_control_a_terminal(capsys):
    from piano_jupyter.__main__ import StderrProgress

    progress, event = StderrProgress(), ModelLoading(note=HOSTILE, fraction=0.5)
    progress.show(event.note, None)
    progress.show(event.note, event.fraction)
    progress.show(event.note, 1)

    told = capsys.readouterr().err
    assert "‹U+001B›" in told
    assert not OBEYED.search(told.replace("\r", ""))  # the bar goes back to the begin of its line

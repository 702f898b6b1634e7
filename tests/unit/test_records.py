"""The order in which a conversation is told, short ids, rows, and the clock."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from piano_jupyter.clock import Clock
from piano_jupyter.records import Rows, branch, short


def question(make, content, parent=None):
    return make.message(content, parent_id=parent and parent.id)


def answer(make, job, content):
    return make.message(content, role="assistant", agent_id=job.agent_id, job_id=job.id, parent_id=job.message_id)


def told(messages, jobs=(), leaf=None):
    return [message.content for message in branch(messages, jobs, leaf and leaf.id)]


def test_nothing_said_is_nothing_told():
    assert branch([], []) == []


def test_each_answer_stands_after_its_own_question(make):
    ada = make.agent("ada")
    one = question(make, "one?")
    two = question(make, "two?", one)
    three = question(make, "three?", two)
    jobs = [make.job(each, ada) for each in (one, two, three)]
    late = answer(make, jobs[0], "one"), answer(make, jobs[2], "three"), answer(make, jobs[1], "two")

    assert told([three, *late, one, two], jobs) == ["one?", "one", "two?", "two", "three?", "three"]


def test_all_that_a_job_said_is_told_in_order(make):
    asked = question(make, "?")
    job = make.job(asked, make.agent("ada"))
    looks = answer(make, job, "I look.")
    answers = answer(make, job, "42")

    assert told([answers, asked, looks], [job]) == ["?", "I look.", "42"]


def test_several_agents_answer_one_question_after_each_other(make):
    asked = question(make, "?")
    jobs = [make.job(asked, make.agent("ada")), make.job(asked, make.agent("bo"))]
    said = [answer(make, job, text) for job, text in zip(jobs, ("ada says", "bo says"), strict=True)]

    assert told([asked, *said], jobs) == ["?", "ada says", "bo says"]


def test_of_two_answers_of_one_agent_the_newest_is_told_unless_the_branch_goes_through_the_other(make):
    ada = make.agent("ada")
    asked = question(make, "?")
    jobs = [make.job(asked, ada), make.job(asked, ada)]
    old, new = answer(make, jobs[0], "old"), answer(make, jobs[1], "new")
    follow = question(make, "and?", old)

    assert told([asked, old, new], jobs) == ["?", "new"]
    assert told([asked, old, new], jobs, leaf=old) == ["?", "old"]
    assert told([asked, old, new, follow], jobs) == ["?", "old", "and?"]


def test_an_edit_is_a_branch_of_its_own(make):
    first = question(make, "first")
    meant = question(make, "meant", first)
    edited = question(make, "edited", first)

    assert told([first, meant, edited]) == ["first", "edited"]
    assert told([first, meant, edited], leaf=meant) == ["first", "meant"]


def test_an_answer_in_the_making_does_not_hide_the_newest_question(make):
    ada = make.agent("ada")
    one = question(make, "one?")
    two = question(make, "two?", one)
    jobs = [make.job(one, ada), make.job(two, ada)]

    assert told([one, two, answer(make, jobs[0], "one")], jobs) == ["one?", "one", "two?"]


def test_a_short_id_is_the_end_that_differs():
    assert short(UUID("0198c0de-0000-7000-8000-00000012abcd")) == "12abcd"


def test_rows_are_a_sequence_of_tuples():
    rows = Rows(("a", "b"), ((1, 2), (3, 4)))

    assert len(rows) == 2
    assert list(rows) == [(1, 2), (3, 4)]
    assert rows[1] == (3, 4)
    assert rows[-1:] == ((3, 4),)


def test_a_recorded_clock_repeats_its_times_and_ids():
    start = datetime(2026, 1, 1, tzinfo=UTC)
    first, second = Clock(start), Clock(start)

    assert [first.new_id(), first.now(), first.new_id()] == [second.new_id(), second.now(), second.new_id()]


@pytest.mark.parametrize("clock", [Clock(), Clock(datetime(2026, 1, 1, tzinfo=UTC))], ids=["real", "recorded"])
def test_ids_are_uuids_of_version_7_that_begin_with_the_time_and_never_repeat(clock):
    before = clock.now()
    ids = [clock.new_id() for _ in range(1000)]
    after = clock.now()

    assert len(set(ids)) == 1000
    assert {each.version for each in ids} == {7}
    assert {each.variant for each in ids} == {"specified in RFC 4122"}
    times = [each.int >> 80 for each in ids]
    assert times == sorted(times)
    assert int(before.timestamp() * 1000) <= times[0] <= times[-1] <= int(after.timestamp() * 1000)


def test_the_real_clock_tells_utc():
    before = datetime.now(UTC)
    told = Clock().now()

    assert before <= told <= datetime.now(UTC)
    assert told.tzinfo is UTC

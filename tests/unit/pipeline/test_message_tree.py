"""The branches of a thread, and what an agent reads of them."""

import random
from dataclasses import replace

import pytest

from piano_jupyter.pipeline.message_tree import MessageTree
from piano_jupyter.records import ChosenBranch, JobStatus


def question(make, content, parent=None):
    return make.message(content, parent_id=parent and parent.id)


def answer(make, job, content):
    return make.message(content, role="assistant", agent_id=job.agent_id, job_id=job.id, parent_id=job.message_id)


def texts(messages):
    return [message.content for message in messages]


def told(messages, jobs=(), leaf=None, first=None):
    return texts(MessageTree(messages, jobs).branch(leaf and leaf.id, first and first.id))


def test_an_empty_thread_has_an_empty_branch():
    assert MessageTree([], []).branch() == []


def test_each_answer_stands_after_its_own_question(make):
    ada = make.agent("ada")
    one = question(make, "one?")
    two = question(make, "two?", one)
    three = question(make, "three?", two)
    jobs = [make.job(each, ada) for each in (one, two, three)]
    late = answer(make, jobs[0], "one"), answer(make, jobs[2], "three"), answer(make, jobs[1], "two")

    assert told([three, *late, one, two], jobs) == ["one?", "one", "two?", "two", "three?", "three"]


def test_all_messages_of_a_job_are_in_the_branch_in_order(make):
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


def test_of_two_answers_of_one_agent_the_newest_is_shown_unless_the_branch_goes_through_the_other(make):
    ada = make.agent("ada")
    asked = question(make, "?")
    jobs = [make.job(asked, ada), make.job(asked, ada)]
    old, new = answer(make, jobs[0], "old"), answer(make, jobs[1], "new")
    follow = question(make, "and?", old)

    assert told([asked, old, new], jobs) == ["?", "new"]
    assert told([asked, old, new], jobs, leaf=old) == ["?", "old"]
    assert told([asked, old, new, follow], [*jobs, make.job(follow, ada)]) == ["?", "old", "and?"]


def test_an_edit_is_a_branch_of_its_own(make):
    first = question(make, "first")
    meant = question(make, "meant", first)
    edited = question(make, "edited", first)

    assert told([first, meant, edited]) == ["first", "edited"]
    assert told([first, meant, edited], leaf=meant) == ["first", "meant"]


def test_an_unfinished_answer_does_not_hide_the_newest_question(make):
    ada = make.agent("ada")
    one = question(make, "one?")
    two = question(make, "two?", one)
    jobs = [make.job(one, ada), make.job(two, ada)]

    assert told([one, two, answer(make, jobs[0], "one")], jobs) == ["one?", "one", "two?"]


def test_delegated_answers_come_after_the_delegating_one_and_before_the_next_question(make):
    ada, bo = make.agent("ada"), make.agent("bo")
    one = question(make, "one?")
    two = question(make, "two?", one)
    first, second = make.job(one, ada), make.job(two, ada)
    asks = answer(make, first, "@bo?")
    handed = make.job(asks, bo, hops=1)
    said = [answer(make, second, "two"), answer(make, handed, "bo says")]

    assert told([one, two, asks, *said], [first, second, handed]) == ["one?", "@bo?", "bo says", "two?", "two"]


def test_an_agent_reads_its_own_answer_first_so_that_its_prompt_only_grows(make):
    ada, bo = make.agent("ada"), make.agent("bo")
    asked = question(make, "?")
    jobs = [make.job(asked, ada), make.job(asked, bo)]
    said = [answer(make, jobs[1], "bo says"), answer(make, jobs[0], "ada says")]
    next_question = question(make, "and?", said[1])
    job = make.job(next_question, bo)
    tree = MessageTree([asked, *said, next_question], [*jobs, job])

    assert texts(tree.branch()) == ["?", "ada says", "bo says", "and?"]
    assert texts(tree.history(job).messages) == ["?", "bo says", "ada says", "and?"]


def test_an_agent_does_not_read_what_others_answer_to_the_same_question_meanwhile(make):
    ada, bo = make.agent("ada"), make.agent("bo")
    asked = question(make, "?")
    jobs = [make.job(asked, ada), make.job(asked, bo)]
    tree = MessageTree([asked, answer(make, jobs[0], "ada says"), answer(make, jobs[1], "let me see")], jobs)

    assert texts(tree.history(jobs[1]).messages) == ["?", "let me see"]


def test_an_agent_that_a_question_is_delegated_to_reads_what_led_to_it(make):
    ada, bo, cy = make.agent("ada"), make.agent("bo"), make.agent("cy")
    before = question(make, "before?")
    earlier = make.job(before, ada)
    was = answer(make, earlier, "before")
    asked = question(make, "?", was)
    jobs = [make.job(asked, ada), make.job(asked, cy)]
    asks = answer(make, jobs[0], "@bo?")
    handed = make.job(asks, bo, hops=1)
    tree = MessageTree([before, was, asked, answer(make, jobs[1], "cy says"), asks], [earlier, *jobs, handed])

    assert texts(tree.history(handed).messages) == ["before?", "before", "?", "@bo?"]


def anew(make, *statuses):
    """Return a thread of two turns whose first question was regenerated: its messages by name, and its jobs."""
    ada = make.agent("ada")
    one = question(make, "one?")
    jobs = [done(make.job(one, ada))]
    old = answer(make, jobs[0], "old")
    two = question(make, "two?", old)
    jobs.append(done(make.job(two, ada)))
    second = answer(make, jobs[1], "two")
    return one, old, two, second, [*jobs, *(replace(make.job(one, ada), status=status) for status in statuses)]


def done(job):
    return replace(job, status=JobStatus.DONE)


def test_the_thread_continues_from_a_regenerated_question(make):
    one, old, two, second, jobs = anew(make, JobStatus.DONE)
    new = answer(make, jobs[2], "new")
    tree = MessageTree([one, old, two, second, new], jobs)

    assert texts(tree.branch()) == ["one?", "new"]
    assert texts(tree.branch(two.id)) == ["one?", "old", "two?", "two"]
    assert texts(tree.history(jobs[2]).messages) == ["one?", "new"]
    assert tree.alternatives() == {old.id: [old.id, new.id], new.id: [old.id, new.id]}


def test_an_unfinished_answer_replaces_the_old_one(make):
    one, old, two, second, jobs = anew(make, JobStatus.RUNNING)

    assert told([one, old, two, second], jobs) == ["one?"]


@pytest.mark.parametrize("status", [JobStatus.FAILED, JobStatus.CANCELLED])
def test_a_regeneration_that_failed_changes_nothing(make, status):
    one, old, two, second, jobs = anew(make, status)
    looked = answer(make, jobs[2], "let me look")  # and then it failed

    assert told([one, old, two, second], jobs) == ["one?", "old", "two?", "two"]
    assert told([one, old, two, second, looked], jobs) == ["one?", "old", "two?", "two"]
    assert told([one, old, looked], [jobs[0], jobs[2]]) == ["one?", "old"]


def test_a_branch_stays_the_same_when_its_first_question_is_regenerated_later(make):
    ada, bo = make.agent("ada"), make.agent("bo")
    one = question(make, "one?")
    jobs = [done(make.job(one, ada)), done(make.job(one, bo))]
    old, beside = answer(make, jobs[0], "old"), answer(make, jobs[1], "bo says")
    two = question(make, "two?", beside)
    jobs += [done(make.job(two, bo)), done(make.job(one, ada))]
    messages = [one, old, beside, two, answer(make, jobs[2], "two"), answer(make, jobs[3], "new")]

    assert told(messages, jobs, leaf=two) == ["one?", "old", "bo says", "two?", "two"]
    assert told(messages, jobs) == ["one?", "new", "bo says"]


def test_the_thread_continues_from_a_regenerated_delegated_question_too(make):
    ada, bo = make.agent("ada"), make.agent("bo")
    one = question(make, "one?")
    first = done(make.job(one, ada))
    asks = answer(make, first, "@bo?")
    handed = done(make.job(asks, bo, hops=1))
    said = answer(make, handed, "old")
    two = question(make, "two?", said)
    jobs = [first, handed, done(make.job(two, ada)), done(make.job(asks, bo, hops=1))]
    messages = [one, asks, said, two, answer(make, jobs[2], "two"), answer(make, jobs[3], "new")]

    assert told(messages, jobs) == ["one?", "@bo?", "new"]
    assert told(messages, jobs, leaf=two) == ["one?", "@bo?", "old", "two?", "two"]


def test_the_attempt_that_answered_last_counts_though_it_was_made_first(make):
    ada, asked = make.agent("ada"), question(make, "?")
    jobs = [done(make.job(asked, ada)), done(make.job(asked, ada))]
    said = [answer(make, jobs[1], "second"), answer(make, jobs[0], "first, tried again")]

    assert told([asked, *said], jobs) == ["?", "first, tried again"]


def test_a_note_after_an_answer_is_no_alternative_to_it(make):
    ada, asked = make.agent("ada"), question(make, "?")
    jobs = [make.job(asked, ada), make.job(asked, ada)]
    old, new = answer(make, jobs[0], "old"), answer(make, jobs[1], "new")
    note = make.message("not asked: @bo", role="system", job_id=jobs[1].id, parent_id=new.id)

    assert MessageTree([asked, old, new, note], jobs).alternatives() == {
        each.id: [old.id, new.id] for each in (old, new)
    }


def test_two_questions_with_one_parent_are_alternatives(make):
    first = question(make, "first")
    meant, edited = question(make, "meant", first), question(make, "edited", first)

    assert MessageTree([first, meant, edited], []).alternatives() == {
        each.id: [meant.id, edited.id] for each in (meant, edited)
    }


def test_an_imported_thread_is_one_branch(make):
    asked = question(make, "?")
    said = make.message("!", role="assistant", parent_id=asked.id)
    more = question(make, "and?", said)

    assert told([asked, said, more]) == ["?", "!", "and?"]


@pytest.mark.parametrize("seed", range(60))
def test_a_tree_that_grew_has_the_same_branches_as_one_built_at_once(make, seed):
    chance, agents = random.Random(seed), [make.agent("ada"), make.agent("bo")]
    messages, jobs = [], {}
    grown = MessageTree([], [])

    def ask(question):
        job = make.job(question, chance.choice(agents), hops=int(question.role != "user"))
        jobs[job.id] = job
        grown.put_job(job)

    for _ in range(40):
        match chance.choice(["question", "again", "answer", "status"]):
            case "question":
                parent = chance.choice([*messages[-3:], *messages[-1:], None])
                messages.append(make.message("?", parent_id=parent and parent.id))
                grown.add_message(messages[-1])
                ask(messages[-1])
            case "again" if messages:
                ask(chance.choice(messages[-4:]))
            case "answer" if jobs:
                job = chance.choice(list(jobs.values())[-3:])
                messages.append(
                    make.message("!", "assistant", parent_id=job.message_id, job_id=job.id, agent_id=job.agent_id)
                )
                grown.add_message(messages[-1])
            case "status" if jobs:
                job = chance.choice(list(jobs.values()))
                jobs[job.id] = replace(job, status=chance.choice(list(JobStatus)))
                grown.put_job(jobs[job.id])
        at_once = MessageTree(messages, jobs.values())
        leaf, job = (
            (chance.choice(messages).id if messages else None),
            (chance.choice(list(jobs.values())) if jobs else None),
        )

        assert grown.branch() == at_once.branch()
        assert grown.branch(leaf, agents[0].id) == at_once.branch(leaf, agents[0].id)
        if job is not None:
            assert grown.history(job) == at_once.history(job)
            told = grown.history(job)
            assert told.questions == [at for at, each in enumerate(told.messages) if each.role == "user"]


def chosen(messages, jobs, message):
    """Return a tree in which the branch of a message was chosen."""
    tree = MessageTree(messages, jobs)
    tree.chosen = ChosenBranch(tree.end_of_branch(message.id), tree.newest_job)
    return tree


def edited_twice(make):
    """Return a thread whose first question was edited, each version with a later turn: messages by text, and jobs."""
    ada = make.agent("ada")
    said, jobs = {}, []
    for version in ("old", "new"):
        said[version] = question(make, version)
        jobs.append(make.job(said[version], ada))
        said[f"{version} answer"] = answer(make, jobs[-1], f"{version} answer")
        said[f"{version} later"] = question(make, f"{version} later", said[f"{version} answer"])
        jobs.append(make.job(said[f"{version} later"], ada))
    return said, jobs


def test_a_chosen_question_brings_its_later_turns_back_and_the_next_question_follows_them(make):
    said, jobs = edited_twice(make)

    tree = chosen(said.values(), jobs, said["old"])

    assert texts(tree.branch()) == ["old", "old answer", "old later"]
    assert tree.last_message() == said["old later"]


def test_a_question_that_is_asked_after_the_choice_moves_the_thread_on(make):
    said, jobs = edited_twice(make)
    tree = chosen(said.values(), jobs, said["old"])
    follow = question(make, "follow", said["old later"])

    tree.add_message(follow)
    tree.put_job(make.job(follow, make.agent("ada")))

    assert texts(tree.branch()) == ["old", "old answer", "old later", "follow"]


def test_an_older_answer_that_is_chosen_is_what_the_next_question_follows_also_of_several_agents(make):
    ada, bo = make.agent("ada"), make.agent("bo")
    asked = question(make, "?")
    jobs = [make.job(asked, ada), make.job(asked, bo), make.job(asked, ada)]
    old, other, new = (answer(make, job, text) for job, text in zip(jobs, ("old", "bo says", "new"), strict=True))
    follow = question(make, "and?", old)

    tree = chosen([asked, old, other, new], jobs, old)

    assert texts(tree.branch()) == ["?", "old", "bo says"]
    assert tree.last_message() == old
    tree.add_message(follow)
    tree.put_job(make.job(follow, ada))
    assert texts(tree.branch()) == ["?", "old", "bo says", "and?"]


def test_an_answer_that_later_turns_follow_is_chosen_with_them(make):
    ada = make.agent("ada")
    asked = question(make, "?")
    jobs = [make.job(asked, ada)]
    old = answer(make, jobs[0], "old")
    follow = question(make, "and?", old)
    jobs += [make.job(follow, ada), make.job(asked, ada)]
    new = answer(make, jobs[2], "new")

    assert told([asked, old, follow, new], jobs) == ["?", "new"]
    assert texts(chosen([asked, old, follow, new], jobs, old).branch()) == ["?", "old", "and?"]
    assert texts(chosen([asked, old, follow, new], jobs, new).branch()) == ["?", "new"]


def test_a_copied_branch_without_jobs_is_chosen_with_its_answers(make):
    asked = question(make, "?")
    said = make.message("copied", role="assistant", parent_id=asked.id)
    edited = question(make, "edited")

    assert texts(chosen([asked, said, edited], [make.job(edited, make.agent("ada"))], asked).branch()) == [
        "?",
        "copied",
    ]


def test_a_chosen_message_that_is_gone_changes_nothing(make):
    said, jobs = edited_twice(make)
    tree = MessageTree(said.values(), jobs, ChosenBranch(make.message("elsewhere").id, 1_000))

    assert texts(tree.branch()) == ["new", "new answer", "new later"]

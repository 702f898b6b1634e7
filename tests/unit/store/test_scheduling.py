"""Which job goes next."""

from collections import Counter
from itertools import pairwise
from operator import attrgetter
from uuid import UUID

import pytest

from piano_jupyter.store.scheduling import QueuedJob, SchedulingLimits, next_job, ready

PATIENCE, MODEL = 60.0, attrgetter("model")


def jobs(make, *kinds):
    """Return jobs from pairs of thread number and model, oldest first."""
    return [
        make.job(make.message("?", thread_id=UUID(int=100 + thread)), make.agent(model=model))
        for thread, model in kinds
    ]


def goes(queued, running=(), demand=1, loaded=None, swapped=0.0, now=0.0, since=0.0):
    """Return the next of `queued`, which all came at `since`."""
    limits = SchedulingLimits(max_demand=demand, max_wait_s=PATIENCE)
    able = ready([QueuedJob(job, since) for job in queued], running, limits, MODEL)
    return next_job(able, running, limits, MODEL, loaded=loaded, swapped=swapped, now=now)


def test_the_oldest_goes_first(make):
    first, second = jobs(make, (1, "m"), (2, "m"))

    assert goes([second, first]) is first


def test_a_thread_with_a_running_job_waits(make):
    running, same, other = jobs(make, (1, "a"), (1, "b"), (2, "b"))

    assert goes([same, other], [running]) is other


def test_a_job_never_overtakes_an_older_one_of_its_thread(make):
    running, blocked, behind = jobs(make, (1, "a"), (2, "a"), (2, "b"))

    assert goes([blocked, behind], [running]) is None


def test_a_model_gets_no_more_than_its_demand(make):
    one, two, three = jobs(make, (1, "m"), (2, "m"), (3, "m"))

    assert goes([three], [one, two], demand=2) is None
    assert goes([three], [one], demand=2) is three


def test_jobs_of_one_message_run_side_by_side(make):
    asked = make.message("?", thread_id=UUID(int=100))
    ada, bo = (make.job(asked, make.agent(model=model)) for model in "ab")
    later = make.job(make.message("and?", thread_id=UUID(int=100)), make.agent(model="c"))

    assert goes([later, bo], [ada]) is bo
    assert goes([later], [ada, bo]) is None


def test_a_delegated_job_runs_before_the_next_question_of_its_thread(make):
    [later] = jobs(make, (1, "m"))
    handed = make.job(make.message("@bo?", thread_id=later.thread_id), make.agent(model="m"), hops=1)

    assert goes([later, handed]) is handed


def test_a_delegated_job_does_not_run_before_older_jobs_of_other_threads(make):
    [older] = jobs(make, (2, "m"))
    handed = make.job(make.message("@bo?", thread_id=UUID(int=101)), make.agent(model="m"), hops=1)

    assert goes([handed, older]) is older


def test_jobs_of_the_loaded_model_run_before_older_jobs_of_another(make):
    older, newer = jobs(make, (1, "a"), (2, "b"))

    assert goes([older, newer], loaded={"b"}) is newer
    assert goes([older, newer], loaded={"a", "b"}) is older
    assert goes([older, newer], loaded=set()) is older


def test_no_model_is_loaded_while_another_works(make):
    running, other, same = jobs(make, (1, "a"), (2, "b"), (3, "a"))

    assert goes([other], [running], loaded={"a"}) is None
    assert goes([other, same], [running], demand=2, loaded={"a"}) is same
    assert goes([other], [running], loaded=set()) is None  # the other is being loaded


def test_a_loaded_model_does_not_count_while_another_is_loading(make):
    running, other = jobs(make, (1, "a"), (2, "b"))

    assert goes([other], [running], demand=2, loaded={"b"}) is None


def test_models_that_are_loaded_together_work_side_by_side(make):
    running, other = jobs(make, (1, "a"), (2, "b"))

    assert goes([other], [running], loaded={"a", "b"}) is other


def test_a_server_that_does_not_swap_serves_all_models_side_by_side(make):
    running, other = jobs(make, (1, "a"), (2, "b"))

    assert goes([other], [running], loaded=None) is other


def test_a_job_that_waited_long_enough_runs_before_newer_jobs_of_the_loaded_model(make):
    running, late, newer = jobs(make, (1, "a"), (2, "b"), (3, "a"))

    assert goes([late, newer], loaded={"a"}, now=PATIENCE - 1) is newer
    assert goes([late, newer], loaded={"a"}, now=PATIENCE) is late
    assert goes([late, newer], [running], demand=2, loaded={"a"}, now=PATIENCE) is None  # what runs ends first


def test_older_jobs_of_the_loaded_model_run_before_one_that_waited_long(make):
    older, late = jobs(make, (1, "a"), (2, "b"))

    assert goes([older, late], loaded={"a"}, now=PATIENCE) is older


def test_several_waiting_models_each_get_their_turn_in_time(make):
    b, c = jobs(make, (2, "b"), (3, "c"))
    newer = jobs(make, (4, "a"), (5, "b"))

    assert goes([b, c, newer[0]], loaded={"a"}, now=PATIENCE / 2) is b
    assert goes([c, newer[1]], loaded={"b"}, swapped=PATIENCE / 2, now=PATIENCE - 1) is newer[1]
    assert goes([c, newer[1]], loaded={"b"}, swapped=0.0, now=PATIENCE) is c


@pytest.mark.parametrize(("seconds", "swaps"), [(1.0, 1), (10.0, 3), (100.0, 19)])
def test_two_busy_models_take_turns_by_time_and_not_by_job(make, seconds, swaps):
    queued = jobs(make, *((thread, "ab"[thread % 2]) for thread in range(20)))
    loaded, swapped, now, seen = "", 0.0, 0.0, []

    while queued:
        job = goes(queued, loaded={loaded}, swapped=swapped, now=now)
        if job.model != loaded:
            loaded, swapped = job.model, now
        seen.append(job)
        queued.remove(job)
        now += seconds

    assert sum(one.model != other.model for one, other in pairwise(seen)) == swaps
    assert Counter(job.model for job in seen) == {"a": 10, "b": 10}

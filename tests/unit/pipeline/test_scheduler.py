"""Which job goes next."""

from uuid import UUID

from piano_jupyter.pipeline.scheduler import next_job


def jobs(make, *kinds):
    """Return jobs from pairs of thread number and model, oldest first."""
    return [
        make.job(make.message("?", thread_id=UUID(int=100 + thread)), make.agent(model=model))
        for thread, model in kinds
    ]


def test_the_oldest_goes_first(make):
    first, second = jobs(make, (1, "m"), (2, "m"))

    assert next_job([second, first], [], 1) is first


def test_a_thread_with_a_running_job_waits(make):
    running, same, other = jobs(make, (1, "a"), (1, "b"), (2, "b"))

    assert next_job([same, other], [running], 1) is other


def test_a_job_never_overtakes_an_older_one_of_its_thread(make):
    running, blocked, behind = jobs(make, (1, "a"), (2, "a"), (2, "b"))

    assert next_job([blocked, behind], [running], 1) is None


def test_a_model_gets_no_more_than_its_demand(make):
    one, two, three = jobs(make, (1, "m"), (2, "m"), (3, "m"))

    assert next_job([three], [one, two], 2) is None
    assert next_job([three], [one], 2) is three

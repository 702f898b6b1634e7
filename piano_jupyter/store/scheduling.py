"""Decide which job runs next. Pure.

Strict order within a thread; the jobs of one message run side by side, and a delegated job runs before the thread's
next question. Between threads the oldest goes first, except that a server which swaps models is spared: jobs of a
loaded model go before those of one that is not, and no model is loaded while another works. But newer jobs of the
loaded model wait once a job of another model has waited `max_wait_s`.
"""

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable
from dataclasses import dataclass
from operator import attrgetter

from piano_jupyter.records import Job

#: Returns what tells the model of a job from all others.
ModelOf = Callable[[Job], Hashable]


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """A queued job."""

    job: Job
    since: float  #: when it came into the queue, in seconds of a clock that only goes forward


@dataclass(frozen=True, kw_only=True, slots=True)
class SchedulingLimits:
    """The limits of the scheduler."""

    max_demand: int  #: jobs at once on one model
    max_wait_s: float  #: seconds that a job may wait behind newer ones of a model that is loaded


def ready(
    queued: Iterable[QueuedJob], running: Iterable[Job], limits: SchedulingLimits, model_of: ModelOf
) -> list[QueuedJob]:
    """Return the jobs that may run now by order and demand, oldest first."""
    working = list(running)
    load = Counter(map(model_of, working))
    at_work = {job.thread_id: job.message_id for job in working}  # in a thread, one question at a time
    found = []
    for each in sorted(queued, key=lambda each: (each.job.hops == 0, each.job.seq)):
        job = each.job
        is_next = at_work.setdefault(job.thread_id, job.message_id) == job.message_id
        if is_next and load[model_of(job)] < limits.max_demand:
            found.append(each)
    return sorted(found, key=attrgetter("job.seq"))


def next_job(
    able: Iterable[QueuedJob],
    running: Iterable[Job],
    limits: SchedulingLimits,
    model_of: ModelOf,
    *,
    loaded: Collection[Hashable] | None,
    swapped: float,
    now: float,
    at_work: Collection[Hashable] = (),
) -> Job | None:
    """Return which of those that are `able` to go (from `ready`) goes now; None to let the running ones end first.

    `loaded` are the models that answer without a swap; None says that the server never swaps. `swapped` is when a model
    was swapped in last: no job's wait counts from before it, so that many jobs of two models take turns by the
    `max_wait_s`, not by the job; where several models wait, they share it. `at_work` are models that rows of batches
    keep busy.
    """
    waiting = list(able)
    if loaded is None or not waiting:
        return waiting[0].job if waiting else None
    working = {*map(model_of, running), *at_work}
    # a model that is being loaded replaces those reported as loaded
    loaded_now = working if working.difference(loaded) else working.union(loaded)
    of_loaded = [each for each in waiting if model_of(each.job) in loaded_now]
    others = [each for each in waiting if model_of(each.job) not in loaded_now]
    other_models = {model_of(each.job) for each in others}
    max_wait_s = limits.max_wait_s / max(1, len(other_models))  # so that each gets its turn in time
    late = [each for each in others if now - max(each.since, swapped) >= max_wait_s]
    if late:
        of_loaded = [each for each in of_loaded if each.job.seq < late[0].job.seq]
    if of_loaded:
        return of_loaded[0].job
    return others[0].job if others and not working else None

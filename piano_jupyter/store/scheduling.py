"""Which job goes next. Pure.

Strict order within a thread; what one message asks of several agents goes side by side, and what an agent hands on goes
before the thread's next question. Between threads the oldest goes first, except that a server which swaps models is
spared: jobs of a model that is loaded go before those of one that is not, and none is loaded while another works. But
a model's turn is over for newer work once a job of another has waited `max_wait_s` behind it.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from operator import attrgetter

from piano_jupyter.records import Job


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """A queued job."""

    job: Job
    since: float  #: when it came into the queue, in seconds of a clock that only goes forward


@dataclass(frozen=True, kw_only=True, slots=True)
class SchedulingLimits:
    """What the scheduler has to keep to."""

    max_demand: int  #: jobs at once on one model
    max_wait_s: float  #: seconds that a job may wait behind newer ones of a model that is loaded


def ready(queued: Iterable[QueuedJob], running: Iterable[Job], limits: SchedulingLimits) -> list[QueuedJob]:
    """Return what may go now as far as order and demand are concerned, oldest first."""
    working = list(running)
    load = Counter(job.model for job in working)
    at_work = {job.thread_id: job.message_id for job in working}  # in a thread, one question at a time
    found = []
    for each in sorted(queued, key=lambda each: (each.job.hops == 0, each.job.seq)):
        job = each.job
        if at_work.setdefault(job.thread_id, job.message_id) == job.message_id and load[job.model] < limits.max_demand:
            found.append(each)
    return sorted(found, key=attrgetter("job.seq"))


def next_job(
    able: Iterable[QueuedJob],
    running: Iterable[Job],
    limits: SchedulingLimits,
    *,
    loaded: Collection[str] | None,
    swapped: float,
    now: float,
) -> Job | None:
    """Return which of those that are `able` to go (from `ready`) goes now; None to let the running ones end first.

    `loaded` are the models that answer without a swap; None says that the server never swaps. `swapped` is when a model
    was swapped in last: no job's wait counts from before it, so that many jobs of two models take turns by the
    `max_wait_s`, not by the job; where several models wait, they share it.
    """
    waiting = list(able)
    if loaded is None or not waiting:
        return waiting[0].job if waiting else None
    working = {job.model for job in running}
    # one that is still being loaded drives out what was told to be loaded
    here = working if working.difference(loaded) else working.union(loaded)
    at_hand = [each for each in waiting if each.job.model in here]
    others = [each for each in waiting if each.job.model not in here]
    patience = limits.max_wait_s / max(1, len({each.job.model for each in others}))  # each of them has a turn in time
    late = [each for each in others if now - max(each.since, swapped) >= patience]
    if late:
        at_hand = [each for each in at_hand if each.job.seq < late[0].job.seq]
    if at_hand:
        return at_hand[0].job
    return others[0].job if others and not working else None

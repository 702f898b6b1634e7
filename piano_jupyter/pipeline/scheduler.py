"""Which job goes next. Pure.

Strict order within a thread: a job waits for the older ones of its thread. Between threads the oldest goes first, as
long as its model has room.
"""

from collections import Counter
from collections.abc import Iterable

from piano_jupyter.records import Job


def next_job(queued: Iterable[Job], running: Iterable[Job], max_demand: int) -> Job | None:
    """Return the job to claim: first of an idle thread, of a model with fewer than `max_demand` at work."""
    working = list(running)
    load = Counter(job.model for job in working)
    busy = {job.thread_id for job in working}
    for job in sorted(queued, key=lambda each: each.seq):
        if job.thread_id not in busy and load[job.model] < max_demand:
            return job
        busy.add(job.thread_id)
    return None

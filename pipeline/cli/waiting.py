"""Waiting for the end of a replay job."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it loads Arrow, and `--help` is to be quick
    from pipeline.core.replay_job import Job
    from pipeline.ports.jobs import ReplayJobs

POLL_SECONDS = 0.2


def wait_for(jobs: "ReplayJobs", job: "Job", told: Callable[["Job", float], None]) -> "Job":
    """Look at a job until it is done, stale or failed.

    Args:
        jobs: where it is.
        job: as it was seen last.
        told: called after every look with the job, and for how many seconds nothing of it was sent or done; may raise.
    """
    from pipeline.core.replay_job import ENDED

    changed = time.monotonic()
    while job.state not in ENDED:
        time.sleep(POLL_SECONDS)
        before, job = job, jobs.get(job.id)
        if (job.done_chunks, job.sent_messages) != (before.done_chunks, before.sent_messages):
            changed = time.monotonic()
        told(job, time.monotonic() - changed)
    return job

"""Dies, or not, over the records it is given: `python -m consumers.probe`.

Started by a worker (`pipeline/machine/child_probe.py`) for records that are suspected to kill whoever takes them in. Ends
with status 0 when they were decoded and encoded within the limits, and says by its status which limit they reached.
"""

import math
import os
import resource
import signal
import sys
import time

import msgspec

from pipeline.core.rehearse import rehearse
from pipeline.core.rules import rules_of
from pipeline.machine.child_probe import NO_MEMORY, ProbeJob

_SPARE_SECONDS = 5  # at the second limit it is killed without a word: at the first, the signal says why


def main() -> None:
    """Read the job, limit this process, and do what a loader does."""
    job = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=ProbeJob)
    resource.setrlimit(resource.RLIMIT_AS, (job.memory_bytes, job.memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold payloads
    used = math.ceil(time.process_time())
    resource.setrlimit(resource.RLIMIT_CPU, (used + job.cpu_seconds, used + job.cpu_seconds + _SPARE_SECONDS))
    # Whose default is death, also where Python runs no handler: the parent ends us sooner, if it is still there.
    signal.setitimer(signal.ITIMER_REAL, job.seconds)
    try:
        rehearse(job.records, rules_of(job.rules))
    except MemoryError:  # Arrow's and NumPy's are of this kind
        os._exit(NO_MEMORY)  # at once: an orderly end needs memory too


if __name__ == "__main__":
    main()

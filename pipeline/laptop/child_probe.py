"""Port `Probe` by a child process: what kills it does not kill the worker.

The child gets the records and the rules over its standard input, and neither settings nor credentials. It limits its own
memory and time, so that it ends also when its parent is gone.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec

from pipeline.core.event import Record
from pipeline.core.rehearse import good_ones
from pipeline.core.rules import Rules

COMMAND = (sys.executable, "-m", "consumers.probe")
_OURS = ("HEADRACE_", "AWS_")
# Address space is what is limited, and a process of many threads reserves far more of it than it uses: 1.4 GB where 0.2
# are used on two cores. With these it is 0.3.
_SLIM = {"MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"}


class ProbeJob(msgspec.Struct, frozen=True):
    """What the child is asked: the document of the rules, the records, and its limits."""

    rules: bytes
    records: list[Record]
    memory_bytes: int
    cpu_seconds: int
    seconds: float


class ChildProbe:
    """Starts one child for every question.

    What a child uses of a processor is limited by `cpu_seconds`, however busy the machine is; the time that the clock shows,
    by each question. `rules` gives those of the moment.
    """

    def __init__(self, rules: Callable[[], Rules], memory_bytes: int, cpu_seconds: int) -> None:
        self._rules, self._memory_bytes, self._cpu_seconds = rules, memory_bytes, cpu_seconds

    def survives(self, records: Sequence[Record], seconds: float) -> bool:
        """Return whether a child comes to its end over records; see the port."""
        return self._ends(self._rules(), records, seconds)

    def works(self, seconds: float) -> bool:
        """Return whether a child comes to its end over good events; see the port."""
        return self._ends(*good_ones(self._rules()), seconds)

    def _ends(self, rules: Rules, records: Sequence[Record], seconds: float) -> bool:
        job = ProbeJob(rules.document, list(records), self._memory_bytes, self._cpu_seconds, seconds)
        environment = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        with suppress(subprocess.TimeoutExpired):
            child = subprocess.run(
                COMMAND,
                input=msgspec.msgpack.encode(job),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # its last words might quote a payload
                env=environment | _SLIM,
                timeout=seconds,
                check=False,
            )
            return child.returncode == 0
        return False

"""Port `Probe` by a child process: what kills it does not kill the worker.

The child gets the records and the rules over its standard input, and neither settings nor credentials. It limits its own
memory and time, so that it ends also when its parent is gone.
"""

import signal
import subprocess
from collections.abc import Callable, Sequence

import msgspec

from pipeline.core.event import Record
from pipeline.core.rehearse import good_ones
from pipeline.core.rules import Rules
from pipeline.machine.modules import module_command
from pipeline.machine.processes import outside_environment
from pipeline.ports.probe import Death

COMMAND = module_command("consumers.probe")
NO_MEMORY = 71  # the child's status: an allocation was refused, and it noticed
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

    def death(self, records: Sequence[Record], seconds: float) -> Death | None:
        """Return how a child died over records, if it did; see the port."""
        return self._death(self._rules(), records, seconds)

    def works(self, seconds: float) -> bool:
        """Return whether a child comes to its end over good events; see the port."""
        return self._death(*good_ones(self._rules()), seconds) is None

    def _death(self, rules: Rules, records: Sequence[Record], seconds: float) -> Death | None:
        job = ProbeJob(rules.document, list(records), self._memory_bytes, self._cpu_seconds, seconds)
        try:
            child = subprocess.run(
                COMMAND,
                input=msgspec.msgpack.encode(job),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # its last words might quote a payload
                env=outside_environment() | _SLIM,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return self._late(seconds)
        return self._told(child.returncode, seconds) if child.returncode else None

    def _told(self, status: int, seconds: float) -> Death:
        """Tell a death by the child's status; a negative one is a signal."""
        if status == -signal.SIGXCPU:
            limit = f"{self._cpu_seconds} seconds of a processor (worker.probe_seconds)"
            return Death("processor", f"a process that takes this record in needs more than {limit}")
        if status == -signal.SIGALRM:  # its own clock was a moment sooner than ours
            return self._late(seconds)
        if status == NO_MEMORY:
            return Death("memory", f"a process that takes this record in needs more than {self._memory()}")
        how = f"ended by signal {-status}" if status < 0 else f"ended with status {status}"
        words = f"a process that takes this record in does not survive it: {how}"
        if status == -signal.SIGABRT:  # what libraries do that cannot go on without memory
            words += f", which a lack of memory may be: it had {self._memory()}"
        return Death("crash", words)

    def _memory(self) -> str:
        return f"{self._memory_bytes >> 20:,} MiB of address space (worker.probe_memory_bytes)"

    def _late(self, seconds: float) -> Death:
        words = (
            f"a process that takes this record in comes to no end within {seconds:.0f} seconds, where good events take less "
            "than half of that (by kcl.timeout_seconds)"
        )
        return Death("clock", words)

"""What a worker says of itself twice a second, in a file that `headrace status` and the demo read."""

import os
import resource
import threading
from pathlib import Path

import orjson

from pipeline.facts import Fact, GapFound, LagMeasured, SegmentCommitted, SegmentFinished
from pipeline.machine.processes import peak_memory_bytes


class Heartbeat:
    """Totals of one worker since its start, written as one small JSON file, atomically.

    Fields: pid, at_us, units (decoded), rows (committed, duplicates included), duplicates, quarantined, segments, files,
    bytes, gaps (of the ledger, told by it), rules (digest
    of those that events are judged by), behind_ms (the worst shard), dynamodb_write_units, s3_puts, cpu_seconds, peak_memory_bytes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._totals = dict.fromkeys(
            ("rows", "duplicates", "quarantined", "segments", "files", "bytes", "gaps"), 0
        )
        self._behind_ms: dict[str, int] = {}

    def note(self, fact: Fact) -> None:
        """Add a fact to the totals (port `FactSink`)."""
        if isinstance(fact, SegmentCommitted | SegmentFinished):
            with self._lock:
                self._totals["segments"] += 1
                for name in ("rows", "duplicates", "quarantined", "files", "bytes"):
                    self._totals[name] += getattr(fact, name)
        elif isinstance(fact, GapFound):
            with self._lock:
                self._totals["gaps"] += 1
        elif isinstance(fact, LagMeasured):
            with self._lock:  # a shard that is new would disturb who walks over them
                self._behind_ms[fact.shard_id] = round(fact.behind_seconds * 1_000)

    def write(self, *, now_us: int, pending_units: int, write_units: float, s3_puts: int, rules: str) -> None:
        """Write the file."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        with self._lock:
            totals, behind_ms = dict(self._totals), max(self._behind_ms.values(), default=0)
        body = {
            "pid": os.getpid(),
            "at_us": now_us,
            "units": totals["rows"] + totals["quarantined"] + pending_units,
            **totals,
            "rules": rules,
            "behind_ms": behind_ms,
            "dynamodb_write_units": write_units,
            "s3_puts": s3_puts,
            "cpu_seconds": usage.ru_utime + usage.ru_stime,
            "peak_memory_bytes": peak_memory_bytes(os.getpid()),
        }
        part = self._path.with_suffix(f".{os.getpid()}.part")
        part.write_bytes(orjson.dumps(body))
        part.replace(self._path)

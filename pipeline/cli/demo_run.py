"""The demo's stages, one after the other, over the same flows and adapters that every other command uses."""

import os
import resource
import time
from dataclasses import dataclass, field
from typing import Any

import orjson

from pipeline import wiring
from pipeline.cli.audit import as_document
from pipeline.cli.demo_aircraft import Aircraft, Investigation
from pipeline.cli.demo_aircraft import as_document as aircraft_document
from pipeline.cli.progress import Stages
from pipeline.config import Settings
from pipeline.core.audit import Report
from pipeline.core.errors import HeadraceError
from pipeline.laptop.flights import OutgoingEvent, read_flights
from pipeline.laptop.launch import Running
from pipeline.laptop.memory_watch import MemoryWatch
from pipeline.machine.processes import cpu_seconds
from pipeline.sending import Producer
from pipeline.startup import release_memory

STAGES = ("start", "produce", "load", "duplicates", "query", "find", "replay", "audit")
RESENT = 1_000
POLL_SECONDS = 0.25
STALL_SECONDS = 60.0  # without one further row the demo gives up rather than wait for ever
SUMMARY_QUERIES = ("delay_by_carrier", "worst_weather_hours", "quarantine_by_reason")
COUNTS = """SELECT
  (SELECT count(*) FROM events) AS in_default_view,
  (SELECT count(*) FROM events_raw) AS in_raw_view,
  (SELECT count(*) FROM quarantine) AS in_quarantine"""


@dataclass(frozen=True)
class Answer:
    """One question put to the archive, with its answer."""

    name: str
    sql: str
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    files_read: int
    seconds: float


@dataclass
class DemoResult:
    """What the demo counted; all of it by this very run."""

    produced: int = 0
    produced_by_type: dict[str, int] = field(default_factory=dict)
    resent: int = 0
    report: Report = field(default_factory=Report)
    stages: dict[str, float] = field(default_factory=dict)
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0  # of all processes together, at one moment
    peaks: dict[str, int] = field(default_factory=dict)  # bytes, by process, each at its own moment
    bytes_sent: int = 0
    loader: dict[str, float] = field(default_factory=dict)
    dynamodb_write_units: float = 0.0
    answers: list[Answer] = field(default_factory=list)
    aircraft: Aircraft = field(default_factory=Aircraft)

    @property
    def balanced(self) -> bool:
        """True when the audit balances, and look-up, counts and replay agree."""
        return self.report.balanced and self.aircraft.agrees

    def document(self) -> dict[str, Any]:
        """Return the figures of `--json`."""
        found, total = as_document(self.report), self.report.total()
        return {
            "produced": self.produced,
            "produced_by_type": self.produced_by_type,
            "sent_again": self.resent,
            "received": total.received,
            "archived": total.archived,
            "duplicates": total.duplicates,
            "quarantined": total.quarantined,
            "audit": {"balanced": self.balanced, "differences": found["differences"]},
            "stages": self.stages,
            "wall_seconds": round(self.wall_seconds, 2),
            "cpu_seconds": round(self.cpu_seconds, 2),
            "peak_memory_bytes": self.peak_memory_bytes,
            "peak_memory_by_process": self.peaks,
            "files": int(self.loader["files"]),
            "segments": int(self.loader["segments"]),
            "parquet_bytes": int(self.loader["bytes"]),
            "dynamodb_write_units": round(self.dynamodb_write_units, 1),
            "s3_puts": int(self.loader["s3_puts"]),
            "index_items": self.report.index_items,
            "aggregate_rows": self.report.aggregate_rows,
            **aircraft_document(self.aircraft),
            "answers": {one.name: [list(row) for row in one.rows] for one in self.answers},
        }


class Demo:
    """One run over a stack that has just been started."""

    def __init__(self, settings: Settings, running: Running, stages: Stages, days: int | None) -> None:
        self._settings, self._running, self._stages, self._days = settings, running, stages, days
        self._archive = wiring.archive(settings)
        self._result = DemoResult()
        self._earlier: dict[str, float] = {}
        self._beat: dict[str, float] = {}
        self._seen = 0
        self._investigation = Investigation(settings, stages)

    def run(self, began: float) -> DemoResult:
        """Run all stages; `began` is when the command started, on the monotonic clock."""
        with MemoryWatch(self._pids) as watch:
            result = self._run(began)
        result.peak_memory_bytes, result.peaks = watch.most_bytes, watch.most_by_name
        return result

    def _pids(self) -> list[tuple[str, int]]:
        """Return the processes that make up the demo."""
        emulator = self._running.stack.emulator
        found = [("demo", os.getpid()), ("loader", int(self._beat.get("pid", 0)))]
        found += [("emulator", emulator.pid if emulator else 0), ("processor", self._investigation.pid)]
        return [one for one in found if one[1]]

    def _run(self, began: float) -> DemoResult:
        result = self._result
        producer = wiring.producer(self._settings, self._archive)
        again = self._produce(producer)
        release_memory()
        self._wait("load", result.produced)
        self._resend(producer, again)
        self._stages.begin("query")
        self._ask()
        self._stages.end("query")
        release_memory()
        result.aircraft = self._investigation.run()
        self._stages.begin("audit")
        result.report = self._audit()
        self._stages.end("audit")
        self._measure(producer)
        result.stages = self._stages.seconds()
        result.wall_seconds = time.monotonic() - began
        return result

    def _produce(self, producer: Producer) -> list[OutgoingEvent]:
        """Send all flights; return the first accepted events."""
        stages, result = self._stages, self._result
        first: list[OutgoingEvent] = []
        stages.begin("produce")
        stages.begin("load")
        flights = read_flights(self._days)
        looked_at = 0.0
        for batch in flights:
            for event in batch:
                producer.put(event.tenant_id, event.entity_id or "", event.payload)
            if len(first) < RESENT:
                first += [event for event in batch if event.entity_id is not None][: RESENT - len(first)]
            result.produced += len(batch)
            now = time.monotonic()
            stages.update("produce", result.produced, f"{producer.bytes_acknowledged / 2**20:,.0f} MiB")
            if now - looked_at >= POLL_SECONDS:
                looked_at = now
                self._look("load", result.produced)
        producer.flush()
        result.produced_by_type = dict(flights.produced)
        stages.update("produce", result.produced, f"{producer.bytes_acknowledged / 2**20:,.0f} MiB")
        stages.end("produce")
        return first

    def _resend(self, producer: Producer, events: list[OutgoingEvent]) -> None:
        stages = self._stages
        stages.begin("duplicates")
        for event in events:
            producer.put(event.tenant_id, event.entity_id or "", event.payload)
        producer.close()
        self._result.resent = len(events)
        self._wait("duplicates", self._result.produced + len(events))

    def _wait(self, stage: str, units: int) -> None:
        """Wait until the ledger's committed segments hold so many units."""
        best, changed_at = -1, time.monotonic()
        while True:
            decoded = self._look(stage, units)
            done = self._committed()
            if done >= units:
                self._stages.update(stage, units if stage == "load" else self._result.resent, "all committed")
                self._stages.end(stage)
                return
            if (progress := done + decoded) > best:
                best, changed_at = progress, time.monotonic()
            elif time.monotonic() - changed_at > STALL_SECONDS:
                raise HeadraceError(
                    f"the loader stands still at {done:,} of {units:,} events; see its log with --keep, or "
                    f"run `headrace demo --days 1`"
                )
            time.sleep(POLL_SECONDS)

    def _committed(self) -> int:
        ledger = self._archive.ledger
        segments = [segment for one in ledger.lineages() for segment in ledger.segments(one.short)]
        return sum(one.counts.units for one in segments if one.state == "committed")

    def _look(self, stage: str, units: int) -> int:
        """Show how far the loader is; return the units it has decoded."""
        self._running.check()
        beat = self._read_beat()
        decoded = self._seen = max(
            self._seen, int(beat.get("units", 0))
        )  # a segment being written counts in neither
        lag = beat.get("behind_ms", 0) / 1000
        seen = decoded - (units - self._result.resent if stage == "duplicates" else 0)
        self._stages.update(
            stage, max(seen, 0), f"{int(beat.get('segments', 0))} segments, {lag:.1f} s behind"
        )
        return decoded

    def _read_beat(self) -> dict[str, float]:
        """Return the loader's heartbeat, with what an earlier loader of this run had done."""
        try:
            beat = orjson.loads((self._settings.paths.home / "run" / "loader.json").read_bytes())
        except (OSError, ValueError):
            return self._beat
        if self._beat and beat["pid"] != self._beat["pid"]:
            self._earlier = self._beat
        sums = ("units", "segments", "files", "bytes", "dynamodb_write_units", "s3_puts", "cpu_seconds")
        self._beat = {**beat, **{name: beat[name] + self._earlier.get(name, 0) for name in sums}}
        return self._beat

    def _ask(self) -> None:
        engine = wiring.sql_engine(self._settings, "duckdb")
        folder = self._settings.paths.athena / "queries"
        questions = {name: (folder / f"{name}.sql").read_text() for name in SUMMARY_QUERIES}
        for done, (name, sql) in enumerate({"counts": COUNTS, **questions}.items(), 1):
            asked = time.monotonic()
            found = engine.run(sql)
            rows = list(found.rows())
            columns = tuple(column.name for column in found.columns)
            seconds = time.monotonic() - asked
            self._result.answers.append(Answer(name, sql, columns, rows, found.files_read or 0, seconds))
            self._stages.update("query", done, f"{found.files_read or 0:,} files")

    def _audit(self) -> Report:
        done = 0

        def count(objects: int) -> None:
            nonlocal done
            done += objects
            self._stages.update("audit", done, "objects")

        return wiring.audit(self._settings, count)

    def _measure(self, producer: Producer) -> None:
        """Add up what this run has cost, over all its processes."""
        result, stack = self._result, self._running.stack
        time.sleep(2 * POLL_SECONDS)  # one more heartbeat, with the last segment's puts in it
        result.loader = self._read_beat()
        own = resource.getrusage(resource.RUSAGE_SELF)
        emulator = stack.emulator.pid if stack.emulator else 0
        result.cpu_seconds = (
            own.ru_utime
            + own.ru_stime
            + result.loader["cpu_seconds"]
            + result.aircraft.cpu_seconds
            + cpu_seconds(emulator)
        )
        result.bytes_sent = producer.bytes_acknowledged
        result.dynamodb_write_units = (
            result.loader["dynamodb_write_units"] + self._archive.meter.dynamodb_write_units
        )

"""The world of the replay simulator: two shards that fill, an archive, jobs, a queue that does what queues may do."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random

from pipeline.core.entity_day import EntityDay
from pipeline.core.replay import Selection, scope_of
from pipeline.core.replay_job import Job, Message, read_message, write_message
from pipeline.core.segment import Position
from pipeline.flows.replay import freeze, resume
from pipeline.flows.replay_plan import plan
from tests.fakes.replay import MemoryQueue
from tests.fakes.stream import MemoryStream
from tests.fakes.watched import Perform, WatchedIndex, WatchedLedger, WatchedManifest
from tests.flows.replaying import StoredEvent, Yard, made, naive, naive_days, read_rows
from tests.sim.invariants import Invariant, ViolatedError, Violation
from tests.sim.replay_guards import ReplayGuard
from tests.sim.world import SimClock

_DAY_US = 86_400_000_000
_FIRST_DAY_US = 1_709_856_000_000_000  # 2024-03-08
_SELECTIONS = (
    Selection("acme", entity_id="a"),
    Selection("acme", event_type="door.opened"),
    Selection("acme", event_type="door.opened"),  # one scope often, so that bases meet
    Selection("acme", event_type="meter.read", source="s1"),
    Selection("acme", event_type="door.opened", include_duplicates=True),
    Selection("acme", entity_id="b", from_us=_FIRST_DAY_US + _DAY_US // 4, until_us=_FIRST_DAY_US + _DAY_US),
)
_Key = tuple[str, str, str, str]


class SimQueue(MemoryQueue):
    """Tells when a message goes whose chunk still needs it."""

    def __init__(self, clock: SimClock, yard: "SimYard") -> None:
        super().__init__(clock)
        self._yard = yard

    def delete(self, receipts: Sequence[str]) -> None:
        """Remove received messages."""
        for one in self.waiting:
            if one.receipt and one.receipt in receipts:
                self._may_go(one.body)
        super().delete(receipts)

    def _may_go(self, body: str) -> None:
        message, jobs = read_message(body), self._yard.jobs
        if isinstance(message, str) or body in [buried for buried, _ in self.buried]:
            return
        job, chunk = jobs.jobs.get(message.job), jobs.chunks_by_key.get((message.job, message.chunk))
        if job is not None and chunk is not None and job.state != "stale" and not chunk.done:
            raise ViolatedError(Invariant.MESSAGES, f"deleted, and its chunk is not done: {body}")


class SimYard(Yard):
    """Everything the actors work on."""

    def __init__(self, random: Random, guard: ReplayGuard) -> None:
        super().__init__()
        self.random, self.guard = random, guard
        self.clock = SimClock(self.clock.now_us())
        self.jobs, self.days, self.queue = guard.jobs(), guard.days(), SimQueue(self.clock, self)
        self.stream = MemoryStream(self.clock, "doors", shards=random.choice((2, 4)))
        self.lineages = [self.register(info.shard_id) for info in self.stream.shards()]
        self.commits: list[tuple[str, int]] = []  # in the order they took place: the first n are basis n
        self._rows: dict[str, list[StoredEvent]] = {}
        self._expected: dict[str, dict[_Key, EntityDay]] = {}
        self._ended: set[str] = set()
        self._number = 0

    # actors ----------------------------------------------------------------------------------------------

    def fill(self, perform: Perform, number: int) -> None:
        """Produce a few events, some of them again, and load what there is of one shard."""
        lineage = self.lineages[number]
        loader = self.loader(perform, lineage)
        after = loader.start()
        for _ in range(self.random.randint(1, 4)):
            self._produce(lineage.shard_id)
            records = self.stream.by_id[lineage.shard_id].records
            loader.process(
                [one for one in records if after is None or after < Position(one.sequence_number, 0)]
            )
            loader.cut("test")

    def _produce(self, shard_id: str) -> None:
        random = self.random
        for _ in range(random.randint(1, 4)):
            self._number += 1
            again = random.random() < 0.2
            event = made(random.randint(1, self._number) if again else self._number)
            self.stream.append(shard_id, event, "key")

    def begin(self, perform: Perform) -> None:
        """Plan a job, freeze it, send it."""
        selection = self.random.choice(_SELECTIONS)
        by_event = self.random.random() < 0.3
        reads = replace(
            self.plan_ports(perform),
            ledger=WatchedLedger(self.ledger, perform),
            manifest=WatchedManifest(self.manifest, perform),
            index=WatchedIndex(self.index, perform),
        )
        found = plan(selection, reads, "event" if by_event else "pointer")
        ports = self.replay_ports(perform)
        resume(freeze(found, ports).id, ports)

    def go_on(self, perform: Perform, job: str) -> None:
        """Resume a job."""
        resume(job, self.replay_ports(perform))

    def work(self, perform: Perform, *, drain: bool) -> None:
        """Process messages; without `drain`, until something asks it to stop."""
        stopping = (lambda: False) if drain else (lambda: self.random.random() < 0.05)
        found = self.processor(perform, stopping=stopping)
        found.__class__ = self.guard.processor
        found.run(drain=drain)

    # what queues may do ----------------------------------------------------------------------------------

    def act(self) -> str:
        """Let one thing happen to the queue, or time pass."""
        random, waiting = self.random, self.queue.waiting
        chosen = random.choice(("time", "time", "again", "lost", "shuffled", "forged"))
        if chosen == "time" or (not waiting and chosen != "forged"):
            seconds = random.choice((1, 30, 130))
            self.clock.advance(seconds)
            return f"{seconds} s pass"
        if chosen == "again":
            self.queue.send([random.choice(waiting).body])
        elif chosen == "lost":
            waiting.remove(random.choice(waiting))
        elif chosen == "shuffled":
            random.shuffle(waiting)
        else:
            self.queue.send([self._forged()])
        return f"a message: {chosen}" if chosen != "shuffled" else "the queue is shuffled"

    def _forged(self) -> str:
        known = sorted(self.jobs.chunks_by_key)
        if not known or self.random.random() < 0.3:
            return '{"v":1,"job":'
        job, chunk = self.random.choice(known)
        return write_message(Message(1, job, chunk, "events/none", 0, 1))

    # what must hold --------------------------------------------------------------------------------------

    def after(self, effect: str) -> None:
        """Check what holds after an effect."""
        if effect.startswith("ledger.commit"):
            for key, segment in self.ledger.rows.items():
                if segment.state == "committed" and key not in self.commits:
                    self.commits.append(key)
        if not effect.startswith("jobs."):
            return
        for job in self.jobs.newest():
            self._whole(job)
            for one in self.jobs.chunks(job.id):
                if one.done:
                    self._written(job, one.first_dt, one.last_dt)

    def _whole(self, job: Job) -> None:
        """A job has all its chunks, counts those that are done, and stays done."""
        chunks = self.jobs.chunks(job.id)
        if len(chunks) != job.chunks:
            raise ViolatedError(
                Invariant.FROZEN, f"{job.id} has {job.chunks} chunks, {len(chunks)} are stored"
            )
        done = [one for one in chunks if one.done]
        wrong = {
            f"it counts {job.done_chunks}, {len(done)} are done": job.done_chunks != len(done),
            "its events are counted otherwise": job.done_events != sum(one.events for one in done),
            f"it is done with {len(done)} chunks": job.state == "done" and len(done) < job.chunks,
            f"it was done and is {job.state}": job.state != "done" and job.id in self._ended,
        }
        for detail in (detail for detail, holds in wrong.items() if holds):
            raise ViolatedError(Invariant.CHUNKS, f"{job.id} of {job.chunks} chunks: {detail}")
        if job.state == "done":
            self._ended.add(job.id)

    def _written(self, job: Job, first_dt: str, last_dt: str) -> None:
        """The results of a chunk that is done are there, of its basis or a newer one."""
        for key, row in self.expected_of(job).items():
            stored = self.days.rows.get(key)
            if first_dt <= row.dt <= last_dt and (stored is None or stored.basis < row.basis):
                raise ViolatedError(
                    Invariant.RESULTS, f"{job.id}: {first_dt} to {last_dt} is done, {key} is {stored}"
                )

    def expected_of(self, job: Job) -> dict[_Key, EntityDay]:
        """Return what a job must give: a plain count over the segments of its basis."""
        if job.id not in self._expected:
            rows = naive(sorted(self._rows_of(self.commits[: job.basis])), job.selection)
            found = naive_days(rows, scope_of(job.selection, job.id), job)
            self._expected[job.id] = {(one.tenant_id, one.entity_id, one.dt, one.scope): one for one in found}
        return self._expected[job.id]

    def _rows_of(self, segments: Sequence[tuple[str, int]]) -> Iterator[StoredEvent]:
        names = {f"{lineage}-{ordinal:012d}.parquet" for lineage, ordinal in segments}
        for key, stored in self.objects.stored.items():
            if key.startswith(("events/", "late/")) and key.rpartition("/")[2] in names:
                if key not in self._rows:
                    self._rows[key] = read_rows(key, stored.body)
                yield from self._rows[key]

    def check(self) -> list[Violation]:
        """Return what does not hold at the end."""
        expected: dict[_Key, EntityDay] = {}
        for job in sorted(self.jobs.jobs.values(), key=lambda one: one.basis):
            expected |= self.expected_of(job)
        wrong = [
            key
            for key in expected.keys() | self.days.rows.keys()
            if not _same(expected.get(key), self.days.rows.get(key))
        ]
        found = [
            Violation(Invariant.DRAINS, f"{job.id} is {job.state}")
            for job in self.jobs.newest()
            if job.state != "done"
        ]
        if wrong and not found:
            key = min(wrong)
            found.append(
                Violation(Invariant.RESULTS, f"{key}: {self.days.rows.get(key)}, not {expected.get(key)}")
            )
        return found


def _same(one: EntityDay | None, other: EntityDay | None) -> bool:
    """True when two results are equal, whichever job wrote them."""

    def plain(row: EntityDay | None) -> object:
        return row and (row.events, row.duplicates, row.inputs_hash, row.sample_ids, row.basis)

    return plain(one) == plain(other)

"""The sending thread's work without a thread: rounds and a clock stepped by hand, over a sink with a will of its own."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue

from pipeline.core.errors import HeadraceError, OutcomeUnknown, Transient
from pipeline.core.kpl import split
from pipeline.core.retry import Backoff
from pipeline.core.slots import slot_of
from pipeline.ports.stream import OutgoingRecord, PutAnswer, RecordSink, StreamCheck
from pipeline.sending.batches import Item, ProducerSettings
from pipeline.sending.fates import BatchFate, Kind, Report
from pipeline.sending.inbox import Inbox
from pipeline.sending.spill import Spill
from pipeline.sending.spill_file import Head
from pipeline.sending.worker import Waiter, Worker, WorkerPorts
from tests.fakes.clock import SteppedClock
from tests.fakes.facts import FactList
from tests.fakes.receipts import MemoryReceipts

SLOTS = 4
SETTINGS = ProducerSettings(slots=SLOTS, max_batch_events=3, backoff=Backoff(attempts=2))


@dataclass
class Sink:
    """Stores records in `inner`; before each call `fate` says what becomes of every record."""

    inner: RecordSink | None = None
    fate: Callable[[], str] = lambda: "stored"
    error: HeadraceError | None = None  # raised by every call
    stored: list[OutgoingRecord] = field(default_factory=list)
    calls: int = 0

    def put(self, records: Sequence[OutgoingRecord]) -> list[PutAnswer]:
        """Put records, some of them, or raise before or after."""
        self.calls += 1
        if self.error is not None:
            raise self.error
        fates = [self.fate() for _ in records]
        if "down" in fates:
            raise Transient("nothing was stored")
        taken = [one for one, fate in zip(records, fates, strict=True) if fate != "throttled"]
        self.stored += taken
        answers = iter(
            self.inner.put(taken)
            if self.inner
            else [PutAnswer("shardId-000000000000", str(len(self.stored)), "")] * len(taken)
        )
        if "lost" in fates:
            raise OutcomeUnknown("no answer came")
        refusal = PutAnswer("", "", "ProvisionedThroughputExceededException")
        return [refusal if fate == "throttled" else next(answers) for fate in fates]

    def payloads(self) -> list[bytes]:
        """Return the events stored, in order."""
        return [payload for one in self.stored for payload in split(one.data)]


@dataclass
class Program:
    """One run of a user's program: a producer, what it was told, and what a kill leaves behind."""

    producer_id: str = "prod1"
    folder: Path | None = None
    sink: Sink = field(default_factory=Sink)
    receipts: MemoryReceipts = field(default_factory=MemoryReceipts)
    clock: SteppedClock = field(default_factory=SteppedClock)
    facts: FactList = field(default_factory=FactList)
    stream: tuple[str, str] = ("events", "1")
    settings: ProducerSettings = SETTINGS
    max_buffer_bytes: int = 2**20
    max_spill_bytes: int = 2**20
    file_bytes: int = 2**26
    keep_fates: int = 1_000_000
    on_batch: Callable[[BatchFate], None] | None = None
    check: StreamCheck | None = None

    def __post_init__(self) -> None:
        self.spill = None
        if self.folder is not None:
            head = Head(self.producer_id, *self.stream, self.settings.slots)
            self.spill = Spill(self.folder, head, self.max_spill_bytes, self.facts, self.file_bytes)
        self.inbox = Inbox(self.max_buffer_bytes, self.clock)
        ports = WorkerPorts(
            self.sink, self.receipts, self.clock, lambda: 0.5, self.facts, self.on_batch, self.check
        )
        self.worker = Worker(
            self.producer_id, self.stream, self.inbox, ports, self.settings, self.spill, self.keep_fates
        )

    def put(self, entity: str, payload: bytes) -> int:
        """Put one event; raises at once when there is no room."""
        return self.inbox.put(Item(slot_of("acme", entity, self.settings.slots), payload), 0)

    def rounds(self, count: int = 1, seconds: float = 1.0) -> None:
        """Do rounds, time passing before each."""
        for _ in range(count):
            self.clock.advance(seconds)
            self.worker.round()

    def flush(self, rounds: int = 50) -> Report:
        """Flush, for at most so many rounds."""
        self.wait("flush", rounds)
        return self.worker.report()

    def close(self, rounds: int = 50) -> Report:
        """Close, and let go of the folder once it is finished."""
        self.worker.close()
        self.wait("close", rounds)
        if self.worker.finished:
            self.worker.end()
        return self.worker.report()

    def wait(self, wanted: str, rounds: int) -> bool:
        """Wait as another thread would; return whether it came to an end."""
        assert wanted in {"flush", "close", "drain"}
        waiter = Waiter(wanted, self.inbox.next_ticket(), SimpleQueue())  # type: ignore[arg-type]
        self.worker.wait_for(waiter)
        for _ in range(rounds):
            if not waiter.reply.empty():
                return True
            self.rounds()
        self.worker.forget(waiter)
        return not waiter.reply.empty()

    def kill(self) -> None:
        """Nothing of the process is left, the lock on the folder neither."""
        if self.spill is not None:
            self.spill.close()

    def acknowledged(self) -> dict[tuple[str, int], list[int]]:
        """Return the batch numbers in all receipts, by producer and slot."""
        found: dict[tuple[str, int], list[int]] = defaultdict(list)
        for receipt in self.receipts.all():
            for batch in receipt.batches:
                found[receipt.producer, batch.slot].append(batch.number)
        return found


def kinds(report: Report) -> dict[int, Kind]:
    """Return the kind of each ticket's fate."""
    found: dict[int, Kind] = {}
    for ticket, fate in report.fates():
        assert ticket not in found
        found[ticket] = fate.kind
    return found


def firsts(payloads: Sequence[bytes]) -> list[bytes]:
    """Return payloads without their later copies."""
    return list(dict.fromkeys(payloads))


def by_entity(payloads: Sequence[bytes]) -> dict[bytes, list[int]]:
    """Return the numbers of `<entity>#<number>` in order, by entity."""
    found: dict[bytes, list[int]] = defaultdict(list)
    for payload in payloads:
        entity, _, number = payload.partition(b"#")
        found[entity].append(int(number))
    return found

"""The producer with its thread: many threads, signals, the end of the program, forks."""

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import ConfigProblem, InvalidEvent, Transient
from pipeline.core.kpl import split
from pipeline.core.retry import Backoff
from pipeline.ports.clock import SystemClock
from pipeline.producer import BatchFate, Event, EventProducer, ProducerOptions
from pipeline.sending.batches import ProducerSettings
from pipeline.sending.worker import WorkerPorts
from tests.core.kit import DOOR, rules_for
from tests.fakes.facts import FactList
from tests.fakes.receipts import MemoryReceipts
from tests.producer.stepped import Sink, by_entity

_QUICK = ProducerSettings(slots=8, linger_seconds=0.005, backoff=Backoff(2, 0.001, 0.002))


def _producer(
    sink: Sink,
    receipts: MemoryReceipts | None = None,
    on_batch: Any = None,
    judged: Any = None,
    **options: Any,
) -> EventProducer:
    ports = WorkerPorts(sink, receipts or MemoryReceipts(), SystemClock(), lambda: 0.5, FactList(), on_batch)
    return EventProducer(
        "prod1", ("events", "1"), ports, _QUICK, ProducerOptions(**options), judged_by=judged
    )


def _event(entity: str, **changes: Any) -> Event:
    return Event(
        **{
            "tenant_id": "acme",
            "entity_id": entity,
            "event_type": "door",
            "schema_version": 1,
            "source": "gate",
            "data": {"n": 0},
            **changes,
        }
    )


def _raw(entity: str, number: int) -> dict[str, Any]:
    return {
        "event_id": f"{entity}#{number}",
        "tenant_id": "acme",
        "entity_id": entity,
        "event_type": "door",
        "schema_version": 1,
        "source": "gate",
        "event_time": "2026-03-01T12:00:00Z",
        "data": {},
    }


def _ids(sink: Sink) -> list[bytes]:
    return [payload.split(b'"', 4)[3] for payload in sink.payloads()]


def test_many_threads_put(tmp_path: Path) -> None:
    """Throttles and spills meanwhile: every event once in a report, each thread's entity in order, memory bounded."""
    luck = iter(["stored", "throttled", "throttled", "throttled", "lost", "stored"] * 10_000)
    sink, receipts = Sink(fate=lambda: next(luck)), MemoryReceipts()
    told: list[BatchFate] = []
    tickets: list[list[int]] = [[] for _ in range(6)]
    producer = _producer(sink, receipts, told.append, max_buffer_bytes=20_000, spill=tmp_path / "spill")

    def work(which: int) -> None:
        for number in range(400):
            tickets[which].append(producer.put_json(_raw(f"door-{which}", number)))

    threads = [threading.Thread(target=work, args=(which,)) for which in range(6)]
    for one in threads:
        one.start()
    fates = dict(producer.flush().fates())
    for one in threads:
        one.join()
    sink.fate = lambda: "stored"
    assert producer.drain(60)
    for ticket, fate in producer.close(60).fates():
        assert ticket not in fates or fates[ticket].kind == "waiting"
        fates[ticket] = fate
    assert sorted(fates) == list(range(2_400)) == sorted(ticket for one in tickets for ticket in one)
    assert {fate.kind for fate in fates.values()} <= {"acknowledged", "spilled"}
    assert all(one == sorted(one) for one in tickets)
    firsts = list(dict.fromkeys(_ids(sink)))
    assert by_entity(firsts) == {b"door-%d" % which: list(range(400)) for which in range(6)}
    assert sorted(ticket for one in told for ticket in one.tickets) == list(range(2_400))
    assert receipts.all()[-1].closed


def test_put_waits_for_room(tmp_path: Path) -> None:
    """A put without room goes on as soon as there is some; with timeout=0 it is refused at once."""
    del tmp_path
    stuck = threading.Event()

    class Stuck(Sink):
        def put(self, records: Any) -> Any:
            assert stuck.wait(30)
            return super().put(records)

    sink = Stuck()
    with _producer(sink, max_buffer_bytes=1_000) as producer:
        producer.put(_event("door-1", data=b'{"n":"%s"}' % (b"x" * 500)))
        with pytest.raises(Transient, match="was not taken"):
            producer.put(_event("door-1", data=b'{"n":"%s"}' % (b"x" * 500)), timeout=0)
        done: list[int] = []
        thread = threading.Thread(
            target=lambda: done.append(producer.put(_event("door-1", data=b'{"n":"%s"}' % (b"y" * 500))))
        )
        thread.start()
        stuck.set()
        thread.join(30)
        assert done == [1]
    assert len(sink.payloads()) == 2
    assert producer.last_report.acknowledged == 2


def test_a_flush_that_runs_out_of_time_says_what_waits() -> None:
    """Also while the sending thread is inside a call that does not return."""
    stuck = threading.Event()

    class Stuck(Sink):
        def put(self, records: Any) -> Any:
            assert stuck.wait(30)
            return super().put(records)

    producer = _producer(Stuck())
    tickets = [producer.put(_event(f"door-{number}")) for number in range(5)]
    report = producer.flush(0.05)
    assert {ticket: fate.kind for ticket, fate in report.fates()} == dict.fromkeys(tickets, "waiting")
    assert producer.close(0).waiting == 5
    stuck.set()
    assert producer.close(30).acknowledged == 5
    with pytest.raises(ConfigProblem, match="closed"):
        producer.put(_event("door-1"))
    assert producer.close().acknowledged == 0


def test_the_end_of_a_block_that_did_not_send_all_raises() -> None:
    """Nobody has to read a report to hear of it; an exception of the block's own is not covered."""
    sink = Sink(error=ConfigProblem("no such stream"))
    with (
        pytest.raises(Transient, match=r"0 acknowledged, 1 refused \(no such stream\)"),
        _producer(sink) as producer,
    ):
        producer.put(_event("door-1"))
    assert producer.last_report.refused == 1
    with pytest.raises(KeyError, match="mine"), _producer(sink):
        raise KeyError("mine")


def test_rules_refuse_at_put() -> None:
    """With rules the schema of `data`, the tenant and the type are judged before the event is taken."""
    sink = Sink()
    with _producer(sink, judged=rules_for(DOOR)) as producer:
        with pytest.raises(InvalidEvent) as caught:
            producer.put(_event("door-1", data={"nonsense": 1}))
        assert caught.value.code == "schema_mismatch"
        with pytest.raises(InvalidEvent, match="is not registered"):
            producer.put(_event("door-1", tenant_id="nobody"))
        late = datetime(9000, 1, 1, tzinfo=UTC)
        with pytest.raises(InvalidEvent, match="after its arrival"):
            producer.put(_event("door-1", data={"n": 7}, event_time=late))
    assert producer.last_report.acknowledged == 0
    assert sink.calls == 0


def test_a_callback_that_fails_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its traceback goes where those of threads go, and events go on."""
    seen: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", seen.append)

    def tell(_fate: BatchFate) -> None:
        raise ValueError("their bug")

    with _producer(Sink(), on_batch=tell) as producer:
        producer.put(_event("door-1"))
    assert producer.last_report.acknowledged == 1
    assert [str(one.exc_value) for one in seen] == ["their bug"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_in_the_thread_is_heard_of() -> None:
    """An unknown error ends the thread; nobody waits for ever, and every event has its fate."""
    sink = Sink(fate=lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    producer = _producer(sink)
    ticket = producer.put(_event("door-1"))
    report = producer.flush(30)
    assert report.of(ticket).kind == "refused"
    assert "ZeroDivisionError" in report.of(ticket).why
    with pytest.raises(ConfigProblem, match=r"sends nothing more.*ZeroDivisionError"):
        producer.put(_event("door-1"))
    producer.close(30)


@contextmanager
def _interrupts() -> Iterator[None]:
    """SIGALRM raises as Ctrl-C does."""

    def raised(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, raised)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_an_interrupt_tears_no_event() -> None:
    """Ctrl-C at any moment of put: the event is stored whole or not at all, what returned a ticket is stored."""
    sink = Sink()
    producer = _producer(sink, max_buffer_bytes=30_000)
    sent, interrupts = 0, 0
    acked: set[bytes] = set()
    chance = random.Random(7)
    with _interrupts():
        while interrupts < 400:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0002 + chance.random() * 0.002)
                while True:
                    sent += 1
                    producer.put_json(_raw("door-1", sent))
                    acked.add(b"door-1#%d" % sent)
            except KeyboardInterrupt:
                interrupts += 1
    producer.flush(30)
    assert producer._inbox.used_bytes() == 0
    producer.close(30)
    stored = _ids(sink)
    assert len(set(stored)) == len(stored)
    assert acked <= set(stored)
    numbers = by_entity(stored)[b"door-1"]
    assert numbers == sorted(numbers)
    for record in sink.stored:
        assert int(record.partition_key.rsplit(".", 1)[1]) == len(split(record.data))


_PROGRAM = """
import os, sys, threading
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.producer.test_threads import _producer, _raw, _event, Sink
from pipeline.core.errors import ConfigProblem, HeadraceError

class Telling(Sink):
    def put(self, records):
        answers = super().put(records)
        print("stored", len(self.payloads()), flush=True)
        return answers

sink = Telling()
"""


def _run(program: str, **changes: Any) -> subprocess.CompletedProcess[str]:
    root = str(Path(__file__).resolve().parents[2])
    code = _PROGRAM.format(root=root) + program
    return subprocess.run(
        [sys.executable, "-W", "default", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **changes,
    )


def test_a_program_that_forgets_to_close_loses_nothing() -> None:
    """Its events are sent at the end of the interpreter, also after an exception."""
    done = _run("p = _producer(sink)\nfor n in range(50): p.put_json(_raw('door-1', n))\nraise SystemExit(3)")
    assert (done.returncode, done.stdout.splitlines()[-1], done.stderr) == (3, "stored 50", "")


def test_a_program_that_cannot_send_at_its_end_is_warned() -> None:
    """A ResourceWarning names the number of events."""
    done = _run(
        "sink.fate = lambda: 'throttled'\np = _producer(sink, close_seconds=0.1)\n"
        "for n in range(50): p.put_json(_raw('door-1', n))"
    )
    assert done.returncode == 0
    assert "ResourceWarning: producer prod1 was not closed, and 50 events are lost" in done.stderr


def test_a_forked_child_is_told(tmp_path: Path) -> None:
    """Every use of the parent's producer in a child is a clear error, and its exit neither sends nor hangs.

    The lock on the spill's folder stays the parent's alone.
    """
    program = f"""
p = _producer(sink, spill=Path({str(tmp_path)!r}))
p.put_json(_raw("door-1", 0))
p.flush()
child = os.fork()
if child == 0:
    for use in (lambda: p.put(_event("x")), p.flush, p.close, p.drain):
        try:
            use()
        except ConfigProblem as exc:
            print("child:", exc, flush=True)
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
p.put_json(_raw("door-1", 1))
print(p.close(), flush=True)
_producer(Sink(), spill=Path({str(tmp_path)!r})).close()
"""
    done = _run(program)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert sum(one.startswith("child: this producer belongs to the parent process") for one in lines) == 4
    assert lines[-1] == "1 acknowledged"
    assert done.returncode == 0


def test_a_child_that_outlives_its_parent_does_not_hold_the_folder(tmp_path: Path) -> None:
    """A prefork server's child may live for days."""
    program = f"""
import signal
p = _producer(sink, spill=Path({str(tmp_path)!r}))
child = os.fork()
if child == 0:
    os.close(1); os.close(2)
    threading.Event().wait(30)
    os._exit(0)
print(child, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = _run(program)
    child = int(done.stdout.split()[0])
    try:
        _producer(Sink(), spill=tmp_path).close(30)
    finally:
        os.kill(child, signal.SIGKILL)

"""Calls whose answer was lost after the server did its work: what the flows find when they call again, one by one."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from pipeline.aws.ledger import DynamoLedger
from pipeline.core.idempotency import Entry, StoredAnswer
from pipeline.ports.clock import SystemClock
from pipeline.ports.ledger import PlanAnswer
from pipeline.sending import Producer, ProducerSettings
from tests.aws.backends import Aws, Faulty, ministack
from tests.aws.test_index import TOTAL
from tests.aws.test_ledger import _decide, _segment
from tests.aws.test_replay_ports import CHUNKS, JOB, _frozen
from tests.faults.plan import Fault, Script, calm
from tests.faults.proxy import fault_proxy
from tests.faults.wire import json_error

pytestmark = pytest.mark.stack
LOST = {
    "dropped": Fault("drop", cut_bytes=0),
    "cut": Fault("cut", cut_bytes=20),
    "broken off": Fault("fail after", answer=json_error("InternalServerError", 500)),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    """An emulator behind a proxy that is calm until it is told otherwise."""
    folder = tmp_path_factory.mktemp("world") / "home"
    with ministack(folder) as endpoint, fault_proxy(endpoint) as proxy:
        yield Faulty(endpoint, proxy)


@pytest.fixture(params=LOST)
def lose(request: pytest.FixtureRequest, place: Faulty) -> Iterator[Callable[[str], None]]:
    """Lose the answer of the next call of an operation; afterwards it has been lost."""
    fault = LOST[request.param]

    def arm(operation: str) -> None:
        place.proxy.injected.clear()
        place.proxy.plan = Script([fault], operation)

    yield arm
    place.proxy.plan = calm
    assert list(place.proxy.injected.values()) == [1]


Lose = Callable[[str], None]


def test_an_object_was_written(place: Faulty, lose: Lose) -> None:
    """Put again, it is there with our own digest: that is done, and its bytes are ours."""
    objects = place.objects()
    lose("s3.PutObject")
    assert objects.put_if_absent("k", b"body", "d1") == "d1"
    assert objects.get("k") == b"body"


def test_a_segment_was_planned(place: Faulty, lose: Lose) -> None:
    """Planned again it holds, or its ordinal is taken: opening shows that it is ours."""
    ledger = place.ledger()
    lose("dynamodb.TransactWriteItems")
    assert ledger.plan(_segment(1)) in (PlanAnswer.HOLDS, PlanAnswer.ORDINAL_TAKEN)
    assert ledger.open("0001").newest == _segment(1)


def test_a_segment_was_committed(place: Faulty, lose: Lose) -> None:
    """Committed again it was committed before; the ledger holds it once."""
    ledger = place.ledger()
    ledger.plan(_segment(1))
    lose("dynamodb.UpdateItem")
    assert not ledger.commit(_segment(1))
    assert ledger.segments("0001") == [_segment(1).committed()]
    _decide(ledger, _segment(2))


def test_a_lineage_was_registered(place: Faulty, lose: Lose) -> None:
    """Registered again it has the short form of the first time, and the next one has the next."""
    ledger = place.ledger()
    lose("dynamodb.TransactWriteItems")
    first = ledger.register("events", "7", "shardId-0", ())
    assert ledger.register("events", "7", "shardId-1", ()).short == "0002"
    assert [one.short for one in ledger.lineages()] == [first.short, "0002"] == ["0001", "0002"]


def test_slots_were_fixed(place: Faulty, lose: Lose) -> None:
    """The number of the first time stays."""
    ledger = place.ledger()
    assert isinstance(ledger, DynamoLedger)
    lose("dynamodb.PutItem")
    assert ledger.fix_slots("events", "7", 64) == 64
    assert ledger.fix_slots("events", "7", 32) == 64


def test_a_total_was_written(place: Faulty, lose: Lose) -> None:
    """The fence swallows the repeated put."""
    aggregates = place.aggregates()
    lose("dynamodb.PutItem")
    aggregates.put_newer([TOTAL])
    assert list(aggregates.all_items()) == [TOTAL]


def test_a_job_was_moved(place: Faulty, lose: Lose) -> None:
    """Moved again it is where it should be, and whoever asks sees that."""
    jobs = place.jobs()
    _frozen(jobs)
    lose("dynamodb.UpdateItem")
    assert not jobs.move(JOB.id, ("frozen",), "sending", 5)
    assert jobs.get(JOB.id).state == "sending"


def test_a_chunk_was_finished(place: Faulty, lose: Lose) -> None:
    """Finished again it is counted once."""
    jobs = place.jobs()
    _frozen(jobs)
    lose("dynamodb.TransactWriteItems")
    jobs.finish_chunk(CHUNKS[0])
    found = jobs.get(JOB.id)
    assert (found.done_chunks, found.done_events) == (1, CHUNKS[0].events)


ENTRY = Entry("acme", "k", "f" * 64, "one", 7, 8, expires_us=4_102_444_800_000_000)
ANSWER = StoredAnswer(202, {}, "application/json", b"{}")


def test_a_request_was_claimed(place: Faulty, lose: Lose) -> None:
    """Claimed again by the same attempt it is that attempt's."""
    requests = place.requests()
    lose("dynamodb.PutItem")
    assert requests.claim(ENTRY, 0) is None


def test_a_request_was_taken_over(place: Faulty, lose: Lose) -> None:
    """Taken over again by the same attempt it is that attempt's, and nobody else's."""
    requests = place.requests()
    requests.claim(ENTRY, 0)
    lose("dynamodb.UpdateItem")
    assert requests.take_over(ENTRY, "two", 9)
    assert not requests.take_over(ENTRY, "three", 9)


def test_a_request_was_answered(place: Faulty, lose: Lose) -> None:
    """Answered again the answer is there."""
    requests = place.requests()
    requests.claim(ENTRY, 0)
    lose("dynamodb.UpdateItem")
    assert requests.complete(ENTRY, ANSWER)
    found = requests.claim(replace(ENTRY, owner="two"), 0)
    assert found is not None
    assert found.answer == ANSWER


def test_a_request_was_forgotten(place: Faulty, lose: Lose) -> None:
    """Forgotten again it is gone."""
    requests = place.requests()
    requests.claim(ENTRY, 0)
    lose("dynamodb.DeleteItem")
    requests.forget(ENTRY)
    assert requests.claim(replace(ENTRY, owner="two"), 0) is None


def test_messages_were_sent(place: Faulty, lose: Lose) -> None:
    """Sent again, none is lost; some come twice, which a chunk that is done swallows."""
    queue = place.queue()
    lose("sqs.SendMessageBatch")
    queue.send(["one", "two"])
    bodies: list[str] = []
    while found := queue.receive(0):
        bodies += [one.body for one in found]
        queue.delete([one.receipt for one in found])
    assert set(bodies) == {"one", "two"}


def test_a_message_was_received(place: Faulty, lose: Lose) -> None:
    """Nobody has it, and it comes again when its time has run out, as one attempt more."""
    queue = place.queue(visibility_seconds=1)
    queue.send(["one"])
    lose("sqs.ReceiveMessage")
    [found] = queue.receive(5)
    assert (found.body, found.attempts) == ("one", 2)


def test_messages_were_deleted(place: Faulty, lose: Lose) -> None:
    """Deleting what is gone is no error."""
    queue = place.queue()
    queue.send(["one"])
    receipts = [one.receipt for one in queue.receive(0)]
    lose("sqs.DeleteMessageBatch")
    queue.delete(receipts)
    assert queue.depth() == 0


def test_records_were_put(place: Faulty, lose: Lose) -> None:
    """The producer cannot know, and sends again: each batch is there, a copy has the same label, so the loader flags it."""
    stream, _ = Aws.stream(place, 1)
    _, sink = Aws.stream(place, 1)
    sink._kinesis, sink._stream = place.through.kinesis, stream.name  # type: ignore[attr-defined]
    producer = Producer(
        "abcd",
        (stream.name, stream.epoch),
        sink,
        place.receipts(),
        SystemClock(),
        lambda: 0.0,
        ProducerSettings(slots=2),
    )
    for number in range(20):
        producer.put("acme", f"door-{number}", b'{"n":%d}' % number)
    lose("kinesis.PutRecords")
    producer.close()
    [shard] = stream.shards()
    reader, found = stream.reader(shard.shard_id, None), []
    while batch := reader.read().records:
        found += batch
    labels = [one.partition_key for one in found]
    assert len(set(labels)) == 2
    assert {one.data for one in found if one.partition_key == labels[0]} == {found[0].data}
    assert producer.events_acknowledged == 20

"""Behaviour of the ports `ReplayJobs`, `MessageQueue` and `EntityDays`, the same in every world; and what they store."""

import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from pipeline.aws.jobs import DynamoJobs
from pipeline.aws.replay_items import (
    chunk_item,
    chunk_of,
    day_item,
    day_of_item,
    job_item,
    job_of,
    pointer_items,
    pointers_of,
)
from pipeline.aws.sqs import QUEUE, SqsQueue
from pipeline.core.entity_day import EntityDay
from pipeline.core.errors import ConfigProblem, Corrupt, NotFound, OutcomeUnknown, StoreUnusable, Transient
from pipeline.core.index import Pointer
from pipeline.core.replay import Selection
from pipeline.core.replay_job import Chunk, Job, JobState, Message, write_message
from pipeline.ports.jobs import ReplayJobs
from pipeline.ports.queue import MessageQueue
from tests.aws.backends import DYNAMODB_LOCAL, Aws, World
from tests.fakes.replay import MemoryQueue
from tests.golden.compare import matches_golden

KEY = "events/event_type=door/dt=2024-03-10/0001-000000000007.parquet"
POINTERS = [Pointer(KEY, 5, 10), Pointer(KEY, 40, 2), Pointer(KEY.replace("0007", "0008"), 0, 30)]
JOB = Job(
    id="20240310T120000Z-00000a",
    selection=Selection("acme", event_type="door", source="hall", from_us=5, limit=7),
    granularity="event",
    basis=12,
    chunks=2,
    events=40,
    rows=84,
    messages=6,
    bytes=999,
    created_us=1_710_072_000_000_000,
    first_us=1,
    last_us=2,
)
CHUNKS = [Chunk(JOB.id, number, "2024-03-09", "2024-03-10", 20, 42, 3) for number in (1, 2)]
DAY = EntityDay(
    "acme", "door #1", "2024-03-10", "type=door,source=a%2Cb", 7, 1, "0f" * 16, ("e1", "e2"), 1, 2, 12, JOB.id
)


def _frozen(jobs: ReplayJobs, job: Job = JOB) -> Job:
    jobs.freeze(job, [(msgspec.structs.replace(chunk, job=job.id), POINTERS) for chunk in CHUNKS])
    return job


# Jobs ----------------------------------------------------------------------------------------------------


def test_a_frozen_job(place: World) -> None:
    """Job, chunks and pointers come back as they were frozen."""
    jobs = place.jobs()
    _frozen(jobs)
    assert jobs.get(JOB.id) == JOB
    assert jobs.chunks(JOB.id) == CHUNKS
    assert jobs.chunk(JOB.id, 2) == CHUNKS[1]
    assert jobs.pointers(CHUNKS[0]) == POINTERS
    assert jobs.pointers(CHUNKS[1]) == POINTERS


def test_freezing_again_changes_nothing(place: World) -> None:
    """A repeated freeze leaves a job that has moved on where it is, and its chunks."""
    jobs = place.jobs()
    _frozen(jobs)
    assert jobs.move(JOB.id, ("frozen",), "sending", 5)
    assert jobs.finish_chunk(CHUNKS[0])
    _frozen(jobs)
    assert jobs.get(JOB.id).state == "sending"
    assert [one.done for one in jobs.chunks(JOB.id)] == [True, False]


class _Broken:
    """A client of DynamoDB that ends before its n-th write."""

    def __init__(self, inner: Any, writes: int) -> None:
        self._inner, self._left = inner, writes

    def __getattr__(self, name: str) -> Any:
        if name in ("put_item", "batch_write_item"):
            if not self._left:
                raise Transient("ended")
            self._left -= 1
        return getattr(self._inner, name)


def test_a_job_that_was_not_frozen_to_its_end(place: World) -> None:
    """Nobody sees it; frozen again it is whole."""
    if not isinstance(place, Aws):
        pytest.skip("a table in memory freezes at once")
    jobs = place.jobs()
    assert isinstance(jobs, DynamoJobs)
    whole = jobs._dynamodb
    for writes in range(4):  # two chunks' pointers, the chunks, the job
        jobs._dynamodb = _Broken(whole, writes)
        with pytest.raises(Transient):
            _frozen(jobs)
        jobs._dynamodb = whole
        assert jobs.newest() == []
    _frozen(jobs)
    assert [one.id for one in jobs.newest()] == [JOB.id]
    assert jobs.chunks(JOB.id) == CHUNKS


def test_jobs_are_listed_newest_first(place: World) -> None:
    """By id, which begins with the second; other partitions are not listed."""
    jobs = place.jobs()
    names = [f"20240310T12000{number}Z-00000a" for number in (3, 1, 2)]
    for name in names:
        _frozen(jobs, msgspec.structs.replace(JOB, id=name))
    assert [one.id for one in jobs.newest()] == sorted(names, reverse=True)


def test_what_is_not_there(place: World) -> None:
    """An unknown job or chunk is NotFound; pointers that are gone are Corrupt, never an empty list."""
    jobs = place.jobs()
    _frozen(jobs)
    with pytest.raises(NotFound, match="nothing"):
        jobs.get("nothing")
    with pytest.raises(NotFound, match="3"):
        jobs.chunk(JOB.id, 3)
    assert jobs.chunks("nothing") == []
    if place.name != "memory":
        with pytest.raises(Corrupt, match="0 rows"):
            jobs.pointers(msgspec.structs.replace(CHUNKS[0], number=3))


def test_states_move_by_compare_and_set(place: World) -> None:
    """Only out of the states that are named; an end has its time, and a reason stays."""
    jobs = place.jobs()
    _frozen(jobs)
    assert not jobs.move(JOB.id, ("sending", "sent"), "done", 5)
    assert jobs.move(JOB.id, ("sending", "frozen"), "sending", 6)
    assert not jobs.move(JOB.id, ("frozen",), "sending", 7)
    assert jobs.get(JOB.id).ended_us is None
    assert jobs.move(JOB.id, ("sending",), "failed", 8, "no row")
    found = jobs.get(JOB.id)
    assert (found.state, found.reason, found.ended_us) == ("failed", "no row", 8)
    assert jobs.move(JOB.id, ("failed",), "sending", 9)
    assert jobs.get(JOB.id).ended_us is None


def test_a_chunk_is_counted_once(place: World) -> None:
    """However often it is finished; the job's counters rise with it."""
    jobs = place.jobs()
    _frozen(jobs)
    assert jobs.finish_chunk(CHUNKS[1])
    assert not jobs.finish_chunk(CHUNKS[1])
    assert [one.done for one in jobs.chunks(JOB.id)] == [False, True]
    found = jobs.get(JOB.id)
    assert (found.done_chunks, found.done_events) == (1, 20)
    jobs.note_sent(JOB.id, 3, 25)
    assert jobs.finish_chunk(CHUNKS[0])
    found = jobs.get(JOB.id)
    assert (found.done_chunks, found.done_events) == (2, 40)
    assert (found.sent_steps, found.sent_messages) == (3, 25)


def test_beginnings_are_counted_by_chunk(place: World) -> None:
    """They change nothing else of it."""
    jobs = place.jobs()
    _frozen(jobs)
    assert [jobs.begin_chunk(one) for one in (CHUNKS[0], CHUNKS[0], CHUNKS[1])] == [1, 2, 1]
    assert jobs.chunks(JOB.id) == CHUNKS


def test_processors_finish_a_chunk_at_once(place: World) -> None:
    """Of many exactly one counts it; all the others are told that it is done, or to try again."""
    if place.name == "moto":
        pytest.skip("moto's patches know one thread")
    jobs = place.jobs()
    _frozen(jobs)

    def finish(_: int) -> bool:
        while True:
            try:
                return jobs.finish_chunk(CHUNKS[0])
            except (Transient, OutcomeUnknown):
                continue

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(finish, range(16)))
    assert jobs.get(JOB.id).done_chunks == 1
    assert answers.count(True) == 1


def test_many_pointers(place: World) -> None:
    """As many as a chunk of small files has: they are split over items far below DynamoDB's 400 KB."""
    jobs = place.jobs()
    many = [
        Pointer(KEY.replace("000000000007", f"{number * 7919 % 10**12:012d}"), number, 1)
        for number in range(25_000)
    ]
    chunk = msgspec.structs.replace(CHUNKS[0], rows=len(many))
    jobs.freeze(JOB, [(chunk, many)])
    assert jobs.pointers(chunk) == many
    sizes = [len(item["body"]["B"]) for item in pointer_items(chunk, many)]
    assert len(sizes) == 3
    assert max(sizes) < 300_000


# Queue ---------------------------------------------------------------------------------------------------


def _all(queue: MessageQueue) -> list[str]:
    """Receive and delete until nothing comes."""
    bodies: list[str] = []
    while found := queue.receive(0):
        bodies += [one.body for one in found]
        queue.delete([one.receipt for one in found])
    return bodies


def test_messages_come_out_as_they_were_put(place: World) -> None:
    """Any number of them, each once, with characters of all kinds."""
    queue = place.queue()
    bodies = [f'{{"n":{number},"t":"é€𝄞"}}' for number in range(123)]
    queue.send(bodies)
    assert queue.depth() == len(bodies)
    assert sorted(_all(queue)) == sorted(bodies)
    assert queue.depth() == 0
    queue.send([])
    assert queue.receive(0) == []


def test_a_queue_that_is_gone(place: World) -> None:
    """Whoever asks is told so, by the name that all deployments share, also who used it a moment before."""
    queue = place.queue()
    queue.ask()
    queue.send(["one"])
    _delete(place, queue)
    with pytest.raises(StoreUnusable) as caught:
        queue.ask()
    assert caught.value.stores == (QUEUE,)


def _delete(place: World, queue: MessageQueue) -> None:
    if isinstance(queue, MemoryQueue):
        queue.there = False
    else:
        assert isinstance(place, Aws)
        place.sqs.delete_queue(QueueUrl=place.sqs.get_queue_url(QueueName=queue._name)["QueueUrl"])  # type: ignore[attr-defined]


def test_a_message_in_hand_is_hidden(place: World) -> None:
    """Nobody else gets it until it is given back; then it has one attempt more."""
    queue = place.queue()
    queue.send(["one"])
    first = queue.receive(0)
    assert [one.attempts for one in first] == [1]
    assert queue.receive(0) == []
    assert (queue.depth(), queue.in_hand()) == (1, 1)
    queue.hide([one.receipt for one in first], 0)
    again = queue.receive(0)
    assert [(one.body, one.attempts) for one in again] == [("one", 2)]
    queue.delete([one.receipt for one in again])
    assert (queue.depth(), queue.in_hand()) == (0, 0)


def test_a_message_becomes_visible_by_itself(place: World) -> None:
    """When its time has run out; renewed, it stays hidden."""
    queue = place.queue(visibility_seconds=1)
    queue.send(["kept", "left"])
    hand = {one.body: one for one in queue.receive(0)}
    queue.hide([hand["kept"].receipt], 60)
    deadline = time.monotonic() + 10
    while not (found := queue.receive(0)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert [one.body for one in found] == ["left"]


def test_receipts_that_are_gone(place: World) -> None:
    """Deleting or hiding a message twice is no error."""
    queue = place.queue()
    queue.send(["one"])
    receipts = [one.receipt for one in queue.receive(0)]
    queue.delete(receipts)
    queue.delete(receipts)
    queue.hide(receipts, 0)
    assert queue.receive(0) == []


def test_the_dead_letter_queue(place: World) -> None:
    """Buried messages have their reason, and stay in the queue until they are deleted."""
    queue = place.queue()
    queue.send(["bad"])
    found = queue.receive(0)
    queue.bury([("bad", "not JSON"), ("worse", "é?")])
    queue.delete([one.receipt for one in found])
    assert sorted(place.buried(queue)) == [("bad", "not JSON"), ("worse", "é?")]
    assert queue.depth() == 0


def test_a_message_of_a_mebibyte_can_be_buried(place: World) -> None:
    """Whatever somebody puts into the queue fits into the other one, with its reason; it may be cut."""
    queue = place.queue()
    queue.bury([("x" * 2**20, "too large")])
    (body, reason), *_ = place.buried(queue)
    assert reason == "too large"
    assert body.startswith("xxxx")
    if isinstance(place, Aws):
        assert len(body) < 2**18  # with its reason below SQS' limit, also of older queues


def test_a_queue_that_is_not_there(place: World) -> None:
    """It is a matter of settings, and the message names it."""
    if not isinstance(place, Aws) or place.name == DYNAMODB_LOCAL:
        pytest.skip("memory has every queue, DynamoDB Local none")
    with pytest.raises(ConfigProblem, match="no-such-queue"):
        SqsQueue(place.sqs, "no-such-queue", "neither", 60).receive(0)


class _Failing:
    """A client of SQS that takes only some messages of each call."""

    def __init__(self, taken: int, **fault: Any) -> None:
        self.taken, self.bodies, self.fault = taken, [], fault  # type: ignore[var-annotated]

    def get_queue_url(self, **_: Any) -> dict[str, str]:
        return {"QueueUrl": "url"}

    def send_message_batch(self, Entries: list[dict[str, str]], **_: Any) -> dict[str, Any]:  # noqa: N803
        self.bodies += [one["MessageBody"] for one in Entries[: self.taken]]
        left = Entries[self.taken :]
        return {"Failed": [{"Id": one["Id"], "Message": "busy", **self.fault} for one in left]}


def test_partial_failures_are_sent_again() -> None:
    """Only those that failed, until all are taken; when none is taken any more it is Transient."""
    client = _Failing(3)
    SqsQueue(client, "q", "d", 60).send([str(number) for number in range(8)])
    assert client.bodies == [str(number) for number in range(8)]
    with pytest.raises(Transient, match="busy"):
        SqsQueue(_Failing(0), "q", "d", 60).send(["1"])


def test_a_message_that_is_refused_is_not_sent_again() -> None:
    """What the queue says is the sender's fault stays one: the job is told, nobody tries for ever; haste is no such fault."""
    refused = _Failing(3, SenderFault=True, Code="InvalidMessageContents")
    with pytest.raises(Corrupt, match="InvalidMessageContents"):
        SqsQueue(refused, "q", "d", 60).send([str(number) for number in range(8)])
    assert len(refused.bodies) == 3
    with pytest.raises(Transient, match="busy"):
        SqsQueue(_Failing(0, SenderFault=True, Code="RequestThrottled"), "q", "d", 60).send(["1"])


# Results -------------------------------------------------------------------------------------------------


def _days(count: int, **changes: Any) -> list[EntityDay]:
    return [
        msgspec.structs.replace(DAY, entity_id=f"door {number:04d}", **changes) for number in range(count)
    ]


@pytest.mark.parametrize("count", [1, 250])
def test_a_newer_basis_replaces(place: World, count: int) -> None:
    """An equal or newer basis replaces, an older one does not; one by one and in groups."""
    days = place.days()
    days.put_newer(_days(count, basis=12))
    days.put_newer(_days(count, basis=12, events=8))
    days.put_newer(_days(count, basis=11, events=9))
    assert {one.events for one in days.all_rows()} == {8}
    days.put_newer(
        [*_days(count // 2, basis=11, events=10), *_days(count, basis=13, events=11)[count // 2 :]]
    )
    assert sorted(days.all_rows(), key=lambda one: one.entity_id) == [
        *_days(count // 2, basis=12, events=8),
        *_days(count, basis=13, events=11)[count // 2 :],
    ]


def test_results_are_found_by_entity_and_day(place: World) -> None:
    """All scopes of the days that were asked for, by day and scope."""
    days = place.days()
    rows = [
        msgspec.structs.replace(DAY, dt=dt, scope=scope)
        for dt in ("2024-03-09", "2024-03-10", "2024-03-11")
        for scope in ("all", "type=door")
    ]
    days.put_newer(rows)
    days.put_newer(_days(2))
    assert days.find("acme", "door #1", "2024-03-10", "2024-03-11") == rows[2:]
    assert days.find("acme", "door #1", "", "9999-12-31") == rows
    assert days.find("acme", "nobody", "", "9999-12-31") == []


TRACED = msgspec.structs.replace(JOB, traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")


# What is stored ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "item"),
    [
        ("replay_job", job_item(JOB)),
        ("replay_job_traced", job_item(TRACED)),
        ("replay_chunk", chunk_item(CHUNKS[0])),
        ("replay_pointers", next(pointer_items(CHUNKS[0], POINTERS))),
        ("entity_day", day_item(DAY)),
        ("replay_message", {"pointer": write_message(Message(1, JOB.id, 1, KEY, 5, 10))}),
        ("replay_message_event", {"event": write_message(Message(1, JOB.id, 1, KEY, 5, 1, "e1"))}),
        ("replay_message_escaped", {"event": write_message(Message(1, JOB.id, 1, KEY, 5, 1, "é\uffff𝄞"))}),
    ],
)
def test_stored_items(name: str, item: dict[str, Any]) -> None:
    """What lies in a table or in the queue is what lay there before."""
    readable = {
        part: {"B": zlib.decompress(value["B"]).hex()} if isinstance(value, dict) and "B" in value else value
        for part, value in item.items()
    }
    matches_golden(f"item.{name}.json", readable)


def test_round_trips() -> None:
    """Jobs in every state, chunks, pointers and results are read back equal."""
    states: list[JobState] = ["frozen", "sending", "sent", "done", "stale", "failed"]
    for state in states:
        job = msgspec.structs.replace(
            JOB, state=state, ended_us=5, first_us=None, reason="r", sent_steps=3, sent_messages=25
        )
        assert job_of(job_item(job)) == job
    assert job_of(job_item(TRACED)) == TRACED
    for done in (False, True):
        chunk = msgspec.structs.replace(CHUNKS[0], done=done)
        assert chunk_of(chunk_item(chunk)) == chunk
    assert pointers_of(CHUNKS[0], list(pointer_items(CHUNKS[0], POINTERS))) == POINTERS
    assert day_of_item(day_item(DAY)) == DAY


def test_pointers_that_are_damaged() -> None:
    """They are Corrupt, whatever was done to them."""
    item = next(pointer_items(CHUNKS[0], POINTERS))
    for body in (b"", b"nothing", zlib.compress(b"nothing"), item["body"]["B"][:-3]):
        with pytest.raises(Corrupt):
            pointers_of(CHUNKS[0], [{**item, "body": {"B": body}}])

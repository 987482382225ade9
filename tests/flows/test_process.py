"""The processor's care for messages: poison, attempts, long chunks, a stop in the middle."""

from collections.abc import Callable

import msgspec
import pytest

from pipeline.core.errors import NotFound, Transient
from pipeline.core.replay import Selection
from pipeline.core.replay_job import Message, read_message, write_message
from pipeline.facts import ReplayJobStopped, ReplayMessageRefused
from pipeline.flows.process import ProcessLimits
from pipeline.flows.replay import resume
from pipeline.ports.queue import Received
from tests.fakes.objects import Stored
from tests.fakes.replay import Waiting
from tests.flows.loading import ActionLog
from tests.flows.replaying import HookedLog, Yard, made

SELECTION = Selection("acme", event_type="door.opened")


def _started() -> tuple[Yard, str]:
    yard = Yard()
    yard.load(*[made(number) for number in range(60)])
    return yard, yard.start(SELECTION).id


def _message(job: str, **changes: object) -> str:
    fields = {"v": 1, "job": job, "chunk": 1, "key": "events/x.parquet", "first_row": 0, "rows": 1, **changes}
    return msgspec.json.encode(fields).decode()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (lambda _: "not json", "not JSON"),
        (lambda _: "[]", "not a replay message"),
        (lambda _: "\ud800", "not JSON"),
        (lambda job: _message(job, v=2), "not a replay message"),
        (lambda job: _message(job, rows=0), "not a replay message"),
        (lambda job: _message(job, first_row=-1), "not a replay message"),
        (lambda job: _message(job, chunk="1"), "not a replay message"),
        (lambda job: _message(job, more=1), "not a replay message"),
        (lambda _: _message("no such job"), "not a replay message"),
        (lambda _: _message("20200101T000000Z-0"), "unknown: no replay job"),
        (lambda job: _message(job, chunk=99), "unknown: no chunk 99"),
        (lambda job: _message(job, event_id="e" * 5_000), "too large"),
        (_message, "names rows that are not in its chunk"),
    ],
)
def test_poison(body: Callable[[str], str], reason: str) -> None:
    """What is no message of ours goes to the dead-letter queue with its reason; its neighbours are handled."""
    yard, job = _started()
    expected = yard.expected(SELECTION, yard.jobs.get(job))
    text = body(job)
    yard.queue.waiting.insert(0, Waiting(text))
    yard.processor().run(drain=True)
    assert [one for one, _ in yard.queue.buried] == [text]
    assert yard.queue.buried[0][1].startswith(reason)
    assert yard.queue.waiting == []
    assert yard.results() == expected
    refused = [one for one in yard.facts.told if isinstance(one, ReplayMessageRefused)]
    assert [one.messages for one in refused] == [1]
    assert {one.job for one in refused} <= {"", job}


def test_poison_is_buried_before_it_is_deleted() -> None:
    """A crash between the two may bury it twice, and never loses it."""
    yard, _ = _started()
    yard.queue.waiting = [Waiting("poison")]
    log = ActionLog()
    yard.processor(log).step()
    assert log.names == ["queue.receive", "queue.bury 1", "queue.delete 1"]


def test_a_reason_is_one_short_printable_line() -> None:
    """What a hostile message says of itself cannot make its burial fail: no control characters, no length."""
    yard, job = _started()
    yard.queue.waiting = [Waiting(_message(job, **{"\0\x1b\ufffe" + "x" * 900: 1}))]
    yard.processor().step()
    reason = yard.queue.buried[0][1]
    assert reason.isprintable()
    assert len(reason) <= 300


def _stopped(yard: Yard) -> list[str]:
    """Return the states in which jobs were told to go no further."""
    return [one.state for one in yard.facts.told if isinstance(one, ReplayJobStopped)]


def _broken(error: Exception) -> ActionLog:
    """Return an action log in which no file can be read."""

    def before(_number: int, name: str) -> None:
        if name.startswith("objects."):
            raise error

    return HookedLog(before=before)


def test_a_chunk_that_fails_again_and_again() -> None:
    """It is tried max_attempts times; then its messages are buried with the last error and the job has failed."""
    yard, job = _started()
    broken = _broken(Transient("the store is away"))
    limits = ProcessLimits(max_attempts=3, visibility_seconds=120)
    for attempt in range(1, 4):
        assert yard.queue.buried == []
        assert {one.attempts for one in yard.queue.waiting} == {attempt - 1}
        yard.processor(broken, limits).step()
        yard.clock.advance(200)
    assert yard.queue.waiting == []
    assert {reason for _, reason in yard.queue.buried} == {"given up after 3 attempts: the store is away"}
    assert _stopped(yard) == ["failed"]  # three chunks are given up, the job is told once
    failed = yard.jobs.get(job)
    assert failed.state == "failed"
    assert "the store is away" in failed.reason
    resume(job, yard.replay_ports())
    yard.processor().run(drain=True)
    assert yard.jobs.get(job).state == "done"
    assert yard.results() == yard.expected(SELECTION, failed)


class _Died(BaseException):
    """What ends a process as SIGKILL does: nobody answers for the messages in hand."""


def _deadly(key: str) -> ActionLog:
    """Return an action log in which reading one file ends the process."""

    def before(_number: int, name: str) -> None:
        if name.startswith("objects.") and key in name:
            raise _Died

    return HookedLog(before=before)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_chunk_that_ends_its_process(place: int) -> None:
    """It is given up after max_attempts processes, without another try; chunks that were in the same hands are done."""
    yard, job = _started()
    deadly = yard.jobs.frozen[job, place + 1][0].key
    expected = [
        row
        for row in yard.expected(SELECTION, yard.jobs.get(job))
        if row.dt != yard.jobs.chunk(job, place + 1).first_dt
    ]
    died = 0
    for _ in range(20):
        log, bodies = _deadly(deadly), len(yard.queue.waiting)
        try:
            yard.processor(log, ProcessLimits(max_attempts=5)).step()
        except _Died:
            died += 1
        yard.clock.advance(200)
        if not bodies:
            break
    assert died == 5
    assert [read_message(body) for body, _ in yard.queue.buried] != []
    assert {reason for _, reason in yard.queue.buried} == {
        "given up after 5 attempts, none of which was answered"
    }
    assert {f'"chunk":{place + 1},' in body for body, _ in yard.queue.buried} == {True}
    assert yard.results() == expected
    failed = yard.jobs.get(job)
    assert (failed.state, failed.done_chunks) == ("failed", 2)
    resume(job, yard.replay_ports())
    assert yard.jobs.get(job).ended_us is None
    yard.processor().run(drain=True)
    assert yard.jobs.get(job).state == "done"


def test_orderly_stops_cost_no_attempt() -> None:
    """However often a message is given back untouched, its chunk is still done."""
    yard, job = _started()
    for _ in range(20):
        answers = iter([False, True, True])
        processor = yard.processor(limits=ProcessLimits(max_attempts=2), stopping=lambda: next(answers))  # noqa: B023
        next(answers)
        processor.step()
        yard.clock.advance(1)
    assert {one.attempts for one in yard.queue.waiting} == {20}
    yard.processor(limits=ProcessLimits(max_attempts=2)).run(drain=True)
    assert yard.jobs.get(job).state == "done"
    assert yard.queue.buried == []


def test_a_chunk_that_was_given_up_is_not_tried_for_its_other_messages() -> None:
    """They are buried without work until the job is resumed."""
    yard, job = _started()
    pointer = yard.jobs.frozen[job, 1][0]
    whole = yard.objects.stored[pointer.key]
    yard.objects.stored[pointer.key] = Stored(b"PAR1 nothing PAR1", "")
    processor = yard.processor(log := ActionLog())
    processor.run(drain=True)
    body = write_message(Message(1, job, 1, pointer.key, pointer.first_row, pointer.rows))
    yard.queue.send([body] * 3)
    del log.names[:]
    processor.step()
    assert log.names == ["queue.receive", "jobs.get", "jobs.chunk 1", "queue.bury 3", "queue.delete 3"]
    yard.objects.stored[pointer.key] = whole
    resume(job, yard.replay_ports())
    yard.processor().run(drain=True)
    assert yard.jobs.get(job).state == "done"


def test_a_fault_after_a_chunk_is_done_fails_no_job() -> None:
    """What cannot be looked at or deleted then is left to another process."""
    yard, job = _started()

    def before(_number: int, name: str) -> None:
        if name == "jobs.get" and any(one.startswith("jobs.finish_chunk") for one in log.names):
            raise Transient(name)

    log = HookedLog(before=before)
    with pytest.raises(Transient):
        yard.processor(log, ProcessLimits(max_attempts=1)).step()
    assert yard.jobs.get(job).state == "sent"
    assert yard.queue.buried == []
    yard.clock.advance(1_000)
    yard.processor().run(drain=True)
    assert yard.jobs.get(job).state == "done"


def test_a_table_that_is_not_there_makes_no_job_stale() -> None:
    """Only rows that are gone do: whatever else is missing ends the process, and its messages come again."""
    yard, job = _started()

    def before(_number: int, name: str) -> None:
        if name == "days.put_newer":
            raise NotFound("no table")

    with pytest.raises(NotFound):
        yard.processor(HookedLog(before=before)).step()
    assert yard.jobs.get(job).state == "sent"
    assert len(yard.queue.waiting) == 3


def test_draining_looks_more_than_once() -> None:
    """A queue that seems empty may not be: SQS counts its messages only by and by."""
    yard, job = _started()
    held, yard.queue.waiting = yard.queue.waiting, []
    log = HookedLog()

    def before(_number: int, _name: str) -> None:
        if log.names.count("queue.depth") == 2:
            yard.queue.waiting, held[:] = [*yard.queue.waiting, *held], []

    log.before = before
    began = yard.clock.monotonic()
    yard.processor(log).run(drain=True)
    assert yard.jobs.get(job).state == "done"
    assert [name for name in log.names if name != "clock.pause"][-6:] == ["queue.receive", "queue.depth"] * 3
    assert yard.clock.monotonic() - began < 3


def test_a_file_that_is_shorter_than_the_job() -> None:
    """Rows that are missing are an error at once: the job fails, and nothing of the chunk is written."""
    yard, job = _started()
    pointers = yard.jobs.frozen[job, 1]
    yard.objects.stored[pointers[0].key] = Stored(b"PAR1 nothing PAR1", "")
    yard.processor().run(drain=True)
    assert yard.jobs.get(job).state == "failed"
    assert "chunk 1" in yard.jobs.get(job).reason
    assert {one.dt for one in yard.results()} == {"2024-03-09", "2024-03-10"}


def test_rows_that_are_not_those_that_were_counted() -> None:
    """A chunk whose rows do not come to the frozen number of events is never written."""
    yard, job = _started()
    chunk = yard.jobs.chunk(job, 1)
    yard.jobs.chunks_by_key[job, 1] = msgspec.structs.replace(chunk, events=chunk.events + 1)
    yard.processor().run(drain=True)
    assert yard.jobs.get(job).state == "failed"
    assert "were frozen" in yard.jobs.get(job).reason
    assert "2024-03-08" not in {one.dt for one in yard.results()}


def test_messages_stay_hidden_while_a_chunk_takes_long() -> None:
    """Their time is renewed, so that nobody else takes them and their attempts do not run out."""
    yard, _ = _started()

    def slowly(_number: int, name: str) -> None:
        if name.startswith("objects."):
            yard.clock.advance(60)

    received: list[int] = []
    receive = yard.queue.receive

    def noted(wait_seconds: int) -> list[Received]:
        found = receive(wait_seconds)
        received.extend(one.attempts for one in found)
        return found

    yard.queue.receive = noted  # type: ignore[method-assign]
    log = HookedLog(before=slowly)
    yard.processor(log, ProcessLimits(visibility_seconds=120)).run(drain=True)
    assert any(name.startswith("queue.hide") and name.endswith(" 120") for name in log.names)
    assert max(received) == 1


def test_a_stop_in_the_middle() -> None:
    """The chunk in hand is finished and its messages are deleted; the others are given back at once."""
    yard, job = _started()
    log = ActionLog()

    def stopping() -> bool:
        return any(name.startswith("jobs.finish_chunk") for name in log.names)

    yard.processor(log, stopping=stopping).run()
    assert yard.jobs.get(job).done_chunks == 1
    assert log.names[-2:] == ["queue.delete 1", "queue.hide 2 0"]
    assert [one.hidden_until <= yard.clock.monotonic() for one in yard.queue.waiting] == [True, True]


def test_messages_of_a_done_chunk_are_only_deleted() -> None:
    """Known from memory they cost one call, for all of them."""
    yard, _ = _started()
    bodies = [one.body for one in yard.queue.waiting]
    processor = yard.processor(log := ActionLog())
    processor.run(drain=True)
    yard.queue.send(bodies[:1] * 5)
    del log.names[:]
    processor.step()
    assert log.names == ["queue.receive", "queue.delete 5"]


def test_a_message_of_a_stale_job_is_deleted() -> None:
    """It can never be done."""
    yard, job = _started()
    yard.jobs.move(job, ("sent",), "stale", 1, "gone")
    yard.processor().run(drain=True)
    assert yard.results() == []
    assert yard.queue.buried == []


def test_event_ids_in_messages_decide_nothing() -> None:
    """A message that names rows of its chunk wakes the processor, whatever id it claims."""
    yard, job = _started()
    one = yard.jobs.frozen[job, 1][0]
    yard.queue.waiting = [Waiting(write_message(Message(1, job, 1, one.key, one.first_row, 1, "made up")))]
    yard.processor().run(drain=True)
    whole = yard.expected(SELECTION, yard.jobs.get(job))
    assert yard.results() == [row for row in whole if row.dt == "2024-03-08"]

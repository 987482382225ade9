"""The processor's care for messages: poison, attempts, long chunks, a stop in the middle."""

from collections.abc import Callable

import msgspec
import pytest

from pipeline.core.errors import Transient
from pipeline.core.replay import Selection
from pipeline.core.replay_job import Message, write_message
from pipeline.flows.process import ProcessLimits
from pipeline.flows.replay import resume
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
    assert yard.facts.names().count("ReplayMessageRefused") == 1


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
    failed = yard.jobs.get(job)
    assert failed.state == "failed"
    assert "the store is away" in failed.reason
    resume(job, yard.replay_ports())
    yard.processor().run(drain=True)
    assert yard.jobs.get(job).state == "done"
    assert yard.results() == yard.expected(SELECTION, failed)


def test_a_chunk_that_ends_its_process() -> None:
    """A message that was received too often, and never answered, is given up without another try."""
    yard, job = _started()
    for one in yard.queue.waiting:
        one.attempts = 5
    log = ActionLog()
    yard.processor(log, ProcessLimits(max_attempts=5)).step()
    assert not any(name.startswith(("objects.", "days.")) for name in log.names)
    assert len(yard.queue.buried) == 3
    assert yard.jobs.get(job).state == "failed"


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

    log = HookedLog(before=slowly)
    yard.processor(log, ProcessLimits(visibility_seconds=120)).run(drain=True)
    assert any(name.startswith("queue.hide") and name.endswith(" 120") for name in log.names)
    assert all(one.attempts <= 1 for one in yard.queue.waiting)


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

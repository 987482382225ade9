"""Start and processor in the order of their effects, and a fault at every single one of them."""

import random
from collections.abc import Callable

import pytest

from pipeline.core.replay import Selection
from pipeline.core.replay_job import read_message
from pipeline.facts import ReplayChunkDone, ReplayJobFinished
from pipeline.flows import replay
from pipeline.flows.replay import freeze, resume
from tests.flows.loading import ActionLog, Crash
from tests.flows.replaying import HookedLog, Yard, made

SELECTION = Selection("acme", event_type="door.opened", source="s2")
_FAULTS = pytest.mark.parametrize(
    "fault",
    [
        lambda number: ActionLog(crash_before=number),
        lambda number: ActionLog(crash_after=number),
        lambda number: ActionLog(lose=number),
        lambda number: ActionLog(fail=number),
    ],
    ids=["crash before", "crash after", "answer lost", "call failed"],
)


def _filled() -> Yard:
    yard = Yard()
    yard.load(*[made(number) for number in range(40)])
    yard.load(*[made(number) for number in range(30, 80)])
    return yard


def _start(yard: Yard, log: ActionLog) -> str:
    """Start a job; after a crash go on with it, or, when it was not frozen yet, start anew."""
    job = freeze(yard.plan(SELECTION), yard.replay_ports(log))
    return resume(job.id, yard.replay_ports(log)).id


def _drain(yard: Yard, log: ActionLog) -> None:
    """Work as a processor does, until the queue is empty."""
    yard.processor(log).run(drain=True)


def test_a_start_takes_these_actions() -> None:
    """Freeze, sending, heads, rests, sent; the job is looked at before and after."""
    log = ActionLog()
    _start(_filled(), log)
    assert (
        log.names
        == [
            "jobs.freeze",
            "jobs.get",
            "jobs.move sending",
            "jobs.chunks",
            *[f"jobs.pointers {number}" for number in (1, 2, 3)] * 2,
            "queue.send 6",
            "jobs.note_sent 6",
            "jobs.move sent",
            "jobs.get",
        ][: len(log.names)]
    )
    assert log.names[-1] == "jobs.get"


def test_the_heads_of_all_chunks_are_sent_first() -> None:
    """Processors that begin at once then begin with different chunks."""
    yard = _filled()
    _start(yard, ActionLog())
    messages = [read_message(body) for body in _bodies(yard)]
    assert [one.chunk for one in messages if not isinstance(one, str)] == [1, 2, 3, 1, 2, 3]


def test_what_is_done_meanwhile_is_not_sent_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that is quicker than the sender spares it the rest of a chunk; what was sent is noted on the way."""
    monkeypatch.setattr(replay, "SEND_MESSAGES", 4)
    yard = _filled()
    sent: list[int] = []
    noted: list[int] = []

    def look(_number: int, name: str) -> None:
        if name.startswith("queue.send"):
            sent.append(int(name.split()[1]))
        if name.startswith("jobs.chunk "):
            noted.append(yard.jobs.newest()[0].sent_messages)
            _drain(yard, ActionLog())

    ports = yard.replay_ports(HookedLog(before=look))
    job = resume(freeze(yard.plan(SELECTION, granularity="event"), ports).id, ports)
    assert (job.state, job.done_events) == ("done", job.events)
    assert noted[0] == sent[0] == 4
    assert sum(sent) < job.messages
    assert yard.queue.waiting == []
    assert yard.jobs.get(job.id).sent_messages == sum(sent)


def test_a_processor_takes_these_actions() -> None:
    """For each chunk: pointers, rows, results, chunk done, job looked at, and only then the messages are deleted."""
    yard, log = _filled(), ActionLog()
    _start(yard, ActionLog())
    yard.processor(log).step()
    chunk = [name.split(" ")[0] for name in log.names[: log.names.index("queue.delete 2") + 1]]
    assert chunk == [
        "queue.receive",
        "jobs.get",
        "jobs.chunk",
        "jobs.pointers",
        *["objects.tail"] * 2,
        "days.put_newer",
        "jobs.finish_chunk",
        "jobs.get",
        "queue.delete",
    ]


@pytest.mark.parametrize("number", range(1, 16))
@_FAULTS
def test_a_fault_at_any_effect_of_a_start(fault: Callable[[int], ActionLog], number: int) -> None:
    """Resumed after a crash, a job sends what is missing and gives the same results."""
    undisturbed, yard = _filled(), _filled()
    _start(undisturbed, ActionLog())
    _drain(undisturbed, ActionLog())
    try:
        job = _start(yard, fault(number))
    except Crash:
        frozen = yard.jobs.newest()
        job = resume(frozen[0].id, yard.replay_ports()).id if frozen else _start(yard, ActionLog())
    _drain(yard, ActionLog())
    assert yard.jobs.get(job).state == "done"
    assert _answers(yard) == _answers(undisturbed)


@pytest.mark.parametrize("number", range(1, 39))
@_FAULTS
def test_a_fault_at_any_effect_of_a_processor(fault: Callable[[int], ActionLog], number: int) -> None:
    """Another processor, once messages are visible again, leads to the same results, and the job is done."""
    undisturbed, yard = _filled(), _filled()
    for one in (undisturbed, yard):
        _start(one, ActionLog())
    _drain(undisturbed, ActionLog())
    try:
        _drain(yard, fault(number))
    except Crash:
        _drain(yard, ActionLog())
    assert _answers(yard) == _answers(undisturbed)
    assert [job.state for job in yard.jobs.newest()] == ["done"]
    assert yard.queue.waiting == []
    assert yard.queue.buried == []


def test_the_faults_reach_every_effect() -> None:
    """There are no more effects than the faults above reach."""
    yard, start, work = _filled(), ActionLog(), ActionLog()
    _start(yard, start)
    _drain(yard, work)
    assert len(start.names) <= 15
    assert len(work.names) <= 38


def _answers(yard: Yard) -> list[object]:
    """Return all results, the job that wrote them apart."""
    return [(one.entity_id, one.dt, one.scope, one.events, one.inputs_hash) for one in yard.results()]


@pytest.mark.parametrize("number", range(1, 39))
def test_two_processors_at_once(number: int) -> None:
    """While one stands between two effects another does everything, messages of the first included; then the first goes on."""
    yard, undisturbed = _filled(), _filled()
    for one in (yard, undisturbed):
        _start(one, ActionLog())
    _drain(undisturbed, ActionLog())
    other = ActionLog()

    def between(reached: int, _name: str) -> None:
        if reached == number:
            yard.clock.advance(1_000)  # what the first has in hand becomes visible to the second
            _drain(yard, other)

    _drain(yard, HookedLog(before=between))
    assert _answers(yard) == _answers(undisturbed)
    job = yard.jobs.newest()[0]
    assert (job.state, job.done_chunks, job.done_events) == ("done", job.chunks, job.events)
    told = [one for one in yard.facts.told if isinstance(one, ReplayChunkDone)]
    assert sorted(one.chunk for one in told) == [1, 2, 3]


@pytest.mark.parametrize("seed", range(10))
def test_messages_in_any_order_and_number(seed: int) -> None:
    """Shuffled and delivered several times, messages lead to the same results."""
    yard, undisturbed = _filled(), _filled()
    for one in (yard, undisturbed):
        _start(one, ActionLog())
    _drain(undisturbed, ActionLog())
    chance = random.Random(seed)
    bodies = [one.body for one in yard.queue.waiting]
    yard.queue.send(chance.choices(bodies, k=30))
    chance.shuffle(yard.queue.waiting)
    for _ in range(3):
        yard.processor().step()
    yard.queue.send(bodies)
    _drain(yard, ActionLog())
    assert _answers(yard) == _answers(undisturbed)
    assert yard.jobs.newest()[0].done_chunks == 3


def test_lost_messages_are_sent_again() -> None:
    """A job whose messages are gone from the queue is resumed: they are sent again, for chunks that are not done."""
    yard = _filled()
    job = _start(yard, ActionLog())
    held = [one for one in yard.queue.waiting if '"chunk":2,' not in one.body]
    yard.queue.waiting = held
    _drain(yard, ActionLog())
    assert (yard.jobs.get(job).state, yard.jobs.get(job).done_chunks) == ("sent", 2)
    resume(job, yard.replay_ports())
    assert {read.chunk for read in map(read_message, _bodies(yard)) if not isinstance(read, str)} == {2}
    _drain(yard, ActionLog())
    assert yard.jobs.get(job).state == "done"


def _bodies(yard: Yard) -> list[str]:
    return [one.body for one in yard.queue.waiting]


def test_a_job_whose_sender_was_stopped_after_the_last_message() -> None:
    """Nobody says any more that it is sent; whoever closes its last chunk finishes it, once."""
    yard = _filled()

    def stopped(_number: int, name: str) -> None:
        if name == "jobs.move sent":
            raise Crash

    with pytest.raises(Crash):
        _start(yard, HookedLog(before=stopped))
    assert yard.jobs.newest()[0].state == "sending"
    _drain(yard, ActionLog())
    job = yard.jobs.newest()[0]
    assert (job.state, job.done_chunks, job.ended_us is None) == ("done", job.chunks, False)
    assert [type(one) for one in yard.facts.told].count(ReplayJobFinished) == 1
    assert resume(job.id, yard.replay_ports()) == job


def test_a_job_that_is_done_before_its_sender_says_so() -> None:
    """Processors are quicker than the sender's last step: done stays done."""
    yard = _filled()

    def overtaken(_number: int, name: str) -> None:
        if name == "jobs.move sent":
            _drain(yard, ActionLog())

    job = _start(yard, HookedLog(before=overtaken))
    assert yard.jobs.get(job).state == "done"
    assert [type(one) for one in yard.facts.told].count(ReplayJobFinished) == 1

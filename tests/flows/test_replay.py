"""What a replay job means: exactly the rows of its selection, and the same ones for ever."""

from functools import cache

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.days import DAY_US
from pipeline.core.errors import ConfigProblem, Corrupt, NotFound
from pipeline.core.replay import Selection
from pipeline.core.replay_job import read_message
from pipeline.facts import ReplayJobStopped
from pipeline.flows.replay import freeze, resume, start
from tests.fakes.clock import NOON_US
from tests.fakes.objects import Stored
from tests.flows.loading import ActionLog
from tests.flows.replaying import BUILDINGS, TYPES, HookedLog, Yard, made, naive

MIDNIGHT_US = NOON_US - DAY_US // 2  # of 2024-03-10
DOORS = Selection("acme", event_type="door.opened")
ENTITY = Selection("acme", "a")


@cache
def _filled() -> Yard:
    """Four segments over three days, two tenants, duplicates, and late rows of a day that is being sealed."""
    yard = Yard()
    yard.load(*[made(number) for number in range(60)])
    yard.load(*[made(number) for number in range(40, 90)])
    yard.ledger.raise_seal("2024-03-08")
    yard.load(*[made(number) for number in range(85, 140)])
    yard.load(*[made(number, entity="a") for number in range(130, 150)])
    return yard


def _copy() -> Yard:
    """Return a yard with the same archive, and nothing replayed."""
    filled, yard = _filled(), Yard()
    yard.ledger, yard.objects, yard.manifest = filled.ledger, filled.objects, filled.manifest
    yard.index, yard.stream = filled.index, filled.stream
    return yard


_TIMES = st.integers(MIDNIGHT_US - 2 * DAY_US, MIDNIGHT_US + DAY_US)
_MIDNIGHTS = st.sampled_from([MIDNIGHT_US + days * DAY_US for days in (-2, -1, 0, 1)])
_OPTIONS = {
    "source": st.none() | st.sampled_from(["s0", "s1", "nowhere"]),
    "include_duplicates": st.booleans(),
    "limit": st.none() | st.integers(1, 60),
}
_ENTITIES = st.builds(
    Selection,
    tenant_id=st.sampled_from(["acme", "globex"]),
    entity_id=st.sampled_from([*BUILDINGS, "nobody"]),
    event_type=st.none() | st.sampled_from(TYPES),
    from_us=_TIMES | _MIDNIGHTS,
    until_us=_TIMES | _MIDNIGHTS,
    **_OPTIONS,
)
_KINDS = st.builds(
    Selection,
    tenant_id=st.sampled_from(["acme", "globex"]),
    event_type=st.sampled_from(TYPES),
    from_us=_MIDNIGHTS,
    until_us=_MIDNIGHTS,
    **_OPTIONS,
)


@settings(max_examples=150, deadline=None)
@given(_ENTITIES | _KINDS, st.sampled_from(["pointer", "event"]))
def test_a_job_means_what_the_naive_reader_finds(selection: Selection, granularity: str) -> None:
    """Plan, messages and results agree with a reader that looks at every row of every file."""
    yard = _copy()
    stored = naive(yard.stored(), selection)
    plan = yard.plan(selection, "event" if granularity == "event" else "pointer")
    assert plan.events == len(stored)
    times = [one.at_us for one in stored]
    assert (plan.first_us, plan.last_us) == ((min(times), max(times)) if times else (None, None))
    job = start(plan, yard.replay_ports())
    assert len(yard.queue.waiting) == plan.messages
    if granularity == "event":
        messages = [read_message(one.body) for one in yard.queue.waiting]
        named = sorted((one.key, one.first_row, one.event_id) for one in messages if not isinstance(one, str))
        assert named == sorted((one.key, one.row, one.event_id) for one in stored)
    yard.processor().run(drain=True)
    assert yard.results() == yard.expected(selection, job)
    done = yard.jobs.get(job.id)
    assert (done.state, done.done_chunks, done.done_events) == ("done", done.chunks, len(stored))
    assert yard.queue.waiting == []
    assert yard.queue.buried == []


def test_the_archive_of_these_tests_has_everything() -> None:
    """Late files, duplicates, several files of one day: else the property above would say little."""
    stored = _filled().stored()
    assert any(one.key.startswith("late/") for one in stored)
    assert sum(one.is_duplicate for one in stored) > 30
    assert len({one.key for one in stored if one.dt == "2024-03-10"}) > 5


def test_a_plan_of_whole_days_reads_no_file_but_for_its_times() -> None:
    """Counts come from manifest and index; rows are read for the first and last event time alone."""
    yard = _copy()
    yard.ledger.seal = type(yard.ledger.seal)()
    log = ActionLog()
    from pipeline.flows.replay_plan import plan

    plan(Selection("acme", event_type="door.opened", from_us=MIDNIGHT_US), yard.plan_ports(log))
    files = {one.key for one in yard.stored() if one.event_type == "door.opened" and one.dt == "2024-03-10"}
    assert 0 < len(log.names) < len(files)


def test_a_type_has_one_chunk_a_day() -> None:
    """All pointers of a day are in one chunk, and no chunk has two days."""
    plan = _copy().plan(DOORS)
    assert [(chunk.first_dt, chunk.last_dt) for chunk in plan.chunks] == [
        (day, day) for day in ("2024-03-08", "2024-03-09", "2024-03-10")
    ]


def test_an_entity_has_its_days_in_few_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Consecutive days share a chunk up to its size; a day is never torn."""
    yard = _copy()
    assert len(yard.plan(ENTITY).chunks) == 1
    monkeypatch.setattr("pipeline.core.replay.CHUNK_EVENTS", 20)
    chunks = yard.plan(ENTITY).chunks
    assert len(chunks) == 2
    assert chunks[0].last_dt < chunks[1].first_dt
    assert sum(chunk.events for chunk in chunks) == len(naive(yard.stored(), ENTITY))


def test_segments_that_land_later_are_not_in_a_job() -> None:
    """Frozen before a segment landed, sent and processed after it: the same rows, and so after another resume."""
    yard, control = Yard(), Yard()
    for one in (yard, control):
        one.load(*[made(number) for number in range(60)])
    job = freeze(yard.plan(DOORS), yard.replay_ports())
    expected = yard.expected(DOORS, job)
    yard.load(*[made(number) for number in range(60, 120)])
    resume(job.id, yard.replay_ports())
    yard.processor().run(drain=True)
    assert yard.results() == expected
    assert expected != yard.expected(DOORS, job)


def test_a_planned_segment_is_not_in_a_job() -> None:
    """What is written and not yet committed is not replayed, though index and manifest show it."""
    yard = Yard()
    yard.load(*[made(number) for number in range(60)])
    before = yard.plan(DOORS).events, yard.plan(ENTITY).events
    yard.load(*[made(number) for number in range(60, 120)])
    assert (yard.plan(DOORS).events, yard.plan(ENTITY).events) > before
    yard.ledger.rows["0001", 2] = type(yard.ledger.rows["0001", 2])(
        **{**vars(yard.ledger.rows["0001", 2]), "state": "planned"}
    )
    assert (yard.plan(DOORS).events, yard.plan(ENTITY).events) == before


def test_a_superseded_tier_is_not_in_a_job() -> None:
    """Open rows of a sealed day are left out; late ones count."""
    yard = _copy()
    yard.ledger = type(yard.ledger)()
    yard.ledger.__dict__.update(_filled().ledger.__dict__)
    yard.ledger.seal = type(yard.ledger.seal)(1, "2024-03-09", "2024-03-09")
    for selection in (DOORS, ENTITY):
        rows = [one for one in yard.stored() if one.dt > "2024-03-09" or one.key.startswith("late/")]
        assert yard.plan(selection).events == len(naive(rows, selection))


@pytest.mark.parametrize("granularity", ["pointer", "event"])
def test_a_deleted_object_makes_a_job_stale(granularity: str) -> None:
    """Never silently shorter: the job says what is gone, its messages go, its results stay away."""
    yard = Yard()
    yard.load(*[made(number) for number in range(60)])
    plan = yard.plan(DOORS, "event" if granularity == "event" else "pointer")
    gone = plan.chunks[1].pointers[0].key
    del yard.objects.stored[gone]
    job = start(plan, yard.replay_ports())
    yard.processor().run(drain=True)
    found = yard.jobs.get(job.id)
    assert found.state == "stale"
    assert gone in found.reason
    assert [one for one in yard.facts.told if isinstance(one, ReplayJobStopped)] == [
        ReplayJobStopped(job=job.id, state="stale")
    ]
    assert yard.queue.waiting == []
    with pytest.raises(ConfigProblem, match="stale"):
        resume(job.id, yard.replay_ports())


def test_a_plan_over_a_deleted_object_is_an_error() -> None:
    """A plan that must read a file that is gone names it."""
    yard = Yard()
    yard.load(*[made(number) for number in range(60)])
    selection = Selection("acme", event_type="door.opened", source="s0")
    del yard.objects.stored[yard.plan(selection).chunks[0].pointers[0].key]
    with pytest.raises(Corrupt, match="gone"):
        yard.plan(selection)


def _of_somebody_else(yard: Yard, key: str) -> None:
    """Put rows of the same times and ids, but of another tenant and entity, in place of a data file."""
    stored = yard.objects.stored[key]
    table = pq.ParquetFile(pa.BufferReader(stored.body)).read()
    for name in ("tenant_id", "entity_id"):
        other = pa.array(["somebody else"] * table.num_rows)
        table = table.set_column(table.column_names.index(name), name, other)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    yard.objects.stored[key] = Stored(sink.getvalue().to_pybytes(), "")


@pytest.mark.parametrize("selection", [DOORS, ENTITY])
def test_rows_of_somebody_else_are_never_counted(selection: Selection) -> None:
    """Whatever a file holds where a tenant's rows should be: plan, send and processor refuse it."""
    yard = Yard()
    yard.load(*[made(number) for number in range(60)])
    plan, by_event = yard.plan(selection), yard.plan(selection, "event")
    for key in {one.key for chunk in plan.chunks for one in chunk.pointers}:
        _of_somebody_else(yard, key)
    with pytest.raises(Corrupt, match="headrace audit"):
        yard.plan(msgspec.structs.replace(selection, source="s0"))
    sent = start(by_event, yard.replay_ports())
    assert (sent.state, "headrace audit" in sent.reason) == ("failed", True)
    assert yard.queue.waiting == []
    job = start(plan, yard.replay_ports())
    yard.processor().run(drain=True)
    assert (yard.jobs.get(job.id).state, yard.results()) == ("failed", [])
    assert "headrace audit" in yard.jobs.get(job.id).reason


def test_an_unreadable_file_ends_a_start() -> None:
    """A job whose messages cannot be made has failed, and says why; it does not stay on its way for ever."""
    yard = Yard()
    yard.load(*[made(number) for number in range(60)])
    plan = yard.plan(DOORS, "event")
    yard.objects.stored[plan.chunks[0].pointers[0].key] = Stored(b"PAR1 nothing PAR1", "")
    job = start(plan, yard.replay_ports())
    assert (job.state, job.ended_us) == ("failed", yard.clock.now_us())
    assert "cannot be read" in job.reason


def test_a_job_becomes_stale_when_the_loss_is_found() -> None:
    """Not when sending began; a job that goes on has not ended."""
    yard = Yard()
    yard.load(*[made(number) for number in range(60)])
    plan = yard.plan(DOORS, "event")
    del yard.objects.stored[plan.chunks[1].pointers[0].key]
    began = yard.clock.now_us()

    def slowly(_number: int, name: str) -> None:
        if name.startswith("objects."):
            yard.clock.advance(60)

    job = start(plan, yard.replay_ports(HookedLog(before=slowly)))
    assert job.state == "stale"
    assert job.ended_us == yard.clock.now_us() > began


def test_an_older_job_does_not_replace_a_newer_one() -> None:
    """A job of an older basis, processed late, leaves the newer result; a newer one replaces it."""
    yard = Yard()
    yard.load(*[made(number) for number in range(60)])
    older = yard.start(DOORS)
    held, yard.queue.waiting = yard.queue.waiting, []
    yard.load(*[made(number) for number in range(60, 120)])
    newer = yard.replay(DOORS)
    assert newer.basis > older.basis
    expected = yard.results()
    yard.queue.waiting = held
    yard.processor().run(drain=True)
    assert yard.jobs.get(older.id).state == "done"
    assert yard.results() == expected == yard.expected(DOORS, newer)


def test_a_partial_result_never_replaces_a_whole_one() -> None:
    """A limit or a cut window has a scope of its own; whole days of any kind of job share one."""
    yard = _copy()
    whole = yard.replay(Selection("acme", "a", event_type="door.opened"))
    before = [one for one in yard.results() if one.entity_id == "a"]
    yard.replay(Selection("acme", "a", event_type="door.opened", limit=1))
    yard.replay(Selection("acme", "a", event_type="door.opened", until_us=NOON_US - 3_600_000_000))
    kept = [one for one in yard.results() if one.entity_id == "a" and "job=" not in one.scope]
    assert kept == before
    yard.replay(DOORS)
    again = [one for one in yard.results() if one.entity_id == "a" and "job=" not in one.scope]
    assert [one.inputs_hash for one in again] == [one.inputs_hash for one in before]
    assert all(one.job != whole.id for one in again)


@pytest.mark.parametrize(
    ("selection", "word"),
    [
        (Selection("acme"), "--entity"),
        (Selection("acme", "", event_type="door.opened"), "--entity"),
        (Selection("acme", "a", source=""), "--source"),
        (Selection("", "a"), "--tenant"),
        (Selection("acme", "a", event_type=""), "--type"),
        (Selection("ACME", "a"), "--tenant"),
        (Selection("acme", event_type="A b"), "--type"),
        (Selection("acme", event_type="door.opened", from_us=NOON_US), "whole days"),
        (Selection("acme", event_type="door.opened", from_us=NOON_US, limit=3), "whole days"),
    ],
)
def test_a_selection_that_makes_no_sense(selection: Selection, word: str) -> None:
    """It is refused before anything is read, with the option to change."""
    with pytest.raises(ConfigProblem, match=word):
        Yard().plan(selection)


def test_an_empty_job_is_done_at_once() -> None:
    """Nothing to replay: no message, and the job is done."""
    job = _copy().start(Selection("acme", "nobody"))
    assert (job.state, job.chunks, job.messages) == ("done", 0, 0)


def test_an_unknown_job() -> None:
    """Resuming what is not there says so."""
    with pytest.raises(NotFound, match="nothing"):
        resume("nothing", Yard().replay_ports())


def test_a_queue_that_refuses_a_message_ends_a_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The job has failed and says why, instead of being sent for ever."""
    yard = Yard()
    yard.load(*[made(number) for number in range(60)])

    def refuse(_: object) -> None:
        raise Corrupt("send to replay: a message is refused: InvalidMessageContents")

    monkeypatch.setattr(yard.queue, "send", refuse)
    job = yard.start(DOORS)
    assert (job.state, "InvalidMessageContents" in job.reason) == ("failed", True)


def test_event_ids_that_a_queue_would_refuse() -> None:
    """Noncharacters in an id are escaped on their way: the job is done."""
    yard = Yard()
    yard.load(
        *[made(number).replace(b'"event_id":"e', '"event_id":"\ufffe'.encode()) for number in range(20)]
    )
    job = yard.start(DOORS, "event")
    assert job.events == len(yard.queue.waiting) > 0
    assert all(one.body.isascii() for one in yard.queue.waiting)
    yard.processor().run(drain=True)
    assert yard.jobs.get(job.id).state == "done"

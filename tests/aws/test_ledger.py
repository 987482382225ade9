"""Behaviour of the port `Ledger`, the same in every world."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from pipeline.core.errors import Corrupt
from pipeline.core.gap import Reading
from pipeline.core.segment import BatchRange, Counts, Gap, Position, SealState, Segment
from pipeline.ports.ledger import Ledger, PlanAnswer
from tests.aws.backends import World

COUNTS = Counts(records=2, units=9, rows=8, duplicates=1, quarantined=1, plain_units=4, files=2, bytes=999)


def _end(ordinal: int) -> Position | None:
    """Return where the segment of an ordinal ends: numbers of 56 digits, which differ in the last ones."""
    return Position(str(49 * 10**54 + ordinal), ordinal % 3) if ordinal else None


def _segment(
    ordinal: int, *, lineage: str = "0001", seal: int = 0, arrival: int = 0, key: str = "mine"
) -> Segment:
    return Segment(
        lineage=lineage,
        ordinal=ordinal,
        state="planned",
        start=_end(ordinal - 1),
        end=_end(ordinal),
        staging_key=f"staging/{lineage}/{ordinal:012d}-{key}.seg",
        counts=COUNTS,
        batches=(BatchRange("abcd", 1, 0, 4, 5),),
        rules_digest="0123456789abcdef",
        seal_version=seal,
        first_arrival_us=arrival,
        max_arrival_us=arrival + 5,
    )


def _decide(ledger: Ledger, *segments: Segment) -> None:
    for segment in segments:
        assert ledger.plan(segment) is PlanAnswer.HOLDS
        ledger.commit(segment)


def test_a_new_lineage_is_empty(place: World) -> None:
    """Nothing was decided and nothing sealed."""
    assert place.ledger().open("0001") == (None, SealState())


def test_registering_gives_one_short_form_for_ever(place: World) -> None:
    """The same shard of the same epoch keeps its short form and parents; anything else is another lineage."""
    ledger = place.ledger()
    first = ledger.register("events", "7", "shardId-000000000000", ())
    assert ledger.register("events", "7", "shardId-000000000000", ()) == first
    assert (first.name, first.stream, first.shard_id) == (
        "events-7-shardId-000000000000",
        "events",
        "shardId-000000000000",
    )
    others = [
        ledger.register("events", "8", "shardId-000000000000", ()),
        ledger.register("other", "7", "shardId-000000000000", ()),
        ledger.register("events", "7", "shardId-000000000001", (first.short,)),
    ]
    assert others[2].parents == (first.short,)
    assert ledger.lineages() == [first, *others]
    assert len({one.short for one in ledger.lineages()}) == 4


def test_a_redrive_has_a_lineage_of_its_own(place: World) -> None:
    """One for each source, for ever; its segments have no positions and are ordered by ordinal alone."""
    ledger = place.ledger()
    source = ledger.register("events", "7", "shardId-000000000000", ())
    redrive = ledger.register_redrive(source)
    assert ledger.register_redrive(source) == redrive
    assert (redrive.name, redrive.redrives, redrive.parents, redrive.shard_id) == (
        "events-7-shardId-000000000000-redrive",
        source.short,
        (source.short,),
        source.shard_id,
    )
    assert ledger.lineages() == [source, redrive]
    first, second = (
        replace(_segment(number, lineage=redrive.short), start=None, end=None, batches=())
        for number in (1, 2)
    )
    assert ledger.plan(second) is PlanAnswer.PREDECESSOR
    _decide(ledger, first)
    assert ledger.plan(first) is PlanAnswer.ORDINAL_TAKEN
    _decide(ledger, second)
    assert ledger.segments(redrive.short) == [first.committed(), second.committed()]
    assert ledger.open(redrive.short).newest == second.committed()


def test_many_register_at_once(place: World) -> None:
    """Workers that meet the same new shards at the same time agree on different short forms."""
    if place.name == "moto":
        pytest.skip("moto's patches know one thread")
    ledger = place.ledger()
    shards = [f"shardId-{number:012d}" for number in range(4)] * 3
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda shard: ledger.register("events", "7", shard, ()), shards))
    assert len({one.short for one in found}) == 4
    assert sorted(set(found), key=lambda one: one.short) == ledger.lineages()


def test_a_plan_is_read_back(place: World) -> None:
    """What was planned is the newest segment, whole; committing changes its state alone."""
    ledger, segment = place.ledger(), _segment(1)
    assert ledger.plan(segment) is PlanAnswer.HOLDS
    assert ledger.open("0001").newest == segment
    ledger.commit(segment)
    assert ledger.open("0001").newest == segment.committed()
    assert ledger.open("0002").newest is None


def test_one_segment_by_its_key(place: World) -> None:
    """Planned or committed, and of no neighbour; nothing where nothing was decided."""
    ledger = place.ledger()
    _decide(ledger, _segment(1))
    ledger.plan(_segment(2))
    assert ledger.segment("0001", 1) == _segment(1).committed()
    assert ledger.segment("0001", 2) == _segment(2)
    assert ledger.segment("0001", 3) is None
    assert ledger.segment("0002", 1) is None


def test_an_ordinal_is_decided_once(place: World) -> None:
    """A second plan of an ordinal is refused, planned or committed, also the very same one; the first stays."""
    ledger = place.ledger()
    ledger.plan(_segment(1))
    assert ledger.plan(_segment(1, key="other")) is PlanAnswer.ORDINAL_TAKEN
    assert ledger.plan(_segment(1)) is PlanAnswer.ORDINAL_TAKEN
    ledger.commit(_segment(1))
    assert ledger.plan(_segment(1, key="other")) is PlanAnswer.ORDINAL_TAKEN
    assert ledger.segments("0001") == [_segment(1).committed()]


def test_lineages_do_not_meet(place: World) -> None:
    """The same ordinal of two lineages is two segments."""
    ledger = place.ledger()
    _decide(ledger, _segment(1), _segment(1, lineage="0002"))
    assert [len(ledger.segments(name)) for name in ("0001", "0002", "0003")] == [1, 1, 0]


def test_the_one_before_is_committed_and_ends_here(place: World) -> None:
    """A plan needs its predecessor: there, committed, and ending at exactly this start."""
    ledger = place.ledger()
    assert ledger.plan(_segment(2)) is PlanAnswer.PREDECESSOR
    ledger.plan(_segment(1))
    assert ledger.plan(_segment(2)) is PlanAnswer.PREDECESSOR
    ledger.commit(_segment(1))
    right = _end(1)
    assert right is not None
    for start in (
        None,
        Position(right.sequence_number, 9),
        Position(str(int(right.sequence_number) + 1), right.subsequence_number),
    ):
        assert ledger.plan(replace(_segment(2), start=start)) is PlanAnswer.PREDECESSOR
    assert ledger.plan(_segment(3)) is PlanAnswer.PREDECESSOR
    assert ledger.plan(_segment(2)) is PlanAnswer.HOLDS


def test_after_a_first_segment_without_an_end(place: World) -> None:
    """A shard that ended empty has a segment from nowhere to nowhere; what follows starts nowhere too."""
    ledger = place.ledger()
    _decide(ledger, replace(_segment(1), end=None, shard_end=True))
    assert ledger.plan(_segment(2)) is PlanAnswer.PREDECESSOR
    assert ledger.plan(replace(_segment(2), start=None)) is PlanAnswer.HOLDS
    newest = ledger.segments("0001")[0]
    assert (newest.end, newest.shard_end) == (None, True)


def test_a_seal_that_moved_refuses(place: World) -> None:
    """A plan made under another seal version is refused, the first raise and every later one."""
    ledger = place.ledger()
    _decide(ledger, _segment(1))
    place.raise_seal(ledger, "2024-03-09")
    assert ledger.open("0001").seal == SealState(1, "2024-03-09")
    assert ledger.plan(_segment(2)) is PlanAnswer.SEAL_MOVED
    _decide(ledger, _segment(2, seal=1))
    place.raise_seal(ledger, "2024-03-10")
    assert ledger.plan(_segment(3, seal=1)) is PlanAnswer.SEAL_MOVED
    assert ledger.plan(_segment(3, seal=2)) is PlanAnswer.HOLDS
    assert len(ledger.segments("0001")) == 3


def test_refusals_are_looked_at_in_order(place: World) -> None:
    """With several reasons the ordinal is named first, then the predecessor, then the seal."""
    ledger = place.ledger()
    _decide(ledger, _segment(1))
    place.raise_seal(ledger, "2024-03-09")
    assert ledger.plan(_segment(1)) is PlanAnswer.ORDINAL_TAKEN
    assert ledger.plan(_segment(5)) is PlanAnswer.PREDECESSOR


def test_a_refused_plan_leaves_nothing(place: World) -> None:
    """All or nothing: after a refusal the ordinal is free."""
    ledger = place.ledger()
    ledger.plan(_segment(2))
    assert ledger.segments("0001") == []
    assert ledger.open("0001").newest is None


def test_a_commit_may_be_repeated(place: World) -> None:
    """By anyone, at any later time: it stays committed."""
    ledger = place.ledger()
    _decide(ledger, _segment(1), _segment(2))
    ledger.commit(_segment(1))
    ledger.commit(_segment(1).committed())
    assert [one.state for one in ledger.segments("0001")] == ["committed", "committed"]


@pytest.mark.parametrize("state", ["nothing", "planned", "committed"])
def test_a_commit_of_another_segment_is_corrupt(place: World, state: str) -> None:
    """Committing what the ledger does not hold, or holds otherwise, is refused and changes nothing."""
    ledger = place.ledger()
    if state != "nothing":
        ledger.plan(_segment(1))
    if state == "committed":
        ledger.commit(_segment(1))
    before = ledger.segments("0001")
    with pytest.raises(Corrupt, match="0001/1"):
        ledger.commit(_segment(1, key="other"))
    assert ledger.segments("0001") == before


def test_segments_in_order_of_ordinal(place: World) -> None:
    """Ordinals are numbers: the tenth comes after the ninth."""
    ledger = place.ledger()
    _decide(ledger, *(_segment(number) for number in range(1, 13)))
    assert [one.ordinal for one in ledger.segments("0001")] == list(range(1, 13))
    newest = ledger.open("0001").newest
    assert newest is not None
    assert newest.ordinal == 12


def test_recent_segments(place: World) -> None:
    """Committed ones whose latest arrival is at or after the time, newest first, also where arrivals are not in order."""
    ledger, arrivals = place.ledger(), [100, 300, 200, 400]
    _decide(ledger, *(_segment(number, arrival=at) for number, at in enumerate(arrivals, 1)))
    assert ledger.plan(_segment(5, arrival=500)) is PlanAnswer.HOLDS
    assert [one.ordinal for one in ledger.recent("0001", 0)] == [4, 3, 2, 1]
    assert [one.ordinal for one in ledger.recent("0001", 305)] == [4, 2]
    assert [one.ordinal for one in ledger.recent("0001", 306)] == [4]
    assert ledger.recent("0001", 600) == []
    assert all(one.state == "committed" for one in ledger.recent("0001", 0))


def test_one_of_two_planners_wins(place: World) -> None:
    """Of plans for one ordinal made at the same time exactly one holds."""
    if place.name == "moto":
        pytest.skip("moto's patches know one thread")
    ledger = place.ledger()
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda n: ledger.plan(_segment(1, key=f"k{n}")), range(6)))
    assert answers.count(PlanAnswer.HOLDS) == 1
    assert set(answers) == {PlanAnswer.HOLDS, PlanAnswer.ORDINAL_TAKEN}
    assert [one.staging_key for one in ledger.segments("0001")] == [
        f"staging/0001/000000000001-k{answers.index(PlanAnswer.HOLDS)}.seg"
    ]


def test_a_gap_is_read_back(place: World) -> None:
    """A segment that holds a gap is planned and read back whole, with and without a record after it."""
    ledger = place.ledger()
    first = replace(_segment(1), end=None, gap=Gap(5, 9, "4" * 56))
    second = replace(_segment(2), start=None, end=None, gap=Gap(9, 12))
    _decide(ledger, first, second)
    assert ledger.segments("0001") == [first.committed(), second.committed()]


def test_starts_are_counted_at_one_position(place: World) -> None:
    """At the same committed end one more, at another one again from 1, after a stop in order again from 1."""
    ledger, here, there = place.ledger(), _end(4), _end(5)
    ends = (None, None, here, here, here, there)
    counts = [ledger.started("0001", at, 7, f"s{number}").starts for number, at in enumerate(ends)]
    assert counts == [1, 2, 1, 2, 3, 1]
    assert ledger.started("0002", there, 7, "s1").starts == 1
    ledger.stopped("0001")
    assert ledger.started("0001", there, 7, "s9").starts == 1
    ledger.stopped("0003")
    assert ledger.started("0003", None, 7, "s1").starts == 1


def test_a_start_is_counted_once(place: World) -> None:
    """However often its call is repeated after a lost answer, at an old end and at a new one."""
    ledger = place.ledger()
    for start, at, expected in (("a", None, 1), ("b", None, 2), ("c", _end(1), 1), ("d", _end(1), 2)):
        assert [ledger.started("0001", at, 7, start).starts for _ in range(3)] == [expected] * 3


def test_the_first_start_is_remembered(place: World) -> None:
    """Whatever comes later, `begun_us` is the moment of the first start of this lineage."""
    ledger = place.ledger()
    assert ledger.reading("0001") == Reading()
    for now, at in ((7, None), (9, None), (11, _end(1))):
        assert ledger.started("0001", at, now, f"s{now}").begun_us == 7
    assert ledger.reading("0001") == Reading(begun_us=7, starts=1)


def test_what_is_read_moves_forward_only(place: World) -> None:
    """An older note changes nothing, and neither does a start; lineages do not meet."""
    ledger = place.ledger()
    for until, expected in ((5, 5), (9, 9), (7, 9), (9, 9)):
        ledger.note_read("0001", until)
        assert ledger.reading("0001").read_until_us == expected
    assert ledger.started("0001", _end(1), 20, "s1") == Reading(
        read_until_us=9, begun_us=20, starts=1, open_until_us=5
    )
    assert ledger.reading("0002") == Reading()

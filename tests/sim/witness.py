"""Second witnesses: the product's own audit over what a run left, and what the real producers were promised."""

from collections import Counter, defaultdict
from collections.abc import Iterator

from pipeline.core.audit import Difference
from pipeline.core.slots import parse_label
from pipeline.flows.audit import AuditPorts, run_audit
from tests.sim.invariants import Invariant, Violation
from tests.sim.world import World


def check_audit(world: World) -> Iterator[Violation]:
    """Everything drained, the audit has to balance: receipts, ledger, manifest, objects, index and aggregates.

    But for acknowledged events that nobody promised to load: of those it says that they are lost, or still on their way.
    """
    report = run_audit(
        AuditPorts(
            ledger=world.ledger,
            manifest=world.manifest,
            objects=world.objects,
            index=world.index,
            aggregates=world.aggregates,
            receipts=world.receipts,
            fetch=lambda info: world.objects.get(info.key),
            each=map,
            progress=lambda _objects: None,
        )
    )
    batches = _unpromised(world)
    differences = [
        one for one in report.differences if not (one.kind == "batch_lost" and _label(one) in batches)
    ]
    lost = sum(batches.pop(_label(one), 0) for one in report.differences if one.kind == "batch_lost")
    for one in differences[:1]:
        yield Violation(
            Invariant.AUDIT, f"{len(differences)} differences: {one.kind} {one.subject}: {one.message}"
        )
    if report.in_flight > sum(
        batches.values()
    ):  # nothing came after those: the audit takes them for on their way
        yield Violation(Invariant.AUDIT, f"{report.in_flight} acknowledged events are still on their way")
    if report.total().difference != lost:
        yield Violation(Invariant.AUDIT, f"received - archived - duplicates - quarantined: {report.total()}")


def _unpromised(world: World) -> dict[str, int]:
    """Return the events of each acknowledged batch that the stream dropped before the first start: the audit is right to miss them."""
    shorts = {shard.lineage.name: shard.lineage.short for shard in world.shards}
    return {
        f"batch {batch.number} of slot {batch.slot}, producer {receipt.producer}": batch.events
        for receipt in world.receipts.all()
        for batch in receipt.batches
        if (shorts[f"{receipt.stream}-{receipt.epoch}-{batch.shard_id}"], batch.sequence_number)
        in world.unpromised
    }


def _label(one: Difference) -> str:
    return one.message.partition(":")[0]


def check_promises(world: World) -> Iterator[Violation]:
    """What `flush` returned for is in the stream, and on a receipt once the producer closed."""
    first = _first_copies(world)
    lost = [one for one in world.promises.acknowledged if (one.producer, one.unit.raw) not in first]
    if lost:
        yield Violation(
            Invariant.ACKNOWLEDGED, f"{len(lost)} events are not in the stream, such as {lost[0]}"
        )
    receipted: Counter[str] = Counter()
    for receipt in world.receipts.all():
        receipted[receipt.producer] += receipt.events
    put = Counter(one.producer for one in world.promises.put)
    for producer in sorted(world.promises.closed):
        if receipted[producer] != put[producer]:
            detail = f"{producer} closed with {put[producer]} events, its receipts name {receipted[producer]}"
            yield Violation(Invariant.ACKNOWLEDGED, detail)
    yield from _order(world, first)


_Copies = dict[tuple[str, bytes], tuple[int, int]]


def _first_copies(world: World) -> _Copies:
    """Return where each producer's events were stored first."""
    first: _Copies = {}
    for one in (one for found in world.produced.values() for one in found):
        label = parse_label(one.record.partition_key)
        for index, unit in enumerate(one.units):
            at = (int(one.record.sequence_number), index)
            key = (label.producer if label else "", unit.raw)
            first[key] = min(at, first.get(key, at))
    return first


def _order(world: World, first: _Copies) -> Iterator[Violation]:
    """First copies of one entity's events are in the order of their puts."""
    entities: dict[tuple[str, tuple[str, str]], list[tuple[int, int]]] = defaultdict(list)
    for sent in world.promises.put:
        if (sent.producer, sent.unit.raw) in first:
            entities[sent.producer, sent.entity].append(first[sent.producer, sent.unit.raw])
    for name, places in entities.items():
        if places != sorted(places):
            yield Violation(Invariant.ORDER, f"{name}: stored at {places}")

"""The audit's second half: index and aggregates against what the data files come to, every difference by name."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from pipeline.core.aggregate import Aggregate, AggregateKey, Delta
from pipeline.core.audit import Difference
from pipeline.core.errors import Corrupt
from pipeline.core.index import Entry, IndexItem, partitions_of, read_item

_NAMED = 3  # entries named one by one for each segment; the rest is counted
Pointed = tuple[str, Entry]  # tenant and entry


def compare_index(
    segment: str, expected: Sequence[IndexItem], stored: Sequence[IndexItem]
) -> list[Difference]:
    """Return how a segment's index items differ from its data files; no difference where bytes alone differ."""
    found: Counter[Pointed] = Counter()
    differences: list[Difference] = []
    for item in stored:
        try:
            found.update(_pointed(item))
            if any(item.partition not in _asked(item, entry) for entry in read_item(item)):
                subject = f"{item.partition} {item.name}"
                differences.append(
                    Difference("index_stray", subject, "it stands where no look-up asks for it")
                )
        except Corrupt as problem:
            differences.append(Difference("index_altered", f"{item.partition} {item.name}", str(problem)))
    wanted = Counter(one for item in expected for one in _pointed(item))
    for kind, wrong, says in (
        ("index_missing", wanted - found, "are in no index item: a look-up does not find them"),
        (
            "index_altered",
            found - wanted,
            "are in the index once too often, or not as the data file has them",
        ),
    ):
        for tenant, entry in sorted(wrong)[:_NAMED]:
            pointer = entry.pointer
            rows = f"rows {pointer.first_row} to {pointer.first_row + pointer.rows - 1} of {pointer.key}"
            subject = f"{tenant}/{entry.entity_id} on {entry.dt}"
            differences.append(Difference(kind, subject, f"{rows} {says}"))
        if len(wrong) > _NAMED:
            message = f"{len(wrong) - _NAMED} more pointers of this segment {says}"
            differences.append(Difference(kind, segment, message))
    return differences


def _pointed(item: IndexItem) -> Iterable[Pointed]:
    """Yield an item's entries; one that stands where no look-up asks is none."""
    for entry in read_item(item):
        if item.partition in _asked(item, entry):
            yield item.partition.split("#", 1)[0], entry


def _asked(item: IndexItem, entry: Entry) -> Sequence[str]:
    """Return the partitions in which a look-up asks for an entry of this item."""
    return partitions_of(item.partition.split("#", 1)[0], entry.entity_id)


def compare_totals(
    expected: Mapping[AggregateKey, Delta],
    stored: Mapping[AggregateKey, Aggregate],
    newest: Mapping[str, int],
    last: Mapping[AggregateKey, int],
) -> list[Difference]:
    """Return which totals are not what the data files come to, or pretend to hold segments that are none.

    Args:
        expected: what the data files come to.
        stored: the items.
        newest: ordinal of each lineage.
        last: the newest segment that counts in each item.
    """
    differences = []
    for key in sorted(expected.keys() | stored.keys()):
        wanted, total = expected.get(key, Delta()), stored.get(key)
        subject = f"{key.partition} {key.name}"
        if total is None:
            message = f"the data files hold {_says(wanted)}; there is no such item"
            differences.append(Difference("aggregate_missing", subject, message))
        elif total.last_ordinal > newest.get(key.name.rpartition("#")[2], 0):
            message = f"the item says it holds segment {total.last_ordinal}, which there is not: later counts are lost"
            differences.append(Difference("aggregate_altered", subject, message))
        elif not _agree(wanted, total):
            message = f"the item says {_says(total)}; the data files hold {_says(wanted)}"
            if _says(total) == _says(wanted):
                message += ", in other hours or of other sources"
            differences.append(Difference("aggregate_altered", subject, message))
        elif total.last_ordinal != last.get(key, 0):
            message = f"the item says it holds segment {total.last_ordinal}, segment {last.get(key, 0)} is the last in it"
            message += ": an older count could take its place"
            differences.append(Difference("aggregate_altered", subject, message))
    return differences


def _says(one: Delta | Aggregate) -> str:
    return f"{one.events} events, {one.duplicates} duplicates, {one.quarantined} quarantined"


def _agree(wanted: Delta, total: Aggregate) -> bool:
    """True when all counts are equal; of many sources, those that are named."""
    if (total.events, total.duplicates, total.quarantined, total.hours) != (
        wanted.events,
        wanted.duplicates,
        wanted.quarantined,
        wanted.hours,
    ):
        return False
    if any(wanted.sources.get(source) != count for source, count in total.sources.items()):
        return False
    return sum(total.sources.values()) + total.other_sources == wanted.events

"""What a trace says of redrives: a refused unit and the row it became lead to each other."""

from collections.abc import Callable, Iterable, Sequence

from pipeline.core.days import day_of
from pipeline.core.errors import Corrupt
from pipeline.core.keys import SegmentRef, data_segment
from pipeline.core.redriven import Mark, RefusedPlace
from pipeline.core.segment import Lineage
from pipeline.core.sighting import RowPlace, Sighting
from pipeline.core.subsequence import user_record
from pipeline.flows.marks import Marks
from pipeline.flows.sight import TracePorts, look_in_segment


def marks_for(
    sightings: Iterable[Sighting], lineages: Sequence[Lineage], marks: Marks
) -> dict[RowPlace, Mark]:
    """Return the mark of each sighting that has one: of a refused unit that went through, of a row that came so."""
    redrives = {one.short for one in lineages if one.redrives}
    found: dict[RowPlace, Mark] = {}
    for one in sightings:
        refused = one.outcome == "quarantined"
        if not redrives or not (refused or one.lineage in redrives):
            continue
        of_day = marks.of(day_of(one.arrived_us))
        if refused:
            mark = of_day.get(RefusedPlace(one.place.key, one.place.row))
        else:
            mark = min(
                (mark for mark in of_day.values() if _became(mark, one)), key=_closest_to(one), default=None
            )
        if mark is not None:
            found[one.place] = mark
    return found


def _became(mark: Mark, row: Sighting) -> bool:
    """True when a row is what a marked unit became, or part of it."""
    segment, place = SegmentRef.of_name(mark.redriven_as), row.position
    return (*segment, mark.sequence_number) == (row.lineage, row.ordinal, place.sequence_number) and (
        mark.units > 1 or mark.subsequence_number == place.subsequence_number
    )


def _closest_to(row: Sighting) -> Callable[[Mark], bool]:
    """Return the order of marks that may be a row's: its own user record's before that of a whole Kinesis record."""
    own = user_record(row.position.subsequence_number)
    return lambda mark: user_record(mark.subsequence_number) != own


def marks_of(ports: TracePorts) -> Marks:
    """Return the marks there are, read as they are asked for."""
    return Marks(ports.find.manifest.files, lambda file: ports.objects.get(file.key))


def redriven_rows(
    tenant_id: str, event_id: str, sightings: Sequence[Sighting], marks: Iterable[Mark], ports: TracePorts
) -> list[Sighting]:
    """Return the rows that refused units became and that were not seen yet: a hint may lead to the one only."""
    seen = {(one.lineage, one.ordinal) for one in sightings if one.outcome != "quarantined"}
    segments = {SegmentRef.of_name(one.redriven_as) for one in marks} - seen
    return [
        one
        for lineage, ordinal in sorted(segments)
        for one in look_in_segment(tenant_id, event_id, lineage, ordinal, ports)
        if one.place not in {other.place for other in sightings}
    ]


def refusing(place: RefusedPlace) -> SegmentRef:
    """Return the segment that refused a unit.

    Raises:
        Corrupt: a mark names no quarantine file.
    """
    found = data_segment(place.key)
    if found is None:
        raise Corrupt(f"{place.key!r} is no key of a quarantine file: run `headrace audit`")
    return found

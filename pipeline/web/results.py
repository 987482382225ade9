"""Results of replay jobs as answers show them."""

from collections.abc import Iterable

import msgspec

from pipeline.core.entity_day import EntityDay
from pipeline.core.span import instant_of


class DayResult(msgspec.Struct, frozen=True):
    """What a replay job came to for one entity and day.

    Equal rows have an equal `inputs_hash`, whatever their order; `basis` orders results by what their jobs saw; `job` is
    the one that wrote it.
    """

    day: str
    scope: str
    events: int
    duplicates: int
    inputs_hash: str
    sample_ids: list[str]
    first_event_time: str
    last_event_time: str
    basis: int
    job: str


def results_of(rows: Iterable[EntityDay]) -> list[DayResult]:
    """Return stored results as answers show them."""
    return [
        DayResult(
            row.dt,
            row.scope,
            row.events,
            row.duplicates,
            row.inputs_hash,
            list(row.sample_ids),
            instant_of(row.first_event_time_us),
            instant_of(row.last_event_time_us),
            row.basis,
            row.job,
        )
        for row in rows
    ]

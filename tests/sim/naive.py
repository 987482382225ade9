"""Which rows are duplicates, said a second time and as plainly as possible."""

from dataclasses import dataclass

from pipeline.core.segment import Segment
from pipeline.flows.window import WindowLimits
from tests.sim.archive import Place


@dataclass(frozen=True)
class Accepted:
    """One accepted row and its key, (tenant_id, event_id)."""

    place: Place
    key: tuple[str, str]


@dataclass(frozen=True)
class Decided:
    """One committed segment and its accepted rows, in stream order."""

    segment: Segment
    rows: list[Accepted]


def naive_flags(
    decided: dict[str, list[Decided]], parents: dict[str, tuple[str, ...]], limits: WindowLimits
) -> dict[Place, bool]:
    """Return for every row whether it is a duplicate, given how the ledger cut the lineages.

    Args:
        decided: the segments of each lineage, by short form, oldest first.
        parents: the parents of each lineage.
        limits: of the window.
    """
    flags: dict[Place, bool] = {}
    for lineage, segments in decided.items():
        inherited = [one for name in _ancestors(lineage, parents) for one in decided[name]]
        for index, current in enumerate(segments):
            seen = _window(inherited + segments[:index], current.segment.first_arrival_us, limits)
            for row in current.rows:
                flags[row.place] = row.key in seen
                seen.add(row.key)
    return flags


def _ancestors(lineage: str, parents: dict[str, tuple[str, ...]]) -> set[str]:
    found: set[str] = set()
    for parent in parents[lineage]:
        found |= {parent} | _ancestors(parent, parents)
    return found


def _window(earlier: list[Decided], first_arrival_us: int, limits: WindowLimits) -> set[tuple[str, str]]:
    """Return the keys inside the window: whole segments, newest first, until one is too old or does not fit."""

    def age(one: Decided) -> tuple[int, str, int]:
        return one.segment.max_arrival_us, one.segment.lineage, one.segment.ordinal

    seen: set[tuple[str, str]] = set()
    room = limits.max_ids
    for one in sorted((one for one in earlier if one.rows), key=age, reverse=True):
        if one.segment.max_arrival_us < first_arrival_us - limits.window_us or len(one.rows) > room:
            break
        room -= len(one.rows)
        seen |= {row.key for row in one.rows}
    return seen

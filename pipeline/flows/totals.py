"""Totals as they were before a segment: what it adds to."""

from collections.abc import Mapping

from pipeline.core.aggregate import Aggregate, AggregateKey
from pipeline.core.errors import Corrupt
from pipeline.flows.retrying import again
from pipeline.flows.write import WritePorts


def read_totals(keys: list[AggregateKey], ports: WritePorts) -> dict[AggregateKey, Aggregate]:
    """Return the items that exist."""
    return again("aggregates", lambda: ports.aggregates.read(keys), clock=ports.clock, facts=ports.facts)


def refuse_newer(
    before: Mapping[AggregateKey, Aggregate], lineage: str, ordinal: int, ports: WritePorts
) -> None:
    """Stop before a total that already pretends to hold this segment: the fence would swallow all that follows.

    Raises:
        Corrupt: nobody has decided this ordinal, and yet the total says so.
    """
    ahead = [key for key, one in before.items() if one.last_ordinal >= ordinal]
    if ahead:
        newest = again(
            "open", lambda: ports.ledger.open(lineage), clock=ports.clock, facts=ports.facts
        ).newest
        if newest is None or newest.ordinal < ordinal:
            raise Corrupt(
                f"aggregate {' '.join(min(ahead))} pretends to hold segment {before[min(ahead)].last_ordinal} of a "
                f"lineage whose newest is {ordinal - 1}: run `headrace audit`"
            )

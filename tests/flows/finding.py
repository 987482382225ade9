"""What the tests of finding stand on: archives of all kinds in memory, and every row of them read naively."""

import io
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow.parquet as pq
from hypothesis import strategies as st

from pipeline.core.event import Limits
from pipeline.core.keys import manifest_place
from pipeline.core.rules import make_rules
from pipeline.core.schema import parse_schema
from pipeline.core.segment import SealState
from pipeline.core.span import Span
from pipeline.core.tiers import visible
from pipeline.flows.find import FindPorts
from pipeline.flows.rows import RowReader
from pipeline.flows.sight import TracePorts
from tests.core.kit import DOOR, ENVELOPE, event, wire
from tests.flows.deployment import Deployment

TYPES = ("bell", "door")
TENANTS = ("acme", "globex")
ENTITIES = ("a", "b", "c")
SOURCES = ("hall", "yard", "roof")
RULES = make_rules([parse_schema(name, 1, DOOR) for name in TYPES], TENANTS, Limits(), ENVELOPE)
TIMES = (
    "2024-03-08T23:59:59.999999Z",
    "2024-03-09T00:00:00Z",
    "2024-03-09T10:59:59.500000Z",
    "2024-03-09T11:00:00Z",
    "2024-03-09T11:00:00.000001Z",
    "2024-03-10T00:30:00Z",
    "2024-03-10T11:59:00Z",
)
BOUNDS = (None, "2024-03-09", "2024-03-10", "2024-03-09T11:00:00Z", "2024-03-09T11:00:00.000001Z", TIMES[0])


class Step(NamedTuple):
    """Something that happens to an archive: records come, are loaded, and perhaps days are sealed."""

    units: Sequence[dict[str, Any]]
    sealing_to: str
    sealed_until: str


UNITS = st.fixed_dictionaries(
    {
        "event_id": st.sampled_from([f"e{number}" for number in range(12)]),
        "tenant_id": st.sampled_from(["acme", "acme", "globex"]),
        "entity_id": st.sampled_from(ENTITIES),
        "event_type": st.sampled_from([*TYPES, *TYPES, "gong"]),  # gong is no type: quarantine
        "source": st.sampled_from(SOURCES),
        "event_time": st.sampled_from(TIMES),
    }
)
STEPS = st.lists(
    st.builds(
        Step,
        st.lists(UNITS, min_size=4, max_size=20),
        st.sampled_from(["", "2024-03-08", "2024-03-09"]),
        st.sampled_from(["", "2024-03-08", "2024-03-09"]),
    ),
    min_size=2,
    max_size=3,
)


def build(steps: Sequence[Step], shards: int = 2) -> Deployment:
    """Make an archive: two lineages, small segments, an hour between the steps."""
    house = Deployment(shards=shards, max_rows=6)
    house.rules = RULES
    for step in steps:
        for unit in step.units:
            shard = f"shardId-{ENTITIES.index(unit['entity_id']) % shards:012d}"
            house.stream.append(shard, wire(event(**unit)), "key")
        seal = house.ledger.seal
        raised = max(seal.sealing_to, step.sealing_to)
        house.ledger.seal = SealState(
            seal.version + 1, raised, max(seal.sealed_until, min(step.sealed_until, raised))
        )
        house.load()
        house.clock.advance(3_600)
    return house


class Scanned(NamedTuple):
    """One row as it lies in a file."""

    key: str
    row: int
    event_type: str
    time_us: int
    columns: dict[str, Any]

    @property
    def order(self) -> tuple[Any, ...]:
        """Return the order that is promised: event time, then position."""
        one = self.columns
        return self.time_us, int(one["sequence_number"]), one["subsequence_number"]


def all_rows(house: Deployment) -> Iterator[Scanned]:
    """Yield every row that counts for a reader, file by file: no index, no manifest."""
    for key, stored in house.objects.stored.items():
        place = manifest_place(key)
        if place is None or place[1].startswith("quarantine"):
            continue
        table = pq.read_table(io.BytesIO(stored.body))
        times = table.column("event_time").cast("int64").to_pylist()
        for row, (time_us, columns) in enumerate(zip(times, table.to_pylist(), strict=True)):
            tier, dt = place[1].split("#")[0], columns["event_time"].date().isoformat()
            if visible(tier, dt, house.ledger.seal):
                yield Scanned(key, row, place[0].split("#")[0], time_us, columns)


def refused_rows(house: Deployment) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every refused unit with its arrival day."""
    for key, stored in house.objects.stored.items():
        if key.startswith("quarantine/"):
            for columns in pq.read_table(io.BytesIO(stored.body)).to_pylist():
                yield columns["ingested_time"].date().isoformat(), columns


def asked_for(row: Scanned, tenant: str, span: Span, **wanted: str | None) -> bool:
    """True when a row is of a tenant, in a span, and as `wanted` says where it says something."""
    found = {**row.columns, "event_type": row.event_type}
    fits = all(found[name] == value for name, value in wanted.items() if value is not None)
    return fits and found["tenant_id"] == tenant and span.from_us <= row.time_us < span.until_us


def find_ports(house: Deployment, reader: RowReader | None = None) -> FindPorts:
    """Return the ports of look-ups and counts."""
    return FindPorts(
        ledger=house.ledger,
        manifest=house.manifest,
        index=house.index,
        aggregates=house.aggregates,
        read=(reader or RowReader(house.objects)).read,
        each=map,
        progress=lambda _count: None,
    )


def trace_ports(house: Deployment) -> TracePorts:
    """Return the ports of a trace."""
    reader = RowReader(house.objects)
    return TracePorts(find_ports(house, reader), house.objects, house.receipts, reader.row_group)

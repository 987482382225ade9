"""Spans of what a traced request caused: the loader's write of its events, and the chunks of its replay job."""

from pipeline.core.open_segment import MAX_TRACED
from pipeline.core.replay import Selection
from pipeline.flows.replay import freeze, resume
from tests.flows.loading import House, event
from tests.flows.replaying import Yard, made

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"


def _traced(number: int, traceparent: str = SAMPLED, day: str = "2024-03-09") -> bytes:
    return b'{"traceparent":"%b",' % traceparent.encode() + event(number, day=day)[1:]


def _load(house: House, *events: bytes) -> None:
    loader = house.loader()
    loader.start()
    loader.process(house.put(*events))
    house.clock.advance(5.0)
    loader.cut("test")


def test_a_traced_event_is_a_span_once_it_is_committed() -> None:
    """A child of its request: from its arrival to the commit, with its ids, segment and data file; of others none."""
    house = House()
    arrived_us = house.clock.now_us()
    _load(house, event(1), _traced(2), _traced(3, UNSAMPLED), _traced(4, f"00-{'0' * 32}-{SPAN}-01"))
    [span] = house.spans
    assert span.parent is not None
    assert (span.parent.trace_id, span.parent.span_id) == (TRACE, SPAN)
    assert (span.start_us, span.end_us) == (arrived_us, arrived_us + 5_000_000)
    [segment] = house.ledger.segments(house.lineage.short)
    [file] = house.manifest.all_files()
    assert span.attributes == {
        "tenant_id": "acme",
        "event_id": "e2",
        "entity_id": "thing",
        "segment": f"{segment.lineage}/{segment.ordinal}",
        "data_file": file.key,
    }
    assert len(house.rows()) == 4


def test_each_event_names_its_own_file() -> None:
    """Open days have a file each, sealed ones share the late file of their type."""
    house = House()
    house.ledger.raise_seal("2024-03-08")
    days = ("2024-03-07", "2024-03-08", "2024-03-09", "2024-03-10")
    _load(house, *(_traced(number, day=day) for number, day in enumerate(days)))
    keys = [str(span.attributes["data_file"]) for span in house.spans]
    assert set(keys) == {one.key for one in house.manifest.all_files()}
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


def test_a_flood_of_traced_events_is_so_many_spans() -> None:
    """The first ones of a segment are told, all are loaded."""
    house = House()
    _load(house, *(_traced(number) for number in range(MAX_TRACED + 50)))
    assert [span.attributes["event_id"] for span in house.spans] == [
        f"e{number}" for number in range(MAX_TRACED)
    ]
    assert len(house.rows()) == MAX_TRACED + 50


def test_the_chunks_of_a_traced_job_are_spans_of_its_request() -> None:
    """Each is told once, by whoever did it; a job without a trace has none."""
    yard, selection = Yard(), Selection("acme", event_type="door.opened")
    yard.load(*[made(number) for number in range(60)])
    for traceparent in (SAMPLED, None, UNSAMPLED):
        job = freeze(yard.plan(selection), yard.replay_ports(), traceparent=traceparent)
        resume(job.id, yard.replay_ports())
        yard.processor().run(drain=True)
        if traceparent == SAMPLED:
            traced = job
    assert [span.attributes["chunk"] for span in yard.spans] == list(range(1, traced.chunks + 1))
    assert {span.attributes["job"] for span in yard.spans} == {traced.id}
    assert sum(int(span.attributes["events"]) for span in yard.spans) == traced.events
    assert {span.parent.text for span in yard.spans if span.parent} == {SAMPLED}

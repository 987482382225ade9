"""Events of one entity that a test tells apart by their number."""

from pipeline.producer import Event


def numbered(number: int) -> Event:
    """Return the event of that number."""
    return Event(
        tenant_id="demo",
        entity_id="one",
        event_type="door.opened",
        schema_version=1,
        source="hall",
        event_id=f"e{number}",
        data={"n": number},
    )

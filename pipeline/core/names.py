"""Names that become part of a key: what may be one, and what table a type becomes."""

import re

from pipeline.core.errors import ConfigProblem

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


def is_name(text: str) -> bool:
    """True when `text` may be a tenant or an event type, and so a part of a key or path."""
    return NAME.fullmatch(text) is not None


def table_name(event_type: str) -> str:
    """Return the SQL name of an event type: `flight.departed` becomes `flight_departed`."""
    return re.sub(r"[.-]", "_", event_type)


def refuse_colliding_tables(event_types: list[str]) -> None:
    """Refuse two types that would share one table.

    Raises:
        ConfigProblem: names both types and the table.
    """
    owners: dict[str, str] = {}
    for event_type in sorted(event_types):
        table = table_name(event_type)
        if table in owners:
            raise ConfigProblem(
                f"event types {owners[table]!r} and {event_type!r} would both be table {table!r}; rename one"
            )
        owners[table] = event_type

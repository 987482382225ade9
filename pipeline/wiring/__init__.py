"""The only place that joins flows to adapters: a module for each job, and all of it by name here."""

from pipeline.wiring.control import control, control_url, has_control
from pipeline.wiring.loading import (
    LoaderParts,
    filed_rules,
    load_limits,
    loader_parts,
    newest_rules,
    redriving,
    rules,
    write_ports,
)
from pipeline.wiring.reading import audit, finding, quarantine, sql_engine
from pipeline.wiring.replaying import ReplayParts, replay_parts
from pipeline.wiring.sending import SendingParts, event_producer, producer, sending_parts, sending_receipts
from pipeline.wiring.stores import Archive, archive, connection, object_cache, provision, stream

__all__ = [
    "Archive",
    "LoaderParts",
    "ReplayParts",
    "SendingParts",
    "archive",
    "audit",
    "connection",
    "control",
    "control_url",
    "event_producer",
    "filed_rules",
    "finding",
    "has_control",
    "load_limits",
    "loader_parts",
    "newest_rules",
    "object_cache",
    "producer",
    "provision",
    "quarantine",
    "redriving",
    "replay_parts",
    "rules",
    "sending_parts",
    "sending_receipts",
    "sql_engine",
    "stream",
    "write_ports",
]

"""What a user's program imports to send events.

    from pipeline.producer import Event, connect

    with connect() as producer:
        producer.put(Event(tenant_id="acme", entity_id="door-7", ...))

docs/producing.md says the rest.
"""

from pipeline.core.errors import ConfigProblem, Corrupt, HeadraceError, InvalidEvent, Transient
from pipeline.producer.connect import connect
from pipeline.sending.event import Event, new_event_id
from pipeline.sending.fates import BatchFate, Fate, Report
from pipeline.sending.threaded import EventProducer, ProducerOptions

__all__ = [
    "connect",
    "Event",
    "EventProducer",
    "ProducerOptions",
    "Report",
    "Fate",
    "BatchFate",
    "new_event_id",
    "HeadraceError",
    "InvalidEvent",
    "Transient",
    "ConfigProblem",
    "Corrupt",
]

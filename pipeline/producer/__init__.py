"""What a user's program imports to send events.

    from pipeline.producer import Event, connect

    with connect() as producer:
        producer.put(Event(tenant_id="acme", entity_id="door-7", ...))

`connect` sends to the stream; `connect_http(url, api_key=...)` and `connect_http_async` to the HTTP API.

docs/producing.md says the rest.
"""

from pipeline.core.errors import ConfigProblem, Corrupt, EventsLost, HeadraceError, InvalidEvent, Transient
from pipeline.producer.connect import connect
from pipeline.producer.http import client_credentials, connect_http, connect_http_async
from pipeline.sending.event import Event, new_event_id
from pipeline.sending.fates import BatchFate, Fate, Report
from pipeline.sending.http_async import AsyncHttpProducer
from pipeline.sending.http_batch import HttpOptions
from pipeline.sending.http_threaded import HttpProducer
from pipeline.sending.threaded import EventProducer, ProducerOptions

__all__ = [
    "connect",
    "connect_http",
    "connect_http_async",
    "client_credentials",
    "Event",
    "EventProducer",
    "ProducerOptions",
    "HttpProducer",
    "AsyncHttpProducer",
    "HttpOptions",
    "Report",
    "Fate",
    "BatchFate",
    "new_event_id",
    "HeadraceError",
    "InvalidEvent",
    "Transient",
    "ConfigProblem",
    "Corrupt",
    "EventsLost",
]

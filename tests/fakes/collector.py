"""A collector of traces: takes OTLP over HTTP, and keeps the spans."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class GotSpan(NamedTuple):
    """One span as it arrived."""

    service: str
    scope: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    attributes: dict[str, str | int]


class Collector:
    """What arrived; `status` is what it answers from now on."""

    def __init__(self) -> None:
        self.spans: list[GotSpan] = []
        self.status = 200
        self.url = ""

    def take(self, body: bytes) -> None:
        """Keep the spans of a request."""
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = next(
                one.value.string_value for one in group.resource.attributes if one.key == "service.name"
            )
            for scope in group.scope_spans:
                self.spans += [
                    GotSpan(
                        service,
                        scope.scope.name,
                        one.name,
                        one.trace_id.hex(),
                        one.span_id.hex(),
                        one.parent_span_id.hex(),
                        one.start_time_unix_nano,
                        one.end_time_unix_nano,
                        {
                            each.key: getattr(each.value, str(each.value.WhichOneof("value")))
                            for each in one.attributes
                        },
                    )
                    for one in scope.spans
                ]


@contextmanager
def collecting() -> Iterator[Collector]:
    """Listen on a free port during the body."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the server's form
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/v1/traces" and collector.status == 200:
                collector.take(body)
            self.send_response(collector.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

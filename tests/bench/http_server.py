"""The server that the bench drives: `python -m tests.bench.http_server bare|batch|falcon|api|unwatched`; prints its port.

All are the same server with the same limits: `bare` reads the body and says 202, `batch` is that under the API's own
scheduling (`schedule_as_batch`), `falcon` is it through the framework,
`api` is the whole API over a null stream, with its log, metrics and sampled traces, a key to be checked and a plan to be taken from; `unwatched` is that without the three.
"""

import asyncio
import random
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pipeline.startup import light

light()

import falcon.asgi  # noqa: E402 - after light()
import uvloop  # noqa: E402
from opentelemetry.sdk.trace import ReadableSpan  # noqa: E402
from opentelemetry.sdk.trace.export import SpanExportResult  # noqa: E402

from consumers.telemetry import Telemetry  # noqa: E402
from pipeline.config import load_settings  # noqa: E402
from pipeline.core.caller import Scope  # noqa: E402
from pipeline.core.plan import Plan  # noqa: E402
from pipeline.core.tenant import Act, ApiKey, Tenant  # noqa: E402
from pipeline.flows.authenticate import Authenticator  # noqa: E402
from pipeline.flows.follow import ArrivalReceipts, Follower  # noqa: E402
from pipeline.flows.leases import Leases  # noqa: E402
from pipeline.flows.limit import Limiter  # noqa: E402
from pipeline.flows.request_ids import new_request_id  # noqa: E402
from pipeline.flows.rules import FixedRules  # noqa: E402
from pipeline.flows.watch import RequestWatch, Seen  # noqa: E402
from pipeline.ports.clock import SystemClock  # noqa: E402
from pipeline.ports.stream import OutgoingRecord, PutAnswer  # noqa: E402
from pipeline.sending import ProducerSettings  # noqa: E402
from pipeline.sending.coalesce import Ingest  # noqa: E402
from pipeline.sending.fates import BatchFate  # noqa: E402
from pipeline.sending.threaded import EventProducer, ProducerOptions  # noqa: E402
from pipeline.sending.worker import WorkerPorts  # noqa: E402
from pipeline.telemetry.page import Page  # noqa: E402
from pipeline.telemetry.tracing import Tracer  # noqa: E402
from pipeline.web.gate import gate_of  # noqa: E402
from pipeline.web.serve import Address, hold_address, make_server, schedule_as_batch, serve  # noqa: E402
from pipeline.wiring.front_door import FrontDoor, request_watch  # noqa: E402
from tests.bench.data import KEY, bench_rules  # noqa: E402
from tests.bench.null_ports import NullLedger  # noqa: E402
from tests.bench.producing import NullReceipts  # noqa: E402
from tests.fakes.control import MemoryControl  # noqa: E402
from tests.fakes.limits import MemoryLimits  # noqa: E402

_PLAN = Plan("bench", 10**9, 10**9, 10**12, 10**9, 10**12, 10_000)


class _Sink:
    """Acknowledges everything; each record has the next sequence number of its shard."""

    def __init__(self) -> None:
        self._number = 49_600_000_000_000_000_000_000_000_000_000_000_000_000_000_000_000_000

    def put(self, put: Sequence[OutgoingRecord]) -> list[PutAnswer]:
        first = self._number
        self._number += len(put)
        return [PutAnswer("shardId-000000000000", str(first + place), "") for place in range(len(put))]


async def _bare(scope: dict[str, Any], receive: Any, send: Any) -> None:  # noqa: ARG001
    event = await receive()
    while event.get("more_body"):
        event = await receive()
    body = b'{"status":"accepted"}'
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 202, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class _Falcon:
    async def on_post(self, request: falcon.asgi.Request, response: falcon.asgi.Response) -> None:
        async for _ in request.stream:
            pass
        response.status, response.content_type = 202, "application/json"
        response.data = b'{"status":"accepted"}'


def _falcon() -> Any:
    app: falcon.asgi.App[Any, Any] = falcon.asgi.App()
    app.add_route("/v1/events", _Falcon())
    return app


class _Blind(RequestWatch):
    """Gives a request its ids, and looks no further."""

    def begin(self, traceparents: Sequence[str] = ()) -> Seen:  # noqa: ARG002
        request_id = new_request_id()
        return Seen(request_id, request_id)

    def end(self, *_: Any) -> None:
        pass

    def acknowledged(self, began: float) -> None:
        pass


class _Kept:
    """A collector that takes every span at once."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:  # noqa: ARG002
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        pass


def _watch(telemetry: Telemetry, *, blind: bool) -> RequestWatch:
    if blind:
        return _Blind(SystemClock())
    telemetry.add(Page("bench").take)
    spans = Tracer(_Kept(), "bench", "api", telemetry.fact)
    return request_watch(load_settings(), SystemClock(), telemetry.requests, spans)


def _door(telemetry: Telemetry, watch: RequestWatch) -> FrontDoor:
    settings, clock, threads = load_settings(), SystemClock(), ThreadPoolExecutor(4)
    judged_by, stream = bench_rules(settings.paths.schemas), ("bench", "1")

    def opened(told: Callable[[BatchFate], None]) -> EventProducer:
        ports = WorkerPorts(_Sink(), NullReceipts(), clock, random.random, telemetry.fact, told)
        batches = ProducerSettings(linger_seconds=settings.web.linger_ms / 1_000)
        return EventProducer("bench", stream, ports, batches, ProducerOptions(keep_fates=0))

    return FrontDoor(
        settings,
        clock,
        telemetry.fact,
        control_threads=threads,
        ingest=Ingest(opened),
        receipts=ArrivalReceipts(b"k" * 32, stream, Follower(NullLedger(), stream, clock, threads)),
        rules=FixedRules(judged_by),
        authenticator=Authenticator(_control(), clock, None),
        watch=watch,
        limiter=Limiter(Leases(MemoryLimits(), clock, telemetry.fact), clock, 2**20),
    )


def _control() -> MemoryControl:
    """Return a control store with one tenant and one key, whose text every run makes alike."""
    act, control = Act(0, "bench", "make", "bench", {}), MemoryControl()
    control.put_plan(_PLAN, act)
    control.put_tenant(Tenant("tenant-00", _PLAN.name, "active", 0), act, new=True)
    key = ApiKey(KEY.id, "tenant-00", "", frozenset(Scope), KEY.secret_hash, 0)
    control.put_key(key, act, new=True)
    return control


async def _serve_bare(application: Any, door: FrontDoor, address: Address) -> None:
    server = make_server(application, door, address)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.signal_handler_interrupt)
    print(address.port, flush=True)
    await server.serve()


def _on_sigterm(stop: Callable[[], None]) -> None:
    signal.signal(signal.SIGTERM, lambda _number, _frame: stop())


def main(kind: str) -> None:
    """Serve until SIGTERM."""
    address = hold_address("127.0.0.1", 0)
    with Telemetry(load_settings(), "bench", page=None) as telemetry:
        door = _door(telemetry, _watch(telemetry, blind=kind != "api"))
        if kind in ("bare", "batch", "falcon"):
            if kind == "batch":
                schedule_as_batch()
            uvloop.run(_serve_bare(_falcon() if kind == "falcon" else _bare, door, address))
            return
        serve(
            door,
            gate_of(door),
            address,
            lambda: print(address.port, flush=True),
            _on_sigterm,
        )


if __name__ == "__main__":
    main(sys.argv[1])

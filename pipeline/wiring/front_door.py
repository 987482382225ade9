"""What one process of the HTTP API is made of: `front_door` joins it from the settings, handlers get all of it."""

import random
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from pipeline.config import Settings
from pipeline.core.accept import Acceptors
from pipeline.core.errors import ConfigProblem
from pipeline.facts import EventsReceived, FactSink
from pipeline.flows.authenticate import Authenticator
from pipeline.flows.decision_log import DecisionLog
from pipeline.flows.follow import ArrivalReceipts, Follower
from pipeline.flows.idempotency import Idempotency
from pipeline.flows.limit import Limiter
from pipeline.flows.ratelimits import RateLimits
from pipeline.flows.ready import Readiness
from pipeline.flows.rules import StoredRules
from pipeline.flows.watch import RequestWatch, WatchOptions
from pipeline.ports.clock import Clock, SystemClock
from pipeline.ports.control import Control
from pipeline.ports.request_log import RequestLog
from pipeline.ports.rules import NewestRules
from pipeline.ports.spans import SpanSink
from pipeline.sending.batches import MAX_EVENT_BYTES
from pipeline.sending.coalesce import Ingest, OpenProducer
from pipeline.sending.fates import BatchFate
from pipeline.sending.threaded import EventProducer, ProducerOptions
from pipeline.sending.worker import WorkerPorts
from pipeline.wiring.control import control
from pipeline.wiring.limiting import limits
from pipeline.wiring.loading import filed_rules
from pipeline.wiring.reads import Reads, acked_by, probes, reads
from pipeline.wiring.secret_values import secret_text
from pipeline.wiring.sending import sending_parts, sending_receipts
from pipeline.wiring.signing import signing_key
from pipeline.wiring.stores import Archive, archive
from pipeline.wiring.trusting import authenticator, idempotency

# Calls to stores that one process has under way; further ones wait, bounded by the request's deadline. Each kind has threads
# of its own: a table that hangs holds those of its own callers, and nobody else waits for them.
_THREADS = 16
_LEAST_CHARACTERS = 32  # of web.metrics_token: 128 bits, if they are hex digits


def _pool(name: str) -> Callable[[], ThreadPoolExecutor]:
    return lambda: ThreadPoolExecutor(_THREADS, thread_name_prefix=name)


@dataclass
class Tally:
    """What came in since it was last told; of the event loop."""

    requests: int = 0
    accepted: int = 0
    retry: int = 0
    refused: Counter[str] = field(default_factory=Counter)  # by code

    def count(self, accepted: int, retry: int, refused: Mapping[str, int]) -> None:
        """Count the events of one request."""
        self.accepted += accepted
        self.retry += retry
        if refused:
            self.refused.update(refused)

    def take(self) -> EventsReceived | None:
        """Return what is new, and begin anew; None: nothing."""
        told = EventsReceived(self.requests, self.accepted, dict(self.refused), self.retry)
        self.requests = self.accepted = self.retry = 0
        self.refused.clear()
        return told if told.requests or told.accepted or told.refused or told.retry else None


@dataclass(frozen=True)
class MetricsPage:
    """This process' metrics at the API's own port, for the operator.

    Attributes:
        token: who shows it may read them.
        write: returns them as text.
    """

    token: str = field(repr=False)
    write: Callable[[], bytes]


def _unopened(_told: Callable[[BatchFate], None]) -> EventProducer:
    raise ConfigProblem("this process was made without a stream to send to")


@dataclass(frozen=True)
class FrontDoor:
    """Everything that handlers use. Made once in a process; safe from its event loop and its threads.

    `front_door` makes all of it; what is None was left out by a process, or test, that does not need it.

    Attributes:
        settings, clock, facts: of the process.
        rules: called, it gives the newest rules known, without waiting; `rules.newest(since_us)`, in a thread, looks for newer.
        control: the control store: from threads only.
        control_threads: where short calls to the control store run (`web.threads`); reads have their own.
        change_threads: the same for what a tenant changes in the control store: a flood of changes holds up no look at a credential.
        table_threads: the same for calls to tables that their own request alone waits for: `Idempotency-Key`, receipts, policies.
        renewals: the same for leases of the limiter, which every request waits for.
        authenticator: says who callers are; asked by the gate alone.
        idempotency: says which requests were seen before; None: keys are not taken here.
        ingest: takes events to the stream; of the event loop.
        receipts: what was taken, and how far it is.
        acceptors: judges, kept while the rules stay the same.
        tally: what came in.
        reads: gives each caller its own reader, in threads of its own.
        ready: what this process depends on, and whether it answers.
        limiter: takes from plans.
        ratelimits: the rate-limit service for others, over the same leases.
        decision_log: where its decisions go as events; None: nowhere.
        watch: counts requests, and writes of them; of the event loop.
        metrics: what `GET /metrics` shows, and to whom; None: nothing.
    """

    settings: Settings
    clock: Clock
    facts: FactSink
    rules: NewestRules
    control: Control | None = None
    control_threads: ThreadPoolExecutor = field(default_factory=_pool("store"))
    change_threads: ThreadPoolExecutor = field(default_factory=_pool("changes"))
    table_threads: ThreadPoolExecutor = field(default_factory=_pool("tables"))
    renewals: ThreadPoolExecutor = field(default_factory=_pool("limits"))
    authenticator: Authenticator | None = None
    idempotency: Idempotency | None = None
    ingest: Ingest = field(default_factory=lambda: Ingest(_unopened))
    receipts: ArrivalReceipts | None = None
    acceptors: Acceptors = field(default_factory=Acceptors)
    tally: Tally = field(default_factory=Tally)
    reads: Reads | None = None
    ready: Readiness | None = None
    limiter: Limiter | None = None
    ratelimits: RateLimits | None = None
    decision_log: DecisionLog | None = None
    watch: RequestWatch = field(default_factory=lambda: RequestWatch(SystemClock()))
    metrics: MetricsPage | None = None

    def close(self) -> None:
        """Give back leases, end threads, close connections; blocks for some seconds at most. No request comes any more."""
        if self.limiter is not None:
            self.limiter.close()
        if self.reads is not None:
            self.reads.close()
        if self.ready is not None:
            self.ready.close()
        for pool in (self.control_threads, self.change_threads, self.table_threads, self.renewals):
            pool.shutdown(wait=False, cancel_futures=True)
        if self.control is not None:
            self.control.close()


def request_watch(
    settings: Settings, clock: Clock, line: RequestLog, spans: SpanSink | None = None
) -> RequestWatch:
    """Return what watches the requests of a process, as the settings say."""
    web, tracing = settings.web, settings.tracing
    options = WatchOptions(
        trace_share=tracing.sample,
        traces_per_second=tracing.max_per_second,
        log_share=web.log_share,
        lines_per_second=web.log_lines_per_second,
        tenants=settings.metrics.tenants,
    )
    return RequestWatch(clock, options, line, spans)


def front_door(
    settings: Settings,
    clock: Clock,
    facts: FactSink,
    watch: RequestWatch | None = None,
    page: Callable[[], bytes] | None = None,
) -> FrontDoor:
    """Return the parts of one process of the API; `watch` is told of its requests, `page` writes its metrics.

    Raises:
        ConfigProblem, NotFound, Transient: there is no stream, or the settings contradict it.
    """
    stores, store = archive(settings, facts), control(settings, clock)
    parts = sending_parts(settings, stores)
    rules = StoredRules(filed_rules(settings), lambda: store, clock, facts)
    rules.newest(0)
    door = FrontDoor(settings, clock, facts, rules, store)
    follower = Follower(stores.ledger, parts.stream, clock, door.table_threads)
    limiter, ratelimits = limits(settings, clock, facts)
    ingest = Ingest(_opener(settings, stores, clock, facts))
    receipts = ArrivalReceipts(signing_key(settings), parts.stream, follower)
    questions = probes(settings, facts)
    questions |= {"control": store.revision, "limits": limiter.ask, "clock": limiter.ask_time}
    who = authenticator(settings, store, clock, facts)
    if who.signers is not None:
        questions["issuer"] = who.signers.kept
    return replace(
        door,
        authenticator=who,
        idempotency=idempotency(settings, clock, facts),
        ingest=ingest,
        receipts=receipts,
        reads=reads(settings, clock, facts, acked_by(receipts.read, parts.stream)),
        limiter=limiter,
        ratelimits=ratelimits,
        decision_log=DecisionLog(ingest.put, clock, facts),
        watch=watch or door.watch,
        metrics=metrics_page(settings, page),
        ready=Readiness(questions, clock),
    )


def metrics_page(settings: Settings, page: Callable[[], bytes] | None) -> MetricsPage | None:
    """Return what `GET /metrics` shows; None: nothing, as the settings have no token, or nobody writes a page.

    Raises:
        ConfigProblem: the token is too short, or there is no such secret.
    """
    given = settings.web.metrics_token
    if given is None or page is None:
        return None
    token = secret_text(settings, "web.metrics_token", given)
    if len(token) < _LEAST_CHARACTERS:
        raise ConfigProblem(
            f"web.metrics_token: shorter than {_LEAST_CHARACTERS} characters; make one with `openssl rand -hex 32`"
        )
    return MetricsPage(token, page)


def _opener(settings: Settings, stores: Archive, clock: Clock, facts: FactSink) -> OpenProducer:
    def opened(told: Callable[[BatchFate], None]) -> EventProducer:
        parts, web = sending_parts(settings, stores), settings.web
        receipts = sending_receipts(settings, facts)
        ports = WorkerPorts(parts.sink, receipts, clock, random.random, facts, told, parts.check)
        batches = replace(parts.settings, linger_seconds=web.linger_ms / 1_000)
        # Fates are told as they come: none is kept for a report.
        options = ProducerOptions(max_buffer_bytes=web.max_buffer_bytes, keep_fates=0)
        return EventProducer(parts.producer_id, parts.stream, ports, batches, options, MAX_EVENT_BYTES)

    return opened

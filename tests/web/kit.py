"""What the tests of the HTTP API stand on: a town of two tenants in ports of any world, a gate of known keys, a client."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

from falcon.asgi import Request
from falcon.testing import Result

from pipeline.config import Settings, load_settings
from pipeline.core.caller import Caller, Denied, Scope
from pipeline.core.entity_day import EntityDay
from pipeline.core.errors import Crossed, NotFound
from pipeline.core.event import Record
from pipeline.core.plan import DELIVERED
from pipeline.core.policy import Limit, Policy
from pipeline.core.receipt import AckedBatch, Receipt
from pipeline.core.replay import Selection
from pipeline.core.segment import CutLimits
from pipeline.core.staging import StagedObject
from pipeline.flows.find import FindPorts
from pipeline.flows.freshness import Freshness
from pipeline.flows.idempotency import Idempotency
from pipeline.flows.leases import Leases
from pipeline.flows.limit import Limiter
from pipeline.flows.load import Loader, LoadLimits
from pipeline.flows.quarantine import QuarantinePorts
from pipeline.flows.ratelimits import RateLimits
from pipeline.flows.ready import Readiness
from pipeline.flows.replay import ReplayPorts, freeze
from pipeline.flows.replay_plan import PlanPorts, plan
from pipeline.flows.rows import RowReader
from pipeline.flows.rules import StoredRules
from pipeline.flows.sight import TracePorts
from pipeline.flows.tenant_reads import ReadParts
from pipeline.flows.window import WindowLimits
from pipeline.flows.write import WritePorts
from pipeline.web.app import make_app
from pipeline.web.problems import Problem
from pipeline.web.route import Route
from pipeline.web.routes import ROUTES
from pipeline.wiring.reads import Reads
from tests.aws.backends import Memory, World
from tests.fakes.clock import NOON_US, SteppedClock
from tests.fakes.control import MemoryControl
from tests.fakes.facts import FactList
from tests.fakes.idempotency import MemoryRequests
from tests.sim.events import rules
from tests.web.asking import client_of
from tests.web.doors import OpenGate, make_door

OWN, OTHER = "acme", "globex"
DAY = "2024-03-09"
SECRET = "the vault's combination"  # in payloads of the other tenant alone
_STEPPED_SECONDS = 1e9  # a stepped clock is years from that of a real table
_LOCK_SECONDS = 40.0  # of a request with an Idempotency-Key
_ATTEMPTS = count(1)
_SHARD = "shardId-000000000000"
_PREMIUM = replace(DELIVERED[2], burst_requests=1_000_000)  # the clock of these tests stands


def event(tenant: str, number: int, **changes: Any) -> bytes:
    """Return one valid event; its entity, id and data say whose it is."""
    names = {OWN: "door", OTHER: "vault"}
    fields = {
        "event_id": f"{tenant}-e{number}",
        "tenant_id": tenant,
        "entity_id": f"{names.get(tenant, 'thing')}-{number % 2}",
        "event_type": "door.opened" if number % 3 else "meter.read",
        "schema_version": 1,
        "source": f"{tenant}-hall",
        "event_time": f"{DAY}T0{number % 10}:00:00Z",
        "data": {"n": number, "note": SECRET if tenant == OTHER else "plain"},
        **changes,
    }
    return json.dumps(fields).encode()


class Town:
    """Two tenants' archives in one deployment: events, refusals, jobs and results of each."""

    def __init__(self, world: World | None = None, events: int = 8) -> None:
        made = world or Memory()
        self.clock, self.facts, self.rules = SteppedClock(), FactList(), rules()
        self.ledger, self.objects, self.manifest = made.ledger(), made.objects(), made.manifest()
        self.index, self.aggregates, self.receipts = made.index(), made.aggregates(), made.receipts()
        self.jobs, self.days, self.queue = made.jobs(), made.days(), made.queue()
        self.requests = MemoryRequests()
        self.limits, self.policies, self.decisions = made.limits(), made.policies(), made.decisions()
        for tenant, name in ((OWN, "door-logins"), (OTHER, "vault-logins")):
            self.policies.put(tenant, Policy(name, Limit(5)))
        self.lineage = self.ledger.register("doors", "1", _SHARD, ())
        self._numbers, self._ids = count(1), count(1)
        self.load(*(event(tenant, number) for number in range(events) for tenant in (OWN, OTHER)))
        bad = {"event_type": "door.opened", "data": {"note": SECRET}}  # without `n`
        self.load(
            event(OWN, 100, event_id="acme-bad", event_type="door.opened", data={"note": "plain"}),
            event(OTHER, 101, event_id="globex-bad", **bad),
            f"no JSON, {SECRET}".encode(),
            event("initech", 102, data={"n": 1, "note": SECRET}),
        )
        self.job_of = {tenant: self.job(tenant) for tenant in (OWN, OTHER)}

    def load(self, *events: bytes) -> list[Record]:
        """Archive events as one segment."""
        records = [Record(str(next(self._numbers)), "key", one, self.clock.now_us()) for one in events]
        ports = WritePorts(
            ledger=self.ledger,
            objects=self.objects,
            manifest=self.manifest,
            index=self.index,
            aggregates=self.aggregates,
            clock=self.clock,
            facts=lambda _fact: None,
            each=_in_order,
        )
        loader = Loader(self.lineage, self.rules, LoadLimits(CutLimits(), WindowLimits()), ports)
        loader.start()
        loader.process(records)
        loader.cut("test")
        self.clock.advance(1)
        return records

    def job(self, tenant: str) -> str:
        """Freeze a job of a tenant's entity, with a result; return its id."""
        entity = "door-1" if tenant == OWN else "vault-1"
        parts = self.parts()
        job = freeze(plan(Selection(tenant, entity), parts.plan), parts.replay)
        times = (NOON_US, NOON_US)
        row = EntityDay(tenant, entity, DAY, "all", 3, 0, "0" * 32, (f"{tenant}-e1",), *times, 2, job.id)
        self.days.put_newer([row])
        return job.id

    def parts(self) -> ReadParts:
        """Return the ports of reading."""
        reader = RowReader(self.objects)

        def unseen(_count: int) -> None:
            pass

        find = FindPorts(
            ledger=self.ledger,
            manifest=self.manifest,
            index=self.index,
            aggregates=self.aggregates,
            read=reader.read,
            each=map,
            progress=unseen,
        )
        quiet = self.facts
        return ReadParts(
            trace=TracePorts(find, self.objects, self.receipts, reader.row_group),
            quarantine=QuarantinePorts(self.ledger, self.manifest, self.objects, self.clock, quiet, unseen),
            plan=PlanPorts(self.ledger, self.manifest, self.index, reader.read, map, self.clock, quiet),
            replay=ReplayPorts(
                self.jobs, self.queue, reader.read, lambda: f"{next(self._ids):06x}", self.clock, quiet
            ),
            days=self.days,
            freshness=Freshness(self.ledger, self.clock),
        )

    def acked(self, caller: Caller, text: str) -> Receipt:
        """Read a receipt of the form TENANT:SEQUENCE, in place of a signed one."""
        tenant, _, sequence = text.partition(":")
        if tenant not in (OWN, OTHER) or not sequence.isdecimal():
            raise NotFound("no such receipt")
        if tenant != caller.tenant_id:
            raise Crossed("no such receipt")
        return Receipt("http", 0, "doors", "1", 0, 0, (AckedBatch(0, 0, 1, _SHARD, sequence),))


def _in_order(write: Callable[[StagedObject], None], objects: Iterable[StagedObject]) -> None:
    for one in objects:
        write(one)


class KnownKeys(OpenGate):
    """A gate that knows some keys and tokens; scopes are checked as the real one does."""

    def __init__(self, callers: Mapping[str, Caller]) -> None:
        super().__init__()
        self.callers = callers

    async def admit(self, request: Request, route: Route) -> Caller:
        """Let a known credential in."""
        given = request.get_header("X-API-Key") or (request.auth or "").removeprefix("Bearer ")
        caller = self.callers.get(given)
        if caller is None:
            raise Denied("unknown", "no such credential")
        if not route.lets_in(caller.scopes):
            raise Problem("forbidden", "the credential lacks the scope that this route needs")
        return caller


def caller_of(tenant: str, scopes: Iterable[Scope] = tuple(Scope), kind: str = "key") -> Caller:
    """Return a caller; the credential says whose and what for."""
    chosen = frozenset(scopes)
    name = "-".join(sorted(chosen)) or "none"
    return Caller(tenant, f"{kind}:{tenant}-{name}", chosen, _PREMIUM)


def settings_of(home: Path, **web: Any) -> Settings:
    """Return settings whose home is a folder of the test's own."""
    return load_settings({"paths": {"home": home}, "web": web})


@dataclass
class Api:
    """The application over a town; credentials are the callers' own names."""

    town: Town
    settings: Settings
    key: bytes = b"k" * 32
    callers: dict[str, Caller] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.control = MemoryControl()
        self.reads = Reads(self.town.parts(), self.key, self.town.acked)
        leases = Leases(self.town.limits, self.town.clock, self.town.facts, max_skew_seconds=_STEPPED_SECONDS)
        self.door = make_door(
            settings=self.settings,
            rules=StoredRules(self.town.rules, lambda: self.control, self.town.clock, self.town.facts),
            clock=self.town.clock,
            facts=self.town.facts,
            reads=self.reads,
            ready=Readiness({"tables": self.town.ledger.seal_state}, self.town.clock),
            control=self.control,
            idempotency=Idempotency(
                self.town.requests, self.town.clock, lambda: f"attempt-{next(_ATTEMPTS)}", _LOCK_SECONDS
            ),
            limiter=Limiter(leases, self.town.clock, 2**20),
            ratelimits=RateLimits(leases, self.town.policies, self.town.decisions, self.town.clock),
        )
        self.app = make_app(self.door, KnownKeys(self.callers), ROUTES)
        self.client = client_of(self.app)

    def call(self, method: str, path: str, caller: Caller | None = None, **more: Any) -> Result:
        """Send a request, by default as the town's first tenant with every scope."""
        who = caller or caller_of(OWN)
        self.callers[who.credential] = who
        name = "X-API-Key" if who.credential.startswith("key:") else "Authorization"
        value = who.credential if name == "X-API-Key" else f"Bearer {who.credential}"
        headers = {name: value, **more.pop("headers", {})}
        return self.client.simulate_request(method, path, headers=headers, **more)

    def get(self, path: str, caller: Caller | None = None, **params: Any) -> Result:
        """Read."""
        return self.call("GET", path, caller, params={name.rstrip("_"): one for name, one in params.items()})

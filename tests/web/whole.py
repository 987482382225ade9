"""The whole API over fakes: every route, the real gate, a key for each scope; requests that change something are taken."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from pipeline.core.api_key import RANDOM_BYTES, make_key
from pipeline.core.caller import Scope
from pipeline.core.plan import DELIVERED
from pipeline.core.tenant import Act, ApiKey, Tenant
from pipeline.flows.authenticate import Authenticator
from pipeline.flows.idempotency import Idempotency
from pipeline.web.gate import CredentialGate
from pipeline.wiring.front_door import FrontDoor
from tests.fakes.idempotency import MemoryRequests
from tests.web.doors import MemorySink, make_door
from tests.web.kit import OTHER, OWN, Api, Town, settings_of

ACT = Act(0, "test", "test", "test", {})
_LOCK_SECONDS = 35.0


class Whole:
    """A town, a stream in memory and credentials, behind the application as a process makes it.

    Attributes:
        api: the town and its ports; the door of `door()` is made of them.
        sink: the stream.
        keys: scope -> API key; "all" has every scope.
        requests: what is kept of Idempotency-Keys.
    """

    def __init__(self, home: Path, sink: MemorySink | None = None, **web: Any) -> None:
        self.api = Api(Town(), settings_of(home, **web))
        self.sink, self.requests, self.control = sink or MemorySink(), MemoryRequests(), self.api.control
        plan = replace(DELIVERED[2], name="roomy", burst_requests=10**6, events_per_second=10**6)
        plan = replace(plan, bytes_per_second=10**9, requests_per_month=10**9)
        self.control.put_plan(plan, ACT)
        for tenant in (OWN, OTHER):
            self.control.put_tenant(Tenant(tenant, "roomy", "active", 0), ACT, new=True)
        names = [*Scope, "all"]
        self.keys = {str(name): self._key(number, name) for number, name in enumerate(names, 1)}

    def _key(self, number: int, name: str) -> str:
        made = make_key("test", (number << 192 | number).to_bytes(RANDOM_BYTES, "big"))
        scopes = frozenset(Scope) if name == "all" else frozenset({Scope(name)})
        self.control.put_key(ApiKey(made.id, OWN, name, scopes, made.secret_hash, 0), ACT, new=True)
        return made.text

    def door(self, **parts: Any) -> FrontDoor:
        """Return a door that sends to the sink, and gives nothing but what is given here otherwise."""
        fresh = make_door(self.sink, self.api.settings, **parts)
        names, town = count(1), self.api.town
        keyed = Idempotency(self.requests, town.clock, lambda: str(next(names)), _LOCK_SECONDS)
        more = {
            "receipts": fresh.receipts,
            "idempotency": keyed,
            "control_threads": ThreadPoolExecutor(4),
        } | parts
        authenticator = Authenticator(self.control, town.clock, None)
        return replace(self.api.door, ingest=fresh.ingest, authenticator=authenticator, **more)

    def gate(self, door: FrontDoor) -> CredentialGate:
        """Return the real gate."""
        assert door.authenticator is not None
        return CredentialGate(door, door.authenticator)

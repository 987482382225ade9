"""Credentials for tests of the HTTP API: two tenants with keys and clients, an issuer whose keys a test turns, a client."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from jwt.algorithms import RSAAlgorithm

from pipeline.config import load_settings
from pipeline.core.access_token import Trust
from pipeline.core.api_key import RANDOM_BYTES, make_key
from pipeline.core.caller import Caller, Scope
from pipeline.core.credential import Presented
from pipeline.core.errors import Transient
from pipeline.core.tenant import Act, ApiKey, Client, Tenant
from pipeline.flows.authenticate import Authenticator, Issuer
from pipeline.flows.idempotency import Idempotency
from pipeline.flows.signing_keys import SigningKeys
from pipeline.web.app import make_app
from pipeline.web.gate import CredentialGate
from pipeline.web.route import OPEN, Answer, Call, Route
from pipeline.wiring.front_door import FrontDoor
from tests.fakes.clock import SteppedClock
from tests.fakes.control import MemoryControl
from tests.fakes.facts import FactList
from tests.web.doors import make_door

ISSUER = "https://cognito-idp.us-east-1.amazonaws.com/us-east-1_pool"
RESOURCE_SERVER = "headrace"
ACT = Act(0, "test", "test", "test", {})
Headers = Iterable[tuple[str, str]]


@cache
def rsa(name: str, bits: int = 2048) -> RSAPrivateKey:
    """Return a key, made once in a run for each name."""
    del name
    return generate_private_key(public_exponent=65537, key_size=bits)


def jwk(kid: str, key: RSAPrivateKey, **more: Any) -> dict[str, Any]:
    """Return the public half as a member of a key set."""
    public = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**public, "kid": kid, "alg": "RS256", "use": "sig", **more}


def part(value: Any) -> str:
    """Return JSON, or bytes, as one part of a token."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class KeyServer:
    """Port `TokenKeys`: what a test says, and how often it was asked."""

    def __init__(self) -> None:
        self.members = [jwk("k1", rsa("first"))]
        self.fetched = 0
        self.document: bytes | None = None  # instead of the members
        self.down = False

    def fetch(self) -> bytes:
        """Return the key set."""
        self.fetched += 1
        if self.down:
            raise Transient("the issuer does not answer")
        return json.dumps({"keys": self.members}).encode() if self.document is None else self.document


class House:
    """A front door over fakes. `acme` has a key and a client, `globex` is suspended; the clock is stepped."""

    def __init__(self) -> None:
        self.clock, self.control, self.facts, self.keys = (
            SteppedClock(),
            MemoryControl(),
            FactList(),
            KeyServer(),
        )
        for name, state in (("acme", "active"), ("globex", "suspended"), ("initech", "active")):
            self.control.put_tenant(Tenant(name, "standard", state, 0), ACT, new=True)  # type: ignore[arg-type]
            self.client(f"client-of-{name}", name, Scope.READ, Scope.INGEST)
        self.authenticator = Authenticator(self.control, self.clock, self.issuer())
        self.threads = ThreadPoolExecutor(4)

    def issuer(self) -> Issuer:
        """Return the pool."""
        return Issuer(Trust(ISSUER, RESOURCE_SERVER), SigningKeys(self.keys, self.clock, self.facts))

    def client(self, name: str, tenant: str, *scopes: Scope, **more: Any) -> None:
        """Put a client into the control store."""
        self.control.put_client(Client(name, tenant, "", frozenset(scopes), 0, **more), ACT, new=True)

    def key(self, tenant: str = "acme", *scopes: Scope, seed: int = 1, **more: Any) -> str:
        """Put a key into the control store; return its text."""
        made = make_key("test", seed.to_bytes(RANDOM_BYTES, "big"))
        granted = frozenset(scopes or (Scope.READ,))
        self.control.put_key(ApiKey(made.id, tenant, "", granted, made.secret_hash, 0, **more), ACT, new=True)
        return made.text

    def look_up(self, shown: Presented) -> Caller:
        """Return who shows a credential, reading what must be read, as the gate does it."""
        while not isinstance(found := self.authenticator.resolved(shown), Caller):
            self.authenticator.reading(found)()
        return found

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Return the claims of a good access token, as Cognito writes them; a change to None leaves one out."""
        now = self.clock.now_us() // 1_000_000
        found = {
            "sub": "client-of-acme",
            "token_use": "access",
            "scope": "headrace/read other/thing",
            "auth_time": now,
            "iss": ISSUER,
            "exp": now + 3600,
            "iat": now,
            "version": 2,
            "jti": "b2a3",
            "client_id": "client-of-acme",
        }
        return {name: value for name, value in {**found, **changes}.items() if value is not None}

    def token(self, kid: str | None = "k1", key: RSAPrivateKey | None = None, **changes: Any) -> str:
        """Return a signed token."""
        headers = {} if kid is None else {"kid": kid}
        return jwt.encode(self.claims(**changes), key or rsa("first"), algorithm="RS256", headers=headers)

    def signed(self, header: dict[str, Any], payload: Any) -> str:
        """Return a token with any header and payload, signed as it should be."""
        text = f"{part(header)}.{part(payload)}".encode()
        algorithm = RSAAlgorithm(RSAAlgorithm.SHA256)
        return f"{text.decode()}.{part(algorithm.sign(text, rsa('first')))}"

    def door(self, idempotency: Idempotency | None = None) -> FrontDoor:
        """Return the front door: what these tests need of it, and nothing else."""
        return make_door(
            settings=load_settings(environ={}),
            clock=self.clock,
            facts=self.facts,
            control=self.control,
            control_threads=self.threads,
            authenticator=self.authenticator,
            idempotency=idempotency,
        )

    def asking(self, talk: Callable[["Asking"], Awaitable[None]]) -> None:
        """Run a conversation with the application on an event loop."""

        async def run() -> None:
            door = self.door()
            gate = CredentialGate(door, self.authenticator)
            transport = httpx.ASGITransport(make_app(door, gate, ROUTES))  # type: ignore[arg-type]
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                await talk(Asking(client))
            await gate.close()

        asyncio.run(run())

    def ask(self, *headers: Headers, path: str = "/read") -> list[httpx.Response]:
        """Send requests one after the other; return the answers."""
        found: list[httpx.Response] = []

        async def talk(asking: "Asking") -> None:
            found.extend([await asking(one, path) for one in headers])

        self.asking(talk)
        return found

    def codes(self) -> dict[str, int]:
        """Return why credentials were refused, as it was told."""
        found: dict[str, int] = {}
        for fact in self.facts.told:
            for code, count in getattr(fact, "codes", {}).items():
                found[code] = found.get(code, 0) + count
        return found


class Asking:
    """One conversation."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def __call__(self, headers: Headers = (), path: str = "/read") -> httpx.Response:
        """Send one request."""
        return await self._client.get(
            path, headers=[(name.encode(), value.encode("latin-1")) for name, value in headers]
        )


def bearer(token: str) -> Headers:
    """Return the header of a token."""
    return [("Authorization", f"Bearer {token}")]


def with_key(key: str) -> Headers:
    """Return the header of a key."""
    return [("X-API-Key", key)]


async def _who(door: FrontDoor, call: Call) -> Answer:
    del door
    caller = call.caller
    return Answer(
        {
            "tenant": caller.tenant_id,
            "credential": caller.credential,
            "scopes": sorted(caller.scopes),
            "plan": caller.plan.name,
        }
    )


ROUTES = (
    Route("GET", "/read", Scope.READ, "Says who calls.", _who, costs=False),
    Route("GET", "/replay", Scope.REPLAY, "Says who replays.", _who, costs=False),
    Route("GET", "/open", OPEN, "Says nobody.", _who),
)

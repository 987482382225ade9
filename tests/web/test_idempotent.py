"""`Idempotency-Key` on a route: what is done, what is answered, and what is kept."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from pipeline.core.caller import Scope
from pipeline.core.errors import OutcomeUnknown, StoreUnusable, Transient
from pipeline.facts import AnswerUnstored, StoreMissed
from pipeline.flows.idempotency import Idempotency, Started
from pipeline.web.app import make_app
from pipeline.web.gate import CredentialGate
from pipeline.web.idempotent import Unfinished, once
from pipeline.web.problems import Problem
from pipeline.web.route import Answer, Call, Route
from pipeline.wiring.front_door import FrontDoor
from tests.fakes.idempotency import MAX_ANSWER_BYTES, MemoryRequests
from tests.web.credentials import House, with_key

LOCK_SECONDS = 35.0


class Shop(House):
    """A front door with one route that makes things."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.made = MemoryRequests(), list[str]()
        self.says: Callable[[], Awaitable[Answer | Unfinished]] = self.created
        self._names = iter(map(str, range(1_000)))
        self.keys_of = {
            tenant: self.key(tenant, Scope.INGEST, seed=number << 192)
            for number, tenant in enumerate(("acme", "initech"), 1)
        }

    async def created(self) -> Answer:
        """Answer as most do."""
        return Answer({"made": len(self.made)}, 202, {"X-Receipt": f"r{len(self.made)}"})

    async def handler(self, door: FrontDoor, call: Call) -> Answer:
        """Make one thing."""
        body = await call.request.stream.read()

        async def work(started: Started | None) -> Answer | Unfinished:
            self.made.append(started.event_id(0) if started else "none")
            return await self.says()

        return await once(door, call, body, work)

    def talking(self, talk: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
        """Run a conversation."""

        async def run() -> None:
            flow = Idempotency(self.table, self.clock, lambda: next(self._names), LOCK_SECONDS)
            door = self.door(flow)
            routes = [
                Route("POST", path, Scope.INGEST, "Makes one.", self.handler, costs=False)
                for path in ("/things", "/others")
            ]
            gate = CredentialGate(door, self.authenticator)
            transport = httpx.ASGITransport(make_app(door, gate, routes))  # type: ignore[arg-type]
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                await talk(client)
            await gate.close()

        asyncio.run(run())

    def post(
        self, key: str | None = "k1", body: bytes = b"one", path: str = "/things", **more: Any
    ) -> httpx.Response:
        """Send one request."""
        found: list[httpx.Response] = []
        tenant = more.pop("tenant", "acme")
        headers = [*with_key(self.keys_of[tenant]), *(more.pop("headers", ()))]
        headers += [("Idempotency-Key", key)] if key is not None else []

        async def talk(client: httpx.AsyncClient) -> None:
            found.append(await client.post(path, content=body, headers=headers))

        self.talking(talk)
        return found[0]


@pytest.fixture
def shop() -> Shop:
    return Shop()


def test_without_a_key(shop: Shop) -> None:
    """Each request is done."""
    assert [shop.post(None).status_code for _ in range(2)] == [202, 202]
    assert shop.made == ["none", "none"]
    assert shop.table.stored == {}


def test_the_same_request_again(shop: Shop) -> None:
    """It is answered byte for byte, says so, and is not done; quotes around the key change nothing."""
    first, again = shop.post(), shop.post('"k1"')
    assert len(shop.made) == 1
    assert (again.status_code, again.content) == (first.status_code, first.content) == (202, b'{"made":1}')
    assert again.headers["x-receipt"] == first.headers["x-receipt"] == "r1"
    assert again.headers["content-type"] == first.headers["content-type"]
    assert (first.headers.get("idempotent-replayed"), again.headers["idempotent-replayed"]) == (None, "true")
    assert first.headers["x-request-id"] != again.headers["x-request-id"]


@pytest.mark.parametrize(
    "other",
    [
        {"body": b"two"},
        {"path": "/others"},
        {"path": "/things?dry=1"},
        {"headers": [("Content-Type", "application/x-ndjson")]},
        {"headers": [("Content-Encoding", "gzip")]},
        {"headers": [("ce-id", "7")]},
    ],
)
def test_another_request(shop: Shop, other: dict[str, Any]) -> None:
    """Another body, path, query, content type or CloudEvents attribute under the same key is refused, and not done."""
    shop.post()
    found = shop.post(**other)
    assert (found.status_code, found.json()["code"]) == (422, "key_reused")
    assert len(shop.made) == 1


def test_another_tenant(shop: Shop) -> None:
    """Its keys are its own; nothing tells that somebody else has used one."""
    shop.post()
    found = shop.post(tenant="initech")
    assert found.status_code == 202
    assert found.json() == {"made": 2}
    assert len(set(shop.made)) == 2


@pytest.mark.parametrize("header", [[("Idempotency-Key", "k2")], [("idempotency-key", "k1")]])
def test_two_keys(shop: Shop, header: list[tuple[str, str]]) -> None:
    """One request has one name."""
    assert shop.post(headers=header).json()["code"] == "bad_request"
    assert shop.made == []


@pytest.mark.parametrize("key", ["", " ", "a b", "a,b", "x" * 129, '"'])
def test_a_bad_key(shop: Shop, key: str) -> None:
    """It is refused before anything is done."""
    found = shop.post(key)
    assert (found.status_code, found.json()["header"]) == (400, "Idempotency-Key")
    assert shop.made == []


def test_two_at_once(shop: Shop) -> None:
    """One is done, the other is told to come again, and then is answered as the first."""
    begun, go = asyncio.Event(), asyncio.Event()

    async def slowly() -> Answer:
        begun.set()
        await go.wait()
        return await shop.created()

    shop.says = slowly
    headers = [*with_key(shop.keys_of["acme"]), ("Idempotency-Key", "k1")]

    async def talk(client: httpx.AsyncClient) -> None:
        first = asyncio.create_task(client.post("/things", content=b"one", headers=headers))
        await begun.wait()
        second = await client.post("/things", content=b"one", headers=headers)
        assert (second.status_code, second.json()["code"]) == (409, "in_flight")
        assert second.headers["retry-after"] == "1"  # as long again as the first has taken
        go.set()
        third = (await first, await client.post("/things", content=b"one", headers=headers))
        assert third[0].content == third[1].content

    shop.talking(talk)
    assert len(shop.made) == 1


async def _refused() -> Answer:
    raise Problem("all_refused", "no event is good")


async def _busy() -> Answer:
    raise Problem("busy", "the stream takes nothing")


async def _mixed() -> Unfinished:
    return Unfinished(Answer({"retry": 1}, 207))


async def _broken() -> Answer:
    return Answer({}, 500)


def test_a_refused_request_frees_its_key(shop: Shop) -> None:
    """Nothing was done: the mended body may have the same key."""
    shop.says = _refused
    assert shop.post().status_code == 400
    shop.says = shop.created
    assert shop.post(body=b"mended").status_code == 202


@pytest.mark.parametrize(("says", "status"), [(_busy, 503), (_mixed, 207), (_broken, 500)])
def test_a_request_done_in_part(
    shop: Shop, says: Callable[[], Awaitable[Answer | Unfinished]], status: int
) -> None:
    """It may be sent again at once, and goes on under the same ids; another body may not have its key."""
    shop.says = says
    assert [shop.post().status_code for _ in range(2)] == [status] * 2
    assert len(shop.made) == 2
    assert len(set(shop.made)) == 1
    assert shop.post(body=b"two").status_code == 422
    shop.says = shop.created
    assert shop.post().status_code == 202
    assert len(set(shop.made)) == 1


def test_an_answer_that_is_too_large(shop: Shop) -> None:
    """It is given, told, and not kept: the request is done again under the same ids."""

    async def large() -> Answer:
        return Answer(b"x" * (MAX_ANSWER_BYTES + 1), 202)

    shop.says = large
    first, again = shop.post(), shop.post()
    assert first.content == again.content
    assert len(shop.made) == 2
    assert len(set(shop.made)) == 1
    assert shop.facts.names().count("AnswerUnstored") == 2


@pytest.mark.parametrize("error", [Transient, OutcomeUnknown])
def test_the_table_is_away(shop: Shop, error: type[Exception]) -> None:
    """Before: nothing is done, and the caller may come again. After: it is done and answered, and told."""

    def fail(*_: object) -> None:
        raise error("away")

    claim, shop.table.claim = shop.table.claim, fail  # type: ignore[method-assign,assignment]
    assert shop.post().json()["code"] == "unavailable"
    assert shop.made == []
    shop.table.claim = claim  # type: ignore[method-assign]
    complete, shop.table.complete = shop.table.complete, fail  # type: ignore[method-assign,assignment]
    assert shop.post().status_code == 202
    assert [fact for fact in shop.facts.told if isinstance(fact, AnswerUnstored)] == [
        AnswerUnstored(tenant="acme", error="unavailable")
    ]
    assert shop.post().status_code == 409
    shop.table.complete = complete  # type: ignore[method-assign]
    shop.clock.advance(LOCK_SECONDS)
    assert shop.post().status_code == 202
    assert len(shop.made) == 2
    assert len(set(shop.made)) == 1


def test_a_missing_table_is_a_503_that_names_it_to_the_operator(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is done and no error of ours is told; the table goes missing after the work: the caller has its answer."""

    def missing(*_given: object) -> None:
        raise StoreUnusable("write prod-idempotency: it is not there; see Upgrading")

    monkeypatch.setattr(shop.table, "complete", missing)
    assert shop.post().status_code == 202
    monkeypatch.setattr(shop.table, "claim", missing)
    answer = shop.post("k2")
    assert (answer.status_code, answer.json()["code"], len(shop.made)) == (503, "unavailable", 1)
    assert answer.headers["Retry-After"]
    assert "prod-idempotency" not in answer.text
    told = [fact for fact in shop.facts.told if isinstance(fact, StoreMissed)]
    assert [(one.route, one.error.split(":")[0]) for one in told] == [
        ("POST /things", "write prod-idempotency")
    ]
    assert "RequestFailed" not in shop.facts.names()

"""Isolation: no credential of one tenant shows, changes or reveals what is another's, on any route."""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import pytest
from falcon.testing import Result

from pipeline.core.arrival_receipt import ArrivalReceipt
from pipeline.core.caller import Caller, Scope
from pipeline.core.cursor import write_cursor
from pipeline.facts import TenantCrossed
from pipeline.web.asked import TENANT_WORDS
from pipeline.web.route import Open, Route
from pipeline.web.routes import ROUTES
from tests.aws.backends import world
from tests.web.kit import DAY, OTHER, OWN, SECRET, Api, Town, caller_of, settings_of

SCOPES = [frozenset(chosen) for size in range(len(Scope) + 1) for chosen in combinations(Scope, size)]
KINDS = ("key", "client")
CREDENTIALS = [caller_of(OWN, scopes, kind) for scopes in SCOPES for kind in KINDS]


@dataclass(frozen=True)
class Aim:
    """A request that aims at something by its name: another tenant's, or one that nobody has.

    Attributes:
        other: the name of what is the other tenant's.
        nobody: a name of the same form, which nobody has.
        path, params, json: of the request; `{}` stands for the name.
        status: of the answer. 200: an answer that is empty, as for a name that nobody has.
        told: facts of both requests: 1 where the attempt can be told from a mistake; 2 where any other tenant's name is
            one, whether there is such a tenant or not.
    """

    other: str
    nobody: str
    path: str = ""
    params: dict[str, str] = field(default_factory=dict)
    json: Any = None
    status: int = 404
    told: int = 1


@dataclass(frozen=True)
class Nameless:
    """Stands where aims would: this route takes no name of anything that a tenant has, and why."""

    why: str


_NEW = {"event_type": "door.opened", "schema_version": 1, "entity_id": "d", "source": "s", "data": {"n": 1}}
_CHECK = {"namespace": "logins", "key": "ann"}
_POLICY = "/v1/ratelimit/policies/{}"


def aims(api: Api) -> dict[tuple[str, str], tuple[Aim, ...] | Nameless]:
    """Return how each route is aimed at the other tenant's things. A route that is missing here fails the test."""
    job, no_job = api.town.job_of[OTHER], "20240310T120002Z-ffffff"
    entity = Aim("vault-1", "vault-9", params={"entity": "{}"}, status=200, told=0)
    window = {"type": "door.opened", "from": DAY, "to": DAY}
    unit = Aim(_unit_of_other(api), "2024-03-10/0001-2/9", path="/v1/quarantine/{}")

    def cursor(route: str, **params: str) -> Aim:
        made = _cursor_of_other(api, route, params)
        return Aim(made, "A" * 80, params=params | {"cursor": "{}"}, status=400)

    return {
        ("GET", "/v1/events"): (
            entity,
            Aim("globex-hall", "nobody-hall", params=window | {"source": "{}"}, status=200, told=0),
            cursor("/v1/events", entity="door-1"),
        ),
        ("GET", "/v1/events/{id:path}"): (
            Aim("globex-e1", "globex-x1", path="/v1/events/{}", told=0),
            Aim("globex-bad", "globex-bax", path="/v1/events/{}", told=0),
            Aim("globex-e1", "globex-x1", path="/v1/events/{}", params={"entity": "vault-1"}, told=0),
            Aim("globex-e1", "globex-x1", path="/v1/events/{}", params={"at": DAY}, told=0),
            Aim("globex:4", "nobody:4", path="/v1/events/e1", params={"receipt": "{}"}),
        ),
        ("GET", "/v1/counts"): (
            entity,
            Aim("globex-hall", "nobody-hall", params={"source": "{}"}, status=200, told=0),
        ),
        ("GET", "/v1/aggregates"): (entity, cursor("/v1/aggregates", entity="door-1")),
        ("GET", "/v1/quarantine"): Nameless("it counts what names the caller's tenant"),
        ("GET", "/v1/quarantine/samples"): (cursor("/v1/quarantine/samples"),),
        ("GET", "/v1/quarantine/{day}/{segment}/{row}"): (unit,),
        ("GET", "/v1/schemas"): Nameless("schemas are the deployment's"),
        ("GET", "/v1/schemas/{type}/{version}"): Nameless("schemas are the deployment's"),
        ("PUT", "/v1/schemas/{type}/{version}"): Nameless("schemas are the deployment's"),
        ("POST", "/v1/events"): (
            Aim(OTHER, "nobody", json=_NEW | {"tenant_id": "{}"}, status=400, told=2),
            Aim(
                OTHER,
                "nobody",
                json=[_NEW, _NEW | {"tenant_id": "{}"}],
                params={"x": "y"},
                status=422,
                told=0,
            ),
        ),
        ("GET", "/v1/receipts/{id}"): (_receipt_of_other(api),),
        ("POST", "/v1/ratelimit/check"): (
            Aim("vault-logins", "nobodys-logins", json=_CHECK | {"policy": "{}"}, status=422, told=0),
        ),
        ("GET", "/v1/ratelimit/policies"): Nameless("it lists the caller's tenant's"),
        ("PUT", "/v1/ratelimit/policies/{name}"): (
            Aim("their-puts", "nobody-puts", path=_POLICY, json={"tokens": 1}, status=200, told=0),
        ),
        ("GET", "/v1/ratelimit/policies/{name}"): (
            Aim("vault-logins", "nobodys-logins", path=_POLICY, told=0),
        ),
        ("DELETE", "/v1/ratelimit/policies/{name}"): (
            Aim("vault-logins", "nobodys-logins", path=_POLICY, told=0),
        ),
        ("GET", "/v1/lag"): Nameless("it is the deployment's"),
        ("GET", "/v1/usage"): Nameless("it is the credential's"),
        ("POST", "/v1/replays"): (Aim("vault-1", "vault-9", json={"entity": "{}"}, status=422, told=0),),
        ("GET", "/v1/replays"): (cursor("/v1/replays"),),
        ("GET", "/v1/replays/{id}"): (Aim(job, no_job, path="/v1/replays/{}"),),
        ("POST", "/v1/replays/{id}/resume"): (Aim(job, no_job, path="/v1/replays/{}/resume"),),
        ("GET", "/v1/replays/{id}/results"): (
            Aim(job, no_job, path="/v1/replays/{}/results"),
            Aim(job, no_job, path="/v1/replays/{}/results", params={"entity": "vault-1"}),
        ),
    }


def _unit_of_other(api: Api) -> str:
    units = api.get("/v1/quarantine/samples", caller_of(OTHER)).json["units"]
    assert [one["event_id"] for one in units] == ["globex-bad"]
    return str(units[0]["unit"])


def _receipt_of_other(api: Api) -> Aim:
    """Return a receipt of the other tenant's: it is bound to its owner, so nobody can tell it from a forged one."""
    assert api.door.receipts is not None
    receipt = ArrivalReceipt(0, (("shardId-000000000000", "4", 0),))
    text = api.door.receipts.text(OTHER, receipt)
    assert text is not None
    return Aim(text, "A" * len(text), path="/v1/receipts/{}")


def _cursor_of_other(api: Api, route: str, params: dict[str, str]) -> str:
    """Return a cursor of the other tenant's; tenants are looked at before questions."""
    return write_cursor(api.key, OTHER, {"route": f"GET {route}"} | params, ("x",), api.town.clock.now_us())


WORLDS = ["memory", pytest.param("ministack", marks=pytest.mark.stack)]


@pytest.fixture(scope="module", params=WORLDS)
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The application over two tenants' archives."""
    home = tmp_path_factory.mktemp("town")
    with world(request.param, home / "world") as found:
        yield Api(Town(found), settings_of(home))


def _closed() -> list[Route]:
    return [route for route in ROUTES if not isinstance(route.needs, Open)]


def _label(route: Route) -> str:
    return f"{route.method} {route.path}"


def test_every_route_has_a_scope_and_a_case(api: Api) -> None:
    """A route is open in so many words or needs a scope, and one that is not aimed at here does not pass."""
    assert {route.path for route in ROUTES if isinstance(route.needs, Open)} == {
        "/healthz",
        "/readyz",
        "/metrics",
        "/openapi.json",
        "/docs",
    }
    assert not any(route.lets_in(frozenset()) for route in _closed())
    assert set(aims(api)) == {(route.method, route.path) for route in _closed()}


@pytest.mark.parametrize("route", _closed(), ids=_label)
def test_what_is_another_tenants_does_not_exist(
    api: Api, route: Route, caplog: pytest.LogCaptureFixture
) -> None:
    """With every kind of credential, another's thing is answered as one that nobody has, and the attempt is told."""
    found = aims(api)[route.method, route.path]
    caplog.set_level(logging.DEBUG)
    for aim in () if isinstance(found, Nameless) else found:
        for caller in _some(api, CREDENTIALS):
            before = len(api.town.facts.told)
            other, nobody = (_send(api, route, aim, name, caller) for name in (aim.other, aim.nobody))
            told = [one for one in api.town.facts.told[before:] if isinstance(one, TenantCrossed)]
            allowed = route.lets_in(caller.scopes)
            assert other.status_code == (aim.status if allowed else 403), (aim, caller, other.text)
            assert _comparable(other, aim.other) == _comparable(nobody, aim.nobody)
            assert _headers(other) == _headers(nobody)
            assert len(told) == (aim.told if allowed else 0), (aim, caller, told)
            assert all((one.tenant, one.credential) == (OWN, caller.credential) for one in told)
            _nothing_of_other(other, aim.other, caplog)
    assert not any(SECRET in repr(one) for one in api.town.facts.told)


@pytest.mark.parametrize("route", _closed(), ids=_label)
@pytest.mark.parametrize("word", sorted(TENANT_WORDS))
def test_no_request_names_its_tenant(api: Api, route: Route, word: str) -> None:
    """A tenant in the query is refused unless it is the caller's own, whether it exists or not, and told."""
    path = route.plain_path.replace("{", "").replace("}", "")
    for caller in CREDENTIALS[-2:]:
        before = len(api.town.facts.told)
        other, nobody = (
            api.call(route.method, path, caller, params={word: name}) for name in (OTHER, "nobody")
        )
        assert other.status_code == 403
        assert _comparable(other, OTHER) == _comparable(nobody, "nobody")
        assert len(api.town.facts.told) == before + 2


def test_a_body_names_no_other_tenant(api: Api) -> None:
    """A replay of another tenant's slice is refused and told; the caller's own name is no fault."""
    before = len(api.town.facts.told)
    body = {"entity": "vault-1", "dry_run": True}
    assert api.call("POST", "/v1/replays", json=body | {"tenant_id": OTHER}).status_code == 403
    assert [type(one) for one in api.town.facts.told[before:]] == [TenantCrossed]
    own = api.call("POST", "/v1/replays", json={"entity": "door-1", "dry_run": True, "tenant_id": OWN})
    assert own.status_code == 200


def test_what_a_tenant_lists_is_its_own(api: Api) -> None:
    """Lists of both tenants, asked alike, have nothing in common, and what is nobody's is in neither."""
    for path in ("/v1/events", "/v1/replays", "/v1/quarantine/samples", "/v1/ratelimit/policies"):
        params = {"type": "door.opened", "from": DAY, "to": DAY} if path == "/v1/events" else {}
        own, other = (api.call("GET", path, caller_of(tenant), params=params).text for tenant in (OWN, OTHER))
        assert "door" in own
        assert "vault" in other
        for word in (SECRET, OTHER, "vault"):
            assert word not in own
        assert OWN not in other
        for word in ("no JSON", "initech"):
            assert word not in own + other


def _some(api: Api, credentials: list[Caller]) -> list[Caller]:
    """Return all, or where each call takes a while those of one scope, of none and of all."""
    if type(api.town.ledger).__name__ == "MemoryLedger":
        return credentials
    return [one for one in credentials if len(one.scopes) in (0, 1, len(Scope))]


def _send(api: Api, route: Route, aim: Aim, name: str, caller: Caller) -> Result:
    path = (aim.path or route.path).replace("{}", name)
    params = {key: value.replace("{}", name) for key, value in aim.params.items()}
    body = None if aim.json is None else json.loads(json.dumps(aim.json).replace("{}", name))
    more: dict[str, Any] = {} if body is None else {"json": body}
    return api.call(route.method, path, caller, params=params, **more)


def _comparable(answer: Result, name: str) -> tuple[int, str]:
    """Return status and body, without the request's id and the name that was asked for."""
    text = answer.text.replace(answer.headers["X-Request-Id"], "ID")
    return answer.status_code, text.replace(name, "NAME")


def _headers(answer: Result) -> dict[str, str]:
    varying = {
        "x-request-id",
        "x-trace-id",
        "ratelimit",
        "content-length",
    }  # what is left; the length of the name
    return {name.lower(): value for name, value in answer.headers.items() if name.lower() not in varying}


def _nothing_of_other(answer: Result, name: str, caplog: pytest.LogCaptureFixture) -> None:
    said = answer.text.replace(name, "") + repr(_headers(answer))
    logged = "\n".join(one.getMessage() for one in caplog.records if one.name.startswith("pipeline"))
    for word in (SECRET, OTHER, "vault-0"):
        assert word not in said, word
        assert word not in logged, word

"""Limits over HTTP: what callers of a plan are told, and the rate-limit service."""

import asyncio
import threading
from typing import Any

import jsonschema
import msgspec
import pytest

from pipeline.config import Settings
from pipeline.core.caller import Caller, Scope
from pipeline.core.errors import Corrupt, Transient
from pipeline.core.event import Envelope
from pipeline.core.plan import Plan
from pipeline.core.policy import Limit, Policy
from pipeline.core.tenant import Act
from pipeline.flows.decision_log import DecisionLog, decided_event
from pipeline.flows.ratelimits import POLICY_SECONDS, Check, Checked
from pipeline.ports.limits import Decided
from pipeline.web.app import make_app
from pipeline.web.problems import Problem
from pipeline.web.route import Answer, Call, Route
from pipeline.wiring.front_door import FrontDoor
from tests.fakes.clock import NOON_US
from tests.fakes.limits import MemoryDecisions, MemoryPolicies
from tests.web.limited import BASIC, HELLO, Limited, OneCaller

CALLER = Caller("acme", "key:k1", frozenset(Scope), BASIC)
CHECK = "/v1/ratelimit/check"
THREE = {"namespace": "logins", "key": "ann", "limit": {"tokens": 3, "seconds": 60}}


def test_answers_say_what_is_left() -> None:
    """An answer within the plan carries both fields, of requests and of the month."""
    answer = Limited(BASIC).client(HELLO).simulate_get("/hello")
    assert answer.status_code == 200
    assert answer.headers["ratelimit"] == '"requests";r=19;t=1, "month";r=99999;t=1857600'
    assert answer.headers["ratelimit-policy"] == '"requests";q=20;w=2, "month";q=100000;w=2678400'


def test_answers_say_what_is_left_of_a_credential() -> None:
    """With a limit of its own, answers tell of that beside the plan's, both when they are let in and when it refuses."""
    api = Limited(BASIC)
    api.become(requests_per_second=2)
    client = api.client(HELLO)
    answers = [client.simulate_get("/hello") for _ in range(5)]
    assert [one.status_code for one in answers] == [200] * 4 + [429]
    policies = '"requests";q=20;w=2, "month";q=100000;w=2678400, "credential";q=4;w=2'
    assert {one.headers["ratelimit-policy"] for one in answers} == {policies}
    left = [one.headers["ratelimit"].split(", ") for one in answers]
    assert [one[0].split(";")[1] for one in left] == ["r=19", "r=18", "r=17", "r=16", "r=16"]
    assert [one[2] for one in left] == [
        '"credential";r=3;t=1',
        '"credential";r=2;t=1',
        '"credential";r=1;t=2',
        '"credential";r=0;t=2',
        '"credential";r=0;t=2',
    ]
    refused = answers[4]
    assert (refused.json["which"], refused.json["limit"], refused.headers["retry-after"]) == (
        "credential",
        4,
        "1",
    )
    api.become(credential="key:k2", requests_per_second=None)
    assert "credential" not in client.simulate_get("/hello").headers["ratelimit"]


def test_a_plan_that_refuses_says_what_is_left_of_a_credential() -> None:
    """What was taken of the credential's own limit for a request that its plan refuses is there again."""
    api = Limited(BASIC)
    client = api.client(HELLO)
    for _ in range(20):
        client.simulate_get("/hello")
    api.become(credential="key:k2", requests_per_second=2)
    refused = client.simulate_get("/hello")
    assert (refused.status_code, refused.json["which"]) == (429, "requests")
    assert refused.headers["ratelimit"].split(", ")[2] == '"credential";r=4;t=0'


def test_a_credential_of_a_fresh_process_is_told_of_its_own_limit_alone() -> None:
    """Where this process holds nothing of the plan, a refusal by the credential's own limit claims nothing of it."""
    one = Limited(BASIC)
    one.become(requests_per_second=1)
    for _ in range(2):
        assert one.client(HELLO).simulate_get("/hello").status_code == 200
    other = Limited(BASIC, store=one.store)
    other.become(requests_per_second=1)
    refused = other.client(HELLO).simulate_get("/hello")
    assert (refused.status_code, refused.headers["ratelimit"]) == (429, '"credential";r=0;t=2')


def test_a_refusal_after_the_first_take_says_it_once() -> None:
    """A request that was taken and whose events are too many is told of the events alone: no field comes twice."""

    async def refused(_door: FrontDoor, _call: Call) -> Answer:
        raise Problem("rate_limited", "too many", {"RateLimit": '"events";r=0;t=1', "Retry-After": "1"})

    routes, fields = (Route("GET", "/hello", Scope.READ, "Say hello.", refused),), list[tuple[bytes, bytes]]()
    app = make_app(Limited(BASIC).door, OneCaller(CALLER), routes)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(event: dict[str, Any]) -> None:
        fields.extend(event.get("headers", ()))

    scope = {"type": "http", "method": "GET", "path": "/hello", "query_string": b"", "headers": []}
    asyncio.run(app(scope, receive, send))
    assert [value for name, value in fields if name == b"ratelimit"] == [b'"events";r=0;t=1']
    assert len({name for name, _ in fields}) == len(fields)


def test_a_refusal_says_which_limit_and_when() -> None:
    """Above the plan's rate: 429, the limit, and the second from which on it may be tried again."""
    api = Limited(BASIC)
    client = api.client(HELLO)
    answers = [client.simulate_get("/hello") for _ in range(21)]
    assert [one.status_code for one in answers] == [200] * 20 + [429]
    refused = answers[-1]
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["ratelimit"].startswith('"requests";r=0;')
    found = refused.json
    assert (found["code"], found["which"], found["retry_after_seconds"]) == ("rate_limited", "requests", 1)
    assert "10 requests a second and 20 at once; try again in 1 s" in found["detail"]
    api.clock.advance(1)
    assert client.simulate_get("/hello").status_code == 200


def test_a_used_up_month_has_a_code_of_its_own() -> None:
    """The quota's refusal names the month's end."""
    api = Limited(Plan("tiny", 10, 20, 3, 10, 10, 10))
    client = api.client(HELLO)
    answers = [client.simulate_get("/hello") for _ in range(4)]
    assert [one.status_code for one in answers] == [200, 200, 200, 429]
    assert answers[-1].json["code"] == "quota_used_up"
    assert answers[-1].headers["retry-after"] == "1857600"


@pytest.mark.parametrize("own", [None, 2])
def test_a_closed_store_refuses_with_503(own: int | None) -> None:
    """With limits.store_down = closed, a table that does not answer is not the caller's fault, nor its credential's."""
    api = Limited(BASIC, store_down="closed")
    api.become(requests_per_second=own)
    api.store.down = True
    answer = api.client(HELLO).simulate_get("/hello")
    assert (answer.status_code, answer.json["code"], answer.headers["retry-after"]) == (
        503,
        "unavailable",
        "1",
    )
    assert api.facts.names() == ["LimitStoreFailed"]


@pytest.mark.parametrize("path", [CHECK, "/v1/replays"])
@pytest.mark.parametrize("body", [b'{"namespace":"log\xffins"}', b'{"namespace":"\xc3"}', b"\xff"])
def test_a_body_that_is_no_text_is_no_fault_of_ours(path: str, body: bytes) -> None:
    """Bytes that are no UTF-8, inside a string as well as outside, are 400 and no 500."""
    headers = {"content-type": "application/json"}
    answer = Limited().client().simulate_post(path, body=body, headers=headers)
    assert (answer.status_code, answer.json["code"]) == (400, "bad_request")


@pytest.mark.parametrize(("count", "statuses"), [(400, {400, 429}), (600, {413})])
def test_an_attempt_at_another_tenants_name_is_told_though_the_request_is_refused(
    count: int, statuses: set[int]
) -> None:
    """Refused as a whole for its number of events, it was tried all the same; a request is told of once."""
    api = Limited(Plan("narrow", 100, 100, 10**6, 300, 2**30, 500))
    line = (
        b'{"tenant_id":"globex","event_type":"a.b","schema_version":1,"entity_id":"e","source":"s","data":{}}'
    )
    asked, client = {"content-type": "application/x-ndjson"}, api.client()
    answers = [
        client.simulate_post("/v1/events", body=b"\n".join([line] * count), headers=asked) for _ in range(4)
    ]
    assert {one.status_code for one in answers} == statuses
    assert api.facts.names() == ["TenantCrossed"] * 4


def test_open_routes_cost_nothing() -> None:
    """A load balancer may ask as often as it likes."""
    api = Limited(BASIC)
    client = api.client()
    assert {client.simulate_get("/healthz").status_code for _ in range(50)} == {200}
    assert api.store.writes == 0


def test_checks_are_counted_to_the_token() -> None:
    """A key is allowed its burst, then told how long one token takes; another key has its own."""
    api = Limited()
    client = api.client()
    answers = [client.simulate_post(CHECK, json=THREE).json for _ in range(4)]
    assert [one["allowed"] for one in answers] == [True] * 3 + [False]
    assert [one["remaining"] for one in answers] == [2, 1, 0, 0]
    assert (answers[3]["retry_after_seconds"], answers[3]["reset_seconds"]) == (20, 60)
    assert client.simulate_post(CHECK, json={**THREE, "key": "bob"}).json["allowed"]
    api.clock.advance(20)
    answers = [client.simulate_post(CHECK, json=THREE).json["allowed"] for _ in range(2)]
    assert answers == [True, False]


FIVE: dict[str, Any] = {
    "namespace": "logins",
    "key": "ann",
    "limit": {"tokens": 5, "seconds": 60, "burst": 5},
}


def test_a_refused_check_says_what_is_left() -> None:
    """It takes nothing, so what was left before it is left after it, and comes back as soon."""
    client = Limited().client()

    def ask(cost: int) -> tuple[Any, ...]:
        found = client.simulate_post(CHECK, json={**FIVE, "cost": cost}).json
        return tuple(found[name] for name in ("allowed", "remaining", "reset_seconds", "retry_after_seconds"))

    assert [ask(cost) for cost in (1, 5, 5, 1, 6)] == [
        (True, 4, 12, 0),
        (False, 4, 12, 12),
        (False, 4, 12, 12),
        (True, 3, 24, 0),
        (False, 3, 24, None),
    ]


def test_a_cost_above_an_untouched_bucket_leaves_it_full() -> None:
    """The first check of a key is refused for ever, and says that all of the bucket is there; also in another process."""
    one = Limited()
    for api in (one, Limited(store=one.store)):
        for _ in range(2):
            found = api.client().simulate_post(CHECK, json={**FIVE, "cost": 6}).json
            assert (found["allowed"], found["remaining"], found["reset_seconds"]) == (False, 5, 0)
    assert not any(key.name.startswith("check") for key in one.store.accounts)


def test_a_refused_check_knows_what_another_process_took() -> None:
    """A process that never had a token of a key says of a refusal what the others left."""
    one = Limited()
    for _ in range(3):
        one.client().simulate_post(CHECK, json=FIVE)
    found = Limited(store=one.store).client().simulate_post(CHECK, json={**FIVE, "cost": 3}).json
    assert (found["allowed"], found["remaining"], found["reset_seconds"]) == (False, 2, 36)


def test_two_limits_of_one_key_say_what_is_left_of_each() -> None:
    """A key that is asked about under two limits in turn is answered by the one of the question."""
    client = Limited().client()
    faster = {**FIVE, "limit": {"tokens": 5, "seconds": 1, "burst": 5}}
    answers = [
        client.simulate_post(CHECK, json=asked).json
        for asked in ({**FIVE, "cost": 6}, faster, {**FIVE, "cost": 6})
    ]
    assert [(one["allowed"], one["remaining"]) for one in answers] == [(False, 5), (True, 4), (False, 4)]


def test_without_its_table_a_refusal_promises_nothing() -> None:
    """Where nobody knows what is there, nothing is left; with limits.store_down = closed, for a second."""
    for store_down, retry in (("closed", 1), ("open", None)):
        api = Limited(store_down=store_down)
        api.store.down = True
        found = api.service.of(CALLER)  # asked without the plan, which would be refused first
        check = Check("logins", "ann", 6, Limit(5, 60))
        limit = check.limit
        assert limit is not None
        while (answer := found.take(check, limit)) is None:
            found.renewal(check, limit, lambda work, *given: work(*given)).result()
        assert (answer.allowed, answer.remaining, answer.retry_after_seconds) == (False, 0, retry)


def test_two_processes_share_a_key() -> None:
    """Tokens that one process gave, another has not."""
    one = Limited()
    other = Limited(store=one.store)
    clients = [one.client(), other.client()]
    allowed = [clients[number % 2].simulate_post(CHECK, json=THREE).json["allowed"] for number in range(8)]
    assert sum(allowed) == 3


def test_tenants_do_not_share_a_key() -> None:
    """The same namespace and key of another tenant is another bucket."""
    api = Limited()
    client = api.client()
    for _ in range(4):
        client.simulate_post(CHECK, json=THREE)
    api.become(tenant_id="globex")
    assert client.simulate_post(CHECK, json=THREE).json["allowed"]


def test_a_cost_above_the_bucket_is_never_met() -> None:
    """It is refused without a time."""
    found = Limited().client().simulate_post(CHECK, json={**THREE, "cost": 4}).json
    assert (found["allowed"], found["retry_after_seconds"]) == (False, None)


def test_the_same_idempotency_key_gives_the_same_decision() -> None:
    """Asked again, in any process, nothing more is taken; for another check the key is refused."""
    api = Limited()
    client, headers = api.client(), {"Idempotency-Key": "k1"}
    found = [client.simulate_post(CHECK, json=THREE, headers=headers) for _ in range(5)]
    answers = [one.json for one in found]
    assert answers == [answers[0]] * 5
    assert [one.headers.get("idempotent-replayed") for one in found] == [None, *["true"] * 4]
    quoted = client.simulate_post(
        CHECK, json=THREE, headers={"Idempotency-Key": '"k1"'}
    )  # the same key, as the draft writes it
    assert quoted.headers["idempotent-replayed"] == "true"
    assert client.simulate_post(CHECK, json=THREE, headers={"Idempotency-Key": "k" * 129}).status_code == 400
    assert len(api.sent) == 1
    assert client.simulate_post(CHECK, json=THREE).json["remaining"] == 1
    other = client.simulate_post(CHECK, json={**THREE, "cost": 2}, headers=headers)
    assert (other.status_code, other.json["code"]) == (422, "key_reused")


def test_a_decision_that_came_second_gives_its_token_back() -> None:
    """Of two requests under one key at the same time, one decides for both, and one token is spent."""
    api = Limited()
    check = Check("logins", "ann", limit=Limit(3, 60))
    limit = check.limit
    assert limit is not None
    limits, found = api.service.of(CALLER), []
    for _ in range(2):
        while (one := limits.take(check, limit)) is None:
            limits.renewal(check, limit, lambda work, *given: work(*given)).result()
        found.append(one)
    (kept, ours), (also, others) = [limits.keep("k", "f", check, one) for one in found]
    assert kept == also
    assert (ours, others) == (True, False)
    assert len(api.leases) == 1
    assert [api.client().simulate_post(CHECK, json=THREE).json["allowed"] for _ in range(3)] == [
        True,
        True,
        False,
    ]


def test_policies_are_named_limits() -> None:
    """Stored, listed, used by name, changed within ten seconds, removed; each tenant sees its own."""
    api = Limited()
    client, path = api.client(), "/v1/ratelimit/policies"
    assert client.simulate_put(f"{path}/logins", json={"tokens": 1, "seconds": 60}).status_code == 200
    assert client.simulate_get(f"{path}/logins").json["limit"] == {"tokens": 1, "seconds": 60, "burst": None}
    by_name = {"namespace": "logins", "key": "ann", "policy": "logins"}
    assert [client.simulate_post(CHECK, json=by_name).json["allowed"] for _ in range(2)] == [True, False]
    client.simulate_put(f"{path}/logins", json={"tokens": 600, "seconds": 60})
    api.clock.advance(POLICY_SECONDS)
    client.simulate_post(CHECK, json=by_name)  # its rate counts from the first check on
    api.clock.advance(1)
    assert client.simulate_post(CHECK, json=by_name).json["allowed"]
    assert [one["name"] for one in client.simulate_get(path).json["policies"]] == ["logins"]
    api.become(tenant_id="globex")
    assert client.simulate_get(path).json["policies"] == []
    assert client.simulate_get(f"{path}/logins").status_code == 404
    assert client.simulate_delete(f"{path}/logins").status_code == 404
    api.become(tenant_id="acme")
    assert client.simulate_delete(f"{path}/logins").status_code == 204
    assert client.simulate_delete(f"{path}/logins").status_code == 404
    api.clock.advance(POLICY_SECONDS)
    assert client.simulate_post(CHECK, json=by_name).status_code == 422


POLICY = "/v1/ratelimit/policies/logins"


def test_each_change_of_a_policy_is_in_the_audit_log() -> None:
    """With the credential and the limit; what changes nothing, or is refused, is no act."""
    api = Limited()
    client = api.client()
    begun_us = api.clock.now_us()
    for tokens in (5, 5, 6):
        assert client.simulate_put(POLICY, json={"tokens": tokens, "seconds": 60}).status_code == 200
    assert client.simulate_put(POLICY, json={"tokens": 0}).status_code == 422
    assert [client.simulate_delete(POLICY).status_code for _ in range(2)] == [204, 404]
    api.become(scopes=frozenset({Scope.READ}))
    assert client.simulate_put(POLICY, json={"tokens": 7}).status_code == 403
    subject, of = "policy:acme/logins", {"tenant": "acme"}
    assert api.control.acts() == [
        Act(begun_us, "key:k1", "policy.delete", subject, of),
        Act(begun_us, "key:k1", "policy.put", subject, {**of, "tokens": 6, "seconds": 60, "burst": 6}),
        Act(begun_us, "key:k1", "policy.put", subject, {**of, "tokens": 5, "seconds": 60, "burst": 5}),
    ]


def test_changes_hold_up_no_look_at_a_credential() -> None:
    """While all threads for changes wait for the control store, one that looks for a credential is free."""
    api, held = Limited(), threading.Event()
    for _ in range(20):
        api.door.change_threads.submit(held.wait)
    limit = {"json": {"tokens": 5, "seconds": 60}}
    change = threading.Thread(target=api.client().simulate_put, args=(POLICY,), kwargs=limit)
    change.start()
    try:
        assert api.door.control_threads.submit(lambda: True).result(5)
        change.join(0.3)
        assert change.is_alive()
    finally:
        held.set()
    change.join()
    assert len(api.control.acts()) == 1


def test_no_policy_is_changed_without_its_act() -> None:
    """While the control store is down the answer is 503, as for schemas, and the policy stays; checks go on."""
    api = Limited()
    client = api.client()
    assert client.simulate_put(POLICY, json={"tokens": 5}).status_code == 200
    api.control.down = True
    for answer in (client.simulate_put(POLICY, json={"tokens": 6}), client.simulate_delete(POLICY)):
        assert (answer.status_code, answer.json["code"]) == (503, "unavailable")
    assert client.simulate_get(POLICY).json["limit"]["tokens"] == 5
    by_name = {"namespace": "logins", "key": "ann", "policy": "logins"}
    assert client.simulate_post(CHECK, json=by_name).json["allowed"]
    assert len(api.policies.policies) == 1


class _Damaged(MemoryPolicies):
    """What is stored cannot be read."""

    def get(self, tenant: str, name: str) -> Policy | None:
        """Fail for what is there."""
        if (tenant, name) in self.policies:
            raise Corrupt("table limits: this policy cannot be read")
        return None


@pytest.mark.parametrize("remove", [True, False])
def test_a_damaged_policy_can_be_replaced_and_removed(remove: bool) -> None:
    """It is there, though nobody can say what it was; the act says who replaced or removed it."""
    api = Limited(policies=_Damaged())
    client = api.client()
    api.policies.put("acme", Policy("logins", Limit(1)))
    assert client.simulate_get(POLICY).status_code == 500
    answer = client.simulate_delete(POLICY) if remove else client.simulate_put(POLICY, json={"tokens": 6})
    assert answer.status_code == (204 if remove else 200)
    assert [one.limit.tokens for one in api.policies.all("acme")] == ([] if remove else [6])
    assert [one.action for one in api.control.acts()] == ["policy.delete" if remove else "policy.put"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 422),
        (msgspec.json.encode({**THREE, "cost": 0}), 422),
        (msgspec.json.encode({**THREE, "cost": 10**20}), 422),
        (msgspec.json.encode({**THREE, "namespace": "a#b"}), 422),
        (msgspec.json.encode({**THREE, "namespace": "logins\n"}), 422),
        (msgspec.json.encode({**THREE, "key": ""}), 422),
        (msgspec.json.encode({**THREE, "policy": "p"}), 422),
        (msgspec.json.encode({"namespace": "n", "key": "k"}), 422),
        (msgspec.json.encode({**THREE, "limit": {"tokens": 1, "seconds": 0}}), 422),
        (b" " * 20_000, 413),
    ],
)
def test_checks_that_cannot_be_answered(body: bytes, status: int) -> None:
    """They are refused as what they are, and no token is taken."""
    api = Limited()
    assert api.client().simulate_post(CHECK, body=body).status_code == status
    assert not any(key.name.startswith("check") for key in api.store.accounts)


def test_scopes() -> None:
    """Checking needs ingest, reading policies read, changing them admin."""
    api = Limited()
    client, path = api.client(), "/v1/ratelimit/policies"
    api.become(scopes=frozenset({Scope.READ}))
    assert client.simulate_get(path).status_code == 200
    assert client.simulate_post(CHECK, json=THREE).status_code == 403
    assert client.simulate_put(f"{path}/p", json={"tokens": 1}).status_code == 403
    assert client.simulate_delete(f"{path}/p").status_code == 403


def test_each_decision_is_an_event_of_its_tenant() -> None:
    """Allowed and refused ones, as the schema has it."""
    api = Limited()
    client = api.client()
    for _ in range(4):
        client.simulate_post(CHECK, json=THREE)
    assert [(tenant, entity) for _, tenant, entity in api.sent] == [("acme", "logins/ann")] * 4
    events = [msgspec.json.decode(payload, type=Envelope) for payload, _, _ in api.sent]
    assert {one.tenant_id for one in events} == {"acme"}
    data: list[dict[str, Any]] = [msgspec.json.decode(one.data) for one in events]
    assert [one["allowed"] for one in data] == [True] * 3 + [False]
    schema = Settings().paths.schemas / "ratelimit.decided" / "1.json"
    for one in data:
        jsonschema.validate(one, msgspec.json.decode(schema.read_bytes()))


class _Racing(MemoryDecisions):
    """Who looks for a decision finds none: another request is about to store it."""

    def find(self, tenant: str, key: str, now_us: int) -> Decided | None:
        """Return nothing."""
        del tenant, key, now_us
        return None

    def keep(self, tenant: str, key: str, decided: Decided, now_us: int, expires_us: int) -> Decided:
        """Store the first one."""
        del now_us
        return self.decided.setdefault((tenant, key), (decided, expires_us))[0]


@pytest.mark.parametrize(("cost", "allowed"), [(1, True), (4, False)])
def test_a_decision_that_came_second_is_no_event(cost: int, allowed: bool) -> None:
    """Of two checks under one key at the same time, allowed or refused, the decision that both are told is one event."""
    api = Limited(decisions=_Racing())
    client, headers = api.client(), {"Idempotency-Key": "k1"}
    answers = [
        client.simulate_post(CHECK, json={**THREE, "cost": cost}, headers=headers).json for _ in range(2)
    ]
    assert [answer["allowed"] for answer in answers] == [allowed] * 2
    assert answers[0] == answers[1]
    assert len(api.sent) == 1


async def _busy(payload: bytes, tenant: str, entity: str) -> None:
    raise Transient(f"no room for {len(payload)} bytes of {tenant} {entity}")


def test_a_busy_stream_drops_records_and_tells_it() -> None:
    """The decision stands; what has no event is counted."""
    api = Limited()
    object.__setattr__(api.door, "decision_log", DecisionLog(_busy, api.clock, api.facts))
    assert api.client().simulate_post(CHECK, json=THREE).json["allowed"]
    assert api.facts.names() == ["DecisionsDropped"]


def test_the_longest_key_is_an_entity() -> None:
    """Namespace and key at their limits fit into an event's entity."""
    check = Check("n" * 63, "k" * 128, limit=Limit(1))
    payload = decided_event("acme", check, Checked(True, 1, 0, 1, 0), NOON_US, "e1")
    assert len(msgspec.json.decode(payload, type=Envelope).entity_id) == 192

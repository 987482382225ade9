"""`/v1/ratelimit`: rate limits for others, as a service; each tenant has its own namespaces and policies."""

import hashlib
from dataclasses import replace

import msgspec

from pipeline.core.caller import Scope
from pipeline.core.names import is_name
from pipeline.core.policy import Limit, Policy
from pipeline.core.tenant import Act
from pipeline.flows.ratelimits import Check, Checked, TenantRateLimits
from pipeline.web.document import bounded, decoded
from pipeline.web.idempotent import KEY_PARAMETER, REPLAYED, key_of
from pipeline.web.limits import renewed
from pipeline.web.problems import Problem
from pipeline.web.route import Answer, Call, Parameter, Route
from pipeline.web.threads import in_change, in_table, unavailable
from pipeline.wiring.front_door import FrontDoor

MAX_BODY_BYTES = 16_384
_CHECK, _LIMIT = msgspec.json.Decoder(Check), msgspec.json.Decoder(Limit)
_JSON = "application/json"


class PolicyList(msgspec.Struct, frozen=True):
    """The tenant's policies, by name."""

    policies: list[Policy]


async def check(door: FrontDoor, call: Call) -> Answer:
    """Answer whether a key may have tokens."""
    limits = _limits(door, call)
    body = await bounded(call.request, MAX_BODY_BYTES)
    asked = decoded(_CHECK, body)
    idempotency_key = key_of(call.request)
    if idempotency_key is None:
        found = await _decide(door, limits, asked)
        _record(door, call, asked, found)
        return Answer(found)
    return await _decide_once(door, call, limits, asked, idempotency_key, body)


async def _decide(door: FrontDoor, limits: TenantRateLimits, asked: Check) -> Checked:
    limit = await _limit(door, limits, asked)
    while (found := limits.take(asked, limit)) is None:
        await renewed(door, limits.renewal(asked, limit, door.renewals.submit))
    return found


async def _decide_once(
    door: FrontDoor, call: Call, limits: TenantRateLimits, asked: Check, key: str, body: bytes
) -> Answer:
    """Decide, unless that was decided under this key: then give the same answer again.

    Not by `idempotent.once`, which would store before the work and after it: a decision that came second gives its tokens
    back, so it may be made twice, and one write is enough.
    """
    fingerprint = hashlib.sha256(body).hexdigest()
    kept = await in_table(door, limits.decided, key)
    headers = {} if kept is None else REPLAYED
    if kept is None:
        found = await _decide(door, limits, asked)
        stored, is_ours = await in_table(door, limits.keep, key, fingerprint, asked, found)
        kept = stored
        if is_ours:
            _record(door, call, asked, found)
    if kept.fingerprint != fingerprint:
        raise Problem("key_reused", "this Idempotency-Key was used for another check; use a new one")
    return Answer(kept.answer, headers=headers)


async def _limit(door: FrontDoor, limits: TenantRateLimits, asked: Check) -> Limit:
    if (asked.limit is None) == (asked.policy is None):
        raise Problem("invalid", "give either limit or policy", pointer="/limit")
    if asked.limit is not None:
        return asked.limit
    name = asked.policy or ""
    policy, known = limits.known_policy(name)
    if not known:
        policy = await in_table(door, limits.read_policy, name)
    if policy is None:
        raise Problem(
            "invalid", f"there is no policy {name}: PUT /v1/ratelimit/policies/{name}", pointer="/policy"
        )
    return policy.limit


def _record(door: FrontDoor, call: Call, asked: Check, found: Checked) -> None:
    if door.decision_log is not None:
        door.decision_log.record(call.caller, asked, found)


async def put_policy(door: FrontDoor, call: Call) -> Answer:
    """Store a policy."""
    name = call.path["name"]
    if not is_name(name):
        raise Problem("invalid", "a policy's name is lower case letters, digits, '.', '_', '-', 63 at most")
    policy = Policy(name, decoded(_LIMIT, await bounded(call.request, MAX_BODY_BYTES)))
    limits = _limits(door, call)
    if await in_table(door, limits.differs, name, policy):
        await _note(door, limits.putting(policy))
        await in_table(door, limits.put_policy, policy)
    return Answer(policy)


async def get_policy(door: FrontDoor, call: Call) -> Answer:
    """Return a policy."""
    name = call.path["name"]
    found = None
    if is_name(name):
        found = await in_table(door, _limits(door, call).policy, name)
    if found is None:
        raise Problem("not_found", "there is no such policy; GET /v1/ratelimit/policies lists them")
    return Answer(found)


async def delete_policy(door: FrontDoor, call: Call) -> Answer:
    """Remove a policy."""
    name, limits, found = call.path["name"], _limits(door, call), False
    if is_name(name) and await in_table(door, limits.differs, name, None):
        await _note(door, limits.deleting(name))
        found = await in_table(door, limits.delete_policy, name)
    if not found:
        raise Problem("not_found", "there is no such policy; GET /v1/ratelimit/policies lists them")
    return Answer(status=204)


async def _note(door: FrontDoor, act: Act) -> None:
    """Keep an act before it is done: the change is in another store, and none is made that the audit log does not have."""
    if door.control is None:
        raise unavailable("this process changes no policies")
    await in_change(door, door.control.note, act)


async def list_policies(door: FrontDoor, call: Call) -> Answer:
    """Return the tenant's policies."""
    found = await in_table(door, _limits(door, call).policies)
    return Answer(PolicyList(list(found)))


def _limits(door: FrontDoor, call: Call) -> TenantRateLimits:
    if door.ratelimits is None:
        raise unavailable("this process was made without the rate-limit service")
    return door.ratelimits.of(call.caller)


_KEY = replace(KEY_PARAMETER, says="The same key and body gives the same decision for 24 hours.")
_NAME = Parameter("name", "path", "Name of the policy.", required=True)
_POLICIES = "/v1/ratelimit/policies"

ROUTES = (
    Route(
        "POST",
        "/v1/ratelimit/check",
        Scope.INGEST,
        "Ask whether a key may have tokens of its bucket.",
        check,
        answers={200: Checked},
        body={_JSON: Check},
        refuses=("key_reused",),
        parameters=(_KEY,),
    ),
    Route(
        "GET",
        _POLICIES,
        Scope.READ,
        "List the tenant's named limits.",
        list_policies,
        answers={200: PolicyList},
    ),
    Route(
        "PUT",
        f"{_POLICIES}/{{name}}",
        Scope.ADMIN,
        "Store a named limit.\n\nIt holds in every process within ten seconds.",
        put_policy,
        answers={200: Policy},
        body={_JSON: Limit},
        parameters=(_NAME,),
    ),
    Route(
        "GET",
        f"{_POLICIES}/{{name}}",
        Scope.READ,
        "Show a named limit.",
        get_policy,
        answers={200: Policy},
        parameters=(_NAME,),
    ),
    Route(
        "DELETE",
        f"{_POLICIES}/{{name}}",
        Scope.ADMIN,
        "Remove a named limit.",
        delete_policy,
        answers={204: None},
        parameters=(_NAME,),
    ),
)

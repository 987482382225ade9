"""Ports `LimitStore`, `Policies` and `Decisions` on DynamoDB: table `limits`.

<tenant>            plan                           the account of a tenant's plan
<tenant>            credential#<key:..|client:..>  the account of a credential with a limit of its own
<tenant>            policy#<name>                  a named limit
<tenant>#<account>  check                          an account of the rate-limit service: a partition each, for they are many
<tenant>#<key>      decision                       what was decided under an idempotency key

`expires_s` is the table's TTL attribute: an account that is long full again says no more than its absence.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import msgspec
from botocore.exceptions import ClientError

from pipeline.aws import tables
from pipeline.aws.dynamo import query
from pipeline.aws.errors import condition_failed, translated
from pipeline.aws.items import Item, number, read_item, text
from pipeline.core.lease import Account, Change
from pipeline.core.policy import Limit, Policy
from pipeline.ports.limits import AccountKey, Decided

# A and B lease 110 tokens each, both have read revision r1, and so 500 tokens:
#
#   A 500 - 110   (what is enough) <= 500 <= 500 holds
#   B 390 - 110   (what is enough) <= 390 <= 500 holds: A is not in its way
#
# An hour later the bucket was full, so the account is stored anew:
#
#   A puts r4   SAME_REVISION holds (r3)
#   B puts r5   SAME_REVISION fails: it reads r4, and decides again
#   C spends    STORED_THEN fails: the level it has read counts from another moment
STORED_THEN = "at_us = :at"
SAME_MONTH = "#month = :month"
QUOTA_LEFT = "used <= :most"
SAME_REVISION = "revision = :before"
NEVER_WRITTEN = "attribute_not_exists(#name)"
EXPIRED = "expires_s <= :now"
_NAME = {"#name": "name"}
_CHECK, _POLICY = "check#", "policy#"
_DECISION = "decision"
T = TypeVar("T")


def account_key(key: AccountKey) -> Item:
    """Return the key of an account's item."""
    if key.name.startswith(_CHECK):
        return {"partition": text(f"{key.tenant}#{key.name}"), "name": text("check")}
    return {"partition": text(key.tenant), "name": text(key.name)}


def account_item(key: AccountKey, account: Account, expires_us: int | None) -> Item:
    """Return an account as an item."""
    item = {
        **account_key(key),
        "revision": text(account.revision),
        "at_us": number(account.at_us),
        **{f"units_{place}": number(one) for place, one in enumerate(account.units)},
        "tokens": {"L": [number(one) for one in account.tokens]},
        "seconds": {"L": [number(one) for one in account.seconds]},
        "month": text(account.month),
        "used": number(account.used),
    }
    return item | _expires(expires_us)


def account_of(item: Item) -> Account:
    """Return the account of an item; raises Corrupt."""
    return _read("account", item, lambda: _account_of(item))


def _account_of(item: Item) -> Account:
    if len(item["tokens"]["L"]) != len(item["seconds"]["L"]):
        raise ValueError("not as many rates as buckets")
    return Account(
        revision=item["revision"]["S"],
        at_us=int(item["at_us"]["N"]),
        units=tuple(int(item[f"units_{place}"]["N"]) for place in range(len(item["seconds"]["L"]))),
        tokens=tuple(int(one["N"]) for one in item["tokens"]["L"]),
        seconds=tuple(int(one["N"]) for one in item["seconds"]["L"]),
        month=item["month"]["S"],
        used=int(item["used"]["N"]),
    )


def _difference(before: Account, change: Change) -> tuple[Item, list[str], list[str]]:
    """Return values, assignments and conditions of a change that is a difference; the conditions have names below."""
    after = change.after
    values = {
        ":revision": text(after.revision),
        ":at": number(before.at_us),
        ":month": text(before.month),
        ":paid": number(after.used - before.used),
        ":most": number(change.most_used),
    }
    sets, conditions = ["revision = :revision", "used = used + :paid"], [STORED_THEN, SAME_MONTH, QUOTA_LEFT]
    for place, least in enumerate(change.least or ()):
        values |= {
            f":cost{place}": number(before.units[place] - after.units[place]),
            f":least{place}": number(least),
            f":then{place}": number(before.units[place]),
        }
        sets.append(f"units_{place} = units_{place} - :cost{place}")
        conditions += [f"units_{place} >= :least{place}", f"units_{place} <= :then{place}"]
    return values, sets, conditions


def policy_item(tenant: str, policy: Policy) -> Item:
    """Return a policy as an item."""
    return {
        **_policy_key(tenant, policy.name),
        "limit": text(msgspec.json.encode(policy.limit).decode()),
    }


def policy_of(item: Item) -> Policy:
    """Return the policy of an item; raises Corrupt."""
    return _read("policy", item, lambda: _policy_of(item))


def _policy_of(item: Item) -> Policy:
    limit = msgspec.json.decode(item["limit"]["S"], type=Limit)
    return Policy(item["name"]["S"].removeprefix(_POLICY), limit)


def decision_item(tenant: str, key: str, decided: Decided, expires_us: int) -> Item:
    """Return a decision as an item."""
    return {
        **_decision_key(tenant, key),
        "fingerprint": text(decided.fingerprint),
        "answer": text(decided.answer.decode()),
    } | _expires(expires_us)


def decided_of(item: Item, now_us: int) -> Decided | None:
    """Return the decision of an item, unless it has expired; raises Corrupt."""
    return _read("decision", item, lambda: _decided_of(item, now_us))


def _decided_of(item: Item, now_us: int) -> Decided | None:
    decided = Decided(item["fingerprint"]["S"], item["answer"]["S"].encode())
    return None if int(item["expires_s"]["N"]) <= now_us // 1_000_000 else decided


def _read(what: str, item: Item, make: Callable[[], T]) -> T:
    """Return what `make` reads out of an item of ours.

    Raises:
        Corrupt: somebody else wrote it.
    """
    mend = "delete this item: an account begins anew then, a policy is put again, a decision is made again"
    return read_item(f"table {tables.LIMITS.name}: {what}", item, make, do=mend)


def _expires(expires_us: int | None) -> Item:
    return {} if expires_us is None else {"expires_s": number(expires_us // 1_000_000)}


def _policy_key(tenant: str, name: str) -> Item:
    return {"partition": text(tenant), "name": text(_POLICY + name)}


def _decision_key(tenant: str, key: str) -> Item:
    return {"partition": text(f"{tenant}#{key}"), "name": text(_DECISION)}


class DynamoLimits:
    """Accounts, policies and decisions of one deployment: all three ports."""

    def __init__(self, client: Any, prefix: str) -> None:
        self._dynamodb, self._table = client, prefix + tables.LIMITS.name
        self._told = threading.local()
        client.meta.events.register("after-call.dynamodb", self._note_time)

    def read(self, key: AccountKey) -> Account | None:
        """Return an account; see the port."""
        self._told.us = None
        item = self._get(account_key(key))
        return None if item is None else account_of(item)

    def told_us(self) -> int | None:
        """Return the time of the last answer; see the port. DynamoDB says it in every answer's `Date`."""
        found: int | None = getattr(self._told, "us", None)
        return found

    def _note_time(self, parsed: dict[str, Any], **_: Any) -> None:
        date = parsed.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
        # Another maker's server may write it in its own way: then there is none.
        with suppress(ValueError, TypeError):
            self._told.us = round(parsedate_to_datetime(date).timestamp() * 1_000_000)

    def write(self, key: AccountKey, change: Change, expires_us: int | None) -> Account | None:
        """Apply a change to an account; see the port."""
        if change.before is not None and change.least is not None:
            return self._spend(key, change.before, change, expires_us)
        before = change.before.revision if change.before else None
        if self._put_if(account_item(key, change.after, expires_us), before):
            return change.after
        found = self.read(key)  # refused: for another process, or an earlier try of this very call
        return found if found is not None and found.revision == change.after.revision else None

    def _spend(
        self, key: AccountKey, before: Account, change: Change, expires_us: int | None
    ) -> Account | None:
        values, sets, conditions = _difference(before, change)
        if expires_us is not None:
            values[":expires"] = _expires(expires_us)["expires_s"]
            sets.append("expires_s = :expires")
        try:
            with translated(f"write {self._table}"):
                answer = self._dynamodb.update_item(
                    TableName=self._table,
                    Key=account_key(key),
                    UpdateExpression="SET " + ", ".join(sets),
                    ConditionExpression=" AND ".join(conditions),
                    ExpressionAttributeNames={"#month": "month"},
                    ExpressionAttributeValues=values,
                    ReturnValues="ALL_NEW",
                )
        except ClientError as exc:
            if not condition_failed(exc):
                raise
            return None
        return account_of(answer["Attributes"])

    def _put_if(self, item: Item, before: str | None) -> bool:
        if before is None:
            return self._put(item, NEVER_WRITTEN, ExpressionAttributeNames=_NAME)
        return self._put(item, SAME_REVISION, ExpressionAttributeValues={":before": text(before)})

    def _put(self, item: Item, condition: str, **expression: Any) -> bool:
        """Put an item; False when the condition does not hold."""
        try:
            with translated(f"write {self._table}"):
                self._dynamodb.put_item(
                    TableName=self._table, Item=item, ConditionExpression=condition, **expression
                )
        except ClientError as exc:
            if not condition_failed(exc):
                raise
            return False
        return True

    def put(self, tenant: str, policy: Policy) -> None:
        """Store a policy; see the port."""
        with translated(f"write {self._table}"):
            self._dynamodb.put_item(TableName=self._table, Item=policy_item(tenant, policy))

    def get(self, tenant: str, name: str) -> Policy | None:
        """Return a policy; see the port."""
        item = self._get(_policy_key(tenant, name))
        return None if item is None else policy_of(item)

    def delete(self, tenant: str, name: str) -> bool:
        """Remove a policy; see the port."""
        with translated(f"remove a policy, {self._table}"):
            answer = self._dynamodb.delete_item(
                TableName=self._table, Key=_policy_key(tenant, name), ReturnValues="ALL_OLD"
            )
        return bool(answer.get("Attributes"))

    def all(self, tenant: str) -> Sequence[Policy]:
        """Return a tenant's policies, by name; see the port."""
        found = query(self._dynamodb, self._table, tenant, (_POLICY, _POLICY + "~"))
        return [policy_of(item) for item in found]

    def find(self, tenant: str, key: str, now_us: int) -> Decided | None:
        """Return what was decided under a key; see the port. DynamoDB deletes expired items days late, or never."""
        item = self._get(_decision_key(tenant, key))
        return None if item is None else decided_of(item, now_us)

    def keep(self, tenant: str, key: str, decided: Decided, now_us: int, expires_us: int) -> Decided:
        """Store a decision unless one is there; see the port."""
        item, condition = decision_item(tenant, key, decided, expires_us), f"{NEVER_WRITTEN} OR {EXPIRED}"
        values = {":now": number(now_us // 1_000_000)}
        if self._put(item, condition, ExpressionAttributeNames=_NAME, ExpressionAttributeValues=values):
            return decided
        return self.find(tenant, key, now_us) or decided

    def _get(self, key: Item) -> Item | None:
        with translated(f"read {self._table}"):
            answer: dict[str, Any] = self._dynamodb.get_item(
                TableName=self._table, Key=key, ConsistentRead=True
            )
        found: Item | None = answer.get("Item")
        return found

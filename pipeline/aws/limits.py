"""Ports `LimitStore`, `Policies` and `Decisions` on DynamoDB: table `limits`.

<tenant>            plan                           the account of a tenant's plan
<tenant>            credential#<key:..|client:..>  the account of a credential with a limit of its own
<tenant>            policy#<name>                  a named limit
<tenant>#<account>  check                          an account of the rate-limit service: a partition each, for they are many
<tenant>#<key>      decision                       what was decided under an idempotency key

`expires_s` is the table's TTL attribute: an account that is long full again says no more than its absence.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from botocore.exceptions import ClientError

from pipeline.aws import tables
from pipeline.aws.dynamo import query
from pipeline.aws.errors import error_code, translated
from pipeline.aws.items import Item, number, text
from pipeline.core.lease import Account
from pipeline.core.policy import Limit, Policy
from pipeline.ports.limits import AccountKey, Decided

# Two processes lease from one account, both have read revision r1:
#
#   A puts r2   SAME_REVISION holds
#   B puts r3   SAME_REVISION fails: it reads r2, and decides again
SAME_REVISION = "revision = :before"
NEVER_WRITTEN = "attribute_not_exists(#name)"
_REFUSED = "ConditionalCheckFailedException"
_CHECK, _POLICY = "check#", "policy#"
_DECISION = "decision"


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
        "units": {"L": [number(one) for one in account.units]},
        "seconds": {"L": [number(one) for one in account.seconds]},
        "month": text(account.month),
        "used": number(account.used),
    }
    return item | _expires(expires_us)


def account_of(item: Item) -> Account:
    """Return the account of an item."""
    return Account(
        revision=item["revision"]["S"],
        at_us=int(item["at_us"]["N"]),
        units=tuple(int(one["N"]) for one in item["units"]["L"]),
        seconds=tuple(int(one["N"]) for one in item["seconds"]["L"]),
        month=item["month"]["S"],
        used=int(item["used"]["N"]),
    )


def policy_item(tenant: str, policy: Policy) -> Item:
    """Return a policy as an item."""
    return {
        **_policy_key(tenant, policy.name),
        "limit": text(msgspec.json.encode(policy.limit).decode()),
    }


def policy_of(item: Item) -> Policy:
    """Return the policy of an item."""
    limit = msgspec.json.decode(item["limit"]["S"], type=Limit)
    return Policy(item["name"]["S"].removeprefix(_POLICY), limit)


def decision_item(tenant: str, key: str, decided: Decided, expires_us: int) -> Item:
    """Return a decision as an item."""
    return {
        **_decision_key(tenant, key),
        "fingerprint": text(decided.fingerprint),
        "answer": text(decided.answer.decode()),
    } | _expires(expires_us)


def decided_of(item: Item) -> Decided:
    """Return the decision of an item."""
    return Decided(item["fingerprint"]["S"], item["answer"]["S"].encode())


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

    def read(self, key: AccountKey) -> Account | None:
        """Return an account; see the port."""
        item = self._get(account_key(key))
        return None if item is None else account_of(item)

    def write(self, key: AccountKey, before: str | None, after: Account, expires_us: int | None) -> bool:
        """Store an account by compare-and-set; see the port."""
        if self._put_if(account_item(key, after, expires_us), before):
            return True
        found = self.read(key)  # refused: by another process, or by an earlier try of this very call
        return found is not None and found.revision == after.revision

    def _put_if(self, item: Item, before: str | None) -> bool:
        condition: dict[str, Any] = {
            "ConditionExpression": SAME_REVISION,
            "ExpressionAttributeValues": {":before": text(before or "")},
        }
        if before is None:
            condition = {"ConditionExpression": NEVER_WRITTEN, "ExpressionAttributeNames": {"#name": "name"}}
        try:
            with translated(f"write {self._table}"):
                self._dynamodb.put_item(TableName=self._table, Item=item, **condition)
        except ClientError as exc:
            if error_code(exc) != _REFUSED:
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

    def find(self, tenant: str, key: str) -> Decided | None:
        """Return what was decided under a key; see the port."""
        item = self._get(_decision_key(tenant, key))
        return None if item is None else decided_of(item)

    def keep(self, tenant: str, key: str, decided: Decided, expires_us: int) -> Decided:
        """Store a decision unless one is there; see the port."""
        if self._put_if(decision_item(tenant, key, decided, expires_us), None):
            return decided
        return self.find(tenant, key) or decided

    def _get(self, key: Item) -> Item | None:
        with translated(f"read {self._table}"):
            answer: dict[str, Any] = self._dynamodb.get_item(
                TableName=self._table, Key=key, ConsistentRead=True
            )
        found: Item | None = answer.get("Item")
        return found

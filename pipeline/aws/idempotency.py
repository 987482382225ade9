"""Port `Requests` on DynamoDB: table `idempotency`.

    attempt A   claim ------------ work ------------ complete: OURS holds
    attempt B        claim: KEY_IS_FREE fails        claim fails, gives the answer
    attempt C                 lock of A ran out: take_over: AS_FOUND holds, and A's OURS fails from now on

DynamoDB deletes expired items hours late, so `expires` is compared, too.
"""

import zlib
from typing import Any

import msgspec
from botocore.exceptions import ClientError

from pipeline.aws import tables
from pipeline.aws.errors import condition_failed, translated
from pipeline.aws.items import Item, number, text
from pipeline.core.errors import Corrupt
from pipeline.core.idempotency import Entry, StoredAnswer

KEY_IS_FREE = "attribute_not_exists(#owner) OR expires <= :now OR #owner = :owner"
AS_FOUND = "#state = :in_progress AND (#owner = :found OR #owner = :owner)"
OURS = "#state = :in_progress AND #owner = :owner"
OURS_OR_DONE_BY_US = "#owner = :owner"

MAX_ANSWER_BYTES = 300 * 1024  # packed; DynamoDB's limit is 400 KB an item
_NAMES = {"#state": "state", "#owner": "owner"}
_OWNER = {"#owner": "owner"}
_IN_PROGRESS, _COMPLETE = text("in_progress"), text("complete")


class DynamoRequests:
    """The requests of one deployment."""

    def __init__(self, client: Any, prefix: str) -> None:
        self._dynamodb, self._table = client, prefix + tables.IDEMPOTENCY.name

    def claim(self, entry: Entry, now_us: int) -> Entry | None:
        """Store an entry where there is none; see the port."""
        try:
            with translated(f"write {self._table}"):
                self._dynamodb.put_item(
                    TableName=self._table,
                    Item=request_item(entry),
                    ConditionExpression=KEY_IS_FREE,
                    ExpressionAttributeNames=_OWNER,
                    ExpressionAttributeValues={
                        ":now": number(now_us // 1_000_000),
                        ":owner": text(entry.owner),
                    },
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
        except ClientError as exc:
            if not condition_failed(exc):
                raise
            return request_of(exc.response["Item"])  # type: ignore[typeddict-item]  # boto3 puts the old item here
        return None

    def take_over(self, found: Entry, owner: str, locked_until_us: int) -> bool:
        """Give an entry to another owner; see the port."""
        return self._changed(
            found,
            "SET #owner = :owner, locked_until_us = :until",
            AS_FOUND,
            {
                ":owner": text(owner),
                ":found": text(found.owner),
                ":until": number(locked_until_us),
                ":in_progress": _IN_PROGRESS,
            },
        )

    def complete(self, entry: Entry, answer: StoredAnswer) -> bool:
        """Store the answer; see the port."""
        packed = _packed(answer)
        if len(packed) > MAX_ANSWER_BYTES:
            return False
        return self._changed(
            entry,
            "SET #state = :complete, answer = :answer",
            OURS_OR_DONE_BY_US,
            {":owner": text(entry.owner), ":complete": _COMPLETE, ":answer": {"B": packed}},
        )

    def unlock(self, entry: Entry) -> None:
        """Let the next attempt begin; see the port."""
        values = {":owner": text(entry.owner), ":in_progress": _IN_PROGRESS, ":none": number(0)}
        self._changed(entry, "SET locked_until_us = :none", OURS, values)

    def forget(self, entry: Entry) -> None:
        """Remove an entry; see the port."""
        try:
            with translated(f"write {self._table}"):
                self._dynamodb.delete_item(
                    TableName=self._table,
                    Key=_key(entry),
                    ConditionExpression=OURS,
                    ExpressionAttributeNames=_NAMES,
                    ExpressionAttributeValues={
                        ":owner": text(entry.owner),
                        ":in_progress": _IN_PROGRESS,
                    },
                )
        except ClientError as exc:
            if not condition_failed(exc):
                raise

    def _changed(self, entry: Entry, update: str, condition: str, values: Item) -> bool:
        """Change an entry; False when the condition does not hold."""
        used = {name: value for name, value in _NAMES.items() if name in update + condition}
        try:
            with translated(f"write {self._table}"):
                self._dynamodb.update_item(
                    TableName=self._table,
                    Key=_key(entry),
                    UpdateExpression=update,
                    ConditionExpression=condition,
                    ExpressionAttributeNames=used,
                    ExpressionAttributeValues=values,
                )
        except ClientError as exc:
            if not condition_failed(exc):
                raise
            return False
        return True


def _key(entry: Entry) -> Item:
    return {"request": text(f"{entry.tenant}#{entry.key}")}  # no tenant's name has a #


class _Answer(msgspec.Struct):
    status: int
    headers: dict[str, str]
    media_type: str
    body: bytes


def _packed(answer: StoredAnswer) -> bytes:
    plain = _Answer(answer.status, dict(answer.headers), answer.media_type, answer.body)
    return zlib.compress(
        msgspec.msgpack.encode(plain), 1
    )  # 1: five times as quick as 6, and ids do not shrink


def request_item(entry: Entry) -> Item:
    """Return an item of the table; `expires` is in seconds, as DynamoDB's time to live wants it."""
    item = {
        **_key(entry),
        "state": text(entry.state),
        "fingerprint": text(entry.fingerprint),
        "owner": text(entry.owner),
        "begun_us": number(entry.begun_us),
        "locked_until_us": number(entry.locked_until_us),
        "expires": number(entry.expires_us // 1_000_000),
    }
    return item if entry.answer is None else {**item, "answer": {"B": _packed(entry.answer)}}


def request_of(item: Item) -> Entry:
    """Read an item of the table; raises Corrupt."""
    try:
        tenant, _, key = item["request"]["S"].partition("#")
        return Entry(
            tenant,
            key,
            item["fingerprint"]["S"],
            item["owner"]["S"],
            begun_us=int(item["begun_us"]["N"]),
            locked_until_us=int(item["locked_until_us"]["N"]),
            expires_us=int(item["expires"]["N"]) * 1_000_000,
            answer=_unpacked(bytes(item["answer"]["B"])) if "answer" in item else None,
        )
    except (KeyError, ValueError, zlib.error, msgspec.MsgspecError) as exc:
        raise Corrupt(f"an item of table idempotency cannot be read ({type(exc).__name__})") from exc


def _unpacked(packed: bytes) -> StoredAnswer:
    plain = msgspec.msgpack.decode(zlib.decompress(packed), type=_Answer)
    return StoredAnswer(plain.status, plain.headers, plain.media_type, plain.body)

"""Port `Ledger` on DynamoDB: tables `segments`, `lineages` and `state`.

When two workers decide the same ordinal:

    worker A   open(n) ---- stage ---- plan(n+1) holds ---- write ---- commit
    worker B        open(n) ---- stage ---- plan(n+1): ORDINAL_IS_FREE fails -> open(n+1), finish or go on
"""

from dataclasses import replace
from typing import Any

from botocore.exceptions import ClientError

from pipeline.aws import tables
from pipeline.aws.dynamo import cancelled
from pipeline.aws.errors import condition_failed, translated
from pipeline.aws.items import (
    Item,
    lineage_item,
    lineage_of,
    number,
    position_item,
    reading_of,
    segment_item,
    segment_of,
    text,
)
from pipeline.core.errors import Corrupt
from pipeline.core.gap import Reading
from pipeline.core.segment import Lineage, Position, SealState, Segment, redrive_lineage
from pipeline.ports.ledger import Opening, PlanAnswer

ORDINAL_IS_FREE = "attribute_not_exists(lineage)"
PREDECESSOR_IS_COMMITTED = "#state = :committed"
PREDECESSOR_ENDS_HERE = "end_sequence_number = :sequence AND end_subsequence_number = :subsequence"
SEAL_IS_UNCHANGED = "version = :version"
SEAL_WAS_NEVER_RAISED = "attribute_not_exists(version)"
NOT_COUNTED_YET = "(attribute_not_exists(last_start) OR last_start <> :start)"
AT_THE_SAME_END = f"#at = :at AND {NOT_COUNTED_YET}"
ONLY_FORWARDS = "attribute_not_exists(read_until_us) OR read_until_us < :until"
STILL_OUR_PLAN = "#state = :planned AND staging_key = :staging_key"

_DISORDER_US = 600_000_000  # arrivals run nearly in order: only a segment this much too old ends a search
_FAILED = "ConditionalCheckFailed"
_SEAL = {"name": text("seal")}
_COUNTER = {"name": text("lineages")}


class DynamoLedger:
    """The ledger of one deployment."""

    def __init__(self, client: Any, prefix: str) -> None:
        self._dynamodb = client
        self._segments, self._lineages, self._state = (
            prefix + table.name for table in (tables.SEGMENTS, tables.LINEAGES, tables.STATE)
        )

    def register(self, stream: str, epoch: str, shard_id: str, parents: tuple[str, ...]) -> Lineage:
        """Return the lineage of a shard, giving it a short form at first sight; see the port."""
        return self._registered(Lineage(f"{stream}-{epoch}-{shard_id}", "", stream, shard_id, parents))

    def register_redrive(self, source: Lineage) -> Lineage:
        """Return the redrive lineage of `source`; see the port."""
        return self._registered(redrive_lineage(source, ""))

    def _registered(self, wanted: Lineage) -> Lineage:
        """Return a lineage as it is registered, giving it a short form at first sight."""
        name = wanted.name
        while True:
            found = self._get(self._lineages, {"name": text(name)})
            if found:
                return lineage_of(found)
            counter = int(self._get(self._state, _COUNTER).get("last", number(0))["N"])
            lineage = replace(wanted, short=f"{counter + 1:04d}")
            try:
                with translated(f"register lineage {name}"):
                    self._dynamodb.transact_write_items(TransactItems=self._registration(lineage, counter))
            except ClientError as exc:
                cancelled(exc, name)  # somebody else registered meanwhile: look again

    def fix_slots(self, stream: str, epoch: str, slots: int) -> int:
        """Return the number of virtual slots of a stream's epoch, fixing it at first use.

        An entity's slot follows from that number: another one would break order and duplicate detection.
        """
        key = {"name": text(f"slots#{stream}-{epoch}")}
        with translated(f"slots of {stream}"):
            try:
                self._dynamodb.put_item(
                    TableName=self._state,
                    Item={**key, "slots": number(slots)},
                    ConditionExpression="attribute_not_exists(slots)",
                )
            except ClientError as exc:
                if not condition_failed(exc):
                    raise
        return int(self._get(self._state, key)["slots"]["N"])

    def _registration(self, lineage: Lineage, counter: int) -> list[dict[str, Any]]:
        return [
            {
                "Put": {
                    "TableName": self._lineages,
                    "Item": lineage_item(lineage),
                    "ConditionExpression": "attribute_not_exists(#name)",
                    "ExpressionAttributeNames": {"#name": "name"},
                }
            },
            {
                "Update": {
                    "TableName": self._state,
                    "Key": _COUNTER,
                    "UpdateExpression": "SET #last = :next",
                    "ConditionExpression": "attribute_not_exists(#last) OR #last = :last",
                    "ExpressionAttributeNames": {"#last": "last"},
                    "ExpressionAttributeValues": {":next": number(counter + 1), ":last": number(counter)},
                }
            },
        ]

    def lineages(self) -> list[Lineage]:
        """Return every registered lineage; see the port."""
        with translated("list lineages"):
            pages = self._dynamodb.get_paginator("scan").paginate(
                TableName=self._lineages, ConsistentRead=True
            )
            found = [lineage_of(item) for page in pages for item in page["Items"]]
        return sorted(found, key=lambda one: one.short)

    def open(self, lineage: str) -> Opening:
        """Return the newest segment, then the seal state; see the port."""
        with translated(f"open lineage {lineage}"):
            answer = self._dynamodb.query(**self._by_lineage(lineage), ScanIndexForward=False, Limit=1)
        newest = segment_of(answer["Items"][0]) if answer["Items"] else None
        seal = self._get(self._state, _SEAL)
        return Opening(newest, _seal_of(seal))

    def seal_state(self) -> SealState:
        """Return the seal state; see the port."""
        return _seal_of(self._get(self._state, _SEAL))

    def plan(self, segment: Segment) -> PlanAnswer:
        """Decide a segment in one transaction; see the port."""
        checks = [(PlanAnswer.ORDINAL_TAKEN, self._put(segment))]
        if segment.ordinal > 1:
            checks.append((PlanAnswer.PREDECESSOR, self._predecessor(segment)))
        checks.append((PlanAnswer.SEAL_MOVED, self._seal_unchanged(segment.seal_version)))
        what = f"plan {segment.lineage}/{segment.ordinal}"
        try:
            with translated(what):
                self._dynamodb.transact_write_items(TransactItems=[item for _, item in checks])
        except ClientError as exc:
            reasons = cancelled(exc, what)
            for (answer, _), reason in zip(checks, reasons, strict=True):
                if reason == _FAILED:
                    return answer
            raise
        return PlanAnswer.HOLDS

    def _put(self, segment: Segment) -> dict[str, Any]:
        return {
            "Put": {
                "TableName": self._segments,
                "Item": segment_item(segment),
                "ConditionExpression": ORDINAL_IS_FREE,
            }
        }

    def _predecessor(self, segment: Segment) -> dict[str, Any]:
        start = position_item("start", segment.start)
        condition, values = PREDECESSOR_IS_COMMITTED, {":committed": text("committed")}
        if segment.start is None:
            condition += " AND attribute_not_exists(end_sequence_number)"
        else:
            condition += f" AND {PREDECESSOR_ENDS_HERE}"
            values[":sequence"] = start["start_sequence_number"]
            values[":subsequence"] = start["start_subsequence_number"]
        return {
            "ConditionCheck": {
                "TableName": self._segments,
                "Key": {"lineage": text(segment.lineage), "ordinal": number(segment.ordinal - 1)},
                "ConditionExpression": condition,
                "ExpressionAttributeNames": {"#state": "state"},
                "ExpressionAttributeValues": values,
            }
        }

    def _seal_unchanged(self, version: int) -> dict[str, Any]:
        check: dict[str, Any] = {"TableName": self._state, "Key": _SEAL}
        if version:
            check["ConditionExpression"] = SEAL_IS_UNCHANGED
            check["ExpressionAttributeValues"] = {":version": number(version)}
        else:
            check["ConditionExpression"] = SEAL_WAS_NEVER_RAISED
        return {"ConditionCheck": check}

    def commit(self, segment: Segment) -> bool:
        """Turn planned into committed; see the port."""
        what = f"commit {segment.lineage}/{segment.ordinal}"
        key = {"lineage": text(segment.lineage), "ordinal": number(segment.ordinal)}
        try:
            with translated(what):
                self._dynamodb.update_item(
                    TableName=self._segments,
                    Key=key,
                    UpdateExpression="SET #state = :committed",
                    ConditionExpression=STILL_OUR_PLAN,
                    ExpressionAttributeNames={"#state": "state"},
                    ExpressionAttributeValues={
                        ":committed": text("committed"),
                        ":planned": text("planned"),
                        ":staging_key": text(segment.staging_key),
                    },
                )
        except ClientError as exc:
            if not condition_failed(exc):
                raise
            found = self._get(self._segments, key)
            if found.get("state") != text("committed") or found["staging_key"]["S"] != segment.staging_key:
                raise Corrupt(f"{what}: the ledger holds another segment under this ordinal") from exc
            return False
        return True

    def segments(self, lineage: str) -> list[Segment]:
        """Return all segments of a lineage, oldest first."""
        with translated(f"segments of {lineage}"):
            pages = self._dynamodb.get_paginator("query").paginate(**self._by_lineage(lineage))
            return [segment_of(item) for page in pages for item in page["Items"]]

    def segment(self, lineage: str, ordinal: int) -> Segment | None:
        """Return one segment; see the port."""
        found = self._get(self._segments, {"lineage": text(lineage), "ordinal": number(ordinal)})
        return segment_of(found) if found else None

    def started(self, lineage: str, at: Position | None, now_us: int, start: str) -> Reading:
        """Count a start at a committed end; see the port."""
        values = {
            ":at": text(f"{at.sequence_number}/{at.subsequence_number}" if at else ""),
            ":one": number(1),
            ":now": number(now_us),
            ":start": text(start),
        }
        begun = "begun_us = if_not_exists(begun_us, :now), last_start = :start"
        once_more = self._note(
            lineage, f"SET starts = starts + :one, {begun}", AT_THE_SAME_END, values, {"#at": "at"}
        )
        if once_more is not None:
            return reading_of(once_more)
        first = self._note(
            lineage, f"SET starts = :one, #at = :at, {begun}", NOT_COUNTED_YET, values, {"#at": "at"}
        )
        return self.reading(lineage) if first is None else reading_of(first)

    def stopped(self, lineage: str) -> None:
        """Forget the starts; see the port."""
        self._note(lineage, "SET starts = :none", None, {":none": number(0)})

    def reading(self, lineage: str) -> Reading:
        """Return what is noted of reading a lineage; see the port."""
        return reading_of(self._get(self._state, _reading_key(lineage)))

    def note_read(self, lineage: str, until_us: int) -> None:
        """Note how far an idle lineage is read; see the port."""
        update = "SET open_until_us = if_not_exists(read_until_us, :never), read_until_us = :until"
        self._note(lineage, update, ONLY_FORWARDS, {":until": number(until_us), ":never": number(0)})

    def _note(
        self,
        lineage: str,
        update: str,
        condition: str | None,
        values: Item,
        names: dict[str, str] | None = None,
    ) -> Item | None:
        """Change a lineage's item in `state`; return it, or None when the condition does not hold."""
        more: dict[str, Any] = {"ConditionExpression": condition} if condition else {}
        if names:
            more["ExpressionAttributeNames"] = names
        try:
            with translated(f"note on {lineage}"):
                answer = self._dynamodb.update_item(
                    TableName=self._state,
                    Key=_reading_key(lineage),
                    UpdateExpression=update,
                    ExpressionAttributeValues=values,
                    ReturnValues="ALL_NEW",
                    **more,
                )
        except ClientError as exc:
            if not condition_failed(exc):
                raise
            return None
        found: Item = answer["Attributes"]
        return found

    def recent(self, lineage: str, since_us: int) -> list[Segment]:
        """Return the committed segments that arrived since, newest first; see the port."""
        found: list[Segment] = []
        with translated(f"recent segments of {lineage}"):
            pages = self._dynamodb.get_paginator("query").paginate(
                **self._by_lineage(lineage), ScanIndexForward=False, PaginationConfig={"PageSize": 100}
            )
            for page in pages:
                for segment in map(segment_of, page["Items"]):
                    if segment.max_arrival_us < since_us - _DISORDER_US:
                        return found
                    if segment.state == "committed" and segment.max_arrival_us >= since_us:
                        found.append(segment)
        return found

    def _by_lineage(self, lineage: str) -> dict[str, Any]:
        return {
            "TableName": self._segments,
            "KeyConditionExpression": "lineage = :lineage",
            "ExpressionAttributeValues": {":lineage": text(lineage)},
            "ConsistentRead": True,
        }

    def _get(self, table: str, key: Item) -> Item:
        with translated(f"read {table}"):
            answer: dict[str, Any] = self._dynamodb.get_item(TableName=table, Key=key, ConsistentRead=True)
        found: Item = answer.get("Item", {})
        return found


def _reading_key(lineage: str) -> Item:
    return {"name": text(f"reading#{lineage}")}


def _seal_of(item: Item) -> SealState:
    days = [item.get(name, text(""))["S"] for name in ("sealing_to", "sealed_until")]
    return SealState(int(item.get("version", number(0))["N"]), *days)

"""Calls that are done in part: what is refused never reaches the server, and the answer says so."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from tests.faults.wire import Answer, Request, json_answer

Merge = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Part:
    """What is left of a request, None for nothing; and how its answer becomes that of the whole."""

    request: Request | None
    merge: Merge

    def answer(self, found: Answer | None) -> Answer:
        """Return the answer of the whole call; an error stays what it is."""
        if found is None:
            return json_answer(self.merge({}))
        if found.status != 200:
            return found
        body = json.dumps(self.merge(json.loads(found.body))).encode()
        kept = {name: value for name, value in found.headers.items() if name.lower() != "x-amz-crc32"}
        return replace(found, headers=kept, body=body)


def _refused(count: int, chance: Random) -> set[int]:
    """Draw which of so many are refused: one at least."""
    found = {place for place in range(count) if chance.random() < 0.4}
    return found or {chance.randrange(count)}


def _put_records(request: Request, chance: Random) -> Part:
    records: list[Any] = request.arguments["Records"]
    refused = _refused(len(records), chance)
    left = [one for place, one in enumerate(records) if place not in refused]
    code = chance.choice(["ProvisionedThroughputExceededException", "InternalFailure"])

    def merge(answer: dict[str, Any]) -> dict[str, Any]:
        taken = iter(answer.get("Records", []))
        refusal = {"ErrorCode": code, "ErrorMessage": "as planned"}
        found = [refusal if place in refused else next(taken) for place in range(len(records))]
        return {**answer, "Records": found, "FailedRecordCount": sum("ErrorCode" in one for one in found)}

    return Part(request.with_arguments(Records=left) if left else None, merge)


def _batch_write(request: Request, chance: Random) -> Part:
    [(table, puts)] = request.arguments["RequestItems"].items()
    refused = _refused(len(puts), chance)
    left = [one for place, one in enumerate(puts) if place not in refused]

    def merge(answer: dict[str, Any]) -> dict[str, Any]:
        own: Sequence[Any] = answer.get("UnprocessedItems", {}).get(table, [])
        return {**answer, "UnprocessedItems": {table: [*own, *(puts[place] for place in sorted(refused))]}}

    return Part(request.with_arguments(RequestItems={table: left}) if left else None, merge)


def _batch_get(request: Request, chance: Random) -> Part:
    [(table, asked)] = request.arguments["RequestItems"].items()
    refused = _refused(len(asked["Keys"]), chance)
    left = [one for place, one in enumerate(asked["Keys"]) if place not in refused]

    def merge(answer: dict[str, Any]) -> dict[str, Any]:
        own = answer.get("UnprocessedKeys", {}).get(table, {}).get("Keys", [])
        keys = [*own, *(asked["Keys"][place] for place in sorted(refused))]
        return {"Responses": {table: []}, **answer, "UnprocessedKeys": {table: {**asked, "Keys": keys}}}

    return Part(
        request.with_arguments(RequestItems={table: {**asked, "Keys": left}}) if left else None, merge
    )


def _batch_of_messages(request: Request, chance: Random) -> Part:
    entries = request.arguments["Entries"]
    refused = _refused(len(entries), chance)
    left = [one for place, one in enumerate(entries) if place not in refused]

    def merge(answer: dict[str, Any]) -> dict[str, Any]:
        failed = [
            {
                "Id": entries[place]["Id"],
                "SenderFault": False,
                "Code": "InternalError",
                "Message": "as planned",
            }
            for place in sorted(refused)
        ]
        return {"Successful": [], **answer, "Failed": [*answer.get("Failed", []), *failed]}

    return Part(request.with_arguments(Entries=left) if left else None, merge)


PARTS: dict[str, Callable[[Request, Random], Part]] = {
    "kinesis.PutRecords": _put_records,
    "dynamodb.BatchWriteItem": _batch_write,
    "dynamodb.BatchGetItem": _batch_get,
    "sqs.SendMessageBatch": _batch_of_messages,
    "sqs.DeleteMessageBatch": _batch_of_messages,
    "sqs.ChangeMessageVisibilityBatch": _batch_of_messages,
}

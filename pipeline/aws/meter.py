"""Counts what AWS would bill: DynamoDB write units and S3 puts, as the services answer them."""

import threading
from typing import Any


class Meter:
    """Running totals of one process; safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.dynamodb_write_units = 0.0
        self.s3_puts = 0

    def watch(self, client: Any) -> None:
        """Count the calls of a client from now on."""
        service = client.meta.service_model.service_name
        events = client.meta.events
        if service == "dynamodb":
            for operation in ("PutItem", "UpdateItem", "BatchWriteItem", "TransactWriteItems"):
                events.register(f"provide-client-params.dynamodb.{operation}", _ask_capacity)
                events.register(f"after-call.dynamodb.{operation}", self._write_units)
        if service == "s3":
            events.register("after-call.s3.PutObject", self._put)

    def _write_units(self, parsed: dict[str, Any], **_: Any) -> None:
        consumed = parsed.get("ConsumedCapacity") or []
        parts = consumed if isinstance(consumed, list) else [consumed]
        units = sum(part.get("WriteCapacityUnits", part.get("CapacityUnits", 0.0)) for part in parts)
        with self._lock:
            self.dynamodb_write_units += units

    def _put(self, **_: Any) -> None:
        with self._lock:
            self.s3_puts += 1


def _ask_capacity(params: dict[str, Any], **_: Any) -> dict[str, Any]:
    return {**params, "ReturnConsumedCapacity": "TOTAL"}

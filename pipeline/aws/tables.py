"""The DynamoDB tables: names, keys, and how they are made where no Terraform does it."""

from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from pipeline.aws.errors import error_code, translated
from pipeline.core.errors import StoreUnusable


class Table(NamedTuple):
    """One table: its name without prefix, its keys as (name, type), and which attribute says when an item ends."""

    name: str
    partition: tuple[str, str]
    sort: tuple[str, str] | None = None
    expires: str | None = None


SEGMENTS = Table("segments", ("lineage", "S"), ("ordinal", "N"))
LINEAGES = Table("lineages", ("name", "S"))
STATE = Table("state", ("name", "S"))
DATA_FILES = Table("data_files", ("partition", "S"), ("name", "S"))
ENTITY_INDEX = Table("entity_index", ("partition", "S"), ("name", "S"))
AGGREGATES = Table("aggregates", ("partition", "S"), ("name", "S"))
RECEIPTS = Table("receipts", ("producer", "S"), ("number", "N"))
REPLAY_JOBS = Table("replay_jobs", ("partition", "S"), ("name", "S"))
ENTITY_DAYS = Table("entity_days", ("partition", "S"), ("name", "S"))
IDEMPOTENCY = Table("idempotency", ("request", "S"), expires="expires")
LIMITS = Table("limits", ("partition", "S"), ("name", "S"))
ALL = (
    SEGMENTS,
    LINEAGES,
    STATE,
    DATA_FILES,
    ENTITY_INDEX,
    AGGREGATES,
    RECEIPTS,
    REPLAY_JOBS,
    ENTITY_DAYS,
    IDEMPOTENCY,
    LIMITS,
)

_NO_KEY = {"S": "-", "N": "-1"}  # no item of ours has it


def create_tables(client: Any, prefix: str) -> None:
    """Create the missing tables, on demand capacity, and wait for them."""
    for table in ALL:
        keys = [key for key in (table.partition, table.sort) if key]
        try:
            with translated(f"create table {prefix}{table.name}"):
                client.create_table(
                    TableName=prefix + table.name,
                    KeySchema=[
                        {"AttributeName": name, "KeyType": kind}
                        for (name, _), kind in zip(keys, ("HASH", "RANGE"), strict=False)
                    ],
                    AttributeDefinitions=[
                        {"AttributeName": name, "AttributeType": kind} for name, kind in keys
                    ],
                    BillingMode="PAY_PER_REQUEST",
                )
        except ClientError as exc:
            if error_code(exc) != "ResourceInUseException":
                raise
    for table in ALL:
        with translated(f"table {prefix}{table.name}"):
            client.get_waiter("table_exists").wait(
                TableName=prefix + table.name, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
            )
        if table.expires is not None:
            _let_items_end(client, prefix + table.name, table.expires)


def ask_tables(client: Any, prefix: str) -> None:
    """Ask every table for an item that none has, one after the other; a read unit or half of one each.

    Raises:
        StoreUnusable: some are missing, or closed to our role; `stores` names them all.
        Transient, OutcomeUnknown: one does not answer.
    """
    unusable: dict[str, StoreUnusable] = {}
    for table in ALL:
        keys = [key for key in (table.partition, table.sort) if key]
        absent = {name: {kind: _NO_KEY[kind]} for name, kind in keys}
        try:
            with translated(f"read {prefix}{table.name}"):
                client.get_item(TableName=prefix + table.name, Key=absent)
        except StoreUnusable as exc:
            unusable[table.name] = exc
    for first in unusable.values():
        raise StoreUnusable(f"{', '.join(unusable)}: {first}", tuple(unusable)) from first


def _let_items_end(client: Any, table: str, attribute: str) -> None:
    """Have DynamoDB delete items some time after the second that an attribute names."""
    with translated(f"table {table}"):
        found = client.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
        if found["TimeToLiveStatus"] in ("DISABLED", "DISABLING"):
            client.update_time_to_live(
                TableName=table,
                TimeToLiveSpecification={"Enabled": True, "AttributeName": attribute},
            )

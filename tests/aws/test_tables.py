"""Tables that are missing after an upgrade: named all at once, made where there is no Terraform, no secret to a caller."""

import pytest

from pipeline.aws.idempotency import DynamoRequests
from pipeline.aws.limits import DynamoLimits
from pipeline.aws.tables import ALL, IDEMPOTENCY, LIMITS, ask_tables, create_tables
from pipeline.core.errors import StoreUnusable
from pipeline.core.idempotency import Entry
from pipeline.ports.limits import AccountKey
from tests.aws.backends import Aws, Faulty, World

ENTRY = Entry("acme", "k", "f", "o", begun_us=1, locked_until_us=2, expires_us=3_000_000)


@pytest.fixture
def older(place: World) -> tuple[Aws, str]:
    """A deployment of a release that did not have two of the tables."""
    if not isinstance(place, Aws) or isinstance(place, Faulty):
        pytest.skip("only a server has tables")
    prefix = place.tables()
    for table in (IDEMPOTENCY, LIMITS):
        place.dynamodb.delete_table(TableName=prefix + table.name)
        place.dynamodb.get_waiter("table_not_exists").wait(
            TableName=prefix + table.name, WaiterConfig={"Delay": 1, "MaxAttempts": 20}
        )
    return place, prefix


def test_missing_tables_are_named_and_made(older: tuple[Aws, str]) -> None:
    """Every missing table is in one error; making them leaves the others as they are, and nothing is missing any more."""
    place, prefix = older
    with pytest.raises(StoreUnusable, match=f"{prefix}idempotency.*`headrace up` makes it") as caught:
        ask_tables(place.dynamodb, prefix)
    assert caught.value.stores == ("idempotency", "limits")
    create_tables(place.dynamodb, prefix)
    ask_tables(place.dynamodb, prefix)


def test_a_call_to_a_missing_table_names_it(older: tuple[Aws, str]) -> None:
    """Not as a failure that goes by itself, and not as the loss of what it holds."""
    place, prefix = older
    with pytest.raises(StoreUnusable, match=f"{prefix}idempotency"):
        DynamoRequests(place.dynamodb, prefix).claim(ENTRY, 1)
    with pytest.raises(StoreUnusable, match=f"{prefix}limits"):
        DynamoLimits(place.dynamodb, prefix).read(AccountKey("acme", "plan"))


def test_every_table_is_asked(place: World) -> None:
    """Without any of them the error names each."""
    if not isinstance(place, Aws) or isinstance(place, Faulty):
        pytest.skip("only a server has tables")
    with pytest.raises(StoreUnusable) as caught:
        ask_tables(place.dynamodb, "nobody-")
    assert caught.value.stores == tuple(table.name for table in ALL)

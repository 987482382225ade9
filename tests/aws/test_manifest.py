"""How the manifest on DynamoDB is read: the whole table only where a good part of it is asked for."""

from collections import Counter
from typing import Any

import msgspec
import pytest
from moto import mock_aws

from pipeline.aws.client import Connection, make_client
from pipeline.aws.manifest import DynamoManifest
from pipeline.aws.meter import Meter
from pipeline.aws.tables import create_tables
from tests.aws.backends import REGION
from tests.aws.test_ports import FILE


@pytest.mark.parametrize(
    ("asked", "queries", "scans"), [(1, 1, 0), (8, 8, 0), (9, 10, 0), (10, 1, 1), (40, 1, 1)]
)
def test_a_scan_from_a_quarter_of_the_partitions_on(asked: int, queries: int, scans: int) -> None:
    """Of 40 partitions, up to nine are asked for one by one, from ten on all are read; eight need no list of them."""
    names = [f"door#2024-{month:02d}-{day:02d}" for month in (1, 2) for day in range(1, 21)]
    requests: Counter[str] = Counter()

    def count(model: Any, **_: Any) -> None:
        requests[model.name] += 1

    with mock_aws():
        client = make_client("dynamodb", Connection(REGION, None, "headrace", "headrace"), Meter())
        create_tables(client, "t-")
        manifest = DynamoManifest(client, "t-")
        manifest.put_all([msgspec.structs.replace(FILE, partition=name) for name in names])
        for operation in ("Query", "Scan"):
            client.meta.events.register(f"before-call.dynamodb.{operation}", count)
        assert len(manifest.files(*names[:asked])) == asked
    assert (requests["Query"], requests["Scan"]) == (queries, scans)

"""boto3 clients from one description of where AWS is."""

from dataclasses import dataclass
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.utils import parse_timestamp

from pipeline import __version__
from pipeline.aws.errors import translated
from pipeline.aws.meter import Meter


@dataclass(frozen=True)
class Connection:
    """Where AWS is and how patiently it is asked. Keys of None: the usual AWS credential chain."""

    region: str
    endpoint_url: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = None
    connect_timeout_seconds: float = 5.0
    read_timeout_seconds: float = 30.0
    max_attempts: int = 4


def _moment(value: Any) -> Any:
    """Return a time as botocore does, but leave texts alone: S3 sends some with every answer, nobody here reads them."""
    return value if isinstance(value, str) else parse_timestamp(value)


def make_client(
    service: str, connection: Connection, meter: Meter, *, max_attempts: int | None = None
) -> Any:
    """Return a boto3 client whose writes are counted by `meter`.

    Args:
        service: boto3's name of the service.
        connection: where it is.
        meter: counts requests and write units.
        max_attempts: instead of the connection's; 1 where a repeated call is not harmless.
    """
    config = Config(
        connect_timeout=connection.connect_timeout_seconds,
        read_timeout=connection.read_timeout_seconds,
        retries={"mode": "standard", "total_max_attempts": max_attempts or connection.max_attempts},
        max_pool_connections=32,
        s3={"addressing_style": "path" if connection.endpoint_url else "auto"},
        proxies={} if connection.endpoint_url else None,  # an endpoint of one's own is never behind a proxy
        user_agent=f"headrace/{__version__}",  # the usual one is built anew for every call, a quarter of its cost
        parameter_validation=False,  # the stubs check at lint time; costs 15 % of a small call
    )
    with translated(f"client of {service}"):
        core = botocore.session.get_session()
        parsers = core.get_component("response_parser_factory")
        parsers.set_parser_defaults(timestamp_parser=_moment)  # as the AWS CLI does
        session = boto3.session.Session(
            botocore_session=core,
            aws_access_key_id=connection.access_key_id,
            aws_secret_access_key=connection.secret_access_key,
            region_name=connection.region,
        )
        client: Any = session.client(service, endpoint_url=connection.endpoint_url, config=config)  # type: ignore[call-overload]
    meter.watch(client)
    return client

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
from pipeline.aws.retries import Retries
from pipeline.facts import Fact, FactSink


@dataclass(frozen=True)
class Connection:
    """Where AWS is and how patiently it is asked. Keys of None: the usual AWS credential chain."""

    region: str
    endpoint_url: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = None
    connect_timeout_seconds: float = 5.0
    read_timeout_seconds: float = 30.0
    max_attempts: int = 12
    retry_seconds: float = 75.0


def unheard(fact: Fact) -> None:
    """Take a fact nobody listens to: a command tells a person what happened, not a log."""


def _moment(value: Any) -> Any:
    """Return a time as botocore does, but leave texts alone: S3 sends some with every answer, nobody here reads them."""
    return value if isinstance(value, str) else parse_timestamp(value)


def _config(connection: Connection) -> Config:
    return Config(
        connect_timeout=connection.connect_timeout_seconds,
        read_timeout=connection.read_timeout_seconds,
        retries={"mode": "standard", "total_max_attempts": 1},  # `Retries` does it, and tells it
        max_pool_connections=32,
        s3={"addressing_style": "path" if connection.endpoint_url else "auto"},
        proxies={} if connection.endpoint_url else None,  # an endpoint of one's own is never behind a proxy
        user_agent=f"headrace/{__version__}",  # the usual one is built anew for every call, a quarter of its cost
        parameter_validation=False,  # the stubs check at lint time; costs 15 % of a small call
    )


def make_client(
    service: str,
    connection: Connection,
    meter: Meter,
    *,
    facts: FactSink = unheard,
    max_attempts: int | None = None,
) -> Any:
    """Return a boto3 client whose writes are counted by `meter`, and whose failed requests are sent again.

    Args:
        service: boto3's name of the service.
        connection: where it is.
        meter: counts requests and write units.
        facts: where every further try of a request is told.
        max_attempts: instead of the connection's; 1 where a repeated call is not harmless.
    """
    config = _config(connection)
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
    Retries(max_attempts or connection.max_attempts, connection.retry_seconds, facts).watch(client)
    return client

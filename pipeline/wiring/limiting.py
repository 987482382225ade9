"""What limits are made of."""

from pipeline.aws.client import make_client
from pipeline.aws.limits import DynamoLimits
from pipeline.aws.meter import Meter
from pipeline.config import Settings
from pipeline.facts import FactSink
from pipeline.flows.leases import Leases
from pipeline.flows.limit import Limiter
from pipeline.flows.ratelimits import RateLimits
from pipeline.ports.clock import Clock
from pipeline.wiring.stores import hasty

_TRY_SECONDS = 2.0  # a request waits for its limits: a table that does not answer is down soon
_ATTEMPTS = 2


def limits(settings: Settings, clock: Clock, facts: FactSink) -> tuple[Limiter, RateLimits]:
    """Return the limiter of plans and the rate-limit service of one process, over the same leases."""
    store = limit_store(settings, facts)
    given = settings.limits
    leases = Leases(store, clock, facts, given.store_down, given.max_accounts, given.max_clock_skew_seconds)
    limiter = Limiter(leases, clock, settings.web.max_body_bytes)
    return limiter, RateLimits(leases, store, store, clock)


def limit_store(settings: Settings, facts: FactSink) -> DynamoLimits:
    """Return the table of limits, asked with little patience."""
    where = hasty(settings, _TRY_SECONDS, _ATTEMPTS)
    client = make_client("dynamodb", where, Meter(), facts=facts)
    return DynamoLimits(client, settings.storage.table_prefix)

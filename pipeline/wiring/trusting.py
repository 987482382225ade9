"""What the HTTP API needs to know who calls, and whether they have called before."""

import secrets
from contextlib import suppress

from pipeline.aws.client import make_client
from pipeline.aws.idempotency import DynamoRequests
from pipeline.aws.meter import Meter
from pipeline.aws.token_keys import HttpTokenKeys
from pipeline.config import Settings
from pipeline.core.access_token import Trust
from pipeline.core.errors import Transient
from pipeline.facts import FactSink
from pipeline.flows.authenticate import Authenticator, Issuer
from pipeline.flows.idempotency import Idempotency
from pipeline.flows.signing_keys import SigningKeys
from pipeline.ports.clock import Clock
from pipeline.ports.control import Control
from pipeline.wiring.stores import hasty

_ATTEMPTS, _RETRY_SECONDS = 3, 2.0  # of one call to the table: the caller waits, and may repeat its request
_TRY_SECONDS = 2.0  # of one try: a table that hangs is told soon, and its threads are free again
_CLOCKS_APART_SECONDS = 10.0  # of two machines that serve the API, and some more


def authenticator(settings: Settings, control: Control, clock: Clock, facts: FactSink) -> Authenticator:
    """Return who callers are, by keys, and by tokens where an issuer is set.

    Raises:
        ConfigProblem: the address of the issuer's keys is not safe.
    """
    auth, issuer = settings.auth, None
    if auth.issuer is not None:
        source = HttpTokenKeys(auth.jwks_url or f"{auth.issuer.rstrip('/')}/.well-known/jwks.json")
        issuer = Issuer(Trust(auth.issuer, auth.resource_server), SigningKeys(source, clock, facts))
    found = Authenticator(control, clock, issuer)
    with suppress(Transient):
        found.warm()
    return found


def idempotency(settings: Settings, clock: Clock, facts: FactSink) -> Idempotency:
    """Return which requests were seen before."""
    where = hasty(settings, _TRY_SECONDS, _ATTEMPTS, _RETRY_SECONDS)
    requests = DynamoRequests(
        make_client("dynamodb", where, Meter(), facts=facts), settings.storage.table_prefix
    )
    lock_seconds = settings.web.deadline_seconds + _CLOCKS_APART_SECONDS
    return Idempotency(requests, clock, lambda: secrets.token_hex(16), lock_seconds)

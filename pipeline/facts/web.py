"""What the HTTP API says of credentials, tenants and repeated requests. No secret, no token, no key's second part."""

from typing import ClassVar

from pipeline.core.metric import Metric
from pipeline.facts.fact import Fact, Level


class CredentialsRefused(Fact, frozen=True):
    """Requests were refused for their credential since it was last told, by what was wrong; the callers are not told that."""

    level: ClassVar[Level] = "WARN"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "refused_credentials",
            "counter",
            "Count",
            "Requests refused for their credential.",
            "codes",
            label="code",
        ),
    )
    codes: dict[str, int]


class TenantCrossed(Fact, frozen=True):
    """A caller asked for a thing that is another tenant's; it was told that there is no such thing."""

    level: ClassVar[Level] = "WARN"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("crossed_tenants", "counter", "Count", "Requests for a thing of another tenant."),
    )
    tenant: str
    credential: str
    route: str
    request_id: str


class LookUpsFailed(Fact, frozen=True):
    """What credentials are checked against could not be read, since it was last told; what was known is used for a while."""

    level: ClassVar[Level] = "WARN"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "failed_lookups",
            "counter",
            "Count",
            "Reads of what credentials are checked against that failed.",
            "calls",
            label="call",
        ),
    )
    calls: dict[str, int]
    error: str


class TokenKeysRead(Fact, frozen=True):
    """The issuer's keys were read and are not those that were known."""

    keys: int


class AnswerUnstored(Fact, frozen=True):
    """A request was done and answered, but its answer is not kept: repeated, it is done again, under the same ids."""

    level: ClassVar[Level] = "WARN"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "unstored_answers", "counter", "Count", "Answers that could not be kept for a repeated request."
        ),
    )
    tenant: str
    error: str

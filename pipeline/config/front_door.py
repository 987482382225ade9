"""Settings of the HTTP API: the server, the control store, credentials, limits."""

from typing import Literal

from pydantic import Field

from pipeline.config.kinds import Seconds, Secret, Text, Whole
from pipeline.config.section import KIB, MIB, Section


class Web(Section):
    """The HTTP API's server."""

    host: str = Field(
        default="127.0.0.1",
        pattern=r"^[A-Za-z0-9.:_-]{1,253}$",
        description="Address that the API listens on.",
    )
    port: Whole = Field(default=8080, ge=0, le=65_535, description="Port of the API; 0: a free one.")
    workers: Whole = Field(default=1, ge=1, le=64, description="Processes that serve the API.")
    max_body_bytes: Whole = Field(
        default=10 * MIB,
        ge=KIB,
        le=256 * MIB,
        description="Bytes of one request's body, as it arrives and inflated.",
    )
    linger_ms: Whole = Field(
        default=5,
        ge=0,
        le=1_000,
        description="How long events of several requests are gathered for one Kinesis record.",
    )
    deadline_seconds: Seconds = Field(
        default=25, gt=0, le=300, description="Longest time from a request's head to its answer."
    )
    signing_key: Secret = Field(
        default=None,
        description="Key that receipts and cursors are signed with, 32 characters or more, the same for all processes; "
        "unset: made once in paths.home, for a local stack only.",
    )


class Control(Section):
    """The control store: tenants, plans, credentials, published schemas, administrative acts."""

    url: Secret = Field(
        default=None,
        description="Database of the control store, as postgresql://USER:PASSWORD@HOST/NAME; unset: SQLite in paths.home. "
        "TLS as its sslmode says, such as ?sslmode=verify-full&sslrootcert=system.",
    )
    replica_url: Secret = Field(
        default=None,
        description="A read-only copy of that database, which lists are read from while it is not behind.",
    )
    wait_seconds: Seconds = Field(
        default=60, ge=0, le=3_600, description="How long a start waits for the control store's server."
    )
    environment: str = Field(
        default="dev",
        pattern=r"^[a-z0-9]{1,16}$",
        description="Word in every API key that is made: which deployment it is for.",
    )


class Auth(Section):
    """Who may call: JSON Web Tokens of one Cognito user pool. API keys need no setting."""

    issuer: Text = Field(
        default=None,
        description="Issuer of the tokens: https://cognito-idp.REGION.amazonaws.com/POOL; unset: only API keys.",
    )


class Limits(Section):
    """How plans are enforced."""

    store_down: Literal["open", "closed"] = Field(
        default="open",
        description="What happens to requests while the limiter's table does not answer: let in, or refused.",
    )

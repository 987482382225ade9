"""Settings of the HTTP API: the server, the control store, credentials, limits."""

from typing import Literal

from pydantic import Field

from pipeline.config.kinds import Seconds, Secret, Share, Text, Whole
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
        default=0,
        ge=0,
        le=1_000,
        description="How long the first of some events waits for others before they are sent. What comes while a call to the stream is "
        "under way goes together with the next one in any case.",
    )
    max_buffer_bytes: Whole = Field(
        default=128 * MIB,
        ge=MIB,
        le=16_384 * MIB,
        description="Bytes of events that one process holds while the stream is busy, and as many again of bodies that are being "
        "read; beyond either requests are refused (503). Of the room for bodies a tenant may hold as much as is free besides: one alone "
        "half of it. So it should be several times `web.max_body_bytes`.",
    )
    max_connections: Whole = Field(
        default=16_384,
        ge=128,
        le=1_000_000,
        description="Connections that one process holds; further ones wait.",
    )
    idle_seconds: Seconds = Field(
        default=30,
        gt=0,
        le=3_600,
        description="How long a connection may stay silent before, and between, the heads of its requests.",
    )
    signing_key: Secret = Field(
        default=None,
        description="Key that receipts and cursors are signed with, 32 characters or more, the same for all processes; "
        "unset: made once in paths.home, for a local stack only. May be secretsmanager:NAME-OR-ARN[#MEMBER].",
    )
    metrics_token: Secret = Field(
        default=None,
        description="What Prometheus shows to read GET /metrics at the API's own port, 32 characters or more; unset, or with "
        "several workers: only metrics.prometheus_port has that page. May be secretsmanager:NAME-OR-ARN[#MEMBER].",
    )
    log_share: Share = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Share of the requests that went well and get a line in the log; refused and failed ones all do.",
    )
    log_lines_per_second: Whole = Field(
        default=10,
        ge=1,
        le=10_000,
        description="Lines a second about requests that one process writes at most, of each kind: well, refused, failed. A fact "
        "counts what is left out.",
    )
    deadline_seconds: Seconds = Field(
        default=25, gt=0, le=300, description="Longest time from a request's head to its answer."
    )
    repeat_seconds: Seconds = Field(
        default=3_600,
        ge=60,
        le=86_400,
        description="How long after its first attempt a request with events, whose answer was lost, may be sent again under its "
        "Idempotency-Key; no longer than loaders recognise duplicates (duplicates.window_hours, duplicates.max_ids).",
    )


class Control(Section):
    """The control store: tenants, plans, credentials, published schemas, administrative acts."""

    url: Secret = Field(
        default=None,
        description="Database of the control store, as postgresql://USER:PASSWORD@HOST/NAME; unset: SQLite in paths.home. "
        "TLS as its sslmode says, such as ?sslmode=verify-full&sslrootcert=system. May be secretsmanager:NAME-OR-ARN[#MEMBER].",
    )
    replica_url: Secret = Field(
        default=None,
        description="A read-only copy of that database, which lists are read from while it is not behind. May be "
        "secretsmanager:NAME-OR-ARN[#MEMBER].",
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
    jwks_url: Text = Field(
        default=None,
        description="Where the issuer's keys are read; unset: ISSUER/.well-known/jwks.json. http:// only on this machine.",
    )
    resource_server: str = Field(
        default="headrace",
        pattern=r"^[\x21\x23-\x5B\x5D-\x7E]{1,256}$",
        description="This API's identifier in the user pool: tokens name scopes as IDENTIFIER/ingest; an audience must be it.",
    )


class Limits(Section):
    """How plans are enforced."""

    store_down: Literal["open", "closed"] = Field(
        default="open",
        description="What happens to requests while the limiter's table does not answer: let in, or refused.",
    )
    max_accounts: Whole = Field(
        default=100_000,
        ge=100,
        le=10_000_000,
        description="Tenants, credentials and keys of the rate-limit service that one process holds tokens of, about 600 bytes each; the least recently used ones are given back.",
    )
    max_clock_skew_seconds: Seconds = Field(
        default=60,
        ge=5,
        le=3_600,
        description="How far this machine's clock may be from that of the limiter's table, which tells its own in every answer; "
        "beyond that the process takes no tokens, refuses requests (503) and is not ready.",
    )


class Schemas(Section):
    """How much may be published; nothing published is ever removed, and every process holds all of it."""

    max_published: Whole = Field(
        default=5_000, ge=1, le=100_000, description="Published schema versions of the whole deployment."
    )
    max_versions: Whole = Field(
        default=50, ge=1, le=10_000, description="Published versions of one event type."
    )
    max_types_per_tenant: Whole = Field(
        default=20,
        ge=0,
        le=10_000,
        description="Event types that one tenant owns: those that it published first.",
    )
    max_document_bytes: Whole = Field(
        default=64 * KIB,
        ge=KIB,
        le=256 * KIB,
        description="Bytes of one published schema, as compact JSON.",
    )

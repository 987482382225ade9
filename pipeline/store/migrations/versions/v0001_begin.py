"""The first tables, and the delivered plans."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

# As delivered with this revision: a later change of plans is a later revision.
_PLANS = (
    ("basic", 10, 20, 100_000, 1_000, 2**20, 500),
    ("standard", 100, 200, 1_000_000, 20_000, 16 * 2**20, 2_000),
    ("premium", 1_000, 2_000, 10_000_000, 200_000, 128 * 2**20, 5_000),
)
_LIMITS = (
    "requests_per_second",
    "burst_requests",
    "requests_per_month",
    "events_per_second",
    "bytes_per_second",
    "max_batch_events",
)


def upgrade() -> None:
    """Make the tables."""
    plans = op.create_table(
        "plans",
        sa.Column("name", sa.String(63), primary_key=True),
        *(sa.Column(limit, sa.BigInteger, nullable=False) for limit in _LIMITS),
    )
    op.bulk_insert(plans, [dict(zip(("name", *_LIMITS), plan, strict=True)) for plan in _PLANS])
    op.create_table(
        "tenants",
        sa.Column("name", sa.String(63), primary_key=True),
        sa.Column("plan", sa.String(63), sa.ForeignKey("plans.name"), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
    )
    _credentials()
    _published()
    _acts()


def _credentials() -> None:
    op.create_table(
        "api_keys",
        *_credential(),
        sa.Column("secret_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("expires_us", sa.BigInteger),
        sa.Column("requests_per_second", sa.BigInteger),
        sa.Column("last_used_us", sa.BigInteger),
    )
    op.create_index("ix_api_keys_tenant", "api_keys", ["tenant"])
    op.create_table("clients", *_credential())
    op.create_index("ix_clients_tenant", "clients", ["tenant"])


def _credential() -> list["sa.Column[object]"]:
    """Return the columns that keys and clients have in common."""
    return [
        sa.Column("id", sa.String(128), primary_key=True),
        sa.Column("tenant", sa.String(63), sa.ForeignKey("tenants.name"), nullable=False),
        sa.Column("label", sa.String(200), nullable=False),
        sa.Column("scopes", sa.String(200), nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("revoked_us", sa.BigInteger),
    ]


def _published() -> None:
    op.create_table(
        "publications",
        sa.Column("event_type", sa.String(63), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("published_by", sa.String(200), nullable=False),
        sa.Column("published_us", sa.BigInteger, nullable=False),
    )


def _acts() -> None:
    op.create_table(
        "acts",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True
        ),
        sa.Column("token", sa.String(32), nullable=False, unique=True),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("action", sa.String(63), nullable=False),
        sa.Column("subject", sa.String(200), nullable=False),
        sa.Column("details", sa.Text, nullable=False),
    )
    op.create_index("ix_acts_subject", "acts", ["subject"])
    revision_table = op.create_table(
        "revision",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("number", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(revision_table, [{"id": 1, "number": 0}])

"""Published event types have an owner: the tenant whose credential published a version of it first; "" is the deployment."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

# What was published before belongs to the tenant whose credential did it; what a person did, to the deployment.
_OWNER = """
UPDATE publications SET owner = COALESCE(
    (SELECT tenant FROM api_keys WHERE 'key:' || api_keys.id = publications.published_by),
    (SELECT tenant FROM clients WHERE 'client:' || clients.id = publications.published_by),
    ''
)
"""


def upgrade() -> None:
    """Add the column; the release before leaves it empty."""
    op.add_column("publications", sa.Column("owner", sa.String(63), nullable=False, server_default=""))
    op.execute(_OWNER)

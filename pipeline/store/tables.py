"""What the control store keeps, table by table. Times are microseconds since the epoch, UTC.

The migrations in `migrations/versions` make these tables; a test holds the two against each other. A change here comes with
a migration that older programs can live with: a column is added with a default, never renamed or dropped in the same release.
"""

from sqlalchemy import BigInteger, ForeignKey, Integer, LargeBinary, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAME_CHARACTERS = 63
ID_CHARACTERS = 128  # a Cognito client id has at most 128
LABEL_CHARACTERS = 200
_ACT_ID = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up only what is called INTEGER


class Base(DeclarativeBase):
    """All tables of the control store."""


class PlanRow(Base):
    """What a tenant may use."""

    __tablename__ = "plans"
    name: Mapped[str] = mapped_column(String(NAME_CHARACTERS), primary_key=True)
    requests_per_second: Mapped[int] = mapped_column(BigInteger)
    burst_requests: Mapped[int] = mapped_column(BigInteger)
    requests_per_month: Mapped[int] = mapped_column(BigInteger)
    events_per_second: Mapped[int] = mapped_column(BigInteger)
    bytes_per_second: Mapped[int] = mapped_column(BigInteger)
    max_batch_events: Mapped[int] = mapped_column(BigInteger)


class TenantRow(Base):
    """One client system. Never deleted: its events are in the archive."""

    __tablename__ = "tenants"
    name: Mapped[str] = mapped_column(String(NAME_CHARACTERS), primary_key=True)
    plan: Mapped[str] = mapped_column(ForeignKey("plans.name"))
    state: Mapped[str] = mapped_column(String(16))
    created_us: Mapped[int] = mapped_column(BigInteger)


class KeyRow(Base):
    """One API key; of its secret only the hash."""

    __tablename__ = "api_keys"
    id: Mapped[str] = mapped_column(String(ID_CHARACTERS), primary_key=True)
    tenant: Mapped[str] = mapped_column(ForeignKey("tenants.name"), index=True)
    label: Mapped[str] = mapped_column(String(LABEL_CHARACTERS))
    scopes: Mapped[str] = mapped_column(String(LABEL_CHARACTERS))
    secret_hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    created_us: Mapped[int] = mapped_column(BigInteger)
    expires_us: Mapped[int | None] = mapped_column(BigInteger)
    revoked_us: Mapped[int | None] = mapped_column(BigInteger)
    requests_per_second: Mapped[int | None] = mapped_column(BigInteger)
    last_used_us: Mapped[int | None] = mapped_column(BigInteger)


class ClientRow(Base):
    """One OAuth client of the user pool."""

    __tablename__ = "clients"
    id: Mapped[str] = mapped_column(String(ID_CHARACTERS), primary_key=True)
    tenant: Mapped[str] = mapped_column(ForeignKey("tenants.name"), index=True)
    label: Mapped[str] = mapped_column(String(LABEL_CHARACTERS))
    scopes: Mapped[str] = mapped_column(String(LABEL_CHARACTERS))
    created_us: Mapped[int] = mapped_column(BigInteger)
    revoked_us: Mapped[int | None] = mapped_column(BigInteger)


class PublicationRow(Base):
    """One published schema version; its document as JSON text, as it was given; `owner` is "" for the deployment's."""

    __tablename__ = "publications"
    event_type: Mapped[str] = mapped_column(String(NAME_CHARACTERS), primary_key=True)
    version: Mapped[int] = mapped_column(Integer, primary_key=True)
    document: Mapped[str] = mapped_column(Text)
    published_by: Mapped[str] = mapped_column(String(LABEL_CHARACTERS))
    published_us: Mapped[int] = mapped_column(BigInteger)
    owner: Mapped[str] = mapped_column(String(NAME_CHARACTERS), server_default="")


class ActRow(Base):
    """One administrative act. Rows are added, never changed.

    `token` is new for every call that writes: a transaction whose end nobody saw is found by it, and cannot happen twice.
    """

    __tablename__ = "acts"
    id: Mapped[int] = mapped_column(_ACT_ID, primary_key=True, autoincrement=True)
    token: Mapped[str] = mapped_column(String(32), unique=True)
    at_us: Mapped[int] = mapped_column(BigInteger)
    actor: Mapped[str] = mapped_column(String(LABEL_CHARACTERS))
    action: Mapped[str] = mapped_column(String(NAME_CHARACTERS))
    subject: Mapped[str] = mapped_column(String(LABEL_CHARACTERS), index=True)
    details: Mapped[str] = mapped_column(Text)


class RevisionRow(Base):
    """The one row that counts writes; it also puts them in an order."""

    __tablename__ = "revision"
    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(BigInteger)

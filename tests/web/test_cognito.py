"""Tokens of Cognito's own making (the emulator's), from client credentials to the caller."""

import base64
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import httpx
import pytest

from pipeline.aws.token_keys import HttpTokenKeys
from pipeline.config import load_settings
from pipeline.core.caller import Scope
from pipeline.laptop import emulator
from pipeline.laptop.home import Home
from pipeline.ports.clock import SystemClock
from pipeline.wiring.trusting import authenticator
from tests.fakes.clock import SteppedClock
from tests.web.credentials import House, bearer

pytestmark = pytest.mark.stack


@dataclass(frozen=True)
class Pool:
    """A user pool, and how its tokens are had."""

    endpoint: str
    issuer: str
    jwks_url: str
    idp: Any
    id: str

    def client(self, *scopes: str) -> tuple[str, str]:
        """Make a client; return its id and secret."""
        found = self.idp.create_user_pool_client(
            UserPoolId=self.id,
            ClientName="test",
            GenerateSecret=True,
            AllowedOAuthFlows=["client_credentials"],
            AllowedOAuthScopes=[f"headrace/{scope}" for scope in scopes],
            AllowedOAuthFlowsUserPoolClient=True,
        )["UserPoolClient"]
        return found["ClientId"], found["ClientSecret"]

    def token(self, client: tuple[str, str]) -> str:
        """Return an access token for client credentials (RFC 6749, section 4.4)."""
        basic = base64.b64encode(":".join(map(urllib.parse.quote, client)).encode()).decode()
        answer = httpx.post(
            f"{self.endpoint}/oauth2/token",
            data={"grant_type": "client_credentials", "client_id": client[0]},
            headers={"Authorization": f"Basic {basic}"},
            trust_env=False,
        )
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])


@pytest.fixture(scope="module")
def idp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Any]]:
    """Start the emulator with Cognito; give its endpoint and a client of it."""
    pytest.importorskip("ministack")
    home = Home(tmp_path_factory.mktemp("cognito") / "home")
    for path in (home.run, home.state, home.objects, home.emulator_log.parent):
        path.mkdir(parents=True)
    port = emulator.free_port()
    services = f"{emulator.SERVICES},cognito-idp"
    child = emulator.start_emulator(home, port, dies_with_parent=True, services=services)
    try:
        emulator.wait_healthy(child, home, port, 0)
        endpoint = emulator.endpoint_url(port)
        yield (
            endpoint,
            boto3.client(
                "cognito-idp",
                endpoint_url=endpoint,
                region_name="us-east-1",
                aws_access_key_id="headrace",
                aws_secret_access_key="headrace",
            ),
        )
    finally:
        child.kill()
        child.wait()


def _pool(endpoint: str, idp: Any, name: str) -> Pool:
    pool_id = idp.create_user_pool(PoolName=name)["UserPool"]["Id"]
    idp.create_resource_server(
        UserPoolId=pool_id,
        Identifier="headrace",
        Name="headrace",
        Scopes=[{"ScopeName": scope, "ScopeDescription": scope} for scope in Scope],
    )
    idp.create_user_pool_domain(UserPoolId=pool_id, Domain=name)
    return Pool(
        endpoint,
        f"https://cognito-idp.us-east-1.amazonaws.com/{pool_id}",
        f"{endpoint}/{pool_id}/.well-known/jwks.json",
        idp,
        pool_id,
    )


@pytest.fixture(scope="module")
def pool(idp: tuple[str, Any]) -> Pool:
    """The pool whose tokens are taken."""
    return _pool(*idp, "ours")


@pytest.fixture
def house(pool: Pool) -> House:
    """A front door that trusts the pool."""
    house = House()
    house.clock = SteppedClock(SystemClock().now_us())
    auth = {"issuer": pool.issuer, "jwks_url": pool.jwks_url}
    house.authenticator = authenticator(
        load_settings({"auth": auth}, environ={}), house.control, house.clock, house.facts
    )
    return house


def test_client_credentials(pool: Pool, house: House) -> None:
    """The token of a known client is its tenant's, with the scopes that both have."""
    client = pool.client("ingest", "read", "admin")
    house.client(client[0], "acme", Scope.INGEST, Scope.READ, Scope.REPLAY)
    [found] = house.ask(bearer(pool.token(client)))
    assert found.status_code == 200
    assert (found.json()["tenant"], found.json()["scopes"]) == ("acme", ["ingest", "read"])
    assert found.json()["credential"] == f"client:{client[0]}"


def test_another_client_of_the_pool(pool: Pool, house: House) -> None:
    """A genuine token of a client that is nobody's here opens nothing."""
    assert house.ask(bearer(pool.token(pool.client("read"))))[0].status_code == 401
    assert house.codes() == {"unknown_client": 1}


def test_another_pool(idp: tuple[str, Any], house: House) -> None:
    """A genuine token of another pool of the same account opens nothing, whatever its client is called here."""
    other = _pool(*idp, "theirs")
    client = other.client("read")
    house.client(client[0], "acme", Scope.READ)
    assert house.ask(bearer(other.token(client)))[0].status_code == 401
    assert house.codes() == {"unknown_signer": 1}


def test_a_token_of_yesterday(pool: Pool, house: House) -> None:
    """It has ended."""
    client = pool.client("read")
    house.client(client[0], "acme", Scope.READ)
    token = pool.token(client)
    house.clock.advance(24 * 3_600)
    assert house.ask(bearer(token))[0].status_code == 401
    assert house.codes() == {"expired_token": 1}


def test_an_id_token_of_the_pool(pool: Pool, house: House) -> None:
    """It is signed by the issuer, and says who somebody is, not what they may do."""
    client = pool.idp.create_user_pool_client(
        UserPoolId=pool.id, ClientName="people", ExplicitAuthFlows=["ALLOW_USER_PASSWORD_AUTH"]
    )["UserPoolClient"]["ClientId"]
    house.client(client, "acme", Scope.READ)
    pool.idp.admin_create_user(UserPoolId=pool.id, Username="ann", MessageAction="SUPPRESS")
    pool.idp.admin_set_user_password(
        UserPoolId=pool.id, Username="ann", Password="Ann-2026-x!", Permanent=True
    )
    found = pool.idp.initiate_auth(
        ClientId=client,
        AuthFlow="USER_PASSWORD_AUTH",
        AuthParameters={"USERNAME": "ann", "PASSWORD": "Ann-2026-x!"},
    )["AuthenticationResult"]
    assert house.ask(bearer(found["IdToken"]))[0].status_code == 401
    assert house.codes() == {"wrong_use": 1}
    assert house.ask(bearer(found["AccessToken"]))[0].status_code == 403  # genuine, without a scope of ours


def test_the_key_set_is_read(pool: Pool) -> None:
    """As the emulator publishes it."""
    assert b'"RS256"' in HttpTokenKeys(pool.jwks_url).fetch().replace(b" ", b"")
